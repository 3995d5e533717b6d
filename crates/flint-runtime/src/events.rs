//! What the platform says about an environment's life, as text or as JSON, by the function's log settings.
//!
//! Reference: Lambda Developer Guide, "Log formats and levels" (JSON records, system log level event mapping) and "Lambda
//! Telemetry API Event schema reference" (the records' fields).

use std::time::Duration;

use flint_base::{RequestId, Timestamp};
use serde_json::{Value, json};

use crate::lines::{self, Phase, Report, Status, millis};
use crate::spec::{LogFormat, LogLevel, Logging};

/// The type of an error that is not one of the platform's or the runtimes' own.
const UNKNOWN: &str = "Function.Unknown";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// With the runtime's name.
    InitStart(&'a str),
    InitReport {
        took: Duration,
        phase: Phase,
        status: Status<'a>,
    },
    Start {
        id: RequestId,
        version: &'a str,
    },
    TimedOut {
        id: RequestId,
        timeout: Duration,
    },
    /// With the message of the error document and its type.
    Crashed(&'a str, &'a str),
    End {
        id: RequestId,
        duration: Duration,
        produced: usize,
        status: Status<'a>,
    },
    Report(Report<'a>),
}

/// The event as the log has it; none where it has nothing to say there.
pub(crate) fn render(event: Event<'_>, logging: Logging, at: Timestamp) -> Option<String> {
    match logging.format {
        LogFormat::Text => text(event, at),
        LogFormat::Json => {
            let (level, kind, record) = record(event)?;
            let shown = level >= logging.system_level.unwrap_or_default();
            // Written by hand, as the reference has the time first.
            shown.then(|| format!(r#"{{"time":"{}","type":"platform.{kind}","record":{record}}}"#, at.to_iso8601()))
        }
    }
}

fn text(event: Event<'_>, at: Timestamp) -> Option<String> {
    Some(match event {
        Event::InitStart(runtime) => lines::init_start(runtime),
        Event::InitReport { status: Status::Success, .. } => return None,
        Event::InitReport { took, phase, status } => lines::init_report(took, phase, status),
        Event::Start { id, version } => lines::start(id, version),
        Event::TimedOut { id, timeout } => lines::timed_out(at, id, timeout),
        Event::Crashed(message, error_type) => lines::crashed(message, error_type),
        Event::End { id, .. } => lines::end(id),
        Event::Report(report) => lines::report(&report),
    })
}

/// Level, type and record.
pub(crate) fn record(event: Event<'_>) -> Option<(LogLevel, &'static str, Value)> {
    Some(match event {
        Event::InitStart(runtime) => {
            let record = json!({"initializationType": "on-demand", "phase": "init", "runtimeVersion": runtime});
            (LogLevel::Info, "initStart", record)
        }
        Event::InitReport { took, phase, status } => {
            let phase = match phase {
                Phase::Init => "init",
                Phase::Invoke => "invoke",
            };
            let mut record = json!({
                "initializationType": "on-demand", "phase": phase, "metrics": {"durationMs": rounded(took)},
            });
            (put_status(&mut record, status, LogLevel::Debug), "initReport", record)
        }
        Event::Start { id, version } => {
            (LogLevel::Info, "start", json!({"requestId": id.to_string(), "version": version}))
        }
        // The status of what follows says it.
        Event::TimedOut { .. } | Event::Crashed(..) => return None,
        Event::End { id, duration, produced, status } => {
            let metrics = json!({"durationMs": rounded(duration), "producedBytes": produced});
            let mut record = json!({"requestId": id.to_string(), "metrics": metrics});
            (put_status(&mut record, status, LogLevel::Debug), "runtimeDone", record)
        }
        Event::Report(r) => {
            let mut metrics = json!({
                "durationMs": rounded(r.duration),
                "billedDurationMs": r.billed_ms,
                "memorySizeMB": r.memory_mb,
                "maxMemoryUsedMB": r.memory_used_mb,
            });
            if let Some(init) = r.init {
                metrics["initDurationMs"] = rounded(init).into();
            }
            let mut record = json!({"requestId": r.request_id.to_string(), "metrics": metrics});
            (put_status(&mut record, r.status, LogLevel::Info), "report", record)
        }
    })
}

/// Says the status in the record; the level is `good` for a success and `WARN` otherwise.
fn put_status(record: &mut Value, status: Status<'_>, good: LogLevel) -> LogLevel {
    let (name, error_type) = match status {
        Status::Success => ("success", None),
        Status::Timeout => ("timeout", None),
        Status::Error(kind) | Status::Reported(kind) => ("error", Some(known(kind))),
    };
    record["status"] = name.into();
    if let Some(kind) = error_type {
        record["errorType"] = kind.into();
    }
    if name == "success" { good } else { LogLevel::Warn }
}

/// The types that an error in a platform record may have.
fn known(kind: &str) -> &str {
    let after = ["Runtime.", "Function.", "Extension.", "Sandbox."].iter().find_map(|p| kind.strip_prefix(p));
    if after.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase())) { kind } else { UNKNOWN }
}

/// Milliseconds with three decimals.
fn rounded(d: Duration) -> f64 {
    (millis(d) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f8400400-dd9e-4025-b644-4c78df3287c7";

    fn shown(event: Event<'_>, level: Option<LogLevel>) -> Option<Value> {
        let logging = Logging { format: LogFormat::Json, application_level: None, system_level: level };
        let at = Timestamp::parse_iso8601("2024-04-14T01:17:35.426Z").expect("a time");
        let line = render(event, logging, at)?;
        assert!(line.starts_with(r#"{"time":"2024-04-14T01:17:35.426Z","type":"platform."#), "{line}");
        let value: Value = serde_json::from_str(&line).expect("JSON");
        Some(json!([value["type"].as_str().map(|t| &t[9..]), value["record"]]))
    }

    fn report(status: Status<'_>) -> Event<'_> {
        Event::Report(Report {
            request_id: ID.parse().expect("a UUID"),
            duration: Duration::from_micros(2_370),
            billed_ms: 427,
            memory_mb: 128,
            memory_used_mb: 95,
            init: Some(Duration::from_micros(423_980)),
            status,
        })
    }

    #[test]
    fn records_are_the_references() {
        let id = ID.parse().expect("a UUID");
        assert_eq!(
            shown(Event::Start { id, version: "$LATEST" }, None),
            Some(json!(["start", {"requestId": ID, "version": "$LATEST"}]))
        );
        let metrics = json!({
            "durationMs": 2.37, "billedDurationMs": 427, "memorySizeMB": 128, "maxMemoryUsedMB": 95,
            "initDurationMs": 423.98
        });
        let good = json!(["report", {"requestId": ID, "metrics": metrics, "status": "success"}]);
        assert_eq!(shown(report(Status::Success), None), Some(good));
        let failed = |status| shown(report(status), None).expect("shown")[1].clone();
        assert_eq!(failed(Status::Timeout)["status"], "timeout");
        let exit = failed(Status::Error("Runtime.ExitError"));
        assert_eq!((&exit["status"], &exit["errorType"]), (&json!("error"), &json!("Runtime.ExitError")));
        assert_eq!(failed(Status::Reported("ValueError"))["errorType"], "Function.Unknown");
        let start = json!({"initializationType": "on-demand", "phase": "init", "runtimeVersion": "python:3.12.1"});
        assert_eq!(shown(Event::InitStart("python:3.12.1"), None), Some(json!(["initStart", start])));
    }

    #[test]
    fn levels_filter() {
        let id = ID.parse().expect("a UUID");
        let done = |status| Event::End { id, duration: Duration::from_millis(1), produced: 2, status };
        let took = Duration::from_millis(1);
        let init = |status| Event::InitReport { took, phase: Phase::Init, status };
        let (debug, warn) = (Some(LogLevel::Debug), Some(LogLevel::Warn));
        for (event, default, at_debug, at_warn) in [
            (done(Status::Success), false, true, false),
            (done(Status::Timeout), true, true, true),
            (init(Status::Success), false, true, false),
            (init(Status::Error("Runtime.X")), true, true, true),
            (report(Status::Success), true, true, false),
            (report(Status::Timeout), true, true, true),
            (Event::Start { id, version: "1" }, true, true, false),
            (Event::TimedOut { id, timeout: took }, false, false, false),
        ] {
            let seen = [None, debug, warn].map(|level| shown(event, level).is_some());
            assert_eq!(seen, [default, at_debug, at_warn], "{event:?}");
        }
    }
}
