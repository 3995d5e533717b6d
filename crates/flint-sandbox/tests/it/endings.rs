//! The end of what does not want to end: storms of forks during the kill, stopped processes, orphans that ignore signals.
//!
//! What holds each time: when a sandbox is reported gone, no process of its host id is left and its cgroups do not exist; and a
//! host id is given to the next only then. All of it also where the version 2 tree is hidden.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;
use flint_sandbox::{Error, How, Launch, Options, RootSpec, Sandbox, Sandboxes, spawner};
use tokio::io::AsyncReadExt as _;

use crate::server::processes_of;
use crate::{World, cgroups_named, launch, options, tests};

tests! {
    ending_a_storm_of_forks,
    ending_a_chain_of_forks,
    ending_stopped_processes,
    ending_stopped_orphans_with_their_main_process,
    ending_orphans_that_ignore_signals,
    ending_a_storm_that_is_frozen,
    ending_before_a_host_id_is_used_again,
    endings_with_version_1_alone,
}

/// First argument of this binary when it plays a server with few host ids.
pub const ROLE: &str = "--host-with-few-ids";

/// Every process forks for ever, in sessions of their own, deaf to all signals that one can be deaf to.
const STORM: &str = r#"
import os, signal
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
os.write(1, b"x")
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
"#;

/// Thirty processes that fork and end at once, so that none has a number for long.
const CHAIN: &str = r#"
import os, time
def fork():
    while True:
        try: return os.fork()
        except OSError: pass
for _ in range(30):
    if fork() == 0:
        while True:
            if fork(): os._exit(0)
os.write(1, b"x")
time.sleep(600)
"#;

/// Twenty stopped children, and one that stops the main process.
const STOPPED: &str = r#"
import os, signal, time
main = os.getpid()
for _ in range(20):
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
if os.fork() == 0:
    os.kill(main, signal.SIGSTOP)
    os.write(1, b"x")
    time.sleep(600)
time.sleep(600)
"#;

/// Forked twice, in sessions of their own, deaf, some of them stopped: orphans. Then the main process ends.
const ORPHANS: &str = r#"
import os, signal, sys, time
for n in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD): signal.signal(s, signal.SIG_IGN)
            if n % 2 and sys.argv[1] == "stop": os.kill(os.getpid(), signal.SIGSTOP)
            while True: time.sleep(600)
        os._exit(0)
for _ in range(20): os.wait()
time.sleep(0.05)
os.write(1, b"x")
if sys.argv[2] == "end":
    time.sleep(0.2)
    os._exit(5)
time.sleep(600)
"#;

fn python(world_root: flint_sandbox::RootId, script: &str, args: &[&str]) -> Launch {
    let mut launch = launch(world_root, &[&["/usr/bin/python3", "-I", "-S", "-c", script], args].concat());
    launch.pids = 300;
    // On a busy host the forks of an interpreter pile up before they end: they must not end by the memory limit instead.
    launch.memory = ByteCount::from_mib(1024);
    launch
}

/// What a sandbox has of the host: its id, its pid namespace, and its directory in each hierarchy.
struct Holdings {
    uid: u32,
    namespace: PathBuf,
    cgroups: Vec<PathBuf>,
}

fn namespace_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

