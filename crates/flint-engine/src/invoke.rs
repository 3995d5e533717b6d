//! One invocation: resolve, admit, acquire, run, release, record.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flint_base::{EventId, Timestamp};
use flint_kit::{Body, Ctx, Fault, FunctionFacts, Invocation, InvokeMode, Invoker, Outcome, Principal};
use flint_model::{FunctionRef, Place, trace};
use flint_runtime::call::{MAX_RESPONSE, MAX_STREAMED};
use flint_runtime::{Answer, Call, End, StreamSender};
use flint_store::journal;

use crate::engine::Engine;
use crate::error::Error;
use crate::function::Runnable;
use crate::pool::Leased;
use crate::record::Content;
use crate::room::{self, Permit};

mod streaming;

/// Bytes of a synchronous event: 6 MiB and room for the envelope (Lambda quotas, "Invocation payload").
pub(crate) const MAX_PAYLOAD: usize = 6_291_556;

/// Bytes of an event that nobody waits for (Lambda quotas, "Invocation payload", asynchronous: 1 MB).
pub(crate) const MAX_EVENT: usize = 1 << 20;

/// Bytes of a client context as sent, in base64 (API reference, `Invoke`: `ClientContext`).
const MAX_CLIENT_CONTEXT: usize = 3_583;

/// An admitted invocation on its way through.
struct Run {
    engine: Arc<Engine>,
    runnable: Arc<Runnable>,
    /// Given back when the run is over.
    _permit: Permit,
    place: Place,
    invocation: Invocation,
    /// It comes from another room, and not from a caller who waits for the answer.
    delivered: bool,
    call: Call,
    /// Monotonic time of admission.
    arrived: Duration,
}

/// The engine as others hold it: a handle that can start tasks of its own.
#[derive(Clone, Debug)]
pub(crate) struct Handle(pub Arc<Engine>);

#[async_trait]
impl Invoker for Handle {
    async fn invoke(&self, ctx: &Ctx, invocation: Invocation) -> Result<Outcome, Fault> {
        let engine = &self.0;
        let (live, runnable) =
            engine.registry.find_version(&ctx.place, &invocation.function, || engine.draws.next())?;
        check_payload(&invocation.payload)?;
        let client_context = invocation.client_context.as_deref().map(decode_client_context).transpose()?;
        if invocation.mode == InvokeMode::DryRun {
            return Ok(dry_run(&runnable));
        }
        let pass = trace::next_pass(ctx.trace.as_deref(), &invocation.lineage, &runnable.pool.spec.arn);
        if pass.is_one_too_many() && !live.head.recursion_allowed {
            return Err(Error::Recursive.into());
        }
        let permit = engine.room.admit(&ctx.place.account, &live.reservation).map_err(|reason| {
            runnable.stats.throttled();
            Error::TooManyRequests { reason }
        })?;
        let call = Call {
            request_id: ctx.request_id,
            arn: match &invocation.function.qualifier {
                None => runnable.pool.spec.arn.clone(),
                Some(qualifier) => format!("{}:{qualifier}", runnable.pool.spec.arn).into(),
            },
            payload: if invocation.payload.is_empty() { Bytes::from_static(b"{}") } else { invocation.payload.clone() },
            client_context,
            trace: Some(pass.header),
            timeout: runnable.function.config.timeout(),
            max_response: if invocation.mode == InvokeMode::Streaming { MAX_STREAMED } else { MAX_RESPONSE },
        };
        let run = Run {
            arrived: engine.clock.monotonic(),
            engine: engine.clone(),
            runnable,
            _permit: permit,
            place: ctx.place.clone(),
            invocation,
            delivered: matches!(ctx.principal, Principal::Platform { .. }),
            call,
        };
        if run.invocation.mode == InvokeMode::Streaming {
            return Ok(streaming::run(run).await?);
        }
        // In the caller's own task: one that is dropped half-way takes its environment along, which is then killed, and
        // gives the permit back. The wire never does so; it lets a call end whose caller has hung up.
        Ok(Box::pin(run.run()).await?)
    }

    fn describe(&self, place: &Place, function: &FunctionRef) -> Result<FunctionFacts, Fault> {
        let (live, runnable) = self.0.registry.find_version(place, function, || 1.0)?;
        Ok(FunctionFacts {
            arn: live.name().arn(place).to_string(),
            version: runnable.pool.spec.version.to_string(),
            timeout: runnable.function.config.timeout(),
            dead_letter: runnable.function.config.dead_letter.clone(),
            recursion_allowed: live.head.recursion_allowed,
            reserved_concurrency: live.head.reserved.and_then(|n| u32::try_from(n).ok()),
        })
    }
}

