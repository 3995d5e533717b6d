//! Sandboxes, from outside and from inside.
//!
//! These tests need root and cgroups and fail without them. They bring their own `main`, because a spawner can be made
//! only while the process has one thread. `cargo test -p flint-sandbox --test it -- NAME` runs those whose name holds NAME.

mod endings;
mod inside;
mod life;
mod runtimes;
mod server;
mod tricks;
mod unpack;

use std::ffi::OsString;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;
use flint_sandbox::{Exit, How, Launch, Options, RootId, RootSpec, Sandbox, Sandboxes, spawner};
use tokio::io::AsyncReadExt as _;

/// What every test gets.
pub struct World {
    pub sandboxes: Sandboxes,
    pub root: RootId,
    pub options: Options,
    pub spawner: u32,
}

type Test = (&'static str, fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>);

#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((stringify!($name), |world| Box::pin($name(world)))),*];
    };
}

/// Longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == server::ROLE) {
        return server::host(&args[1..]);
    }
    if args.first().is_some_and(|a| a == endings::ROLE) {
        return endings::host(&args[1..]);
    }
    let names: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let images = tempfile::tempdir().expect("a temporary directory");
    let options = Options { image_dir: Some(images.path().to_owned()), ..options("it") };
    let channel = spawner::start(&options).expect("these tests need root and cgroups");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let spawner = channel.pid();
        let sandboxes = Sandboxes::new(channel, options.clone()).unwrap();
        let root = sandboxes.define_root(RootSpec::default()).await.unwrap();
        let world = Arc::new(World { sandboxes, root, options, spawner });
        let mut failed = 0;
        for (name, test) in
            [inside::TESTS, life::TESTS, endings::TESTS, runtimes::TESTS, server::TESTS, tricks::TESTS, unpack::TESTS]
                .concat()
        {
            if !names.is_empty() && !names.iter().any(|n| name.contains(n.as_str())) {
                continue;
            }
            let task = tokio::spawn(test(Arc::clone(&world)));
            let stop = task.abort_handle();
            let outcome = tokio::time::timeout(PATIENCE, task).await;
            stop.abort();
            let ok = matches!(outcome, Ok(Ok(())));
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            failed += usize::from(!ok);
        }
        failed
    });
    drop(runtime);
    if failed > 0 {
        println!("{failed} failed");
        std::process::exit(1);
    }
}

/// Options with a data id of this process.
pub fn options(name: &str) -> Options {
    let id: String = format!("{name}{}", std::process::id()).bytes().map(|b| format!("{b:02x}")).collect();
    Options::new(id, 64_990, 64_990)
}

/// A directory as code.
pub fn code(dir: &std::path::Path) -> Arc<OwnedFd> {
    Arc::new(std::fs::File::open(dir).unwrap().into())
}

/// A launch of a shell script.
pub fn shell(root: RootId, script: &str) -> Launch {
    launch(root, &["/bin/sh", "-c", script])
}

pub fn launch(root: RootId, argv: &[&str]) -> Launch {
    let mut launch = Launch::new(root, argv.iter().map(OsString::from).collect(), ByteCount::from_mib(128));
    launch.cwd = "/tmp".into();
    launch.env.push(("PATH".into(), "/usr/bin:/bin".into()));
    launch
}

/// Runs to the end: (exit, standard output, standard error).
pub async fn run(world: &World, launch: Launch) -> (Exit, String, String) {
    let mut sandbox = world.sandboxes.launch(launch).await.unwrap();
    let (out, err) = finish(&mut sandbox).await;
    let exit = sandbox.exited().await;
    sandbox.gone().await;
    (exit, out, err)
}

/// Reads both pipes to their ends.
pub async fn finish(sandbox: &mut Sandbox) -> (String, String) {
    let (mut out, mut err) = sandbox.take_output().unwrap();
    let (mut text, mut errors) = (Vec::new(), Vec::new());
    let (a, b) = tokio::join!(out.read_to_end(&mut text), err.read_to_end(&mut errors));
    a.and(b).unwrap();
    (String::from_utf8_lossy(&text).into_owned(), String::from_utf8_lossy(&errors).into_owned())
}

pub fn code_of(exit: Exit) -> i32 {
    match exit.how {
        How::Code(code) => code,
        other => panic!("{other:?}"),
    }
}

/// Polls until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    // 10 s.
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Every cgroup directory, in every hierarchy, whose name holds this text.
pub fn cgroups_named(text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().contains(text) {
                    found.push(entry.path());
                }
                queue.push(entry.path());
            }
        }
    }
    found
}

pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Runs a program outside of any sandbox.
pub async fn output(program: &str, args: &[&str], dir: &str) -> std::process::Output {
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir(dir);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}
