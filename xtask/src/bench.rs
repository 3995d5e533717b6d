//! `cargo xtask bench [store|cold|warm]`: release-build figures, printed as measured.

use std::io::Write;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

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

/// 64 callers of the store against plain append + fdatasync and the zero-written floor, turn by turn.
fn store() -> Result<()> {
    let folder = trial::target_dir()?.join("store-bench");
    std::fs::create_dir_all(&folder)?;
    let mut bench = cmd::cargo();
    bench.args(["run", "--quiet", "--release", "--locked", "-p", "flint-store", "--example", "store_bench", "--"]);
    let text = cmd::output(bench.arg(&folder).arg("15"))?;
    std::fs::remove_dir_all(&folder)?;
    let told: Value = serde_json::from_str(&text)?;
    println!(
        "store: {} callers, {} bytes each, {} rotations, medians",
        told["callers"], told["record_bytes"], told["rotations"]
    );
    for engine in told["engines"].as_array().into_iter().flatten() {
        let number = |name: &str| engine[name].as_f64().unwrap_or_default();
        let (rate, ratio) = (number("sends_per_second"), number("times_append"));
        let name = engine["engine"].as_str().unwrap_or_default();
        println!(
            "  {name:<18} {rate:9.0}/s  p50 {:7.3} ms  p99 {:7.3} ms  {ratio:5.2} x append",
            number("p50_ms"),
            number("p99_ms")
        );
        if name == "log" {
            figure("store_ratio_plain", ratio, "x")?;
            figure("store_rate", rate, "per_s")?;
            figure("store_p50", number("p50_ms"), "ms")?;
        }
    }
    Ok(())
}

/// Appends one figure to the file of the acceptance run, if there is one.
#[expect(clippy::disallowed_methods, reason = "told by its environment where to report, like every check")]
fn figure(name: &str, value: f64, unit: &str) -> Result<()> {
    if let Some(path) = std::env::var_os("FLINT_FIGURES") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        writeln!(file, "{name} {value:.3} {unit}")?;
    }
    Ok(())
}

/// The load generator (crate `scenarios`) against a server of its own.
fn load(what: &str) -> Result<()> {
    let flint = trial::build(true)?;
    let load = flint.with_file_name("load");
    cmd::run(Command::new(load).arg(what).env("FLINT_BIN", &flint).current_dir(cmd::root()))
}
