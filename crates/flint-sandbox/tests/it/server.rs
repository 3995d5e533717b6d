//! Servers and spawners that die, live side by side, and come back.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use flint_sandbox::{Error, How, Options, RootId, RootSpec, Sandboxes, UnpackLimits, spawner};

use crate::{World, alive, cgroups_named, eventually, options, shell, tests};

tests! {
    a_killed_server_leaves_nothing,
    a_server_that_ends_leaves_nothing,
    a_killed_spawner_takes_its_sandboxes_and_is_noticed,
    what_a_killed_spawner_left_is_swept_at_the_next_start,
    two_servers_live_side_by_side,
    a_spawner_is_refused_where_it_can_not_be_made,
}

/// First argument of this binary when it plays a server.
pub const ROLE: &str = "--host-of-sandboxes";

/// A server of its own: starts three sandboxes, prints `spawner PID` and `init HOST_UID` lines, then `ready`; prints
/// `gone` when its spawner dies; ends when its standard input does.
pub fn host(args: &[String]) {
    let options = Options::new(args[0].clone(), 64_990, 64_990);
    let channel = match spawner::start(&options) {
        Ok(channel) => channel,
        Err(error) => {
            println!("error {error}");
            return;
        }
    };
    println!("spawner {}", channel.pid());
    let staging = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(staging.path(), Some(64_990), Some(64_990)).unwrap();
    // As the real server does.
    // SAFETY: no pointers; this process has one thread.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(64_990, 64_990, 64_990), 0);
        assert_eq!(libc::setresuid(64_990, 64_990, 64_990), 0);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options).unwrap();
        let root = sandboxes.define_root(RootSpec::default()).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..3 {
            let script = "(sleep 600 &); setsid sleep 600 & echo up; sleep 600";
            let mut sandbox = sandboxes.launch(shell(root, script)).await.unwrap();
            let (mut out, err) = sandbox.take_output().unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut out).await.unwrap();
            let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
            let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap();
            println!("init {uid}");
            held.push((sandbox, out, err));
        }
        unprivileged_rights_suffice(&sandboxes, root, staging.path()).await;
        println!("ready");
        let input = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
        tokio::select! {
            _ = input => {}
            () = sandboxes.spawner_gone() => println!("gone"),
        }
    });
    // Blocking reads of standard input must not hold the end up.
    runtime.shutdown_background();
}

/// A server without any right of its own can do all that it has to.
async fn unprivileged_rights_suffice(sandboxes: &Sandboxes, root: RootId, staging: &std::path::Path) {
    assert!(std::fs::read("/etc/shadow").is_err());
    let code = crate::code(staging);
    let mut launch = shell(root, "while :; do :; done");
    launch.code = Some(code);
    let sandbox = sandboxes.launch(launch).await.unwrap();
    eventually("it runs", || sandbox.started().is_some()).await;
    sandbox.freeze().unwrap();
    sandbox.thaw().unwrap();
    eventually("its memory is counted", || sandbox.memory_peak().bytes() > 0 && sandbox.memory_now().bytes() > 0).await;
    sandbox.kill();
    assert_eq!(sandbox.exited().await.how, How::Signal(9));
    sandbox.gone().await;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("d/f", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut zip, b"x").unwrap();
    let mut archive = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut archive, &zip.finish().unwrap().into_inner()).unwrap();
    let dir = std::fs::File::open(staging).unwrap();
    sandboxes.unpack(archive.into(), dir.into(), UnpackLimits::default()).await.unwrap();
    // What the helper wrote is the server's own, to delete as well.
    std::fs::remove_dir_all(staging.join("d")).unwrap();
}

struct Host {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    id: String,
    spawner: u32,
    uids: Vec<u32>,
}

impl Host {
    #[expect(clippy::zombie_processes, reason = "the drop of Host, and the error path, wait")]
    fn start(id: &str) -> Result<Self, String> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([ROLE, id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut spawner, mut uids) = (0, Vec::new());
        loop {
            let line = lines.next().ok_or("it ended")?.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["spawner", pid] => spawner = pid.parse().unwrap(),
                ["init", uid] => uids.push(uid.parse().unwrap()),
                ["ready"] => break,
                _ => {
                    child.wait().ok();
                    return Err(line);
                }
            }
        }
        Ok(Self { child, lines, id: id.to_owned(), spawner, uids })
    }

    /// Every process of its sandboxes, on the host.
    fn processes(&self) -> Vec<u32> {
        processes_of(self.uids[0] / 4096 * 4096..)
            .into_iter()
            .filter(|(_, uid)| self.uids.contains(uid))
            .map(|(pid, _)| pid)
            .collect()
    }

    fn cgroups(&self) -> usize {
        cgroups_named(&self.id).len()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn processes_of(uids: std::ops::RangeFrom<u32>) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        if let Some(uid) = uid.filter(|uid| uids.contains(uid)) {
            found.push((pid, uid));
        }
    }
    found
}

