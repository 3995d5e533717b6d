//! From a queue to its handler, beside a direct call of the same function.
//!
//! The handler says when it runs (CLOCK_MONOTONIC). A direct call counts from the request on, a message from the answer to
//! its `SendMessage` on: from then it is in the queue. Both take turns, so that they find the same environment in the same
//! state: awake, or frozen after a pause.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::server::Server;
use serde_json::{Value, json};

use crate::kinds::zipped;

const ROUNDS: usize = 300;

const CODE: &str = "import time\n\
    def handler(event, context):\n    \
        now = time.monotonic_ns()\n    \
        if isinstance(event, dict):\n        \
            for record in event['Records']:\n            \
                print('AT', record['body'], now)\n        \
            return None\n    \
        return now\n";

/// When a message was sent and when its send was answered.
type Sent = (u64, u64);

pub async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary)?;
    let mut client = Client::connect(&server).await?;
    let python = server.newest("python3.", "")?.identifier;
    client.create("hop", &python, "app.handler", &zipped("app.py", CODE.as_bytes())?).await?;
    let url = queue(&mut client, "hop").await?;
    map(&mut client, "hop", &json!({})).await?;
    println!("queue to handler beside direct calls, {ROUNDS} of each in turns, milliseconds; over: median over median");
    let mut worst = f64::MIN;
    for (state, pause) in [("awake", 5), ("frozen", 60)] {
        let (mut direct, mut acknowledged, mut whole) = measure(&mut client, &url, state, pause).await?;
        println!("  {state:<7} direct call to handler   {}", direct.summary());
        println!("  {state:<7} in the queue to handler  {}", acknowledged.summary());
        println!("  {state:<7} send request to handler  {}", whole.summary());
        let over = acknowledged.percentile(50.0) - direct.percentile(50.0);
        println!("  {state:<7} over a direct call       {over:8.3}");
        report(&format!("hop_{state}_over_direct_p50"), over, "ms")?;
        worst = worst.max(over);
    }
    report("hop_over_direct_p50", worst, "ms")
}

async fn measure(client: &mut Client, url: &str, state: &str, pause: u64) -> Result<(Series, Series, Series)> {
    let mut direct = Series::new();
    let mut sent: BTreeMap<String, Sent> = BTreeMap::new();
    for round in 0..ROUNDS + 20 {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let from = monotonic_ns();
        let answer = client.invoke("hop", "null".into()).await?;
        let ran: u64 = std::str::from_utf8(&answer)?.trim().parse().context("the handler's time")?;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let name = format!("{state}-{round}");
        let before = monotonic_ns();
        let message = json!({ "QueueUrl": url, "MessageBody": name });
        let (status, body) = client.json("sqs", "AmazonSQS.SendMessage", &message).await?;
        let after = monotonic_ns();
        ensure!(status.is_success(), "SendMessage answered {status}: {body:?}");
        // The first ones warm everything up.
        if round >= 20 {
            direct.push(ms(from, ran));
            sent.insert(name, (before, after));
        }
    }
    let ran = times(client, ROUNDS + 20, state).await?;
    let (mut acknowledged, mut whole) = (Series::new(), Series::new());
    for (name, (before, after)) in sent {
        let at = *ran.get(&name).with_context(|| format!("{name} did not run"))?;
        // It may run before its sender has heard of it.
        acknowledged.push(if at >= after { ms(after, at) } else { -ms(at, after) });
        whole.push(ms(before, at));
    }
    Ok((direct, acknowledged, whole))
}

/// When each message's handler ran, from the function's log.
async fn times(client: &mut Client, wanted: usize, state: &str) -> Result<BTreeMap<String, u64>> {
    for _ in 0..100 {
        let mut found = BTreeMap::new();
        let mut token = Value::Null;
        loop {
            let mut query = json!({ "logGroupName": "/aws/lambda/hop", "filterPattern": format!("\"AT {state}\"") });
            if !token.is_null() {
                query["nextToken"] = token;
            }
            let (status, body) = client.json("logs", "Logs_20140328.FilterLogEvents", &query).await?;
            ensure!(status.is_success(), "FilterLogEvents answered {status}: {body:?}");
            let page: Value = serde_json::from_slice(&body)?;
            for event in page["events"].as_array().into_iter().flatten() {
                let words: Vec<&str> = event["message"].as_str().unwrap_or_default().split_whitespace().collect();
                if let ["AT", name, at] = words[..] {
                    found.insert(name.to_owned(), at.parse()?);
                }
            }
            token = page["nextToken"].clone();
            if token.is_null() {
                break;
            }
        }
        if found.len() >= wanted {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("not every message was handled within 5 s")
}

/// Makes a queue and answers its URL.
pub async fn queue(client: &mut Client, name: &str) -> Result<String> {
    let attributes = json!({ "QueueName": name, "Attributes": { "VisibilityTimeout": "600" } });
    let (status, body) = client.json("sqs", "AmazonSQS.CreateQueue", &attributes).await?;
    ensure!(status.is_success(), "CreateQueue answered {status}: {body:?}");
    let answer: Value = serde_json::from_slice(&body)?;
    Ok(answer["QueueUrl"].as_str().context("a URL")?.to_owned())
}

/// Maps the queue to the function of the same name; answers the UUID.
pub async fn map(client: &mut Client, name: &str, more: &Value) -> Result<String> {
    let source = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let mut document = json!({ "FunctionName": name, "EventSourceArn": source });
    for (member, value) in more.as_object().into_iter().flatten() {
        document[member] = value.clone();
    }
    let path = "/2015-03-31/event-source-mappings";
    let (status, body) = client.call(http::Method::POST, path, document.to_string().into()).await?;
    ensure!(status.is_success(), "CreateEventSourceMapping answered {status}: {body:?}");
    let answer: Value = serde_json::from_slice(&body)?;
    Ok(answer["UUID"].as_str().context("a UUID")?.to_owned())
}