/// Whether `invocation` could be run later, so that nothing is accepted that nobody could ever run.
///
/// Errors: as `Invoke` says them at once.
pub(crate) fn check_event(engine: &Engine, place: &Place, invocation: &Invocation) -> Result<(), Error> {
    engine.registry.find_version(place, &invocation.function, || 1.0)?;
    if invocation.payload.len() > MAX_EVENT {
        return Err(Error::EventTooLarge { found: invocation.payload.len(), limit: MAX_EVENT });
    }
    check_payload(&invocation.payload)?;
    invocation.client_context.as_deref().map(decode_client_context).transpose()?;
    Ok(())
}

impl Run {
    async fn run(self) -> Result<Outcome, Error> {
        let leased = self.acquire().await?;
        let tail = self.invocation.tail;
        let version = self.runnable.pool.spec.version.clone();
        let answer = self.conduct(leased, None).await;
        if answer.end == End::Platform {
            return Err(lost(&answer));
        }
        Ok(Outcome {
            status: 200,
            payload: Body::Whole(answer.payload),
            function_error: answer.function_error,
            executed_version: version,
            tail: tail.then_some(answer.tail),
            billed_ms: answer.billed_ms,
        })
    }

    /// Runs the event in an acquired environment, gives the environment back, and writes the record.
    async fn conduct(self, mut leased: Leased, stream: Option<StreamSender>) -> Answer {
        let started = self.engine.clock.now();
        let cold = leased.is_new();
        let answer = match stream {
            None => leased.environment.invoke(self.call.clone()).await,
            Some(stream) => leased.environment.invoke_stream(self.call.clone(), stream).await,
        };
        self.record(&leased, &answer, started);
        let took = self.engine.clock.monotonic().saturating_sub(self.arrived);
        self.runnable.stats.ran(took, answer.function_error.is_some(), cold);
        self.engine.release(&self.runnable.pool, leased, &answer);
        answer
    }

    /// An idle environment, or a new one. An init that fails is the call's to report: it tries once more.
    async fn acquire(&self) -> Result<Leased, Error> {
        let acquired = self.find_or_make().await;
        if let Err(Error::TooManyRequests { .. }) = &acquired {
            self.runnable.stats.throttled();
        }
        acquired
    }

    async fn find_or_make(&self) -> Result<Leased, Error> {
        let pool = &self.runnable.pool;
        let (found, dead) = pool.take(self.engine.clock.now());
        for leased in dead {
            tokio::spawn(leased.close());
        }
        if let Some(leased) = found {
            return Ok(leased);
        }
        let function = &self.runnable.function;
        if function.config.variables.known().is_none() {
            return Err(Error::Sealed(function.arn()));
        }
        let memory = self.reserve_memory().await?;
        let cause = pool.cause();
        let made = self.engine.environments.create(pool.spec.clone(), self.call.trace.clone()).await;
        let environment = made.map_err(|e| Error::Sandbox(e.to_string()))?;
        let mut leased = Leased::new(environment, memory, cause, self.engine.clock.now());
        pool.enrol(&leased);
        leased.environment.init().await;
        Ok(leased)
    }

    async fn reserve_memory(&self) -> Result<crate::room::Memory, Error> {
        let mb = u64::from(self.runnable.function.config.memory_mb);
        loop {
            if let Some(memory) = self.engine.room.reserve(mb) {
                return Ok(memory);
            }
            if !self.engine.room.could_hold(mb) || !self.engine.evict_one().await {
                return Err(Error::TooManyRequests { reason: room::ACCOUNT });
            }
        }
    }

