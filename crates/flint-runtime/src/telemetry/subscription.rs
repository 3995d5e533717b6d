//! One subscriber: what it wants, and what is due to it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_sandbox::RUNTIME_API;
use serde_json::Value;
use tokio::sync::Notify;

use super::{Content, Record};

/// Reference: Lambda Developer Guide, "Lambda Telemetry API reference", `buffering`.
const ITEMS: RangeInclusive<usize> = 1000..=10_000;
const BYTES: RangeInclusive<usize> = 262_144..=1_048_576;
const TIMEOUT_MS: RangeInclusive<usize> = 25..=30_000;

/// For a subscriber that is slow, so many full batches are held before records are dropped.
const BATCHES: usize = 4;

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Platform = 0,
    Function = 1,
    Extension = 2,
}

const SOURCES: [&str; 3] = ["platform", "function", "extension"];

/// By which API somebody subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Telemetry,
    Logs,
}

impl Family {
    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Telemetry => &["2022-07-01", "2022-12-13", "2025-01-29"],
            Self::Logs => &["2020-08-15", "2021-03-18"],
        }
    }

    pub(super) fn subscription_kind(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetrySubscription",
            Self::Logs => "logsSubscription",
        }
    }
}

/// What a subscriber wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(super) family: Family,
    version: &'static str,
    types: [bool; 3],
    max_items: usize,
    max_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) port: u16,
    /// The path of the destination.
    pub(super) path: String,
    pub(super) put: bool,
}

impl Request {
    /// Errors: all that is wrong, as the reference lists it.
    pub(crate) fn parse(family: Family, body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON".to_owned())?;
        let mut wrong = Vec::new();
        let version = match body["schemaVersion"].as_str() {
            Some(wanted) => family.versions().iter().find(|v| **v == wanted).copied(),
            // The Logs API had one schema at first.
            None if family == Family::Logs && body["schemaVersion"].is_null() => Some("2020-08-15"),
            None => None,
        };
        if version.is_none() {
            wrong.push(format!("schemaVersion should be one of {}", family.versions().join(", ")));
        }
        let mut types = [false; 3];
        match body["types"].as_array() {
            Some(wanted) if !wanted.is_empty() => {
                for one in wanted {
                    match SOURCES.iter().position(|s| Some(*s) == one.as_str()) {
                        Some(at) => types[at] = true,
                        None => wrong.push("types should be platform, function or extension".to_owned()),
                    }
                }
            }
            _ => wrong.push("types should not be empty".to_owned()),
        }
        let mut bounded = |name: &str, range: RangeInclusive<usize>, default: usize| {
            let value = &body["buffering"][name];
            let wanted = if value.is_null() { Some(default) } else { value.as_u64().and_then(|v| v.try_into().ok()) };
            wanted.filter(|v| range.contains(v)).unwrap_or_else(|| {
                wrong.push(format!("buffering.{name} should be between {} and {}", range.start(), range.end()));
                default
            })
        };
        let max_items = bounded("maxItems", ITEMS, if family == Family::Logs { 10_000 } else { 1000 });
        let max_bytes = bounded("maxBytes", BYTES, 262_144);
        let timeout = Duration::from_millis(bounded("timeoutMs", TIMEOUT_MS, 1000) as u64);
        let destination = &body["destination"];
        if destination["protocol"].as_str() != Some("HTTP") {
            wrong.push("destination.protocol should be HTTP".to_owned());
        }
        let method = destination["method"].as_str().unwrap_or("POST");
        if !matches!(method, "POST" | "PUT") {
            wrong.push("destination.method should be POST or PUT".to_owned());
        }
        let uri = destination["URI"].as_str().or(destination["uri"].as_str()).unwrap_or_default();
        let (port, path) = place(uri).unwrap_or_else(|problem| {
            wrong.push(problem.to_owned());
            (0, String::new())
        });
        match version {
            Some(version) if wrong.is_empty() => {
                Ok(Self { family, version, types, max_items, max_bytes, timeout, port, path, put: method == "PUT" })
            }
            _ => Err(wrong.join("; ")),
        }
    }

