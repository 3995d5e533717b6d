//! The Runtime API: how the process in a sandbox gets events and hands back answers.
//!
//! One [`Api`] per sandbox process. [`Api`] is the state machine, free of any socket; `serve` speaks HTTP for it. One
//! event at a time: an answer counts only for the id in flight, and only once.
//!
//! Reference: Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes" (version 2018-06-01).

mod extension;
mod serve;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, Timestamp};
use flint_kit::Running;
use tokio::sync::Notify;

use crate::extensions::Extensions;
use crate::stream::StreamSender;
use crate::telemetry::Telemetry;

pub(crate) use serve::serve;

/// One event on its way to the runtime.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) deadline: Timestamp,
    pub(crate) arn: Arc<str>,
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) client_context: Option<String>,
    pub(crate) payload: Bytes,
    /// Bytes that an answer in one piece may have.
    pub(crate) limit: usize,
    /// Where a streamed answer goes; if nowhere, it is gathered and is an answer in one piece.
    pub(crate) stream: Option<Outlet>,
}

/// Where a streamed answer goes.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) to: StreamSender,
    /// Bytes that it may have.
    pub(crate) limit: usize,
}

/// What the runtime handed back for the event in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    Response(Bytes),
    Error(Failure),
    TooLarge,
    /// All of it has gone through the event's [`Outlet`].
    Streamed(Result<(), StreamFault>),
}

/// Why a stream ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// The runtime said so, in the trailers.
    Function(Failure),
    TooLarge,
    /// The connection ended in the middle.
    Truncated,
}

/// An error document that the runtime wrote, and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error_type: String,
    pub(crate) document: Bytes,
}

/// Why a request of the runtime is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400: no event with this id is in flight.
    UnknownId,
    /// 403: not now.
    WrongState,
}

/// Requests in a sandbox's life that may be refused, or ask for nothing, before their answers take time.
const STRAYS: u32 = 200;

/// The time that they take then. With 64 connections: 640 such requests a second.
const STRAY_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Api {
    clock: Arc<dyn Clock>,
    pub(crate) extensions: Extensions,
    pub(crate) telemetry: Option<Arc<Telemetry>>,
    state: Mutex<State>,
    /// An event waits for the runtime.
    work: Notify,
    /// The state has changed for the one who runs the environment.
    news: Notify,
    /// Held while a body is read: one answer is due at a time, so one is kept in memory at a time.
    reading: tokio::sync::Mutex<()>,
    /// Requests so far that brought nobody on: see [`Api::stray`].
    strays: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    contact: Option<Duration>,
    ready: Option<Duration>,
    init_failure: Option<Failure>,
    event: Option<Event>,
    flight: Option<Flight>,
    reported: Option<Reported>,
    /// The runtime waits for an event, or did and has got one.
    asked: bool,
    /// The trace header of the event that was offered last; before the first one, of the call that this was made for.
    trace: Option<Arc<str>>,
}

#[derive(Debug)]
struct Flight {
    id: String,
    limit: usize,
    stage: Stage,
    outlet: Option<Outlet>,
    /// A streamed answer has begun.
    streamed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The answer is being streamed.
    Streaming,
    Answered,
}

/// The environment's side.
impl Api {
    pub(crate) fn new(clock: Arc<dyn Clock>, extensions: Extensions) -> Self {
        Self {
            clock,
            extensions,
            telemetry: None,
            state: Mutex::default(),
            work: Notify::new(),
            news: Notify::new(),
            reading: tokio::sync::Mutex::default(),
            strays: AtomicU32::new(0),
        }
    }

