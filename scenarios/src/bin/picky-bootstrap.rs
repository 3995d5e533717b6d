//! A function for `torture`: says what it did with each event, and fails for poison.
//!
//! An event is a text, or a batch of records with texts for bodies; one that ends with `-poison` fails. A line for each:
//! `DID` or `FAILED`, the text, the message's id (`-` if it has none), the moment (CLOCK_MONOTONIC, nanoseconds). The lines come
//! first and the answer a little later: a kill in between leaves work that was done and not answered.

use std::collections::BTreeSet;
use std::io::{Error, Write};
use std::process::ExitCode;
use std::time::Duration;

use scenarios::clock::monotonic_ns;
use scenarios::runtime::Runtime;
use serde_json::{Value, json};

/// Between the work and the answer.
const PAUSE: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("picky-bootstrap: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let mut runtime = Runtime::connect()?;
    loop {
        let (id, payload) = runtime.next_event()?;
        let event: Value = serde_json::from_slice(&payload)?;
        let (what, answer) = match &event {
            Value::String(text) => one(text)?,
            _ => ("response", batch(event["Records"].as_array().map_or(&[], Vec::as_slice))?),
        };
        std::thread::sleep(PAUSE);
        runtime.answer(&id, what, answer.to_string().as_bytes())?;
    }
}

fn one(text: &str) -> Result<(&'static str, Value), Error> {
    if work(text, "-")? {
        return Ok(("response", json!(text)));
    }
    Ok(("error", json!({ "errorType": "Poison", "errorMessage": text, "stackTrace": [] })))
}

/// What failed, and in a FIFO queue all of its group behind it.
fn batch(records: &[Value]) -> Result<Value, Error> {
    let (mut failed, mut stopped) = (Vec::new(), BTreeSet::new());
    for record in records {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (body, message) = (text(&record["body"]), text(&record["messageId"]));
        let group = text(&record["attributes"]["MessageGroupId"]);
        if stopped.contains(&group) || !work(&body, &message)? {
            failed.push(json!({ "itemIdentifier": message }));
            if !group.is_empty() {
                stopped.insert(group);
            }
        }
    }
    Ok(json!({ "batchItemFailures": failed }))
}

/// Whether it went well.
fn work(text: &str, message: &str) -> Result<bool, Error> {
    let well = !text.ends_with("-poison");
    let word = if well { "DID" } else { "FAILED" };
    writeln!(std::io::stdout(), "{word} {text} {message} {}", monotonic_ns())?;
    Ok(well)
}
