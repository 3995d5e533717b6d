//! `cargo xtask bench [store|cold|warm]`: release-build figures, printed as measured.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{cmd, trial};

pub fn run(args: &[String]) -> Result<()> {
    let which: Vec<&str> =
        if args.is_empty() { vec!["store", "cold", "warm"] } else { args.iter().map(String::as_str).collect() };
    for name in which {
        match name {
            "store" => store()?,
            "cold" | "warm" => load(name)?,
            other => bail!("no bench is called `{other}`; there are store, cold and warm"),
        }
    }
    Ok(())
}

/// 64 callers of the store against plain append + fdatasync in the same run.
fn store() -> Result<()> {
    cmd::run(cmd::cargo().args([
        "run",
        "--quiet",
        "--release",
        "--locked",
        "-p",
        "flint-store",
        "--example",
        "store_bench",
    ]))
}

/// The load generator (crate `scenarios`) against a server of its own.
fn load(what: &str) -> Result<()> {
    let flint = trial::build(true)?;
    let load = flint.with_file_name("load");
    cmd::run(Command::new(load).arg(what).env("FLINT_BIN", &flint).current_dir(cmd::root()))
}
