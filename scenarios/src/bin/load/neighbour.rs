//! A backlog that keeps every processor busy, and a function that somebody waits for.
//!
//! 100,000 messages wait for a function that computes for some milliseconds each. Meanwhile another function is called, one
//! call after the other; how long that takes is compared with the same calls while the mapping is off, run by run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::server::Server;
use serde_json::{Value, json};

use crate::hop::{map, queue};
use crate::kinds::zipped;

const MESSAGES: usize = 100_000;
const SENDERS: usize = 16;
const RUNS: usize = 5;
/// How long the calls of one measurement go on.
const SPAN: Duration = Duration::from_secs(6);
/// Between two calls.
const GAP: Duration = Duration::from_millis(5);

const BUSY: &str = "import time\n\
    def handler(event, context):\n    \
        for record in event['Records']:\n        \
            until = time.thread_time() + 0.005\n        \
            while time.thread_time() < until:\n            \
                pass\n";
const QUICK: &str = "def handler(event, context):\n    return event\n";

pub async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary)?;
    let mut client = Client::connect(&server).await?;
    let python = server.newest("python3.", "")?.identifier;
    client.create("busy", &python, "app.handler", &zipped("app.py", BUSY.as_bytes())?).await?;
    client.create("quick", &python, "app.handler", &zipped("app.py", QUICK.as_bytes())?).await?;
    let url = queue(&mut client, "busy").await?;
    let mapping = map(&mut client, "busy", &json!({ "Enabled": false })).await?;
    fill(&server, &url).await?;
    println!("calls of another function, milliseconds, alone and beside a backlog of {MESSAGES}; {RUNS} runs");
    let mut over = Series::new();
    for run in 1..=RUNS {
        let mut alone = calls(&mut client).await?;
        switch(&mut client, &mapping, true).await?;
        // Until it has found its pace.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let busy = processors_busy()?;
        let mut beside = calls(&mut client).await?;
        let busy = busy.share()?;
        switch(&mut client, &mapping, false).await?;
        println!("  run {run} alone   {}", alone.summary());
        println!("  run {run} beside  {}  processors busy {:.0} %", beside.summary(), busy * 100.0);
        ensure!(busy > 0.9, "the backlog does not keep the processors busy");
        over.push(beside.percentile(99.0) - alone.percentile(99.0));
    }
    let left = backlog(&mut client, &url).await?;
    println!("  p99 over alone, median of {RUNS} runs {:8.3}; {left} messages left", over.percentile(50.0));
    ensure!(left > MESSAGES / 2, "the backlog was gone too early");
    report("neighbour_p99_over_idle", over.percentile(50.0), "ms")
}

async fn calls(client: &mut Client) -> Result<Series> {
    let mut series = Series::new();
    for _ in 0..20 {
        client.invoke("quick", "null".into()).await?;
    }
    let until = monotonic_ns() + u64::try_from(SPAN.as_nanos())?;
    while monotonic_ns() < until {
        let from = monotonic_ns();
        client.invoke("quick", "null".into()).await?;
        series.push(ms(from, monotonic_ns()));
        tokio::time::sleep(GAP).await;
    }
    Ok(series)
}

async fn switch(client: &mut Client, mapping: &str, on: bool) -> Result<()> {
    let path = format!("/2015-03-31/event-source-mappings/{mapping}");
    let body = json!({ "Enabled": on }).to_string();
    let (status, body) = client.call(Method::PUT, &path, body.into()).await?;
    ensure!(status.is_success(), "UpdateEventSourceMapping answered {status}: {body:?}");
    let wanted = if on { "Enabled" } else { "Disabled" };
    for _ in 0..1_000 {
        let (_, body) = client.call(Method::GET, &path, bytes::Bytes::new()).await?;
        let answer: Value = serde_json::from_slice(&body)?;
        if answer["State"] == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the mapping is not {wanted} within 10 s")
}

async fn fill(server: &Server, url: &str) -> Result<()> {
    let mut tasks = Vec::new();
    for sender in 0..SENDERS {
        let (mut client, url) = (Client::connect(server).await?, url.to_owned());
        tasks.push(tokio::spawn(async move {
            for start in (sender * 10..MESSAGES).step_by(SENDERS * 10) {
                let entry = |n: usize| json!({ "Id": n.to_string(), "MessageBody": n.to_string() });
                let entries: Vec<Value> = (start..MESSAGES.min(start + 10)).map(entry).collect();
                let batch = json!({ "QueueUrl": url, "Entries": entries });
                let (status, body) = client.json("sqs", "AmazonSQS.SendMessageBatch", &batch).await?;
                ensure!(status.is_success(), "SendMessageBatch answered {status}: {body:?}");
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn backlog(client: &mut Client, url: &str) -> Result<usize> {
    let ask = json!({ "QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessages"] });
    let (_, body) = client.json("sqs", "AmazonSQS.GetQueueAttributes", &ask).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    Ok(answer["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap_or("0").parse()?)
}

/// Ticks of all processors since the host started: those in use, and all (proc_stat(5)).
struct Ticks(u64, u64);

fn processors_busy() -> Result<Ticks> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let all: u64 = fields.iter().sum();
    Ok(Ticks(all - idle, all))
}

impl Ticks {
    /// The share in use since this was read.
    fn share(&self) -> Result<f64> {
        let now = processors_busy()?;
        Ok((now.0 - self.0) as f64 / (now.1 - self.1).max(1) as f64)
    }
}
