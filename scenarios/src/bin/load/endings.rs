//! Ten thousand bad endings, sixteen at a time: what is left of them on the host, and in the server's memory.
//!
//! Four kinds in equal shares: a cold start that fails, a time-out, a death for memory, a caller that hangs up in the middle of
//! a call. The work can be split over several runs: each has a server of its own and judges what that one left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::report;
use scenarios::host::{Holdings, Host};
use scenarios::lean;
use scenarios::server::{Access, Server};
use scenarios::usage::rss_mib;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kinds::zipped;

const OF_EACH: usize = 2500;
const WIDTH: usize = 16;
/// Rounds of every kind before anything is measured, as wide as the trial: pools fill, code opens what it keeps.
const WARM_ROUNDS: usize = 3;
/// Entries of one account and region (the store's default).
const JOURNAL_KEEPS: usize = 10_000;
const SAMPLE: Duration = Duration::from_secs(1);
/// How long the server may take to put everything away.
const PATIENCE: Duration = Duration::from_secs(60);

const INIT: &str = "import os\nif os.urandom(1)[0] & 1: os._exit(7)\nimport nothing_of_that_name\n";
const TIMEOUT: &str = "import os, time\ndef handler(event, context):\n    for _ in range(3):\n        if os.fork() == 0:\n            \
    os.setsid()\n    time.sleep(60)\n";
const MEMORY: &str = "def handler(event, context):\n    hoard = []\n    while True: hoard.append(b'x' * (1 << 20))\n";
const ABORT: &str = "import os, time\ndef handler(event, context):\n    time.sleep(0.05)\n    \
    if event['n'] % 3 == 1: os._exit(3)\n    return event\n";

/// A kind of ending: its name, its function, and the error types that its callers may be told.
struct Kind {
    name: &'static str,
    source: &'static str,
    errors: &'static [&'static str],
}

const KINDS: [Kind; 4] = [
    Kind { name: "init", source: INIT, errors: &["Runtime.ImportModuleError", "Runtime.ExitError"] },
    Kind { name: "timeout", source: TIMEOUT, errors: &["Sandbox.Timedout"] },
    Kind { name: "memory", source: MEMORY, errors: &["Runtime.OutOfMemory"] },
    // Nobody is there to be told.
    Kind { name: "abort", source: ABORT, errors: &[] },
];

/// What the runs of one commit have reached together.
struct State {
    commit: String,
    done: [usize; 4],
    left_behind: f64,
    growth_mib: f64,
}

impl State {
    /// Goes on where an unfinished run of the same commit stopped.
    fn load(file: &Path, commit: &str) -> Self {
        let fresh = State { commit: commit.to_owned(), done: [0; 4], left_behind: 0.0, growth_mib: 0.0 };
        let Some(found) = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
            return fresh;
        };
        let done = [0, 1, 2, 3].map(|kind| found["done"][kind].as_u64().unwrap_or(0) as usize);
        if found["commit"] != commit || done.iter().all(|&n| n >= OF_EACH) {
            return fresh;
        }
        let number = |name: &str| found[name].as_f64().unwrap_or_default();
        State { done, left_behind: number("left_behind"), growth_mib: number("growth_mib"), ..fresh }
    }

    fn keep(&self, file: &Path) -> Result<()> {
        let text = json!({
            "commit": self.commit, "done": self.done, "left_behind": self.left_behind, "growth_mib": self.growth_mib,
        });
        Ok(std::fs::write(file, text.to_string())?)
    }
}

