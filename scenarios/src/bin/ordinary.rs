//! An ordinary Rust program: threads, channels, files, sockets, processes. Prints one word when all of it worked.

use std::io::{Error, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex, mpsc};

fn main() -> Result<(), Error> {
    threads()?;
    sockets()?;
    files()?;
    let output = Command::new("/bin/sh").args(["-c", "cat; exit 3"]).stdin(std::process::Stdio::null()).output()?;
    if output.status.code() != Some(3) {
        return Err(Error::other("the child ended otherwise"));
    }
    println!("ordinary");
    Ok(())
}

fn threads() -> Result<(), Error> {
    let (sum, barrier) = (Arc::new(Mutex::new(0)), Arc::new(Barrier::new(8)));
    // One place for each thread.
    let (sender, receiver) = mpsc::sync_channel(8);
    for n in 0..8 {
        let (sum, barrier, sender) = (Arc::clone(&sum), Arc::clone(&barrier), sender.clone());
        std::thread::Builder::new().name(format!("worker {n}")).spawn(move || {
            barrier.wait();
            for _ in 0..1000 {
                *sum.lock().expect("nobody panics") += n;
            }
            sender.send(n).expect("main listens");
        })?;
    }
    drop(sender);
    let ended: usize = receiver.iter().sum();
    let sum = *sum.lock().expect("nobody panics");
    if (ended, sum) == (28, 28_000) { Ok(()) } else { Err(Error::other("the threads lost count")) }
}

fn sockets() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let (mut server, _) = listener.accept()?;
    server.write_all(b"tcp")?;
    client.read_exact(&mut [0; 3])?;
    let (one, two) = (UdpSocket::bind("[::1]:0")?, UdpSocket::bind("[::1]:0")?);
    two.send_to(b"udp", one.local_addr()?)?;
    one.recv(&mut [0; 8])?;
    let (mut left, mut right) = UnixStream::pair()?;
    left.write_all(b"local")?;
    right.read_exact(&mut [0; 5])
}

fn files() -> Result<(), Error> {
    let folder = std::path::PathBuf::from(format!("/tmp/ordinary-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("deep/er"))?;
    std::fs::write(folder.join("a"), vec![7; 1 << 20])?;
    std::fs::copy(folder.join("a"), folder.join("deep/b"))?;
    std::fs::hard_link(folder.join("a"), folder.join("c"))?;
    std::os::unix::fs::symlink("a", folder.join("d"))?;
    std::fs::rename(folder.join("c"), folder.join("deep/er/c"))?;
    std::fs::File::open(folder.join("a"))?.sync_all()?;
    if std::fs::read_dir(&folder)?.count() != 3 || std::fs::read(folder.join("d"))?.len() != 1 << 20 {
        return Err(Error::other("the files are not what was written"));
    }
    std::fs::remove_dir_all(folder)
}
