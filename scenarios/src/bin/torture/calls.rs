//! The server's own system calls are made to fail, or to be its last: the n-th of a kind, for one n after the other.
//!
//! `strace` counts the calls of each thread for itself; the log is written by one of them. It must look at every call (no
//! `--seccomp-bpf`): with the filter it miscounts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use scenarios::figures::report;

use crate::book::Totals;
use crate::load::Size;
use crate::node::is_bad;
use crate::round::Round;

/// Small: the run is to have about 150 syncs.
const SIZE: Size = Size { senders: 1, groups: 1, sinks: 1, pause: Duration::from_millis(1) };
/// Messages of a run, in both queues together.
const MESSAGES: u64 = 70;

/// One way to hurt a call.
#[derive(Clone, Copy, Debug)]
pub struct Hurt {
    pub call: &'static str,
    /// `signal=KILL` or `error=EIO`.
    pub how: &'static str,
}

/// The server is killed at its n-th `fdatasync`, for every n until a run ends unharmed; every `step`-th only.
pub async fn syncs(binary: &Path, step: usize) -> Result<()> {
    let (mut totals, mut kills) = (Totals::default(), 0u64);
    let hurt = Hurt { call: "fdatasync", how: "signal=KILL" };
    for n in (1..1000).step_by(step) {
        if !one(binary, hurt, n, &mut totals).await? {
            println!("  run {n} ended unharmed");
            break;
        }
        kills += 1;
    }
    println!("kills at the n-th fdatasync: {kills}, every {step}");
    report("sync_kills", kills as f64, "")?;
    totals.report()?;
    ensure!(totals.is_clean(), "a promise was broken");
    Ok(())
}

/// Calls of the store that fail: the first of each kind, then ever rarer.
pub async fn faults(binary: &Path, few: bool) -> Result<()> {
    let kinds =
        [("fdatasync", "EIO"), ("fdatasync", "ENOSPC"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fsync", "EIO")];
    let places: &[usize] = if few { &[3, 40] } else { &[1, 2, 3, 4, 5, 6, 8, 11, 15, 22, 33, 50, 75, 110] };
    let (mut totals, mut faults) = (Totals::default(), 0u64);
    for (call, error) in kinds {
        for n in places {
            let how = match error {
                "EIO" => "error=EIO",
                _ => "error=ENOSPC",
            };
            faults += u64::from(one(binary, Hurt { call, how }, *n, &mut totals).await?);
        }
    }
    println!("injected EIO and ENOSPC: {faults} that did something");
    report("injected_faults", faults as f64, "")?;
    totals.report()?;
    ensure!(totals.is_clean(), "a promise was broken");
    Ok(())
}

/// One run. True if the server was hurt by it: it ended.
async fn one(binary: &Path, hurt: Hurt, n: usize, totals: &mut Totals) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("flint-torture-").tempdir()?;
    let mut round = Round::new(binary, folder.path(), SIZE)?;
    let rule = format!("inject={}:{}:when={n}", hurt.call, hurt.how);
    let strace = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={}", hurt.call), "-e", &rule];
    let strace: Vec<String> = strace.iter().map(ToString::to_string).collect();
    let mut was_hurt = false;
    let up = round.start(&strace).await?.is_some();
    if up {
        // Until it dies of it, or the run is over.
        loop {
            if !round.node.is_up()? {
                was_hurt = true;
                break;
            }
            if round.scene.book().acknowledged >= MESSAGES {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    } else {
        was_hurt = true;
    }
    if was_hurt {
        round.gone();
        if round.node.is_up()? {
            // It failed while the queues were made, and still runs.
            round.node.kill()?;
        } else if let Ok(Some(status)) = round.node.wait(Duration::ZERO) {
            ensure!(is_bad(status), "{hurt:?} at {n}: a server that was hurt ended well");
        }
    } else {
        // Not hurt: the end of this run is a kill, too.
        round.kill()?;
    }
    if round.start(&[]).await?.is_none() {
        bail!("{hurt:?} at {n}: the server does not start again: {}", tail(folder.path()));
    }
    round.settle().await?;
    let book_is_clean = round.scene.book().findings.is_empty();
    if !book_is_clean {
        println!("  {hurt:?} at {n}:");
    }
    totals.add(&round.scene.book());
    round.end().await?;
    Ok(was_hurt)
}

fn tail(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("data.stderr")).unwrap_or_default();
    text.lines().rev().take(3).collect::<Vec<_>>().join(" | ")
}
