//! Telemetry and Logs API: extensions have events and log lines sent to a port of the environment's own loopback.
//!
//! [`Telemetry`] belongs to an environment and outlives its processes; what is said and written passes through
//! [`Telemetry::emit`], which costs one look where nobody has subscribed. `subscription` reads what a subscriber wants and
//! holds what is due to it, `deliver` sends it.
//!
//! Differs from the reference: destinations are HTTP, not TCP; a batch is sent as soon as the runtime is done with an
//! invocation, and before a freeze or the end (which wait a tenth of a second for it), not only after `timeoutMs`.
//!
//! Reference: Lambda Developer Guide, "Lambda Telemetry API reference", "Lambda Telemetry API Event schema reference" and
//! "Lambda Logs API".

mod deliver;
mod subscription;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, Timestamp};
use flint_sandbox::Reach;
use serde_json::{Value, json};

use crate::life::Task;
use subscription::Subscription;
pub(crate) use subscription::{Family, Request, Source};

/// What was said before anybody subscribed is kept during the init, up to this many records and bytes.
const BACKLOG: (usize, usize) = (1000, 256 * 1024);

/// How long a freeze, or the end, waits for what is due.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// What stands before a line that an external extension has written; put there by the script that starts it.
const MARK: &[u8] = b"\x01x\x02";

