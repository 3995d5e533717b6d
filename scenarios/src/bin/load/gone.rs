//! From a call's deadline to the moment when nothing of its environment is left.
//!
//! The deadline is the one that the function was told, in the clock that it was told in (whole milliseconds, so it may have been
//! up to one later). The end is seen from outside: a thread looks at the environment's cgroups, a few thousand times a second,
//! until none of them has a process. The server has no say in either but for having set the deadline; its answer and its log
//! must call the ending a time-out.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use scenarios::client::Client;
use scenarios::figures::{Series, report};
use scenarios::host::{Host, processes_in};
use scenarios::server::{Access, Server};
use serde_json::json;

use crate::kinds::zipped;

/// Time-outs of each kind.
const ENDINGS: usize = 60;
/// Calls that run at a time, their deadlines a quarter of a second apart: none ends while another one does.
const LANES: usize = 4;
const STEP: Duration = Duration::from_millis(250);
/// How often the watcher looks.
const LOOK: Duration = Duration::from_micros(200);
/// How long it looks.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints its deadline, then does what the event says until it is killed.
const HANDLER: &str = "
import os, signal, time

def handler(event, context):
    left = context.get_remaining_time_in_millis
    print('deadline', max(int(time.time() * 1000) + left() for _ in range(5)), flush=True)
    if event == 'tree':
        for _ in range(50):
            if os.fork() == 0:
                os.setsid()
                for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
                time.sleep(60)
    if event == 'memory':
        hoard = bytearray(os.urandom(1 << 20)) * 80
    while event == 'spin':
        pass
    time.sleep(60)
";

/// One process that sleeps, one that spins, one with fifty deaf children in sessions of their own, one with 80 MiB.
const KINDS: [&str; 4] = ["sleep", "spin", "tree", "memory"];

/// One ending, in milliseconds after the deadline.
struct Seen {
    answered: f64,
    empty: f64,
    /// The cgroups themselves are gone.
    removed: f64,
}

pub async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary)?;
    let host = Host::new(&server.data(), server.pids()?)?;
    let python = server.newest("python3.", "")?.identifier;
    let mut client = Client::connect(&server).await?;
    let archive = zipped("app.py", HANDLER.as_bytes())?;
    for lane in 0..LANES {
        client.create_as(&named(lane), &python, "app.handler", &archive, &json!({ "Timeout": 1 })).await?;
    }
    println!("time-outs of 1 s, {ENDINGS} of each kind, milliseconds after the deadline");
    let (mut all, mut removed) = (Series::default(), Series::default());
    for kind in KINDS {
        let (mut answered, mut empty) = (Series::default(), Series::default());
        for lane in (0..LANES).map(|lane| tokio::spawn(endings(server.access(), host.clone(), lane, kind))) {
            for seen in lane.await?? {
                answered.push(seen.answered);
                empty.push(seen.empty);
                all.push(seen.empty);
                removed.push(seen.removed);
            }
        }
        println!("  {kind:<7} empty     {}", empty.summary());
        println!("  {kind:<7} answered  {}", answered.summary());
    }
    println!("  all     empty     {}", all.summary());
    println!("  all     removed   {}", removed.summary());
    report("deadline_to_empty_p50", all.percentile(50.0), "ms")?;
    report("deadline_to_empty_p99", all.percentile(99.0), "ms")?;
    report("deadline_to_removed_p99", removed.percentile(99.0), "ms")
}

fn named(lane: usize) -> String {
    format!("gone-{lane}")
}

/// One lane's endings, one after the other.
async fn endings(access: Access, host: Host, lane: usize, kind: &'static str) -> Result<Vec<Seen>> {
    tokio::time::sleep(STEP * lane as u32).await;
    let mut client = Client::to(&access).await?;
    let mut seen = Vec::new();
    for n in 0..ENDINGS / LANES {
        seen.push(
            end(&mut client, &host, &named(lane), kind).await.with_context(|| format!("{kind}, {n} of lane {lane}"))?,
        );
    }
    Ok(seen)
}

/// One call that runs into its time-out.
async fn end(client: &mut Client, host: &Host, function: &str, kind: &str) -> Result<Seen> {
    let watcher = watch(host.clone(), function.to_owned());
    let (body, tail) = client.invoke_tail(function, format!("\"{kind}\"").into()).await?;
    let answered = wall_ms();
    while !watcher.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (empty, removed) = watcher.join().map_err(|_| anyhow::anyhow!("the watcher failed"))??;
    let text = String::from_utf8_lossy(&body);
    ensure!(text.contains("Sandbox.Timedout") && tail.contains("Status: timeout"), "{text} {tail}");
    let told = tail.lines().find_map(|line| line.strip_prefix("deadline ")).context("a deadline in the log")?;
    let deadline: f64 = told.trim().parse()?;
    Ok(Seen { answered: answered - deadline, empty: empty - deadline, removed: removed - deadline })
}

/// Finds the cgroups of the environment of `function`; then says when they were empty, and when they were gone.
fn watch(host: Host, function: String) -> JoinHandle<Result<(f64, f64)>> {
    std::thread::spawn(move || {
        let groups = find(&host, &function)?;
        let rounds = PATIENCE.as_micros() / LOOK.as_micros();
        let until = |done: &dyn Fn(&PathBuf) -> bool| {
            for _ in 0..rounds {
                if groups.iter().all(done) {
                    return Ok(wall_ms());
                }
                std::thread::sleep(LOOK);
            }
            bail!("{groups:?} outlast the watcher's patience")
        };
        Ok((until(&|group| processes_in(group).is_empty())?, until(&|group| !group.exists())?))
    })
}

/// The cgroups, one in each hierarchy, whose processes have this function's name among their variables.
fn find(host: &Host, function: &str) -> Result<Vec<PathBuf>> {
    let variable = format!("AWS_LAMBDA_FUNCTION_NAME={function}\0");
    let runs_it = |pid: u32| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables.windows(variable.len()).any(|window| window == variable.as_bytes())
    };
    for _ in 0..100 {
        let groups = host.cgroups();
        if let Some(own) = groups.iter().find(|group| processes_in(group).into_iter().any(runs_it)) {
            let name = own.file_name();
            return Ok(groups.iter().filter(|group| group.file_name() == name).cloned().collect());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("no environment of {function} within a second")
}

/// The clock in which functions are told their deadlines, in milliseconds.
fn wall_ms() -> f64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}
