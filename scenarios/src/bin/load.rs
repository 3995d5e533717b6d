//! The load generator behind `cargo xtask bench cold` and `bench warm`.
//!
//! It starts a server of its own, drives it over signed keep-alive connections and prints what it measured, as measured.

use std::io::{Read, Write};
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

/// Cold starts per kind of function.
const COLD_STARTS: usize = 50;
/// The pause before each: a tight loop would hide what an idle host costs.
const PAUSE: Duration = Duration::from_millis(60);
/// How long each warm run lasts.
const WARM: Duration = Duration::from_secs(5);

const PYTHON: &str = "import time\nREADY = time.monotonic_ns()\n\n\
    def handler(event, context):\n    return READY if event == 'start' else event\n";

fn main() -> Result<()> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let binary = binary()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match what.as_str() {
        "cold" => runtime.block_on(cold(&binary)),
        "warm" => runtime.block_on(warm(&binary)),
        _ => bail!("load cold|warm"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool of the gate, told by its environment what to measure")]
fn binary() -> Result<PathBuf> {
    Ok(std::env::var_os("FLINT_BIN").context("FLINT_BIN names the binary")?.into())
}

/// A kind of function: how it is packed, and how its process is started by hand.
struct Kind {
    name: &'static str,
    runtime: String,
    handler: &'static str,
    archive: Vec<u8>,
    bare: Vec<PathBuf>,
}

fn kinds(server: &Server, folder: &Path) -> Result<Vec<Kind>> {
    let echo = std::env::current_exe()?.with_file_name("echo-bootstrap");
    let python = server.newest_python()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    std::fs::write(folder.join("app.py"), PYTHON)?;
    Ok(vec![
        Kind {
            name: "bootstrap",
            runtime: "provided.al2023".to_owned(),
            handler: "none",
            archive: zipped("bootstrap", &std::fs::read(&echo)?)?,
            bare: vec![echo],
        },
        Kind {
            name: "python",
            runtime: python.identifier,
            handler: "app.handler",
            archive: zipped("app.py", PYTHON.as_bytes())?,
            bare: vec![python.interpreter, root.join("crates/flint-runtime/bootstrap/python/bootstrap.py")],
        },
    ])
}

/// Request to the first `next` and to the answer, each in an environment that did not exist, after a pause.
async fn cold(binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(binary)?;
    let mut client = Client::connect(&server).await?;
    println!("cold starts: {COLD_STARTS} of each kind, {} ms pause before each, milliseconds", PAUSE.as_millis());
    for kind in kinds(&server, folder.path())? {
        let (mut next, mut answer) = (Series::default(), Series::default());
        for n in 0..COLD_STARTS {
            let name = format!("cold-{}-{n}", kind.name);
            client.create(&name, &kind.runtime, kind.handler, &kind.archive).await?;
        }
        for n in 0..COLD_STARTS {
            tokio::time::sleep(PAUSE).await;
            let began = monotonic_ns();
            let body = client.invoke(&format!("cold-{}-{n}", kind.name), Bytes::from_static(b"\"start\"")).await?;
            let ended = monotonic_ns();
            let ready: u64 = std::str::from_utf8(&body)?.parse().context("the moment of the first next")?;
            next.push(ms(began, ready));
            answer.push(ms(began, ended));
        }
        let mut bare = Series::default();
        for _ in 0..COLD_STARTS {
            tokio::time::sleep(PAUSE).await;
            bare.push(spawn(&kind.bare, folder.path())?);
        }
        println!("  {:<10} request to first next   {}", kind.name, next.summary());
        println!("  {:<10} request to answer       {}", kind.name, answer.summary());
        println!("  {:<10} bare spawn to next      {}", kind.name, bare.summary());
        println!("  {:<10} p50 over the bare spawn {:8.3}", kind.name, next.percentile(50.0) - bare.percentile(50.0));
        report(&format!("cold_{}_next_p50", kind.name), next.percentile(50.0), "ms")?;
        report(&format!("cold_{}_next_p99", kind.name), next.percentile(99.0), "ms")?;
        report(&format!("bare_{}_next_p50", kind.name), bare.percentile(50.0), "ms")?;
    }
    Ok(())
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

/// Latency and throughput of warm calls, at 1 and at 16 connections.
async fn warm(binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(binary)?;
    println!("warm calls: {} s each, signed, keep-alive, 16-byte payload, latencies in milliseconds", WARM.as_secs());
    for kind in kinds(&server, folder.path())? {
        let name = format!("warm-{}", kind.name);
        Client::connect(&server).await?.create(&name, &kind.runtime, kind.handler, &kind.archive).await?;
        for connections in [1, 16] {
            let (mut latencies, per_second) = drive(&server, &name, connections).await?;
            println!("  {:<10} {connections:>2} connections {per_second:9.0}/s  {}", kind.name, latencies.summary());
            report(&format!("warm_{}_{connections}_p50", kind.name), latencies.percentile(50.0), "ms")?;
            report(&format!("warm_{}_{connections}_rate", kind.name), per_second, "per_s")?;
        }
    }
    Ok(())
}

/// Keeps `connections` busy for [`WARM`]; the environments are warmed up before.
async fn drive(server: &Server, name: &str, connections: usize) -> Result<(Series, f64)> {
    let payload = Bytes::from_static(b"\"fourteen bytes\"");
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(server).await?);
    }
    // All at once, so that each connection has an environment of its own before the clock runs.
    let warm_up = clients.into_iter().map(|mut client| {
        let (name, payload) = (name.to_owned(), payload.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                client.invoke(&name, payload.clone()).await?;
            }
            anyhow::Ok(client)
        })
    });
    let mut ready = Vec::new();
    for task in warm_up.collect::<Vec<_>>() {
        ready.push(task.await??);
    }
    let began = monotonic_ns();
    let until = began + u64::try_from(WARM.as_nanos())?;
    let tasks: Vec<_> = ready
        .into_iter()
        .map(|mut client| {
            let (name, payload) = (name.to_owned(), payload.clone());
            tokio::spawn(async move {
                let mut latencies = Series::default();
                loop {
                    let from = monotonic_ns();
                    if from >= until {
                        return anyhow::Ok(latencies);
                    }
                    let body = client.invoke(&name, payload.clone()).await?;
                    latencies.push(ms(from, monotonic_ns()));
                    if body != payload {
                        bail!("the answer is not the payload: {body:?}");
                    }
                }
            })
        })
        .collect();
    let mut all = Series::default();
    for task in tasks {
        all.extend(task.await??);
    }
    let per_second = all.len() as f64 / (ms(began, monotonic_ns()) / 1000.0);
    Ok((all, per_second))
}

/// An archive of one executable file.
fn zipped(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name, zip::write::SimpleFileOptions::default().unix_permissions(0o755))?;
    archive.write_all(content)?;
    Ok(archive.finish()?.into_inner())
}
