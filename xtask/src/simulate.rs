//! `cargo xtask simulate [--seeds A..B] [--trace]`: the deterministic simulation, and whether it finds each planted bug.

use anyhow::{Context, Result, bail};

use crate::cmd;

pub fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => simulate(&[]),
        ["--seeds", range] => {
            simulate(&["seeds", range])?;
            simulate(&["bugs"])
        }
        ["--seeds", range, "--trace"] => {
            let (from, to) = range.split_once("..").context("--seeds A..B")?;
            for seed in from.parse::<u64>()?..to.parse()? {
                simulate(&["one", &seed.to_string(), "--trace"])?;
            }
            Ok(())
        }
        _ => bail!("cargo xtask simulate [--seeds A..B] [--trace]"),
    }
}

fn simulate(words: &[&str]) -> Result<()> {
    let mut test = cmd::cargo();
    test.args(["test", "--quiet", "--locked", "-p", "scenarios", "--test", "simulate", "--"]);
    cmd::run(test.args(words))
}
