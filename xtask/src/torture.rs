//! `cargo xtask torture endings [--minutes N]`: what a crowd of bad endings leaves behind.
//!
//! Runs in parts where time is short: what was done is remembered in `target/torture/endings.json` for the commit that it was
//! done with, and the next run does the rest.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cmd, trial};

pub fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let minutes: u64 = match words.as_slice() {
        // Longer than it takes.
        ["endings"] => 24 * 60,
        ["endings", "--minutes", minutes] => minutes.parse().context("--minutes wants a number")?,
        _ => bail!("cargo xtask torture endings [--minutes N]"),
    };
    let flint = trial::build(true)?;
    let folder = trial::target_dir()?.join("torture");
    std::fs::create_dir_all(&folder)?;
    let commit = cmd::output(cmd::git().args(["rev-parse", "HEAD"]))?;
    let mut load = Command::new(flint.with_file_name("load"));
    load.arg("endings").arg(folder.join("endings.json")).arg(commit.trim()).arg((minutes * 60).to_string());
    cmd::run(load.env("FLINT_BIN", &flint).current_dir(cmd::root()))
}
