//! How long a launch takes, with pauses between launches: tight loops hide what a cold start costs.
//!
//! `cargo run --release -p flint-sandbox --example launch_bench -- [COUNT [PAUSE_MS [DIR]]]`, as root. Medians in microseconds,
//! with the 10th and 99th percentile; `bare` is the same program spawned without any sandbox in the same run. With a folder
//! `/tmp` is an image in it, else in memory.

use std::time::Duration;

use flint_base::{Clock as _, SystemClock};
use flint_model::ByteCount;
use flint_sandbox::{Launch, Options, Phases, RootSpec, Sandboxes, spawner};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |usual| args.next().and_then(|a| a.parse().ok()).unwrap_or(usual);
    let count: u64 = number(100);
    let pause = Duration::from_millis(number(60));
    let image_dir = args.next().map(Into::into);
    let id = format!("be{:x}", std::process::id());
    let options = Options { image_dir, ..Options::new(id, 64_990, 64_990) };
    let channel = spawner::start(&options).expect("this needs root and cgroups");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options).expect("a handle");
        let root = sandboxes.define_root(RootSpec::default()).await.expect("a root");
        for program in [&["/bin/true"][..], &["/usr/bin/python3", "-I", "-S", "-c", "pass"]] {
            measure(&sandboxes, root, program, count, pause).await;
        }
    });
}

async fn measure(sandboxes: &Sandboxes, root: flint_sandbox::RootId, program: &[&str], count: u64, pause: Duration) {
    let clock = SystemClock::new();
    let mut columns: Vec<(&str, Vec<Duration>)> = [
        "bare",
        "launch answered",
        "launch to exit",
        "prepare",
        "clone",
        "join",
        "mount",
        "confine",
        "exec",
        "to execve",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        let began = clock.monotonic();
        let status = std::process::Command::new(program[0]).args(&program[1..]).env_clear().status();
        assert!(status.expect("the program is there").success());
        let bare = clock.monotonic() - began;

        tokio::time::sleep(pause).await;
        let launch = Launch::new(root, program.iter().map(Into::into).collect(), ByteCount::from_mib(128));
        let launch = Launch { cwd: "/".into(), ..launch };
        let began = clock.monotonic();
        let sandbox = sandboxes.launch(launch).await.expect("a launch");
        let answered = clock.monotonic() - began;
        sandbox.exited().await;
        let ended = clock.monotonic() - began;
        let phases = sandbox.started().expect("it was started");
        drop(sandbox);
        let Phases { prepare, clone, join, mount, confine, exec } = phases;
        let row = [bare, answered, ended, prepare, clone, join, mount, confine, exec, phases.total()];
        for (column, value) in columns.iter_mut().zip(row) {
            column.1.push(value);
        }
    }
    println!("{}", program.join(" "));
    for (name, mut values) in columns {
        values.sort();
        let at = |percent: usize| values[(values.len() - 1) * percent / 100].as_micros();
        println!("  {name:16} p10 {:>6}  median {:>6}  p99 {:>6} us", at(10), at(50), at(99));
    }
}
