//! One invocation: what goes in, what comes out, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::RequestId;
use flint_model::ByteCount;

/// The largest answer of a synchronous invocation, in bytes (6 MiB and a little room for the envelope).
///
/// Reference: Lambda Developer Guide, "Lambda quotas"; `Runtime.ResponseSizeTooLarge` messages name this number.
pub const MAX_RESPONSE: usize = 6_291_556;

/// The largest streamed answer, in bytes (200 MiB).
///
/// Reference: Lambda Developer Guide, "Lambda quotas" (invocation payload of streamed responses).
pub const MAX_STREAMED: usize = 209_715_200;

/// One invocation of an initialised environment.
#[derive(Clone, Debug)]
pub struct Call {
    pub request_id: RequestId,
    /// The ARN that the caller used (with its qualifier).
    pub arn: Arc<str>,
    pub payload: Bytes,
    /// The client context as a JSON document (already decoded from base64).
    pub client_context: Option<String>,
    /// The value of `Lambda-Runtime-Trace-Id`.
    pub trace: Option<Arc<str>>,
    /// Counted from the moment the call is handed over.
    pub timeout: Duration,
    /// Bytes that the answer may have; [`MAX_RESPONSE`] for a synchronous call, [`MAX_STREAMED`] for one whose
    /// answer is streamed to the caller (an answer in one piece stays bounded by [`MAX_RESPONSE`]).
    pub max_response: usize,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ok,
    /// The function answered with an error document.
    FunctionError,
    Timeout,
    /// The runtime's process ended.
    Exit,
    OutOfMemory,
    /// Init failed, and failed again inside the call.
    InitError,
    /// Init did not end in time, and not inside the call's timeout either.
    InitTimeout,
    /// The answer was larger than [`Call::max_response`].
    TooLarge,
    /// Flint's own doing: no sandbox could be made, or it was lost. Whether the function ran is unknown.
    Platform,
}

/// What an invocation gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The function's answer, or the error document. What went through a [`crate::ResponseStream`] is not in it.
    pub payload: Bytes,
    /// Whether the answer began to go through the stream of [`crate::Environment::invoke_stream`]. If it then failed,
    /// `payload` is the error document and `function_error` is set; else `payload` is empty.
    pub streamed: bool,
    /// The `errorType` of a failed call, as the runtime named it or the platform does: `ValueError`,
    /// `Sandbox.Timedout`. None where there is no error, or where the function's document names none.
    pub error_type: Option<String>,
    /// `Unhandled` where the function failed (`X-Amz-Function-Error`).
    pub function_error: Option<&'static str>,
    /// From handing over the event to the answer (or the end).
    pub duration: Duration,
    /// Duration plus, on the first call, the init's, each rounded up to a millisecond as one sum.
    pub billed_ms: u64,
    /// On the first call of an environment whose init succeeded.
    pub init_duration: Option<Duration>,
    /// The peak since the environment started.
    pub memory_used: ByteCount,
    /// The last bytes, at most 4,096, of what this call logged, platform lines included.
    pub tail: Bytes,
    pub end: End,
    /// Whether the environment may take another call. If not, close it.
    pub reusable: bool,
}

/// How an init ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitEnd {
    /// The runtime asked for its first event.
    Ready,
    /// The runtime reported an error or ended. The next call tries once more.
    Failed { error_type: String },
    /// The limit passed. The next call tries once more.
    TimedOut,
}

/// The phases of a cold start. `first_invoke` is zero until the first call has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdStart {
    /// Until the sandbox stood: slot, namespaces, limits.
    pub sandbox: Duration,
    /// Opening and mounting the code.
    pub code: Duration,
    /// From exec to the first request that the runtime makes, or to the end of init if it makes none before.
    pub runtime: Duration,
    /// The function's own initialisation.
    pub init: Duration,
    pub first_invoke: Duration,
}
