//! The port that runs a function. Typed, not a [`crate::Doc`], because it is hot.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_model::{FunctionRef, Lineage, Place};

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

/// What others may know of a function that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFacts {
    /// Without a qualifier.
    pub arn: String,
    /// The version that the reference stands for now: `$LATEST` or a number; of an alias with weights, its main one.
    pub version: String,
    pub timeout: Duration,
    /// `DeadLetterConfig.TargetArn`.
    pub dead_letter: Option<String>,
    /// `RecursiveLoop` is `Allow` (API reference, `PutFunctionRecursionConfig`).
    pub recursion_allowed: bool,
    /// `ReservedConcurrentExecutions`.
    pub reserved_concurrency: Option<u32>,
}

/// Takes events that nobody waits for (`InvocationType: Event`). `flint-delivery` implements it.
#[async_trait]
pub trait AsyncInvoker: Send + Sync + Debug {
    /// Takes `invocation`; it is on stable storage when this resolves with `Ok`, and runs when its turn comes. The function
    /// exists and the payload was checked already.
    ///
    /// Errors: `ServiceException` (503) where nothing can be stored now.
    async fn accept(&self, ctx: &Ctx, invocation: Invocation) -> Result<(), Fault>;

    /// `function` (with a qualifier: that version or alias of it) was deleted: what was configured for its events is, too.
    ///
    /// Errors: as [`AsyncInvoker::accept`].
    async fn forget(&self, place: &Place, function: &FunctionRef) -> Result<(), Fault>;
}

/// Runs functions. `flint-engine` implements it.
#[async_trait]
pub trait Invoker: Send + Sync + Debug {
    /// Runs `invocation` once and answers how it ended.
    ///
    /// Errors: the faults of Lambda's `Invoke` (`ResourceNotFoundException`, `TooManyRequestsException`,
    /// `RequestTooLargeException`, `ServiceException`, ...).
    async fn invoke(&self, ctx: &Ctx, invocation: Invocation) -> Result<Outcome, Fault>;

    /// What is known of `function`. Reads memory only.
    ///
    /// Errors: `ResourceNotFoundException`.
    fn describe(&self, place: &Place, function: &FunctionRef) -> Result<FunctionFacts, Fault>;
}