    fn record(&self, leased: &Leased, answer: &Answer, started: Timestamp) {
        let now = self.engine.clock.now();
        let outcome = match answer.end {
            End::Ok => journal::Outcome::Succeeded,
            End::Timeout | End::InitTimeout => journal::Outcome::TimedOut,
            End::OutOfMemory => journal::Outcome::OutOfMemory,
            End::Platform => journal::Outcome::Unknown,
            End::FunctionError | End::Exit | End::InitError | End::TooLarge => journal::Outcome::FunctionError,
        };
        let lineage = self.invocation.lineage;
        // Of a call that somebody waits for and that goes well, its caller has both.
        let wanted = answer.function_error.is_some() || self.delivered;
        let content = wanted.then(|| Content { payload: self.call.payload.clone(), answer: answer.payload.clone() });
        let entry = journal::Entry {
            target: Some(self.call.arn.to_string()),
            // Which attempt a delivery is, its room knows.
            attempt: u32::from(!self.delivered),
            code_version: Some(self.runnable.function.package.sha256.clone()),
            environment: Some(leased.environment.id().to_owned()),
            started: Some(started),
            ended: Some(now),
            outcome: Some(outcome),
            billed_ms: Some(answer.billed_ms),
            request: Some(self.call.request_id).filter(|id| EventId::from(*id) != lineage.event),
            ..journal::Entry::new(self.place.clone(), lineage, journal::Kind::Finished, now)
        };
        self.engine.recorder.record(entry, content);
    }
}

/// What is ours to answer for is no document of the function's.
fn lost(answer: &Answer) -> Error {
    Error::Sandbox(String::from_utf8_lossy(&answer.payload).into_owned())
}

fn dry_run(runnable: &Runnable) -> Outcome {
    Outcome {
        status: 204,
        payload: Body::empty(),
        function_error: None,
        executed_version: runnable.pool.spec.version.clone(),
        tail: None,
        billed_ms: 0,
    }
}

fn check_payload(payload: &Bytes) -> Result<(), Error> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::PayloadTooLarge { limit: MAX_PAYLOAD });
    }
    if payload.is_empty() {
        return Ok(());
    }
    // What is skipped is not looked at by the parser: that a string is text is asked apart.
    let text = std::str::from_utf8(payload).map_err(|error| Error::BadPayload(error.to_string()))?;
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::BadPayload(error.to_string())),
    }
}

fn decode_client_context(text: &str) -> Result<String, Error> {
    let bad = || Error::BadPayload("Client context must be a valid Base64-encoded JSON object.".to_owned());
    if text.len() > MAX_CLIENT_CONTEXT {
        let why = format!("Client context must be no longer than {MAX_CLIENT_CONTEXT} bytes");
        return Err(Error::BadPayload(why));
    }
    let decoded = BASE64_STANDARD.decode(text).map_err(|_| bad())?;
    let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
    let is_object = decoded.trim_start().starts_with('{');
    match serde_json::from_str::<serde::de::IgnoredAny>(&decoded) {
        Ok(_) if is_object => Ok(decoded),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_json() {
        for good in ["", "{}", "null", "\"x\"", "[1,2]", &format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))] {
            assert!(check_payload(&Bytes::copy_from_slice(good.as_bytes())).is_ok(), "{good:.20}");
        }
        let no_text: [&[u8]; 2] = [b"\"\xff\"", b"{\"a\":\"\xc3\"}"];
        for bad in no_text {
            assert!(check_payload(&Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
        for bad in ["{", "abc", "{}x", "\u{0}", "'a'"] {
            assert!(check_payload(&Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
        }
        assert!(matches!(check_payload(&Bytes::from(vec![b' '; MAX_PAYLOAD + 1])), Err(Error::PayloadTooLarge { .. })));
    }

    #[test]
    fn a_client_context_is_an_object_in_base64() {
        assert_eq!(decode_client_context(&BASE64_STANDARD.encode("{\"a\":1}")).expect("legal"), "{\"a\":1}");
        for bad in ["%%", &BASE64_STANDARD.encode("[1]"), &BASE64_STANDARD.encode([0xFF]), &"A".repeat(4_000)] {
            assert!(decode_client_context(bad).is_err(), "{bad:.20}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_event_and_client_context_is_taken_or_refused(
            payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            json in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}",
            text in "[A-Za-z0-9+/=%]{0,60}",
        ) {
            for bytes in [Bytes::from(payload), Bytes::from(json.clone())] {
                let is_json = bytes.is_empty() || serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
                // `Value` refuses some numbers that are JSON; nothing that it takes is refused.
                proptest::prop_assert!(check_payload(&bytes).is_ok() || !is_json);
            }
            for text in [text, BASE64_STANDARD.encode(&json)] {
                if let Ok(context) = decode_client_context(&text) {
                    let is_object = context.trim_start().starts_with('{');
                    proptest::prop_assert!(is_object);
                }
            }
        }
    }
}
