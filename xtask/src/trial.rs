//! `cargo xtask test`: README's test command.
//!
//! Builds the binary once, runs `cargo test --workspace`, then the scenarios (`scenarios/py`: pytest, boto3 and the
//! AWS CLI against the built binary) from a virtual environment under `target/venv`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cmd;

pub fn run(args: &[String]) -> Result<()> {
    let mut release = false;
    let mut scenarios_only = false;
    let mut pytest_args: Vec<&str> = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--release" => release = true,
            "--scenarios" => scenarios_only = true,
            other => pytest_args.push(other),
        }
    }
    if !pytest_args.is_empty() && !scenarios_only {
        scenarios_only = true;
    }
    if !scenarios_only {
        cmd::run(cmd::cargo().args(["test", "--workspace", "--locked"]))?;
    }
    let flint = build(release)?;
    if pytest_args.is_empty() {
        // Most stories wait more than they work; those that measure time come after, alone.
        scenarios(&flint, &["-n", "2", "--dist", "loadfile", "-m", "not alone"], &[])?;
        return scenarios(&flint, &["-m", "alone"], &[]);
    }
    scenarios(&flint, &pytest_args, &[])
}

/// Builds `flint` and the fixtures of the scenarios; returns the binary's path.
pub fn build(release: bool) -> Result<PathBuf> {
    let mut command = cmd::cargo();
    command.args(["build", "--locked", "-p", "flint", "-p", "scenarios", "--bins"]);
    if release {
        command.arg("--release");
    }
    cmd::run(&mut command)?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }).join("flint"))
}

/// Runs the scenarios with `args` for pytest and further environment variables.
pub fn scenarios(flint: &Path, args: &[&str], variables: &[(&str, String)]) -> Result<()> {
    let mut command = pytest(flint)?;
    command.args(args);
    command.envs(variables.iter().map(|(k, v)| (k, v)));
    cmd::run(&mut command)
}

/// pytest in the scenarios' virtual environment, told where the binary is.
pub fn pytest(flint: &Path) -> Result<Command> {
    if !flint.exists() {
        bail!("{} is missing", flint.display());
    }
    let python = venv()?;
    let mut command = Command::new(python);
    command.current_dir(cmd::root().join("scenarios/py"));
    command.args(["-m", "pytest", "-p", "no:cacheprovider", "-ra", "--durations=10"]);
    command.env("FLINT_BIN", flint).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    Ok(command)
}

/// The cargo target directory.
pub fn target_dir() -> Result<PathBuf> {
    let text = cmd::output(cmd::cargo().args(["metadata", "--no-deps", "--format-version", "1", "--offline"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target directory")?.into())
}

/// The virtual environment's interpreter; made anew when the pinned requirements changed.
pub fn venv() -> Result<PathBuf> {
    let requirements = cmd::root().join("scenarios/py/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    let dir = target_dir()?.join("venv");
    let stamp = dir.join("requirements.installed");
    let python = dir.join("bin/python");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let base = base_python()?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    cmd::run(Command::new(base).args(["-m", "venv"]).arg(&dir))
        .context("`python3 -m venv` is needed (Debian: apt-get install python3-venv)")?;
    cmd::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// The first Python that is new enough for the scenarios.
fn base_python() -> Result<&'static str> {
    let recent = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| Command::new(python).args(["-c", recent]).output().is_ok_and(|o| o.status.success()))
        .context("the scenarios need Python 3.10 or newer with the venv module as `python3`")
}
