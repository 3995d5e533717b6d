//! A function for `torture`: says what it did with each event, hands on what went well, and fails for poison.
//!
//! An event is a text, or a batch of records with texts for bodies; one that ends with `-poison` fails. A line for each:
//! `DID` or `FAILED`, the text, the message's id (`-` if it has none), the moment (CLOCK_MONOTONIC, nanoseconds). What went well of
//! a batch is sent to the queue `out`, by the endpoint inside. The answer comes a little later: a kill in between leaves work
//! that was done and not answered.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flint_wire::signer::Credentials;
use flint_wire::sigv4::SecretKey;
use scenarios::client::Client;
use scenarios::clock::monotonic_ns;
use scenarios::runtime::Runtime;
use scenarios::server::Access;
use serde_json::{Value, json};

/// Between the work and the answer.
const PAUSE: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("picky-bootstrap: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut runtime = Runtime::connect()?;
    let waiter = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        let (id, payload) = runtime.next_event()?;
        let event: Value = serde_json::from_slice(&payload)?;
        let (what, answer) = match &event {
            Value::String(text) => one(text)?,
            _ => {
                let (done, answer) = batch(event["Records"].as_array().map_or(&[], Vec::as_slice))?;
                match waiter.block_on(hand_on(&done)) {
                    Ok(()) => ("response", answer),
                    Err(error) => ("error", failure("Unsent", &format!("{error:#}"))),
                }
            }
        };
        std::thread::sleep(PAUSE);
        runtime.answer(&id, what, answer.to_string().as_bytes())?;
    }
}

fn one(text: &str) -> Result<(&'static str, Value)> {
    Ok(if work(text, "-")? { ("response", json!(text)) } else { ("error", failure("Poison", text)) })
}

fn failure(kind: &str, message: &str) -> Value {
    json!({ "errorType": kind, "errorMessage": message, "stackTrace": [] })
}

/// What went well; and the answer: what failed, and in a FIFO queue all of its group behind it.
fn batch(records: &[Value]) -> Result<(Vec<String>, Value)> {
    let (mut done, mut failed, mut stopped) = (Vec::new(), Vec::new(), BTreeSet::new());
    for record in records {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (body, message) = (text(&record["body"]), text(&record["messageId"]));
        let group = text(&record["attributes"]["MessageGroupId"]);
        if !stopped.contains(&group) && work(&body, &message)? {
            done.push(body);
            continue;
        }
        failed.push(json!({ "itemIdentifier": message }));
        if !group.is_empty() {
            stopped.insert(group);
        }
    }
    Ok((done, json!({ "batchItemFailures": failed })))
}

/// Whether it went well.
fn work(text: &str, message: &str) -> Result<bool> {
    let well = !text.ends_with("-poison");
    let word = if well { "DID" } else { "FAILED" };
    writeln!(std::io::stdout(), "{word} {text} {message} {}", monotonic_ns())?;
    Ok(well)
}

/// Sends what was done to the queue `out`.
async fn hand_on(done: &[String]) -> Result<()> {
    if done.is_empty() {
        return Ok(());
    }
    let access = access()?;
    let entries: Vec<Value> =
        done.iter().enumerate().map(|(n, id)| json!({ "Id": n.to_string(), "MessageBody": id })).collect();
    let url = format!("http://{}/{}/out", access.address, "000000000000");
    // A connection of its own: one that was kept may have ended while this environment was frozen.
    let mut client = Client::to(&access).await?;
    let input = json!({ "QueueUrl": url, "Entries": entries });
    let (status, body) = client.json("sqs", "AmazonSQS.SendMessageBatch", &input).await?;
    ensure!(status.is_success(), "SendMessageBatch answered {status}: {}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body)?;
    let sent = answer["Successful"].as_array().map_or(0, Vec::len);
    ensure!(sent == done.len(), "{sent} of {} were taken: {answer}", done.len());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a function reads its environment")]
fn access() -> Result<Access> {
    let variable = |name: &str| std::env::var(name).with_context(|| name.to_owned());
    let endpoint = variable("AWS_ENDPOINT_URL")?;
    let address = endpoint.strip_prefix("http://").context("an address")?.trim_end_matches('/').to_owned();
    let credentials = Credentials {
        access_key: variable("AWS_ACCESS_KEY_ID")?,
        secret_key: SecretKey::new(variable("AWS_SECRET_ACCESS_KEY")?),
        session_token: Some(variable("AWS_SESSION_TOKEN")?),
    };
    Ok(Access { address, credentials, region: variable("AWS_REGION")? })
}
