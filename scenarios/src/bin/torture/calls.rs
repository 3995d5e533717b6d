//! The server's own system calls are made to fail, or to be its last: the n-th of a kind, for one n after the other.
//!
//! `strace` counts the calls of each thread for itself; the log is written by one of them. It must look at every call (no
//! `--seccomp-bpf`): with the filter it miscounts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use scenarios::figures::report;
use tokio::task::JoinSet;

use crate::book::Totals;
use crate::load::Size;
use crate::node::is_bad;
use crate::round::Round;
use crate::scratch::Scratch;

/// Small: the run is to have about 150 syncs.
const SIZE: Size =
    Size { senders: 1, groups: 1, sinks: 1, callers: 0, attempts: false, pause: Duration::from_millis(1) };
/// Messages of a run; twice as many, events included, with functions.
const MESSAGES: u64 = 70;

/// Likewise with functions. Traced is the server alone, and from when all is prepared.
const THROUGH_FUNCTIONS: Size = Size { callers: 1, ..SIZE };

/// One way to hurt a call.
#[derive(Clone, Copy, Debug)]
pub struct Hurt {
    pub call: &'static str,
    /// `signal=KILL` or `error=EIO`.
    pub how: &'static str,
    /// In a run with functions.
    pub functions: bool,
}

/// Runs beside each other: most of their time they wait for messages that are hidden.
const JOBS: usize = 6;

/// The server is killed at its n-th `fdatasync`, for every n until a run ends unharmed; every `step`-th only.
pub async fn syncs(binary: &Path, step: usize) -> Result<()> {
    let (mut totals, mut kills) = (Totals::default(), [0, 0]);
    for (functions, kills) in [false, true].into_iter().zip(&mut kills) {
        let hurt = Hurt { call: "fdatasync", how: "signal=KILL", functions };
        let all = (1..1000).step_by(step).map(|n| (hurt, n));
        let found;
        (*kills, found) = each(binary, all, true).await?;
        totals.merge(found);
    }
    println!("kills at the n-th fdatasync: {}, and {} with functions, every {step}", kills[0], kills[1]);
    report("sync_kills", kills[0] as f64, "")?;
    report("sync_kills_with_functions", kills[1] as f64, "")?;
    totals.report()?;
    ensure!(totals.is_clean(), "a promise was broken");
    Ok(())
}

/// Calls of the store that fail: the first of each kind, then ever rarer.
pub async fn faults(binary: &Path, few: bool) -> Result<()> {
    let kinds = [
        ("fdatasync", "error=EIO"),
        ("fdatasync", "error=ENOSPC"),
        ("pwrite64", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
        ("fsync", "error=EIO"),
    ];
    let places: &[usize] = if few { &[3, 40] } else { &[1, 2, 3, 4, 5, 6, 8, 11, 15, 22, 33, 50, 75, 110] };
    let with_functions: &[usize] = if few { &[] } else { &[1, 3, 8, 22, 50, 110] };
    let all = [(false, places), (true, with_functions)].into_iter().flat_map(|(functions, places)| {
        kinds.into_iter().flat_map(move |(call, how)| places.iter().map(move |n| (Hurt { call, how, functions }, *n)))
    });
    let (faults, totals) = each(binary, all, false).await?;
    println!("injected EIO and ENOSPC: {faults} that did something");
    report("injected_faults", faults as f64, "")?;
    totals.report()?;
    ensure!(totals.is_clean(), "a promise was broken");
    Ok(())
}

/// Runs all of them, some at a time; `stop`: until one ends unharmed. How many hurt, and what was found.
async fn each(binary: &Path, all: impl IntoIterator<Item = (Hurt, usize)>, stop: bool) -> Result<(u64, Totals)> {
    let (mut all, mut running) = (all.into_iter(), JoinSet::new());
    let (mut hurt, mut totals, mut over) = (0, Totals::default(), false);
    loop {
        while running.len() < JOBS
            && !over
            && let Some((how, n)) = all.next()
        {
            let binary = binary.to_owned();
            running.spawn(async move { one(&binary, how, n).await });
        }
        let Some(ended) = running.join_next().await else { return Ok((hurt, totals)) };
        let (was_hurt, found) = ended??;
        totals.merge(found);
        hurt += u64::from(was_hurt);
        over |= stop && !was_hurt;
    }
}

/// One run; whether the server was hurt by it (it ended), and what was found.
async fn one(binary: &Path, hurt: Hurt, n: usize) -> Result<(bool, Totals)> {
    let folder = Scratch::new()?;
    let size = if hurt.functions { THROUGH_FUNCTIONS } else { SIZE };
    let mut round = Round::new(binary, folder.path(), size)?;
    let rule = format!("inject={}:{}:when={n}", hurt.call, hurt.how);
    let strace = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={}", hurt.call), "-e", &rule];
    let strace: Vec<String> = strace.iter().map(ToString::to_string).collect();
    let mut was_hurt = false;
    let before = if hurt.functions { &[] } else { &strace[..] };
    round.tracer = hurt.functions.then(|| strace.clone());
    let up = round.start(before).await?.is_some();
    if up {
        // Until it dies of it, or the run is over.
        loop {
            if !round.node.is_up()? {
                was_hurt = true;
                break;
            }
            let acknowledged = round.scene.book().acknowledged + round.scene.ends().acknowledged;
            if acknowledged >= if hurt.functions { 2 * MESSAGES } else { MESSAGES } {
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
    let mut totals = Totals::default();
    if !round.judged(&mut totals).await? {
        println!("  {hurt:?} at {n}; kept: {}", folder.keep()?.display());
    }
    Ok((was_hurt, totals))
}

fn tail(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("data.stderr")).unwrap_or_default();
    text.lines().rev().take(3).collect::<Vec<_>>().join(" | ")
}
