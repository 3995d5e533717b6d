//! `cargo xtask torture`: the real server under kills, failing calls and power cuts; and what a crowd of bad endings leaves.
//!
//! Runs in parts where time is short: what was done is remembered in `target/torture` for the commit that it was done with, and
//! the next run does the rest.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cmd, trial};

const USAGE: &str = "\
cargo xtask torture [--minutes N]                     a bit of everything; 3 minutes unless told otherwise
cargo xtask torture kills [--kills N] [--minutes N]   kill -9 at random moments
cargo xtask torture syncs [--every N]                 kill at the n-th fdatasync, for every n
cargo xtask torture faults [few]                      EIO and ENOSPC from the n-th call
cargo xtask torture states [--states N]               crash states of a recorded trace of writes and syncs
cargo xtask torture images [--images N]               power cuts of a real file system; the control must lose
cargo xtask torture endings [--minutes N]             ten thousand bad endings of functions";

pub fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (what, options) = match words.split_first() {
        Some((what, options)) if !what.starts_with("--") => (*what, options),
        _ => ("all", &words[..]),
    };
    let option = |name: &str, usual: u64| -> Result<u64> {
        match options.iter().position(|word| *word == name) {
            Some(at) => {
                options.get(at + 1).and_then(|n| n.parse().ok()).with_context(|| format!("{name} wants a number"))
            }
            None => Ok(usual),
        }
    };
    // Longer than any of it takes.
    let day = 24 * 60;
    match what {
        "all" => all(option("--minutes", 3)?),
        "kills" => {
            let seconds = option("--minutes", day)? * 60;
            kills(&Tools::build(true)?, option("--kills", 1000)?, seconds)
        }
        "syncs" => Tools::build(true)?.torture(&["syncs", &option("--every", 1)?.to_string()]),
        "faults" if options == ["few"] => Tools::build(true)?.torture(&["faults", "few"]),
        "faults" => Tools::build(true)?.torture(&["faults"]),
        "states" => states(option("--states", 2000)?),
        "images" => Tools::build(true)?.torture(&["images", &option("--images", 20)?.to_string()]),
        "endings" => endings(option("--minutes", day)?),
        _ => bail!("{USAGE}"),
    }
}

/// What was built.
struct Tools {
    flint: PathBuf,
}

impl Tools {
    fn build(release: bool) -> Result<Self> {
        Ok(Self { flint: trial::build(release)? })
    }

    fn torture(&self, words: &[&str]) -> Result<()> {
        let mut torture = Command::new(self.flint.with_file_name("torture"));
        cmd::run(torture.args(words).env("FLINT_BIN", &self.flint).current_dir(cmd::root()))
    }
}

/// What the gate does: the build that it has, and shares of the time.
fn all(minutes: u64) -> Result<()> {
    let tools = Tools::build(false)?;
    let seconds = minutes * 60;
    kills(&tools, u64::MAX, seconds / 4)?;
    // A run has about 150 syncs and takes a second or two.
    tools.torture(&["syncs", &(2000 / seconds).max(1).to_string()])?;
    tools.torture(&["faults", "few"])?;
    if !std::path::Path::new("/dev/fuse").exists() {
        println!("no /dev/fuse here: power cuts of a real file system are left out");
        return Ok(());
    }
    tools.torture(&["images", &(seconds / 60).max(1).to_string()])
}

fn kills(tools: &Tools, kills: u64, seconds: u64) -> Result<()> {
    let state = folder()?.join("kills.json");
    let state = state.to_str().context("a path that is text")?;
    tools.torture(&["kills", state, &commit()?, &kills.to_string(), &seconds.to_string()])
}

fn states(states: u64) -> Result<()> {
    let mut test = cmd::cargo();
    test.args(["test", "--quiet", "--locked", "-p", "scenarios", "--test", "simulate", "--", "states"]);
    cmd::run(test.arg(states.to_string()))
}

fn endings(minutes: u64) -> Result<()> {
    let flint = trial::build(true)?;
    let mut load = Command::new(flint.with_file_name("load"));
    load.arg("endings").arg(folder()?.join("endings.json")).arg(commit()?).arg((minutes * 60).to_string());
    cmd::run(load.env("FLINT_BIN", &flint).current_dir(cmd::root()))
}

fn folder() -> Result<PathBuf> {
    let folder = trial::target_dir()?.join("torture");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn commit() -> Result<String> {
    Ok(cmd::output(cmd::git().args(["rev-parse", "HEAD"]))?.trim().to_owned())
}
