//! Cold starts of each kind, against a bare start of the same interpreter.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::server::Server;
use serde_json::Value;

use crate::kinds::{Kind, kinds};

/// Cold starts per kind of function.
const COLD_STARTS: usize = 50;
/// The pause before each: a tight loop would hide what an idle host costs.
const PAUSE: Duration = Duration::from_millis(60);

/// Request to the first `next` and to the answer, each in an environment that did not exist, after a pause.
pub async fn run(binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(binary)?;
    println!("cold starts: {COLD_STARTS} of each kind, {} ms pause before each, milliseconds", PAUSE.as_millis());
    for kind in kinds(&server, folder.path())? {
        measure(&server, folder.path(), &kind).await?;
    }
    Ok(())
}

async fn measure(server: &Server, folder: &Path, kind: &Kind) -> Result<()> {
    let mut client = Client::connect(server).await?;
    let (mut next, mut answer, mut bare, mut start) =
        (Series::default(), Series::default(), Series::default(), Series::default());
    for n in 0..COLD_STARTS {
        client.create(&named(kind, n), &kind.runtime, kind.handler, &kind.archive).await?;
    }
    let mut measured = Vec::new();
    for n in 0..COLD_STARTS {
        tokio::time::sleep(PAUSE).await;
        let began = monotonic_ns();
        let body = client.invoke(&named(kind, n), Bytes::from_static(b"\"start\"")).await?;
        let ended = monotonic_ns();
        let ready: u64 = std::str::from_utf8(&body)?.parse().context("the moment of the first next")?;
        next.push(ms(began, ready));
        answer.push(ms(began, ended));
        measured.push(ms(began, ended));
        // In turns, so that what else the host does meets all of them.
        tokio::time::sleep(PAUSE).await;
        bare.push(spawn(&kind.bare, folder)?);
        if let Some(words) = &kind.start {
            tokio::time::sleep(PAUSE).await;
            start.push(first_byte(words, folder)?);
        }
    }
    let name = kind.name;
    println!("  {name:<10} request to first next   {}", next.summary());
    println!("  {name:<10} request to answer       {}", answer.summary());
    println!("  {name:<10} bare spawn to next      {}", bare.summary());
    report(&format!("cold_{name}_next_p50"), next.percentile(50.0), "ms")?;
    report(&format!("cold_{name}_next_p99"), next.percentile(99.0), "ms")?;
    report(&format!("bare_{name}_next_p50"), bare.percentile(50.0), "ms")?;
    if !start.is_empty() {
        let over = next.percentile(50.0) - start.percentile(50.0);
        println!("  {name:<10} bare interpreter start  {}", start.summary());
        println!("  {name:<10} p50 over the bare start {over:8.3}");
        report(&format!("bare_{name}_start_p50"), start.percentile(50.0), "ms")?;
        report(&format!("cold_{name}_over_bare_start"), over, "ms")?;
    }

    // What the server says where the time went.
    let (mut apart, mut phases) = (Series::default(), [const { Series::new() }; 5]);
    let environments = server.environments()?;
    for (n, measured) in measured.iter().enumerate() {
        let own = named(kind, n);
        let Some(one) = environments.iter().find(|e| e["FunctionName"] == own.as_str()) else { continue };
        let number = |key: &str| one["ColdStart"][key].as_f64().unwrap_or_default();
        for (series, key) in phases.iter_mut().zip(PHASES) {
            series.push(number(key));
        }
        apart.push((measured - number("TotalMs")).abs());
    }
    if apart.len() < COLD_STARTS / 2 {
        bail!(
            "only {} of {COLD_STARTS} environments are left to ask about: {:?}",
            apart.len(),
            Value::from(environments)
        );
    }
    let medians: Vec<String> =
        phases.iter_mut().zip(PHASES).map(|(s, key)| format!("{key} {:.3}", s.percentile(50.0))).collect();
    println!("  {name:<10} phases, medians         {}", medians.join("  "));
    println!("  {name:<10} their sum is off by     {}", apart.summary());
    report(&format!("cold_{name}_phases_off"), apart.percentile(50.0), "ms")
}

const PHASES: [&str; 5] = ["SandboxMs", "CodeMs", "RuntimeMs", "InitMs", "FirstInvokeMs"];

fn named(kind: &Kind, n: usize) -> String {
    format!("cold-{}-{n}", kind.name)
}

/// Starts a runtime unconfined against a listener of ours; milliseconds until its first request arrives.
fn spawn(words: &[PathBuf], folder: &Path) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (program, arguments) = words.split_first().context("an empty command")?;
    let began = monotonic_ns();
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
        .env("_HANDLER", "app.handler")
        .env("LAMBDA_TASK_ROOT", folder)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()?;
    let (mut stream, _) = listener.accept()?;
    let mut first = [0; 256];
    let count = stream.read(&mut first)?;
    let ended = monotonic_ns();
    child.kill()?;
    child.wait()?;
    if !first[..count].starts_with(b"GET ") {
        bail!("{} did not ask for its first call", program.display());
    }
    Ok(ms(began, ended))
}

/// Milliseconds until a program's first byte on stdout.
fn first_byte(words: &[PathBuf], folder: &Path) -> Result<f64> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let began = monotonic_ns();
    let mut child = command.spawn()?;
    child.stdout.take().context("stdout is piped")?.read_exact(&mut [0])?;
    let ended = monotonic_ns();
    child.wait()?;
    Ok(ms(began, ended))
}