    pub(crate) fn with_telemetry(self, telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry: Some(telemetry), ..self }
    }

    /// What runs before the first event belongs to this chain.
    pub(crate) fn made_for(self, trace: Option<Arc<str>>) -> Self {
        self.lock().trace = trace;
        self
    }

    /// Waits until the runtime asks for its first event (and says when it did) or reports that its init failed.
    pub(crate) async fn ready(&self) -> Result<Duration, Failure> {
        loop {
            // Made before the look, so that what happens in between is not missed.
            let news = self.news.notified();
            {
                let state = self.lock();
                if let Some(failure) = &state.init_failure {
                    return Err(failure.clone());
                }
                if let Some(at) = state.ready {
                    return Ok(at);
                }
            }
            news.await;
        }
    }

    /// What the runtime said about its init so far, without waiting.
    pub(crate) fn init_failure(&self) -> Option<Failure> {
        self.lock().init_failure.clone()
    }

    /// When the runtime first made contact.
    pub(crate) fn contact(&self) -> Option<Duration> {
        self.lock().contact
    }

    /// Puts an event where the runtime finds it. The one before has been answered.
    pub(crate) fn offer(&self, event: Event) {
        let mut state = self.lock();
        state.reported = None;
        state.flight = None;
        state.trace.clone_from(&event.trace);
        state.event = Some(event);
        drop(state);
        self.work.notify_one();
    }

    /// Waits for the answer to the event that was offered last.
    pub(crate) async fn reported(&self) -> Reported {
        loop {
            let news = self.news.notified();
            if let Some(reported) = self.take_reported() {
                return reported;
            }
            news.await;
        }
    }

    pub(crate) fn take_reported(&self) -> Option<Reported> {
        self.lock().reported.take()
    }

    /// Waits until the runtime, which has answered, asks for the next event.
    pub(crate) async fn asked(&self) {
        loop {
            let news = self.news.notified();
            if self.lock().asked {
                return;
            }
            news.await;
        }
    }

    /// Whether the answer to the event that was offered last began to be streamed.
    pub(crate) fn has_streamed(&self) -> bool {
        self.lock().flight.as_ref().is_some_and(|f| f.streamed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running for Api {
    fn trace(&self) -> Option<Arc<str>> {
        self.lock().trace.clone()
    }
}

/// The runtime's side.
impl Api {
    /// A connection was made.
    fn touched(&self) {
        let now = self.clock.monotonic();
        self.lock().contact.get_or_insert(now);
    }

    /// A request was refused, or asked for nothing. Runtimes hardly make any; code that makes them without end waits
    /// longer and longer for its answers, so that it can't keep the server busy.
    async fn stray(&self) {
        let strays = self.strays.fetch_add(1, Ordering::Relaxed);
        if strays >= STRAYS {
            tokio::time::sleep(STRAY_WAIT).await;
        }
    }

    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// `GET /runtime/invocation/next`
    async fn next(&self) -> Result<Event, Refusal> {
        {
            let mut state = self.lock();
            if state.init_failure.is_some() || state.flight.as_ref().is_some_and(|f| f.stage != Stage::Answered) {
                return Err(Refusal::WrongState);
            }
            state.asked = true;
            if state.ready.is_none() {
                state.ready = Some(self.clock.monotonic());
            }
            self.news.notify_waiters();
        }
        loop {
            if let Some(event) = self.take_event() {
                return Ok(event);
            }
            self.work.notified().await;
        }
    }

    fn take_event(&self) -> Option<Event> {
        let mut state = self.lock();
        let mut event = state.event.take()?;
        let outlet = event.stream.take();
        let (id, limit) = (event.id.clone(), event.limit);
        state.flight = Some(Flight { id, limit, stage: Stage::Open, outlet, streamed: false });
        Some(event)
    }

    /// Whether an answer for `id` would be taken now, and how large it may be. Asked before the body is read.
    fn expects(&self, id: &str) -> Result<usize, Refusal> {
        match &self.lock().flight {
            Some(flight) if flight.id == id && flight.stage != Stage::Open => Err(Refusal::WrongState),
            Some(flight) if flight.id == id => Ok(flight.limit),
            _ => Err(Refusal::UnknownId),
        }
    }

    /// `POST /runtime/invocation/ID/response` and `.../error`
    fn answer(&self, id: &str, reported: Reported) -> Result<(), Refusal> {
        let mut state = self.lock();
        match &mut state.flight {
            Some(flight) if flight.id == id && flight.stage == Stage::Open => {
                flight.stage = Stage::Answered;
                flight.outlet = None;
            }
            Some(flight) if flight.id == id => return Err(Refusal::WrongState),
            _ => return Err(Refusal::UnknownId),
        }
        state.reported = Some(reported);
        state.asked = false;
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }

    /// A streamed answer for `id` begins, if the caller takes one. [`Api::streamed`] ends it.
    fn begin_stream(&self, id: &str) -> Result<Option<Outlet>, Refusal> {
        let mut state = self.lock();
        match &mut state.flight {
            Some(flight) if flight.id == id && flight.stage == Stage::Open => {
                let Some(outlet) = flight.outlet.take() else { return Ok(None) };
                flight.stage = Stage::Streaming;
                flight.streamed = true;
                Ok(Some(outlet))
            }
            Some(flight) if flight.id == id => Err(Refusal::WrongState),
            _ => Err(Refusal::UnknownId),
        }
    }

    /// The end of a streamed answer. Without effect if another event has been offered since.
    fn streamed(&self, id: &str, end: Result<(), StreamFault>) {
        let mut state = self.lock();
        let Some(flight) = state.flight.as_mut().filter(|f| f.id == id && f.stage == Stage::Streaming) else { return };
        flight.stage = Stage::Answered;
        state.reported = Some(Reported::Streamed(end));
        state.asked = false;
        drop(state);
        self.news.notify_waiters();
    }

    /// `POST /runtime/init/error`: only before the first event was asked for, and once.
    fn init_failed(&self, failure: Failure) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.ready.is_some() || state.init_failure.is_some() {
            return Err(Refusal::WrongState);
        }
        state.init_failure = Some(failure);
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
