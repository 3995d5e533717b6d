//! Many runs, each a process.

use std::ops::Range;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use scenarios::figures::report;

use crate::bugs::Bug;

/// What `cargo test` runs: enough to notice, in seconds.
const FEW: Range<u64> = 0..200;
/// A planted bug must show within so many seeds.
const BUG_SEEDS: Range<u64> = 0..400;

pub fn run(words: &[&str]) -> Result<()> {
    match words {
        ["seeds", range, rest @ ..] => {
            let (from, to) = range.split_once("..").context("seeds A..B")?;
            let jobs = match rest {
                [] => 2,
                ["--jobs", n] => n.parse()?,
                _ => bail!("simulate seeds A..B [--jobs N]"),
            };
            seeds(from.parse()?..to.parse()?, jobs)
        }
        ["bugs"] => bugs(),
        ["repeat", seed] => repeat(seed.parse()?),
        ["states", n] => crate::states::run(n.parse()?),
        // Arguments of `cargo test` for other binaries (a filter, --nocapture) are none of ours.
        _ => {
            seeds(FEW, 2)?;
            crate::states::run(300)?;
            for seed in FEW.step_by(40) {
                repeat(seed)?;
            }
            bugs()
        }
    }
}

fn seeds(range: Range<u64>, jobs: usize) -> Result<()> {
    let (mut green, mut failed, mut crashes, mut lines) = (0u64, Vec::new(), 0u64, 0u64);
    each(range.clone(), None, jobs, |seed, output| {
        let told = Told::parse(&output)?;
        crashes += told.crashes;
        lines += told.lines;
        if output.status.success() {
            green += 1;
        } else {
            println!("seed {seed}: {}", told.outcome);
            println!("  again: cargo xtask simulate --seeds {seed}..{} --trace", seed + 1);
            failed.push(seed);
        }
        Ok(failed.len() < 10)
    })?;
    println!("{green} seeds green, {} failed, {crashes} crashes, {lines} lines of trace", failed.len());
    report("seeds_green", green as f64, "")?;
    report("seeds_failed", failed.len() as f64, "")?;
    ensure!(failed.is_empty(), "seeds {failed:?} failed");
    Ok(())
}

/// The same seed gives the same trace.
fn repeat(seed: u64) -> Result<()> {
    let once = || Told::parse(&start(seed, None)?.wait_with_output()?);
    let (first, second) = (once()?, once()?);
    ensure!(first.hash == second.hash, "seed {seed} ran differently: traces {} and {}", first.hash, second.hash);
    println!("seed {seed}: trace {} twice, {} lines", first.hash, first.lines);
    Ok(())
}

/// Each planted bug is found.
fn bugs() -> Result<()> {
    let (mut found, mut missed) = (0, Vec::new());
    for bug in Bug::ALL {
        let mut first = None;
        each(BUG_SEEDS, Some(bug), 2, |seed, output| {
            if !output.status.success() && first.is_none() {
                first = Some((seed, Told::parse(&output)?.outcome));
            }
            Ok(first.is_none())
        })?;
        match first {
            Some((seed, outcome)) => {
                found += 1;
                println!("planted bug {}: found with seed {seed}: {outcome}", bug.name());
            }
            None => missed.push(bug.name()),
        }
    }
    report("planted_bugs_found", f64::from(found), "")?;
    report("planted_bugs_missed", missed.len() as f64, "")?;
    ensure!(missed.is_empty(), "planted bugs that were not found: {missed:?}");
    Ok(())
}

/// Runs seeds, `jobs` at a time, and hands their outcomes over in order until it hears enough.
fn each(
    range: Range<u64>,
    bug: Option<Bug>,
    jobs: usize,
    mut look: impl FnMut(u64, Output) -> Result<bool>,
) -> Result<()> {
    let mut running = std::collections::VecDeque::new();
    let mut waiting = range;
    loop {
        while running.len() < jobs
            && let Some(seed) = waiting.next()
        {
            running.push_back((seed, start(seed, bug)?));
        }
        let Some((seed, child)) = running.pop_front() else { return Ok(()) };
        let output = child.wait_with_output()?;
        if !look(seed, output)? {
            for (_, mut child) in running {
                child.kill()?;
                child.wait()?;
            }
            return Ok(());
        }
    }
}

fn start(seed: u64, bug: Option<Bug>) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("one").arg(seed.to_string());
    if let Some(bug) = bug {
        command.args(["--bug", bug.name()]);
    }
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// The line that a run prints.
struct Told {
    hash: String,
    lines: u64,
    crashes: u64,
    outcome: String,
}

impl Told {
    fn parse(output: &Output) -> Result<Self> {
        if !matches!(output.status.code(), Some(0 | 2)) {
            // A panic is a finding like any other.
            let text = String::from_utf8_lossy(&output.stderr);
            let why =
                text.lines().skip_while(|line| !line.contains("panicked at")).take(2).collect::<Vec<_>>().join(" ");
            let outcome = format!("the run ended with {}: {why}", output.status);
            return Ok(Self { hash: String::new(), lines: 0, crashes: 0, outcome });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.trim_end().splitn(5, ' ');
        let mut word = || words.next().map(str::to_owned).with_context(|| format!("a run said {text:?}"));
        word()?;
        Ok(Self { hash: word()?, lines: word()?.parse()?, crashes: word()?.parse()?, outcome: word()? })
    }
}