/// `seconds` bounds the time in which new endings begin.
pub async fn run(binary: &Path, file: &Path, commit: &str, seconds: u64) -> Result<()> {
    let mut state = State::load(file, commit);
    let before: usize = state.done.iter().sum();
    let server = Server::start(binary)?;
    let host = Host::new(&server.data(), server.pids()?)?;
    deploy(&server, "warm").await?;
    let warm = Arc::new(Work::new(&server, "warm", [0; 4], [WARM_ROUNDS * WIDTH; 4], u64::MAX));
    warm.perform().await?;
    fill_journal(&server).await?;
    forget(&server, "warm").await?;
    let calm = settled(&host, None).await;

    deploy(&server, "end").await?;
    let until = monotonic_ns().saturating_add(seconds.saturating_mul(1_000_000_000));
    let work = Arc::new(Work::new(&server, "end", state.done, [OF_EACH; 4], until));
    let pids = server.pids()?;
    let mut samples = Vec::new();
    let began = monotonic_ns();
    let mut performed = std::pin::pin!(work.clone().perform());
    loop {
        tokio::select! {
            done = &mut performed => break done?,
            () = tokio::time::sleep(SAMPLE) => samples.push((work.count() as f64, memory(pids)?)),
        }
    }
    let took = ms(began, monotonic_ns()) / 1e3;
    forget(&server, "end").await?;
    let after = settled(&host, Some(&calm)).await;
    let ran = work.count();
    println!(
        "{ran} bad endings in {took:.0} s, {WIDTH} at a time, {} throttled and tried again",
        work.throttled.load(Relaxed)
    );
    let mut left = 0;
    for ((name, now), (_, then)) in after.rows().into_iter().zip(calm.rows()) {
        println!("  {name:<19} before {then:>8}  after {now:>8}");
    }
    left += after.more_than(&calm).len() as u64;
    println!("  memory of server {:.1}, of spawner {:.1} MiB", rss_mib(pids[0])?, rss_mib(pids[1])?);
    let last = end(server, &host).await;
    for (name, count) in last.rows().into_iter().filter(|(name, count)| *name != "bytes" && *count > 0) {
        println!("  {name:<19} {count} when the server had ended");
        left += count;
    }
    let growth = growth(&samples, ran as f64);
    println!("  memory of server and spawner: {}", spread(&samples));
    println!("  fitted to the last three quarters it grew by {growth:.3} MiB");

    state.done = work.done();
    state.left_behind += left as f64;
    state.growth_mib += growth.max(0.0);
    state.keep(file)?;
    let total: usize = state.done.iter().sum();
    println!("  of each kind by now: {:?}; {total} altogether, {before} of them in earlier runs", state.done);
    report("bad_endings", total as f64, "")?;
    report("left_behind", state.left_behind, "")?;
    report("memory_slope_mib", state.growth_mib, "MiB")?;
    ensure!(left == 0, "{:?} more than before", after.more_than(&calm));
    Ok(())
}

/// Resident memory of server and spawner.
fn memory(pids: [u32; 2]) -> Result<f64> {
    Ok(rss_mib(pids[0])? + rss_mib(pids[1])?)
}

fn spread(samples: &[(f64, f64)]) -> String {
    let at = |share: f64| samples.get(((samples.len().max(1) - 1) as f64 * share) as usize).map_or(0.0, |s| s.1);
    let shown: Vec<String> = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| format!("{:.1}", at(share))).to_vec();
    format!("{} MiB at the quarters of the run", shown.join(", "))
}

/// Least squares over the samples of the last three quarters: what the line gains over all of the endings, in MiB.
fn growth(samples: &[(f64, f64)], endings: f64) -> f64 {
    let late: Vec<_> = samples.iter().filter(|(done, _)| *done >= endings / 4.0).collect();
    let count = late.len() as f64;
    let (mean_x, mean_y) =
        (late.iter().map(|s| s.0).sum::<f64>() / count, late.iter().map(|s| s.1).sum::<f64>() / count);
    let over: f64 = late.iter().map(|s| (s.0 - mean_x) * (s.1 - mean_y)).sum();
    let under: f64 = late.iter().map(|s| (s.0 - mean_x).powi(2)).sum();
    if under > 0.0 { over / under * endings } else { 0.0 }
}

async fn deploy(server: &Server, prefix: &str) -> Result<()> {
    let python = server.newest("python3.", "")?.identifier;
    let mut client = Client::connect(server).await?;
    for kind in &KINDS {
        let timeout = if kind.name == "timeout" { 1 } else { 30 };
        let archive = zipped("app.py", kind.source.as_bytes())?;
        let name = format!("{prefix}-{}", kind.name);
        client.create_as(&name, &python, "app.handler", &archive, &json!({ "Timeout": timeout })).await?;
    }
    let echo = zipped("app.py", b"def handler(event, context):\n    return event\n")?;
    client.create(&format!("{prefix}-echo"), &python, "app.handler", &echo).await
}

