//! Warm calls against the floor: a bare hyper server (`floor`) with the same unmodified runtime clients.
//!
//! The sides of a row take turns within one run. Both get the same signed requests; only Flint verifies them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::lean::{Lean, render};
use scenarios::server::Server;
use scenarios::usage::cpu_us;
use serde_json::json;

use crate::kinds::zipped;

/// One side's turn.
const TURN: Duration = Duration::from_secs(2);
/// What each turn begins with, unmeasured.
const SETTLE: Duration = Duration::from_millis(300);
const ROUNDS: usize = 5;
const PAYLOAD: &[u8] = b"\"fourteen bytes\"";

/// One that answers calls.
struct Side {
    name: &'static str,
    address: String,
    path: String,
    /// Its own processes, without the functions'.
    pids: Vec<u32>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// A function for Flint.
struct Function {
    side: &'static str,
    runtime: String,
    archive: Vec<u8>,
    variables: serde_json::Value,
}

/// A row of the table: a language, how the floor starts its official client, and the functions.
struct Row {
    name: &'static str,
    folder: PathBuf,
    command: Vec<OsString>,
    functions: Vec<Function>,
}

/// `clients` holds a folder of each official client with an echoing handler.
pub async fn run(binary: &Path, clients: &Path, only: &[&str]) -> Result<()> {
    let server = Server::start(binary)?;
    println!(
        "warm calls against the floor: {ROUNDS} rounds of {} s a side, signed, keep-alive, {}-byte payload, medians of the rounds",
        TURN.as_secs(),
        PAYLOAD.len()
    );
    for row in rows(&server, clients)? {
        if only.is_empty() || only.contains(&row.name) {
            for connections in [1, 16] {
                measure(&server, &row, connections).await?;
            }
        }
    }
    Ok(())
}

fn rows(server: &Server, clients: &Path) -> Result<Vec<Row>> {
    let (python, node) = (server.newest("python3.", "")?, server.newest("nodejs", ".x")?);
    let echo = std::env::current_exe()?.with_file_name("echo-bootstrap");
    let wrapped = json!({ "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/official.sh" });
    let official = |name, runtime: &str, folder: &Path, variables: &serde_json::Value| {
        let (runtime, variables) = (runtime.to_owned(), variables.clone());
        anyhow::Ok(Function { side: name, runtime, archive: packed(folder)?, variables })
    };
    let own = |runtime: &str, file: &str, folder: &Path| {
        let archive = zipped(file, &std::fs::read(folder.join(file))?)?;
        anyhow::Ok(Function { side: "own", runtime: runtime.to_owned(), archive, variables: json!({}) })
    };
    let clients = clients.canonicalize()?;
    let folder = |name: &str| clients.join(name);
    let provided = "provided.al2023";
    Ok(vec![
        Row {
            name: "rust",
            folder: folder("rust"),
            command: vec![folder("rust").join("bootstrap").into()],
            functions: vec![official("flint", provided, &folder("rust"), &json!({}))?],
        },
        Row {
            name: "node",
            folder: folder("node"),
            command: vec![
                node.program.into(),
                folder("node").join("node_modules/aws-lambda-ric/bin/index.mjs").into(),
                "app.handler".into(),
            ],
            functions: vec![
                official("flint", &node.identifier, &folder("node"), &wrapped)?,
                own(&node.identifier, "app.js", &folder("node"))?,
            ],
        },
        Row {
            name: "python",
            folder: folder("python"),
            command: vec![python.program.into(), "-m".into(), "awslambdaric".into(), "app.handler".into()],
            functions: vec![
                official("flint", &python.identifier, &folder("python"), &wrapped)?,
                own(&python.identifier, "app.py", &folder("python"))?,
            ],
        },
        // The leanest client that there is: what is left is the servers' own.
        Row {
            name: "raw",
            folder: folder("rust"),
            command: vec![echo.clone().into()],
            functions: vec![Function {
                side: "flint",
                runtime: provided.to_owned(),
                archive: zipped("bootstrap", &std::fs::read(echo)?)?,
                variables: json!({}),
            }],
        },
    ])
}

async fn measure(server: &Server, row: &Row, connections: usize) -> Result<()> {
    let floor = Floor::start(connections, row)?;
    let mut sides = vec![Side::new("floor", floor.address.clone(), "/", vec![floor.child.id()])];
    let pids = server.pids()?.to_vec();
    for function in &row.functions {
        let name = format!("{}-{}-{connections}", row.name, function.side);
        let mut client = Client::connect(server).await?;
        client.create_with(&name, &function.runtime, "app.handler", &function.archive, &function.variables).await?;
        let path = format!("/2015-03-31/functions/{name}/invocations");
        sides.push(Side::new(function.side, server.address.clone(), &path, pids.clone()));
    }
    // Cold starts are not a warm call's affair.
    for side in &mut sides {
        side.turn(server, connections, Duration::from_millis(1500), false).await?;
    }
    for round in 0..ROUNDS {
        let turns: Vec<usize> =
            if round % 2 == 0 { (0..sides.len()).collect() } else { (0..sides.len()).rev().collect() };
        for n in turns {
            sides[n].turn(server, connections, TURN, true).await?;
        }
    }
    tell(server, row, connections, &sides)
}

fn tell(server: &Server, row: &Row, connections: usize, sides: &[Side]) -> Result<()> {
    let environments = server.environments()?;
    for side in sides {
        let count = environments
            .iter()
            .filter(|e| side.path.contains(&format!("/{}/", e["FunctionName"].as_str().unwrap_or("?"))));
        let ratio = over(&side.rate, &sides[0].rate);
        println!(
            "  {:<7} {connections:>2} connections  {:<6} {:8.0}/s  {ratio:5.2} x floor  p50 {:7.3}  p99 {:7.3} ms  own CPU {:6.1} us/call  {} environments",
            row.name,
            side.name,
            median(&side.rate),
            median(&side.p50),
            median(&side.p99),
            median(&side.cpu_us),
            if side.name == "floor" { connections } else { count.count() },
        );
    }
    let (floor, flint) = (&sides[0], &sides[1]);
    let ratio = over(&flint.rate, &floor.rate);
    let name = row.name;
    if connections == 1 {
        let added: Vec<f64> = flint.p50.iter().zip(&floor.p50).map(|(a, b)| (a - b) * 1000.0).collect();
        println!("  {name:<7} {connections:>2} connection   added p50 {:.1} us", median(&added));
        report(&format!("added_p50_us_1conn_{name}"), median(&added), "us")?;
        report(&format!("floor_ratio_1conn_{name}"), ratio, "x")?;
    } else {
        report(&format!("floor_ratio_{name}"), ratio, "x")?;
        report(&format!("warm_rate_{name}"), median(&flint.rate), "per_s")?;
        report(&format!("server_cpu_us_{name}"), median(&flint.cpu_us), "us")?;
        if let Some(own) = sides.get(2) {
            let times = over(&own.rate, &flint.rate);
            println!("  {name:<7} {connections:>2} connections  own bootstrap {times:.2} x the official client");
            report(&format!("own_over_official_{name}"), times, "x")?;
            report(&format!("warm_rate_own_{name}"), median(&own.rate), "per_s")?;
        }
    }
    Ok(())
}

impl Side {
    fn new(name: &'static str, address: String, path: &str, pids: Vec<u32>) -> Self {
        let (rate, p50, p99, cpu_us) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Side { name, address, path: path.to_owned(), pids, rate, p50, p99, cpu_us }
    }

