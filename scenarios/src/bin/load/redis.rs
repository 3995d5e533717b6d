//! Redis as people set it up who want nothing lost: `appendfsync always`, and a stream that is added to.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::Series;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::queue::Done;

pub struct Redis {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// `None` if it is not installed.
    pub fn start() -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("flint-redis-").tempdir()?;
        // A port that is free now; nobody else on this machine asks for ports by number.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--daemonize", "no", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context("redis-server"),
        };
        let redis = Self { child, address: format!("127.0.0.1:{port}"), _folder: folder };
        redis.wait()?;
        Ok(Some(redis))
    }

    fn wait(&self) -> Result<()> {
        let until = monotonic_ns() + 10_000_000_000;
        while monotonic_ns() < until {
            if std::net::TcpStream::connect(&self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("redis-server does not answer")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Keeps `callers` connections busy with one XADD after the other.
    pub async fn add(&self, callers: usize, body: &str, turn: Duration) -> Result<Done> {
        let words = ["XADD", "sends", "*", "body", body];
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        let until = monotonic_ns() + u64::try_from(turn.as_nanos())?;
        let mut tasks = Vec::new();
        for _ in 0..callers {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let command = command.clone();
            tasks.push(tokio::spawn(async move {
                let (mut latencies, mut answer) = (Series::default(), [0; 256]);
                loop {
                    let from = monotonic_ns();
                    if from >= until {
                        return anyhow::Ok(latencies);
                    }
                    stream.write_all(command.as_bytes()).await?;
                    let mut filled = 0;
                    // An id is a bulk text: its length and itself, each with its line's end.
                    while answer[..filled].iter().filter(|byte| **byte == b'\n').count() < 2 {
                        filled += stream.read(&mut answer[filled..]).await?;
                    }
                    if answer[0] != b'$' {
                        bail!("redis answered {}", String::from_utf8_lossy(&answer[..filled]));
                    }
                    latencies.push(ms(from, monotonic_ns()));
                }
            }));
        }
        let mut latencies = Series::default();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok(Done { count: latencies.len(), latencies })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