/// Good calls until the journal holds all the entries that it keeps. On its way there it grows, as it should; endings that
/// come after that take the place of older ones.
async fn fill_journal(server: &Server) -> Result<()> {
    let access = server.access();
    let callers: Vec<_> = (0..WIDTH)
        .map(|_| {
            let access = access.clone();
            tokio::spawn(async move {
                let mut client = Client::to(&access).await?;
                for _ in 0..JOURNAL_KEEPS / WIDTH + 1 {
                    client.invoke("warm-echo", Bytes::from_static(b"{}")).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

async fn forget(server: &Server, prefix: &str) -> Result<()> {
    let mut client = Client::connect(server).await?;
    for name in KINDS.iter().map(|kind| kind.name).chain(["echo"]) {
        let path = format!("/2015-03-31/functions/{prefix}-{name}");
        let (status, body) = client.call(Method::DELETE, &path, Bytes::new()).await?;
        ensure!(status.is_success(), "delete answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// What the server holds once nothing has changed for a second; if it can, once it is no more than `wanted`.
async fn settled(host: &Host, wanted: Option<&Holdings>) -> Holdings {
    const STEP: Duration = Duration::from_millis(100);
    let (mut last, mut still) = (host.holdings(), 0);
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        tokio::time::sleep(STEP).await;
        let now = host.holdings();
        still = if now == last { still + 1 } else { 0 };
        last = now;
        let enough = wanted.is_none_or(|wanted| last.more_than(wanted).is_empty());
        if still >= 10 && enough && last.processes == 0 {
            break;
        }
    }
    last
}

/// Stops the server; what is left once it and its spawner are gone.
async fn end(server: Server, host: &Host) -> Holdings {
    drop(server);
    settled(host, Some(&Holdings { bytes: u64::MAX, ..Holdings::default() })).await
}

/// The endings that are to come, and how many were.
struct Work {
    access: Access,
    prefix: &'static str,
    calls: Vec<Bytes>,
    begun: [AtomicUsize; 4],
    finished: [AtomicUsize; 4],
    of_each: [usize; 4],
    earlier: usize,
    turn: AtomicUsize,
    throttled: AtomicU64,
    until_ns: u64,
}

impl Work {
    fn new(server: &Server, prefix: &'static str, done: [usize; 4], of_each: [usize; 4], until_ns: u64) -> Self {
        let access = server.access();
        // Rendered in advance: three ways to call, two of them by the streaming operation's path.
        let path = |n: usize| match n {
            2 => format!("/2021-11-15/functions/{prefix}-abort/response-streaming-invocations"),
            _ => format!("/2015-03-31/functions/{prefix}-abort/invocations"),
        };
        let render = |n: usize| {
            let body = format!("{{\"n\":{n}}}");
            lean::render(&access.address, &path(n), body.as_bytes(), &access.credentials, &access.region)
        };
        let calls = (0..3).filter_map(|n| render(n).ok()).collect();
        Work {
            access,
            prefix,
            calls,
            begun: done.map(AtomicUsize::new),
            finished: done.map(AtomicUsize::new),
            of_each,
            earlier: done.iter().sum(),
            turn: AtomicUsize::new(0),
            throttled: AtomicU64::new(0),
            until_ns,
        }
    }

    /// Endings of this run.
    fn count(&self) -> usize {
        self.done().iter().sum::<usize>() - self.earlier
    }

    fn done(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|kind| self.finished[kind].load(Relaxed))
    }

    async fn perform(self: Arc<Self>) -> Result<()> {
        let workers: Vec<_> = (0..WIDTH).map(|_| tokio::spawn(self.clone().work())).collect();
        for worker in workers {
            worker.await??;
        }
        Ok(())
    }

    async fn work(self: Arc<Self>) -> Result<()> {
        let mut client = Client::to(&self.access).await?;
        while let Some((kind, n)) = self.next() {
            match kind {
                3 => self.hang_up(n).await?,
                _ => self.fail(&mut client, &KINDS[kind]).await?,
            }
            self.finished[kind].fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// The next kind in turn of which there are some left.
    fn next(&self) -> Option<(usize, usize)> {
        if monotonic_ns() > self.until_ns {
            return None;
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        (0..4).map(|step| (turn + step) % 4).find_map(|kind| {
            let n = self.begun[kind].fetch_add(1, Relaxed);
            (n < self.of_each[kind]).then_some((kind, n))
        })
    }

    /// Calls a function that must fail as its kind does.
    async fn fail(&self, client: &mut Client, kind: &Kind) -> Result<()> {
        let path = format!("/2015-03-31/functions/{}-{}/invocations", self.prefix, kind.name);
        loop {
            let (status, body) = client.call(Method::POST, &path, Bytes::from_static(b"{}")).await?;
            if status == StatusCode::TOO_MANY_REQUESTS {
                self.throttled.fetch_add(1, Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            let error = told["errorType"].as_str().unwrap_or_default();
            if status != StatusCode::OK || !kind.errors.contains(&error) {
                bail!("{}: {status} {}", kind.name, String::from_utf8_lossy(&body));
            }
            return Ok(());
        }
    }

    /// Sends a call and closes the connection while it runs; some of them end the environment a moment later.
    async fn hang_up(&self, n: usize) -> Result<()> {
        let mut stream = TcpStream::connect(&self.access.address).await?;
        stream.write_all(self.calls.get(n % 3).context("the calls are rendered")?).await?;
        // From before the environment is there until shortly before the answer.
        tokio::time::sleep(Duration::from_millis((n * 7 % 50) as u64)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn the_line_through_the_late_samples() {
        let early = (0..25).map(|n| (f64::from(n), 100.0 - f64::from(n)));
        let late = (25..=100).map(|n| (f64::from(n), 50.0 + 0.01 * f64::from(n)));
        let samples: Vec<_> = early.chain(late).collect();
        assert!((growth(&samples, 100.0) - 1.0).abs() < 1e-9);
        assert_eq!(growth(&[], 100.0), 0.0);
    }
}
