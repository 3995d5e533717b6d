//! The lines that the platform itself writes into a function's log.
//!
//! Forms: Lambda Developer Guide, "Log formats and levels" and "Understanding the Lambda execution environment
//! lifecycle" (INIT_REPORT, failures during the init and invoke phases). The reference ends an event's text with a line
//! feed; ours carry none, as `LogEvent` asks.

use std::fmt::Write as _;
use std::time::Duration;

use flint_base::{RequestId, Timestamp};

/// How a phase ended, for the `Status` field. Success, and an error that the function's own code reported, have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status<'a> {
    Success,
    Timeout,
    Error(&'a str),
    /// The function's own code reported it: an error in a record, a success in a line.
    Reported(&'a str),
}

/// In which phase an init ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Init,
    /// Repeated inside the first call.
    Invoke,
}

/// What a REPORT line says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) request_id: RequestId,
    pub(crate) duration: Duration,
    pub(crate) billed_ms: u64,
    pub(crate) memory_mb: u32,
    pub(crate) memory_used_mb: u64,
    pub(crate) init: Option<Duration>,
    pub(crate) status: Status<'a>,
}

/// Milliseconds with two decimals, as all durations are written.
pub(crate) fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

/// The billed milliseconds: the sum of init (where it is billed) and invoke, rounded up to a whole millisecond.
///
/// Reference: AWS Compute Blog, "AWS Lambda standardizes billing for INIT Phase" (from 1 August 2025 the init of every
/// kind of function is billed).
pub(crate) fn billed_ms(duration: Duration, init: Option<Duration>) -> u64 {
    let nanos = (duration + init.unwrap_or_default()).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Differs: there is no `Runtime Version ARN`, as interpreters are the host's and have none.
pub(crate) fn init_start(runtime: &str) -> String {
    format!("INIT_START Runtime Version: {runtime}")
}

/// Only written when an init failed; the reference is silent about one that succeeds.
pub(crate) fn init_report(took: Duration, phase: Phase, status: Status<'_>) -> String {
    let phase = match phase {
        Phase::Init => "init",
        Phase::Invoke => "invoke",
    };
    let mut line = format!("INIT_REPORT Init Duration: {:.2} ms\tPhase: {phase}\t", millis(took));
    push_status(&mut line, status);
    line
}

pub(crate) fn start(id: RequestId, version: &str) -> String {
    format!("START RequestId: {id} Version: {version}")
}

pub(crate) fn end(id: RequestId) -> String {
    format!("END RequestId: {id}")
}

pub(crate) fn timed_out(at: Timestamp, id: RequestId, timeout: Duration) -> String {
    format!("{} {id} Task timed out after {:.2} seconds\n", at.to_iso8601(), timeout.as_secs_f64())
}

/// What is written when the runtime's process ended: the message of the error document and its type below.
pub(crate) fn crashed(message: &str, error_type: &str) -> String {
    format!("{message}\n{error_type}")
}

pub(crate) fn report(r: &Report<'_>) -> String {
    let mut line = format!(
        "REPORT RequestId: {}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
        r.request_id,
        millis(r.duration),
        r.billed_ms,
        r.memory_mb,
        r.memory_used_mb,
    );
    if let Some(init) = r.init {
        let _ = write!(line, "Init Duration: {:.2} ms\t", millis(init));
    }
    push_status(&mut line, r.status);
    line
}

fn push_status(line: &mut String, status: Status<'_>) {
    match status {
        Status::Success | Status::Reported(_) => {}
        Status::Timeout => line.push_str("Status: timeout"),
        Status::Error(kind) => {
            let _ = write!(line, "Status: error\tError Type: {kind}");
        }
    }
}

/// A line of our own: more was written than the log takes.
pub(crate) fn dropped(lines: u64, bytes: u64) -> String {
    format!("[flint] {lines} log lines ({bytes} bytes) dropped: more than the log takes per second")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f8400400-dd9e-4025-b644-4c78df3287c7";

    fn id() -> RequestId {
        ID.parse().expect("a UUID")
    }

    fn golden(name: &str) -> String {
        let all = include_str!("../tests/golden/platform-lines.log");
        let lines = all.lines().skip_while(|l| *l != format!("## {name}")).skip(1);
        let text: Vec<&str> = lines.take_while(|l| !l.starts_with("## ")).filter(|l| !l.starts_with("# ")).collect();
        assert!(!text.is_empty(), "no golden lines for {name}");
        text.join("\n")
    }

    fn check(name: &str, lines: &[String]) {
        let ours = lines.join("\n").replace('\t', "<TAB>");
        assert_eq!(ours.trim_end(), golden(name).trim_end(), "{name}");
    }

    fn ms(v: f64) -> Duration {
        Duration::from_secs_f64(v / 1000.0)
    }

    fn report_of(duration: f64, init: Option<f64>, used: u64, status: Status<'static>) -> String {
        let init = init.map(ms);
        report(&Report {
            request_id: id(),
            duration: ms(duration),
            billed_ms: billed_ms(ms(duration), init),
            memory_mb: 128,
            memory_used_mb: used,
            init,
            status,
        })
    }

    #[test]
    fn lines_are_the_references() {
        check(
            "success, cold",
            &[start(id(), "$LATEST"), end(id()), report_of(2.37, Some(423.98), 95, Status::Success)],
        );
        check("success, warm", &[report_of(1.2, None, 30, Status::Success)]);
        check("timeout, cold", &[report_of(5000.0, Some(578.07), 113, Status::Timeout)]);
        let at = Timestamp::parse_iso8601("2024-04-14T01:17:35.426Z").expect("a time");
        check("task timed out", &[timed_out(at, id(), Duration::from_secs(3))]);
        check("out of memory", &[report_of(10_935.7, None, 128, Status::Error("Runtime.OutOfMemory"))]);
        check(
            "init error",
            &[
                init_report(ms(150.79), Phase::Init, Status::Error("Runtime.UserCodeSyntaxError")),
                init_report(ms(1329.49), Phase::Invoke, Status::Error("Runtime.UserCodeSyntaxError")),
                start(id(), "$LATEST"),
                end(id()),
                report_of(1338.34, None, 71, Status::Error("Runtime.UserCodeSyntaxError")),
            ],
        );
        check(
            "init timeout",
            &[
                init_report(ms(9999.79), Phase::Init, Status::Timeout),
                init_report(ms(3003.83), Phase::Invoke, Status::Timeout),
            ],
        );
        let message = format!("RequestId: {ID} Error: Runtime exited with error: exit status 1");
        check("crash", &[crashed(&message, "Runtime.ExitError")]);
    }

    #[test]
    fn billing_rounds_the_sum_up_once() {
        for (duration, init, billed) in
            [(2.37, Some(423.98), 427), (5000.0, Some(578.07), 5579), (0.01, None, 1), (1.0, None, 1), (0.0, None, 0)]
        {
            assert_eq!(billed_ms(ms(duration), init.map(ms)), billed, "{duration} {init:?}");
        }
    }
}
