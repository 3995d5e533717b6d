//! `cargo xtask bench [store|cold|warm|floor|thousand|stream|gone|queue|restart|hop|neighbour|walls]`: release-build figures, printed as measured.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{cmd, trial};

const ALL: [&str; 12] =
    ["store", "cold", "warm", "floor", "thousand", "stream", "gone", "queue", "restart", "hop", "neighbour", "walls"];

pub fn run(args: &[String]) -> Result<()> {
    let which: Vec<&str> = if args.is_empty() { ALL.to_vec() } else { args.iter().map(String::as_str).collect() };
    for name in which {
        match name {
            "store" => store()?,
            "cold" | "warm" | "thousand" | "stream" | "gone" | "queue" | "restart" => load(name, None)?,
            "hop" | "neighbour" => load(name, None)?,
            "floor" => floor()?,
            "walls" => walls()?,
            other => bail!("no bench is called `{other}`; there are {}", ALL.join(", ")),
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
            figure("store_ratio_zeros", number("times_zeros"), "x")?;
            figure("store_rate", rate, "per_s")?;
            figure("store_p50", number("p50_ms"), "ms")?;
        }
    }
    Ok(())
}

/// Launches and a system-call-heavy program with all walls and without them; only that bench's build has the choice.
fn walls() -> Result<()> {
    let mut bench = cmd::cargo();
    bench.args(["run", "--quiet", "--release", "--locked", "-p", "flint-sandbox", "--features", "bench"]);
    let text = cmd::output(bench.args(["--example", "walls_bench"]))?;
    println!("{text}");
    for line in text.lines().filter(|line| line.starts_with("walls_")) {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value)), Some(unit)) = (words.next(), words.next().map(str::parse), words.next()) {
            figure(name, value, unit)?;
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

/// Warm calls against a bare server with the official runtime clients, which come from their registries.
fn floor() -> Result<()> {
    let flint = trial::build(true)?;
    let target = trial::target_dir()?;
    let (clients, built) = (target.join("bench-clients"), target.join("scenario-clients/rust-client"));
    let mut build = cmd::cargo();
    build.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]);
    build.arg("scenarios/fixtures/rust-client/Cargo.toml").arg("--target-dir").arg(&built);
    cmd::run(&mut build)?;
    std::fs::create_dir_all(clients.join("rust"))?;
    std::fs::copy(built.join("release/bootstrap"), clients.join("rust/bootstrap"))?;
    let mut lay_out = Command::new(trial::venv()?);
    lay_out.arg("bench_clients.py").arg(&clients).current_dir(cmd::root().join("scenarios/py"));
    cmd::run(lay_out.env("FLINT_BIN", &flint).env("PYTHONDONTWRITEBYTECODE", "1"))?;
    load("floor", Some(&clients))
}

/// The load generator (crate `scenarios`) against a server of its own.
fn load(what: &str, argument: Option<&Path>) -> Result<()> {
    let flint = trial::build(true)?;
    let load = flint.with_file_name("load");
    cmd::run(Command::new(load).arg(what).args(argument).env("FLINT_BIN", &flint).current_dir(cmd::root()))
}