    pub(super) fn type_names(&self) -> Vec<&'static str> {
        (0..3).filter(|&at| self.types[at]).map(|at| SOURCES[at]).collect()
    }

    /// Whether a record of the platform is one of this subscriber's schema.
    fn knows(&self, kind: &str) -> bool {
        match (self.family, kind) {
            (Family::Telemetry, kind) => !matches!(kind, "end" | "logsSubscription"),
            (Family::Logs, "runtimeDone") => self.version != "2020-08-15",
            (Family::Logs, kind) => matches!(kind, "start" | "end" | "report" | "logsSubscription" | "logsDropped"),
        }
    }

    fn render(&self, record: &Record) -> Option<Vec<u8>> {
        if !self.types[record.source as usize] {
            return None;
        }
        let at = record.at.to_iso8601();
        Some(match &record.content {
            Content::Platform(kind, _) if !self.knows(kind) => return None,
            Content::Platform(kind, text) => {
                format!(r#"{{"time":"{at}","type":"platform.{kind}","record":{text}}}"#).into_bytes()
            }
            Content::Line { text, json } => {
                // From that version on, lines that are JSON stay JSON.
                let structured = *json && self.family == Family::Telemetry && self.version >= "2022-12-13";
                let object: Option<Value> = structured.then(|| serde_json::from_slice(text).ok()).flatten();
                let value = match object.filter(Value::is_object) {
                    Some(object) => object,
                    None => String::from_utf8_lossy(text).into(),
                };
                let kind = SOURCES[record.source as usize];
                format!(r#"{{"time":"{at}","type":"{kind}","record":{value}}}"#).into_bytes()
            }
        })
    }
}

/// Port and path of a destination.
fn place(uri: &str) -> Result<(u16, String), &'static str> {
    let uri: http::Uri = uri.parse().map_err(|_| "URI is not readable")?;
    if uri.scheme_str() != Some("http") || !matches!(uri.host(), Some("sandbox.localdomain" | "sandbox")) {
        return Err("URI should begin with http://sandbox.localdomain");
    }
    match uri.port_u16() {
        None | Some(0) => Err("URI port is not provided"),
        Some(port) if port == RUNTIME_API.port() => Err("URI port is reserved"),
        Some(port) => Ok((port, uri.path_and_query().map_or("/", |p| p.as_str()).to_owned())),
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) request: Request,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A batch is on its way.
    sending: bool,
    flush: bool,
    /// Records and bytes that found no room, and when the first did not.
    dropped: Option<(u64, u64, Timestamp)>,
}

impl Subscription {
    pub(super) fn new(name: &str, request: Request) -> Self {
        Self { name: name.to_owned(), request, queue: Mutex::default(), news: Notify::new() }
    }

    pub(super) fn push(&self, record: &Record) {
        let Some(item) = self.request.render(record) else { return };
        let mut queue = self.lock();
        let room = queue.items.len() < self.request.max_items * BATCHES
            && queue.bytes + item.len() <= self.request.max_bytes * BATCHES;
        if !room {
            let (records, bytes, _) = queue.dropped.get_or_insert((0, 0, record.at));
            *records += 1;
            *bytes += item.len() as u64;
            return;
        }
        self.tell_dropped(&mut queue);
        queue.bytes += item.len();
        queue.items.push_back(item);
        drop(queue);
        self.news.notify_waiters();
    }

    fn tell_dropped(&self, queue: &mut Queue) {
        let Some((records, bytes, at)) = queue.dropped.take() else { return };
        let record = serde_json::json!({
            "reason": "The subscriber has not taken what came before", "droppedRecords": records, "droppedBytes": bytes,
        });
        let content = Content::Platform("logsDropped", record.to_string().into());
        if let Some(item) = self.request.render(&Record { at, source: Source::Platform, content }) {
            queue.bytes += item.len();
            queue.items.push_back(item);
        }
    }

    /// What has come by now need not wait for more.
    pub(super) fn flush(&self) {
        let mut queue = self.lock();
        queue.flush = !queue.items.is_empty();
        drop(queue);
        self.news.notify_waiters();
    }

    pub(super) fn is_due(&self) -> bool {
        let queue = self.lock();
        queue.sending || !queue.items.is_empty()
    }

    /// Flushes, and waits until nothing is due.
    pub(super) async fn flushed(&self) {
        self.flush();
        loop {
            // Made before the look, so that what happens in between is not missed.
            let news = self.news.notified();
            if !self.is_due() {
                return;
            }
            news.await;
        }
    }

    /// Waits until a batch is due and gives it as a JSON array. [`Subscription::sent`] comes before the next.
    pub(super) async fn batch(&self) -> Bytes {
        self.wait_for(|queue| !queue.items.is_empty()).await;
        let Request { max_items, max_bytes, timeout, .. } = self.request;
        let due = self.wait_for(|queue| queue.flush || queue.items.len() >= max_items || queue.bytes >= max_bytes);
        drop(tokio::time::timeout(timeout, due).await);
        let mut queue = self.lock();
        let mut body = vec![b'['];
        let mut count = 0;
        while let Some(item) = queue.items.front() {
            if count > 0 && (count >= max_items || body.len() + item.len() + 2 > max_bytes) {
                break;
            }
            if count > 0 {
                body.push(b',');
            }
            body.extend_from_slice(item);
            queue.bytes -= item.len();
            queue.items.pop_front();
            count += 1;
        }
        body.push(b']');
        if queue.items.is_empty() {
            self.tell_dropped(&mut queue);
            queue.flush = !queue.items.is_empty();
        }
        queue.sending = true;
        body.into()
    }

    pub(super) fn sent(&self) {
        self.lock().sending = false;
        self.news.notify_waiters();
    }

    async fn wait_for(&self, is: impl Fn(&Queue) -> bool) {
        loop {
            let news = self.news.notified();
            if is(&self.lock()) {
                return;
            }
            news.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
