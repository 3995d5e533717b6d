//! The error documents that the platform itself answers with, where the runtime could not.
//!
//! Reference: Lambda Developer Guide, "Troubleshoot invocation issues in Lambda" (time-outs, exits, memory, response
//! size) and "Using the Lambda runtime API for custom runtimes" (shape: `errorType`, `errorMessage`).

use std::time::Duration;

use bytes::Bytes;
use flint_base::RequestId;
use flint_sandbox::{Exit, How, Stage};

pub(crate) const TIMED_OUT: &str = "Sandbox.Timedout";
pub(crate) const EXIT_ERROR: &str = "Runtime.ExitError";
pub(crate) const OUT_OF_MEMORY: &str = "Runtime.OutOfMemory";
pub(crate) const INVALID_ENTRYPOINT: &str = "Runtime.InvalidEntrypoint";
pub(crate) const TOO_LARGE: &str = "Function.ResponseSizeTooLarge";
pub(crate) const TRUNCATED: &str = "Runtime.TruncatedResponse";
pub(crate) const UNKNOWN: &str = "Runtime.Unknown";

/// An error document before it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl Document {
    pub(crate) fn render(&self) -> Bytes {
        let quoted = |s: &str| serde_json::to_string(s).expect("text is always JSON");
        format!(r#"{{"errorType":{},"errorMessage":{}}}"#, quoted(self.error_type), quoted(&self.message)).into()
    }
}

pub(crate) fn timed_out(id: RequestId, timeout: Duration) -> Document {
    let message = format!("RequestId: {id} Error: Task timed out after {:.2} seconds", timeout.as_secs_f64());
    Document { error_type: TIMED_OUT, message }
}

pub(crate) fn too_large(limit: usize) -> Document {
    let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
    Document { error_type: TOO_LARGE, message }
}

/// A streamed answer whose connection ended in the middle.
pub(crate) fn truncated(id: RequestId) -> Document {
    Document { error_type: TRUNCATED, message: format!("RequestId: {id} Error: the response stream ended early") }
}

/// Flint could not make a sandbox for a repeated init.
pub(crate) fn no_sandbox(id: RequestId, why: &str) -> Document {
    Document { error_type: UNKNOWN, message: format!("RequestId: {id} Error: {why}") }
}

/// The error type of a process that ended.
pub(crate) fn exit_type(exit: Exit) -> &'static str {
    match exit.how {
        _ if exit.oom => OUT_OF_MEMORY,
        How::SetupFailed { stage: Stage::Exec, .. } => INVALID_ENTRYPOINT,
        How::SetupFailed { .. } | How::Abandoned => UNKNOWN,
        How::Code(_) | How::Signal(_) => EXIT_ERROR,
    }
}

/// The process ended. A sandbox that could not `execve` is the fault of the package: no entry point, or none that runs.
pub(crate) fn exited(id: RequestId, exit: Exit, bootstrap: bool) -> Document {
    let what = match exit.how {
        _ if exit.oom => "Runtime exited with error: signal: killed".to_owned(),
        How::Code(0) => "Runtime exited without providing a reason".to_owned(),
        How::Code(code) => format!("Runtime exited with error: exit status {code}"),
        How::Signal(signal) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
        How::Abandoned => "the sandbox was lost".to_owned(),
        How::SetupFailed { stage: Stage::Exec, errno: 2 } if bootstrap => {
            "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]".to_owned()
        }
        How::SetupFailed { stage: Stage::Exec, errno } => {
            format!("fork/exec /var/task/bootstrap: {}", errno_text(errno))
        }
        How::SetupFailed { stage, errno } => {
            format!("the sandbox could not be set up at {stage}: {}", errno_text(errno))
        }
    };
    Document { error_type: exit_type(exit), message: format!("RequestId: {id} Error: {what}") }
}

/// The reference's supervisor is written in Go and its texts are that library's.
fn errno_text(errno: i32) -> String {
    match errno {
        2 => "no such file or directory".to_owned(),
        8 => "exec format error".to_owned(),
        13 => "permission denied".to_owned(),
        n => std::io::Error::from_raw_os_error(n).to_string(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        n => return format!("signal {n}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f8400400-dd9e-4025-b644-4c78df3287c7";

    fn golden(name: &str) -> serde_json::Value {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../tests/golden/error-documents.json")).expect("golden file is JSON");
        all[name]["document"].clone()
    }

    fn check(name: &str, document: &Document) {
        let ours: serde_json::Value = serde_json::from_slice(&document.render()).expect("a document is JSON");
        assert_eq!(ours, golden(name), "{name}");
    }

    #[test]
    fn documents_are_the_references() {
        let id: RequestId = ID.parse().expect("a UUID");
        let end = |how, oom| exited(id, Exit { how, oom }, true);
        check("timeout", &timed_out(id, Duration::from_secs(3)));
        check("too large", &too_large(crate::call::MAX_RESPONSE));
        check("exit 1", &end(How::Code(1), false));
        check("exit 0", &end(How::Code(0), false));
        check("killed", &end(How::Signal(9), false));
        check("segmentation fault", &end(How::Signal(11), false));
        check("out of memory", &end(How::Signal(9), true));
        check("no bootstrap", &end(How::SetupFailed { stage: Stage::Exec, errno: 2 }, false));
        check("not executable", &end(How::SetupFailed { stage: Stage::Exec, errno: 13 }, false));
    }
}