/// One record before it has the shape that a subscriber wants.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    at: Timestamp,
    source: Source,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// The kind without `platform.`, and the record.
    Platform(&'static str, Arc<str>),
    Line {
        text: Bytes,
        /// The function's log format is JSON.
        json: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Telemetry {
    clock: Arc<dyn Clock>,
    /// Somebody has subscribed or still may.
    active: AtomicBool,
    /// Lines of extensions are marked.
    marked: AtomicBool,
    state: Mutex<State>,
    /// Counts freezes and thaws: one that was put off holds only if nothing came after it.
    turn: Mutex<u64>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    reach: Option<Reach>,
    backlog: VecDeque<Record>,
    backlog_bytes: usize,
    subscriptions: Vec<(Arc<Subscription>, Task)>,
    /// The runtime's part of the invocation under way has been told.
    done: bool,
}

/// Why a subscription is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Invalid(String),
    /// The init is over.
    Closed,
    /// The extension has subscribed by the other API.
    OtherApi,
}

impl Telemetry {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let active = AtomicBool::new(true);
        Self { clock, active, marked: AtomicBool::new(false), state: Mutex::default(), turn: Mutex::default() }
    }

    /// A process starts; the subscribers of the one before are gone. `marked` if it has external extensions.
    pub(crate) fn begin(&self, reach: Reach, marked: bool) {
        let mut state = self.lock();
        state.subscriptions.clear();
        state.closed = false;
        state.reach = Some(reach);
        self.marked.store(marked, Ordering::Relaxed);
        self.active.store(true, Ordering::Release);
    }

    /// The init is over: nobody may subscribe any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.backlog = VecDeque::new();
        state.backlog_bytes = 0;
        self.active.store(!state.subscriptions.is_empty(), Ordering::Release);
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// The extension `name` subscribes. A second time replaces the first.
    pub(crate) fn subscribe(&self, name: &str, request: Request) -> Result<(), Refused> {
        let mut state = self.lock();
        let Some(reach) = state.reach.clone().filter(|_| !state.closed) else { return Err(Refused::Closed) };
        let said = json!({"name": name, "state": "Subscribed", "types": request.type_names()}).to_string();
        let kind = request.family.subscription_kind();
        if let Some(at) = state.subscriptions.iter().position(|(s, _)| s.name == name) {
            if state.subscriptions[at].0.request.family != request.family {
                return Err(Refused::OtherApi);
            }
            state.subscriptions.remove(at);
        }
        let subscription = Arc::new(Subscription::new(name, request));
        state.backlog.iter().for_each(|record| subscription.push(record));
        let task = Task(tokio::spawn(deliver::run(subscription.clone(), reach)));
        state.subscriptions.push((subscription, task));
        let content = Content::Platform(kind, said.into());
        self.tell(&mut state, Record { at: self.clock.now(), source: Source::Platform, content });
        Ok(())
    }

    /// What the platform says.
    pub(crate) fn platform(&self, kind: &'static str, record: &Value, at: Timestamp) {
        let mut state = self.lock();
        match kind {
            "start" => state.done = false,
            "runtimeDone" if std::mem::replace(&mut state.done, true) => return,
            "initReport" => {
                let mut record = record.clone();
                if let Some(fields) = record.as_object_mut() {
                    fields.remove("metrics");
                    fields.entry("status").or_insert_with(|| "success".into());
                }
                let content = Content::Platform("initRuntimeDone", record.to_string().into());
                self.tell(&mut state, Record { at, source: Source::Platform, content });
            }
            _ => {}
        }
        let content = Content::Platform(kind, record.to_string().into());
        self.tell(&mut state, Record { at, source: Source::Platform, content });
        if kind == "runtimeDone" {
            let end = json!({"requestId": record["requestId"]}).to_string();
            let content = Content::Platform("end", end.into());
            self.tell(&mut state, Record { at, source: Source::Platform, content });
            // An extension may wait for this before it asks for its next event.
            state.subscriptions.iter().for_each(|(s, _)| s.flush());
        }
    }

    /// Takes a line's mark off and says who wrote it.
    pub(crate) fn unmark(&self, line: Bytes) -> (Bytes, Source) {
        if line.starts_with(MARK) && self.marked.load(Ordering::Relaxed) {
            return (line.slice(MARK.len()..), Source::Extension);
        }
        (line, Source::Function)
    }

    /// Whether the beginning of a line is an extension's.
    pub(crate) fn is_marked(&self, partial: &[u8]) -> bool {
        let one = partial.starts_with(MARK) || MARK.starts_with(partial);
        one && !partial.is_empty() && self.marked.load(Ordering::Relaxed)
    }

    /// A line of the function or of an extension; `json` if the function's log format is.
    pub(crate) fn line(&self, text: Bytes, source: Source, json: bool, at: Timestamp) {
        self.tell(&mut self.lock(), Record { at, source, content: Content::Line { text, json } });
    }

    fn tell(&self, state: &mut State, record: Record) {
        state.subscriptions.iter().for_each(|(s, _)| s.push(&record));
        let size = record.size();
        if !state.closed && state.backlog.len() < BACKLOG.0 && state.backlog_bytes + size <= BACKLOG.1 {
            state.backlog_bytes += size;
            state.backlog.push_back(record);
        }
    }

    /// Whether something is on its way or waits for it.
    pub(crate) fn is_due(&self) -> bool {
        self.is_active() && self.lock().subscriptions.iter().any(|(s, _)| s.is_due())
    }

    /// Sends what is due now, and waits for it no longer than [`FLUSH_LIMIT`].
    pub(crate) async fn flush(&self) {
        let all: Vec<Arc<Subscription>> = self.lock().subscriptions.iter().map(|(s, _)| s.clone()).collect();
        let flushed = async {
            for subscription in all {
                subscription.flushed().await;
            }
        };
        drop(tokio::time::timeout(FLUSH_LIMIT, flushed).await);
    }

    /// Has the environment frozen once what is due has been sent, unless [`Telemetry::no_freeze`] comes first.
    pub(crate) fn freeze_later(self: &Arc<Self>) {
        let Some(reach) = self.lock().reach.clone() else { return };
        let turn = self.next_turn();
        let telemetry = self.clone();
        tokio::spawn(async move {
            telemetry.flush().await;
            let now = telemetry.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if *now == turn
                && let Err(error) = reach.freeze()
            {
                tracing::warn!(%error, "could not freeze");
            }
        });
    }

    /// Before a thaw: a freeze that was put off is off.
    pub(crate) fn no_freeze(&self) {
        self.next_turn();
    }

    fn next_turn(&self) -> u64 {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 1;
        *turn
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn size(&self) -> usize {
        match &self.content {
            Content::Platform(_, record) => record.len() + 80,
            Content::Line { text, .. } => text.len() + 80,
        }
    }
}

#[cfg(test)]
mod tests;
