//! The port that runs a function. Typed, not a [`crate::Doc`], because it is hot.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flint_model::{FunctionRef, Lineage};

use crate::{Body, Ctx, Fault};

/// How the caller wants the function run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokeMode {
    /// `RequestResponse`: wait for the answer.
    RequestResponse,
    /// `InvokeWithResponseStream`: the answer leaves while the function writes it; [`Outcome::payload`] is
    /// [`Body::Events`] and carries its own end (log tail, error).
    Streaming,
    /// `DryRun`: check that it could be run.
    DryRun,
}

/// One attempt to run a function.
#[derive(Debug)]
pub struct Invocation {
    pub function: FunctionRef,
    pub mode: InvokeMode,
    pub payload: Bytes,
    /// The `ClientContext` as sent: base64 of a JSON document.
    pub client_context: Option<String>,
    /// Return the last 4 KiB of the log.
    pub tail: bool,
    pub lineage: Lineage,
}

/// How an attempt ended. A function that fails is an outcome, not a [`Fault`].
#[derive(Debug)]
pub struct Outcome {
    /// 200, or 204 for a dry run.
    pub status: u16,
    /// The answer, or the error document.
    pub payload: Body,
    /// `Unhandled` or `Handled` where the function failed (`X-Amz-Function-Error`).
    pub function_error: Option<&'static str>,
    /// The version that ran (`X-Amz-Executed-Version`).
    pub executed_version: Arc<str>,
    /// The last 4 KiB of the log, if it was asked for.
    pub tail: Option<Bytes>,
    /// Billed duration in milliseconds.
    pub billed_ms: u64,
}

/// Runs functions. `flint-engine` implements it.
#[async_trait]
pub trait Invoker: Send + Sync + Debug {
    /// Runs `invocation` once and answers how it ended.
    ///
    /// Errors: the faults of Lambda's `Invoke` (`ResourceNotFoundException`, `TooManyRequestsException`,
    /// `RequestTooLargeException`, `ServiceException`, ...).
    async fn invoke(&self, ctx: &Ctx, invocation: Invocation) -> Result<Outcome, Fault>;
}
