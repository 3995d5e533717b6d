//! `flint invoke`: runs a function once.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use flint_base::{Clock as _, SystemClock};
use flint_dev::Client;
use flint_dev::client::lambda::{Invoked, LogTail};
use flint_model::ByteCount;
use serde_json::{Value, json};

use crate::cli::Invoke;
use crate::ui::{self, Advised, Paint, Tone};
use crate::{history, surroundings};

use super::hints::{self, Cause};

pub(super) async fn run(flags: Invoke) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let payload = event(&flags)?;
    if flags.asynchronous {
        return hand_over(&client, &flags, payload).await;
    }
    let tail = if flags.tail || flags.json { LogTail::Tail } else { LogTail::None };
    if flags.stream {
        return stream(&client, &flags, payload, tail).await;
    }
    let clock = SystemClock::new();
    let invoked = match client.invoke(&flags.function, payload, tail).await {
        Ok(invoked) => invoked,
        Err(e) => return Err(hints::advised(&client, &flags.function, e).await),
    };
    let took = clock.monotonic();
    if flags.json {
        let mut value = as_json(&invoked);
        value["elapsedMs"] = json!(took.as_micros() as f64 / 1000.0);
        ui::json(&value)?;
    } else {
        if let Some(log) = invoked.log_tail.as_deref().filter(|_| flags.tail) {
            ui::note(log.trim_end());
        }
        match &flags.output {
            Some(path) => {
                fs::write(path, &invoked.payload).with_context(|| path.display().to_string())?;
                let size = ByteCount(invoked.payload.len() as u64);
                ui::note(format_args!("answer of {size} in {}, took {}", path.display(), ui::span(took)));
            }
            None => print(&invoked.payload)?,
        }
    }
    let Some(kind) = &invoked.function_error else { return Ok(ExitCode::SUCCESS) };
    Ok(failed(&client, &flags.function, kind, &invoked.payload, invoked.request_id.as_deref()).await)
}

/// Hands the event over; whether the function likes it is seen later.
async fn hand_over(client: &Client, flags: &Invoke, payload: Bytes) -> anyhow::Result<ExitCode> {
    let accepted = match client.invoke_event(&flags.function, payload).await {
        Ok(accepted) => accepted,
        Err(e) => return Err(hints::advised(client, &flags.function, e).await),
    };
    let id = accepted.request_id.unwrap_or_default();
    if flags.json {
        ui::json(&json!({ "statusCode": accepted.status, "requestId": id }))?;
    } else {
        ui::line(&id)?;
        ui::note(format_args!("accepted; `flint events show {id}` says what became of it"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer as it comes.
async fn stream(client: &Client, flags: &Invoke, payload: Bytes, tail: LogTail) -> anyhow::Result<ExitCode> {
    let mut printed = Ok(());
    let mut ends_line = true;
    let each = |bytes: &[u8]| {
        let mut out = std::io::stdout().lock();
        if printed.is_ok() {
            printed = out.write_all(bytes).and_then(|()| out.flush());
        }
        ends_line = bytes.last().is_none_or(|byte| *byte == b'\n');
    };
    let streamed = match client.invoke_streaming(&flags.function, payload, tail, each).await {
        Ok(streamed) => streamed,
        Err(e) => return Err(hints::advised(client, &flags.function, e).await),
    };
    printed?;
    if !ends_line {
        ui::line("")?;
    }
    if let Some(log) = streamed.log_tail.as_deref() {
        ui::note(log.trim_end());
    }
    let Some(kind) = &streamed.error_code else { return Ok(ExitCode::SUCCESS) };
    Ok(failed(client, &flags.function, kind, streamed.error_details.unwrap_or_default().as_bytes(), None).await)
}

/// Says that the function failed, why in a few words, and what to do.
async fn failed(client: &Client, name: &str, kind: &str, document: &[u8], request: Option<&str>) -> ExitCode {
    let paint = Paint::stderr();
    let cause = Cause::read(document);
    // Its limits make a better hint; without them there is still one.
    let function = client.function(name).await.ok().flatten();
    let text = cause.text(function.as_ref());
    ui::note(format_args!("{}: the function failed ({kind}): {text}", paint.text(Tone::Bad, "error")));
    ui::note(format_args!("{}: {}", paint.text(Tone::Good, "try"), cause.hint(name, request, function.as_ref())));
    ExitCode::FAILURE
}

/// The event of this call: that of the last one, or what was said, which is then remembered.
fn event(flags: &Invoke) -> anyhow::Result<Bytes> {
    let state = surroundings::state_dir();
    if !flags.again {
        let event = payload(flags.payload.as_deref())?;
        if let (Some(dir), true) = (&state, flags.payload.is_some()) {
            history::keep(dir, &flags.function, &event);
        }
        return Ok(event);
    }
    let last = state.and_then(|dir| history::last(&dir, &flags.function));
    last.map(Bytes::from).ok_or_else(|| {
        let message = format!("no event of {} is remembered", flags.function);
        let hint = format!("flint invoke {} -p '{{\"key\": \"value\"}}' sends one and remembers it", flags.function);
        Advised { message, hint }.into()
    })
}

/// The event: as it stands, from a file, or from standard input.
fn payload(said: Option<&str>) -> anyhow::Result<Bytes> {
    let bytes = match said {
        None => b"{}".to_vec(),
        Some("-" | "@-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
            bytes
        }
        Some(said) => match said.strip_prefix('@') {
            Some(path) => fs::read(path).map_err(|e| Advised {
                message: format!("{path}: {e}"),
                hint: "-p @FILE reads a file, -p JSON takes the text itself".into(),
            })?,
            None => {
                if let Err(e) = serde_json::from_str::<Box<serde_json::value::RawValue>>(said) {
                    let hint = "quote it for the shell: -p '{\"key\": \"value\"}', or use -p @FILE".to_owned();
                    return Err(Advised { message: format!("the event is not JSON: {e}"), hint }.into());
                }
                said.as_bytes().to_vec()
            }
        },
    };
    Ok(bytes.into())
}

/// The answer, and an end of line if it has none.
fn print(payload: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(payload)?;
    if payload.last() != Some(&b'\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn as_json(invoked: &Invoked) -> Value {
    let payload = serde_json::from_slice(&invoked.payload)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&invoked.payload).into_owned()));
    json!({
        "statusCode": invoked.status,
        "executedVersion": invoked.executed_version,
        "functionError": invoked.function_error,
        "requestId": invoked.request_id,
        "payload": payload,
        "log": invoked.log_tail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_event() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("event.json");
        fs::write(&file, "[1]").unwrap();
        assert_eq!(payload(None).unwrap(), "{}");
        assert_eq!(payload(Some("{\"a\":1}")).unwrap(), "{\"a\":1}");
        assert_eq!(payload(Some(&format!("@{}", file.display()))).unwrap(), "[1]");
        assert!(payload(Some("{a:1}")).unwrap_err().to_string().contains("not JSON"));
        assert!(payload(Some("@/nonexistent")).is_err());
    }
}