    /// Keeps `connections` busy for `span`.
    async fn turn(&mut self, server: &Server, connections: usize, span: Duration, keep: bool) -> Result<()> {
        let request = render(&self.address, &self.path, PAYLOAD, &server.credentials, &server.region)?;
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(Lean::connect(&self.address, request.clone()).await?);
        }
        let settled = monotonic_ns() + u64::try_from(SETTLE.as_nanos())?;
        let (callers, _) = busy(callers, settled).await?;
        let (began, cpu) = (monotonic_ns(), cpu_us(&self.pids)?);
        let (_, mut latencies) = busy(callers, began + u64::try_from(span.as_nanos())?).await?;
        let (ended, cpu) = (monotonic_ns(), cpu_us(&self.pids)? - cpu);
        if keep {
            let calls = latencies.len() as f64;
            self.rate.push(calls / ms(began, ended) * 1000.0);
            self.p50.push(latencies.percentile(50.0));
            self.p99.push(latencies.percentile(99.0));
            self.cpu_us.push(cpu as f64 / calls);
        }
        Ok(())
    }
}

/// Calls until the moment `until`, each caller one after the other.
async fn busy(callers: Vec<Lean>, until: u64) -> Result<(Vec<Lean>, Series)> {
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|mut caller| {
            tokio::spawn(async move {
                let mut latencies = Series::default();
                let mut from = monotonic_ns();
                while from < until {
                    caller.call(PAYLOAD).await?;
                    let now = monotonic_ns();
                    latencies.push(ms(from, now));
                    from = now;
                }
                anyhow::Ok((caller, latencies))
            })
        })
        .collect();
    let (mut callers, mut all) = (Vec::new(), Series::default());
    for task in tasks {
        let (caller, latencies) = task.await??;
        callers.push(caller);
        all.extend(latencies);
    }
    Ok((callers, all))
}

fn median(values: &[f64]) -> f64 {
    let mut series = Series::default();
    values.iter().for_each(|value| series.push(*value));
    series.percentile(50.0)
}

/// The median of the rounds' ratios.
fn over(these: &[f64], those: &[f64]) -> f64 {
    let ratios: Vec<f64> = these.iter().zip(those).map(|(a, b)| a / b).collect();
    median(&ratios)
}

/// A `floor` of ours.
struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    fn start(connections: usize, row: &Row) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("floor");
        let mut command = Command::new(program);
        // Flint sets it for managed runtimes only; the official Python client polls in a thread because of it.
        let runtime = row.functions.first().map_or("", |function| function.runtime.as_str());
        let execution_env =
            if runtime.starts_with("provided") { String::new() } else { format!("AWS_Lambda_{runtime}") };
        command.arg(connections.to_string()).arg(&row.folder).arg(execution_env).args(&row.command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the floor")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("ready ").context("the floor did not come up")?.to_owned();
        Ok(Floor { child, address })
    }
}

impl Drop for Floor {
    /// The end of its stdin ends it and its clients.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It may have ended by itself already.
        let _ = self.child.wait();
    }
}

/// An archive of a folder; what may run keeps its bit.
fn packed(folder: &Path) -> Result<Vec<u8>> {
    use std::os::unix::fs::PermissionsExt;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = path.metadata()?.permissions().mode() & 0o777;
            let name = path.strip_prefix(folder)?.to_str().context("a name that is text")?;
            archive.start_file(name, zip::write::SimpleFileOptions::default().unix_permissions(mode))?;
            archive.write_all(&std::fs::read(&path)?)?;
        }
    }
    Ok(archive.finish()?.into_inner())
}