impl Holdings {
    fn of(sandbox: &Sandbox, data_id: &str) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", sandbox.pid())).unwrap();
        let status = read("status");
        let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok()).unwrap();
        let groups = read("cgroup");
        let top = format!("flint-{data_id}");
        let own = groups.lines().find(|l| l.contains(&top)).and_then(|l| l.rsplit('/').next()).unwrap().to_owned();
        let cgroups: Vec<_> = cgroups_named(&top).iter().map(|top| top.join(&own)).filter(|dir| dir.exists()).collect();
        assert!(!cgroups.is_empty(), "{groups}");
        Self { uid, namespace: namespace_of(sandbox.pid()).unwrap(), cgroups }
    }

    /// Whoever runs under its host id, in whatever namespace.
    fn namesakes(&self) -> Vec<u32> {
        processes_of(self.uid..).into_iter().filter(|(_, uid)| *uid == self.uid).map(|(pid, _)| pid).collect()
    }

    fn processes(&self) -> Vec<u32> {
        let own = |pid: &u32| namespace_of(*pid).is_some_and(|namespace| namespace == self.namespace);
        self.namesakes().into_iter().filter(own).collect()
    }

    /// At this very moment; nothing is waited for.
    fn assert_gone(&self) {
        assert_eq!(self.processes(), [0_u32; 0], "processes of {} live on", self.uid);
        let left: Vec<_> = self.cgroups.iter().filter(|dir| dir.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Waits until `least` different processes were seen. One look is not enough: it misses who ends, or is born, while `/proc` is
/// read, and on a busy host that is nearly all of a chain.
async fn assert_lived(holdings: &Holdings, least: usize) {
    let mut seen = HashSet::new();
    for _ in 0..2000 {
        seen.extend(holdings.processes());
        if seen.len() >= least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} of {least} processes seen", seen.len());
}

/// Starts it, waits for its word and a little more, kills it and waits for its end; returns how long that took.
async fn killed(world: &World, launch: Launch, least: usize, after: Duration, frozen: bool) -> Duration {
    let mut sandbox = world.sandboxes.launch(launch).await.unwrap();
    let (mut out, _err) = sandbox.take_output().unwrap();
    out.read_u8().await.unwrap();
    let holdings = Holdings::of(&sandbox, &world.options.data_id);
    tokio::time::sleep(after).await;
    assert_lived(&holdings, least).await;
    if frozen {
        sandbox.freeze().unwrap();
    }
    let began = tokio::time::Instant::now();
    sandbox.kill();
    sandbox.gone().await;
    let took = began.elapsed();
    holdings.assert_gone();
    took
}

async fn ending_a_storm_of_forks(world: Arc<World>) {
    for round in 0..6 {
        // Into its beginning, and when it has used all that it may.
        let after = Duration::from_millis([0, 3, 10, 30, 100, 200][round]);
        let took = killed(&world, python(world.root, STORM, &[]), 2, after, false).await;
        println!("  gone after {:.1} ms", took.as_secs_f64() * 1e3);
    }
}

async fn ending_a_chain_of_forks(world: Arc<World>) {
    for round in 0..4 {
        let took = killed(&world, python(world.root, CHAIN, &[]), 10, Duration::from_millis(10 * round), false).await;
        println!("  gone after {:.1} ms", took.as_secs_f64() * 1e3);
    }
}

async fn ending_a_storm_that_is_frozen(world: Arc<World>) {
    killed(&world, python(world.root, STORM, &[]), 2, Duration::from_millis(20), true).await;
}

async fn ending_stopped_processes(world: Arc<World>) {
    killed(&world, python(world.root, STOPPED, &[]), 23, Duration::from_millis(20), false).await;
}

async fn ending_orphans_that_ignore_signals(world: Arc<World>) {
    killed(&world, python(world.root, ORPHANS, &["go", "stay"]), 22, Duration::ZERO, false).await;
    killed(&world, python(world.root, ORPHANS, &["stop", "stay"]), 22, Duration::ZERO, false).await;
}

async fn ending_stopped_orphans_with_their_main_process(world: Arc<World>) {
    let mut sandbox = world.sandboxes.launch(python(world.root, ORPHANS, &["stop", "end"])).await.unwrap();
    let (mut out, _err) = sandbox.take_output().unwrap();
    out.read_u8().await.unwrap();
    let holdings = Holdings::of(&sandbox, &world.options.data_id);
    assert!(holdings.processes().len() >= 22);
    // The pipe ends only when the orphans, who hold it, are dead.
    out.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(sandbox.exited().await.how, How::Code(5));
    sandbox.gone().await;
    holdings.assert_gone();
}

/// A server with three host ids that starts storms and drops them, one after the other. Ends with 0 if no storm ever met a
/// process of another one with its host id.
pub fn host(args: &[String]) {
    let options = Options::new(args[0].clone(), 64_990, 64_990);
    // Away from the ranges of other servers.
    let uid_base = options.uid_base + 100_000_000 + 3 * std::process::id();
    let options = Options { uid_count: 3, uid_base, idle_slots: 1, ..options };
    let channel = spawner::start(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (launches, ids) = runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options.clone()).unwrap();
        let root = sandboxes.define_root(RootSpec::default()).await.unwrap();
        let mut ids = HashSet::new();
        const LAUNCHES: usize = 24;
        for _ in 0..LAUNCHES {
            let mut sandbox = launch_when_there_is_room(&sandboxes, python(root, STORM, &[])).await;
            let (mut out, _err) = sandbox.take_output().unwrap();
            out.read_u8().await.unwrap();
            let holdings = Holdings::of(&sandbox, &options.data_id);
            for pid in holdings.namesakes() {
                let other = namespace_of(pid).is_some_and(|namespace| namespace != holdings.namespace);
                assert!(!other, "{pid} runs as {} too", holdings.uid);
            }
            ids.insert(holdings.uid);
            // Not waited for: the next one comes at once.
            drop(sandbox);
        }
        (LAUNCHES, ids.len())
    });
    runtime.shutdown_background();
    println!("{launches} launches with {ids} host ids");
    assert!(ids <= 3);
}

async fn launch_when_there_is_room(sandboxes: &Sandboxes, launch: Launch) -> Sandbox {
    for _ in 0..5000 {
        match sandboxes.launch(launch.clone()).await {
            Ok(sandbox) => return sandbox,
            Err(Error::NoSlots(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("no host id became free");
}

async fn ending_before_a_host_id_is_used_again(_: Arc<World>) {
    let exe = std::env::current_exe().unwrap();
    let output = crate::output(&exe.to_string_lossy(), &[ROLE, &options("few").data_id], "/").await;
    assert!(output.status.success(), "{output:?}");
    print!("  {}", String::from_utf8_lossy(&output.stdout));
}

/// Tests of this file besides the next one.
const OTHERS: usize = 7;

/// All of the above in a mount namespace without a version 2 tree.
async fn endings_with_version_1_alone(_: Arc<World>) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let unified: Vec<&str> =
        mounts.lines().filter(|l| l.contains(" - cgroup2 ")).filter_map(|l| l.split(' ').nth(4)).collect();
    if unified.is_empty() {
        println!("  this host, or this run, has no version 2 tree to hide");
        return;
    }
    if !mounts.contains(" - cgroup ") {
        println!("  this host has no version 1 hierarchies");
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let script = format!("umount {} && exec {} ending_", unified.join(" "), exe.display());
    let output = crate::output("/usr/bin/unshare", &["--mount", "/bin/sh", "-c", &script], "/").await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.matches("... ok").count() == OTHERS, "{said}{output:?}");
}