fn id(name: &str) -> String {
    options(name).data_id
}

async fn start(name: &str) -> Host {
    let id = id(name);
    tokio::task::spawn_blocking(move || Host::start(&id)).await.unwrap().unwrap()
}

async fn a_killed_server_leaves_nothing(_: Arc<World>) {
    let mut host = start("kill9").await;
    assert!(host.processes().len() >= 9, "{:?}", host.processes());
    assert!(host.cgroups() > 0);
    host.child.kill().unwrap();
    host.child.wait().unwrap();
    eventually("no process is left", || host.processes().is_empty() && !alive(host.spawner)).await;
    eventually("no cgroup is left", || host.cgroups() == 0).await;
}

async fn a_server_that_ends_leaves_nothing(_: Arc<World>) {
    let mut host = start("ends").await;
    drop(host.child.stdin.take());
    eventually("no process is left", || host.processes().is_empty() && !alive(host.spawner)).await;
    eventually("no cgroup is left", || host.cgroups() == 0).await;
}

async fn a_killed_spawner_takes_its_sandboxes_and_is_noticed(_: Arc<World>) {
    let mut host = start("spawner").await;
    kill(host.spawner);
    let said = tokio::task::spawn_blocking(move || (host.lines.next().unwrap().unwrap(), host)).await.unwrap();
    assert_eq!(said.0, "gone");
    let host = said.1;
    eventually("no process is left", || host.processes().is_empty()).await;
    // Whoever starts next removes the empty cgroups.
    let next = start("next").await;
    assert_eq!(host.cgroups(), 0);
    drop(next);
}

async fn what_a_killed_spawner_left_is_swept_at_the_next_start(_: Arc<World>) {
    let mut first = start("sweep").await;
    // Both at once: nobody is there to clean up.
    first.child.kill().unwrap();
    kill(first.spawner);
    first.child.wait().unwrap();
    eventually("no process is left", || first.processes().is_empty()).await;
    let left = first.cgroups();
    let second = start("sweep").await;
    assert!(second.processes().len() >= 9);
    drop(second);
    eventually("no cgroup is left", || first.cgroups() == 0).await;
    println!("  ({left} directories were there to sweep)");
}

async fn two_servers_live_side_by_side(world: Arc<World>) {
    let one = start("one").await;
    let two = start("two").await;
    for a in &one.uids {
        assert!(!two.uids.contains(a), "{:?} {:?}", one.uids, two.uids);
    }
    let (processes, others) = (one.processes(), two.processes());
    drop(one);
    eventually("the first one's processes are gone", || processes.iter().all(|&pid| !alive(pid))).await;
    assert!(others.iter().all(|&pid| alive(pid)), "the other's live on");
    let sandbox = world.sandboxes.launch(shell(world.root, "exit 4")).await.unwrap();
    assert_eq!(crate::code_of(sandbox.exited().await), 4);
    sandbox.gone().await;
}

async fn a_spawner_is_refused_where_it_can_not_be_made(_: Arc<World>) {
    // This process has threads.
    let refused = spawner::start(&options("late"));
    assert!(matches!(refused, Err(Error::Threaded(n)) if n > 1), "{refused:?}");
    let refused = spawner::start(&Options::new("../../etc", 1000, 1000));
    assert!(matches!(refused, Err(Error::Option { name: "data_id", .. })), "{refused:?}");
    // Not root: one line that says what is missing.
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    for path in [dir.path(), &exe] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = format!("exec setpriv --reuid 65534 --regid 65534 --clear-groups {} {ROLE} abc", exe.display());
    let output = crate::output("/bin/sh", &["-c", &script], "/").await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("error sandboxes need root"), "{said}{output:?}");
}

fn kill(pid: u32) {
    assert!(Command::new("/bin/kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}
