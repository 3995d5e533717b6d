//! Warm calls, at 1 and at 16 connections.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::server::Server;

use crate::kinds::kinds;

/// How long each warm run lasts.
const WARM: Duration = Duration::from_secs(5);

/// Latency and throughput of warm calls, at 1 and at 16 connections.
pub async fn run(binary: &Path) -> Result<()> {
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
