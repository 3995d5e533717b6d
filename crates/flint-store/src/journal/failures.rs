//! What went wrong and waits for a person: one row per event that ended in a dead-letter queue or was given up.
//!
//! The store keeps these rows itself, in the commit that writes an entry: [`Kind::DeadLettered`] and [`Kind::Discarded`]
//! make one, [`Kind::Redriven`] and an entry that is marked as [`Entry::recovered`] remove it. They do not go with the
//! newest entries: [`sweep`] drops them after [`KEPT`]. An entry that carries an [`Error`] leaves it in [`ERRORS`], so
//! that whoever buries an event need not know of what it died: the queue that moves a message does not.

use std::time::Duration;

use bytes::Bytes;
use flint_base::{EventId, Timestamp};
use flint_model::Place;
use serde::{Deserialize, Serialize};

use super::{Entry, Kind, LAYOUT};
use crate::batch::{Batch, Mutation};
use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::record;
use crate::store::{Direction, Row, Store};

/// Key: place, event id. Value: the encoded [`Entry`] that says how it ended.
pub const FAILURES: Keyspace = Keyspace::new("journal-failures");
/// Key: place, event id. Value: the encoded [`LastError`] of an event.
pub const ERRORS: Keyspace = Keyspace::new("journal-errors");

/// How long failures are kept.
pub const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// Texts of an [`Error`] are cut here, in bytes.
const TEXT_MAX: usize = 512;

/// What a function said when it failed, or what stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// `errorType`
    pub kind: String,
    /// `errorMessage`
    #[serde(default)]
    pub message: String,
    /// The innermost place in the function's own code: `app.py:7 in handler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// The last error of an event, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    pub at: Timestamp,
    pub error: Error,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
}

impl Error {
    /// An error without a place in the function's code.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: cut(kind.into()), message: cut(message.into()), frame: None }
    }

    /// Reads the error document that a function, or the platform in its place, answered.
    ///
    /// Reference: Lambda Developer Guide, the shapes of errors of Python (`stackTrace`) and Node (`trace`).
    pub fn of_document(document: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Document {
            error_type: Option<serde_json::Value>,
            error_message: Option<serde_json::Value>,
            stack_trace: Option<serde_json::Value>,
            trace: Option<serde_json::Value>,
        }
        let document = serde_json::from_slice::<Document>(document).unwrap_or_default();
        let text = |value: Option<serde_json::Value>| value.as_ref().and_then(|v| v.as_str()).map(str::to_owned);
        let frames = document.stack_trace.or(document.trace);
        let frames = frames.as_ref().and_then(|frames| frames.as_array());
        let frames = frames.map(|all| all.iter().filter_map(|frame| frame.as_str()).collect::<Vec<_>>());
        Self {
            kind: cut(text(document.error_type).filter(|kind| !kind.is_empty()).unwrap_or_else(|| "Error".to_owned())),
            message: cut(text(document.error_message).unwrap_or_default()),
            frame: frames.and_then(|frames| own_frame(&frames)).map(cut),
        }
    }

    /// Failures with one signature have one cause: the type and the place. Without a place what the message says, its
    /// numbers and ids left out.
    pub fn signature(&self) -> String {
        match &self.frame {
            Some(frame) => format!("{} at {frame}", self.kind),
            None if self.message.is_empty() => self.kind.clone(),
            None => format!("{}: {}", self.kind, without_numbers(&self.message)),
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The innermost frame in the function's own code. Python lists frames from the outermost in, Node from the innermost out.
fn own_frame(frames: &[&str]) -> Option<String> {
    let python = frames.iter().rev().find_map(|frame| python_frame(frame));
    python.or_else(|| frames.iter().find_map(|frame| node_frame(frame)))
}

/// `  File "/var/task/app.py", line 7, in handler`
fn python_frame(frame: &str) -> Option<String> {
    let rest = frame.trim_start().strip_prefix("File \"/var/task/")?;
    let (file, rest) = rest.split_once("\", line ")?;
    let (line, rest) = rest.split_once(", in ")?;
    let function = rest.lines().next()?.trim();
    (!library(file)).then(|| format!("{file}:{line} in {function}"))
}

/// `    at handler (/var/task/app.js:7:9)`, `    at file:///var/task/app.mjs:7:9`
fn node_frame(frame: &str) -> Option<String> {
    let rest = frame.trim_start().strip_prefix("at ")?;
    let (name, place) = rest.strip_suffix(')').and_then(|rest| rest.split_once(" (")).unwrap_or(("", rest));
    let place = place.strip_prefix("file://").unwrap_or(place).strip_prefix("/var/task/")?;
    // The column says nothing that a person looks for.
    let place = place.rsplit_once(':').map_or(place, |(place, _)| place);
    let name = name.strip_prefix("async ").unwrap_or(name);
    (!library(place)).then(|| if name.is_empty() { place.to_owned() } else { format!("{place} in {name}") })
}

/// Packages that lie beside the code.
fn library(file: &str) -> bool {
    file.contains("node_modules/") || file.contains("site-packages/") || file.contains("dist-packages/")
}

/// A word with a digit is a number or an id.
fn without_numbers(message: &str) -> String {
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    let words: Vec<String> = message.split_whitespace().take(24).map(word).collect();
    words.join(" ")
}

/// The rows that an entry changes beside its own.
pub(crate) fn consequences(entry: &Entry, encoded: &Bytes, out: &mut Vec<Mutation>) {
    let key = || failure_key(&entry.place, entry.lineage.event);
    if let Some(error) = &entry.error {
        let last = LastError {
            at: entry.at,
            error: error.clone(),
            target: entry.target.clone(),
            code_version: entry.code_version.clone(),
        };
        out.push(Mutation::Put(ERRORS, key(), record::encode(LAYOUT, &last)));
    }
    match entry.kind {
        _ if entry.recovered => {
            out.push(Mutation::Delete(FAILURES, key()));
            out.push(Mutation::Delete(ERRORS, key()));
        }
        Kind::DeadLettered | Kind::Discarded => out.push(Mutation::Put(FAILURES, key(), encoded.clone())),
        Kind::Redriven => out.push(Mutation::Delete(FAILURES, key())),
        _ => {}
    }
}

/// The key in [`FAILURES`] and [`ERRORS`].
pub fn failure_key(place: &Place, event: EventId) -> Key {
    Key::for_place(place).raw(event.as_bytes())
}

/// The failures of a place by the ids of their events, each with the version of the commit that buried it; go on behind
/// `after`. Versions are the order in which events were buried.
pub fn failures(
    store: &dyn Store,
    place: &Place,
    after: Option<EventId>,
    limit: usize,
) -> Result<Vec<(u64, Entry)>, ReadError> {
    let mut range = KeyRange::place(place);
    if let Some(event) = after {
        range = range.after(&failure_key(place, event));
    }
    let rows = store.scan(FAILURES, &range, limit, Direction::Forward)?;
    rows.iter().map(|row| Ok((row.version, Entry::decode(&row.value)?))).collect()
}

/// The failure of one event.
pub fn failure(store: &dyn Store, place: &Place, event: EventId) -> Result<Option<Entry>, ReadError> {
    let row = store.get(FAILURES, &failure_key(place, event))?;
    row.map(|row| Entry::decode(&row.value)).transpose()
}

/// The last error that was told of an event.
pub fn last_error(store: &dyn Store, place: &Place, event: EventId) -> Result<Option<LastError>, ReadError> {
    let row = store.get(ERRORS, &failure_key(place, event))?;
    let decode = |bytes: &[u8]| record::decode(LAYOUT, bytes).map_err(|e| ReadError(format!("journal: {e}")));
    row.map(|row| decode(&row.value)).transpose()
}

/// Looks at up to `limit` rows of both keyspaces behind `from` and removes those that are older than [`KEPT`]. Returns
/// where to go on; `None` at the end.
pub fn sweep(
    store: &dyn Store,
    now: Timestamp,
    from: Option<(Keyspace, Key)>,
    limit: usize,
) -> Result<(Batch, Option<(Keyspace, Key)>), ReadError> {
    let (keyspace, range) = match from {
        None => (FAILURES, KeyRange::all()),
        Some((keyspace, key)) => (keyspace, KeyRange::all().after(&key)),
    };
    let rows = store.scan(keyspace, &range, limit, Direction::Forward)?;
    let oldest = now.as_millis().saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
    let mut batch = Batch::new();
    for row in &rows {
        if at(keyspace, row)?.as_millis() < oldest {
            batch = batch.delete(keyspace, row.key.clone());
        }
    }
    let next = match rows.last() {
        Some(last) if rows.len() >= limit => Some((keyspace, last.key.clone())),
        _ if keyspace == FAILURES => Some((ERRORS, Key::default())),
        _ => None,
    };
    Ok((batch, next))
}

fn at(keyspace: Keyspace, row: &Row) -> Result<Timestamp, ReadError> {
    if keyspace == FAILURES {
        return Ok(Entry::decode(&row.value)?.at);
    }
    let last: LastError = record::decode(LAYOUT, &row.value).map_err(|e| ReadError(format!("journal: {e}")))?;
    Ok(last.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, signature: &str) {
        assert_eq!(Error::of_document(document.as_bytes()).signature(), signature, "{document}");
    }

    #[test]
    fn one_cause_has_one_signature() {
        check(
            r#"{"errorMessage":"order 17","errorType":"KeyError","requestId":"x","stackTrace":["  File \"/var/runtime/bootstrap.py\", line 9, in run\n    x\n","  File \"/var/task/app.py\", line 7, in handler\n    price(order)\n","  File \"/var/task/shop/price.py\", line 3, in price\n    return 1\n","  File \"/var/task/site-packages/lib.py\", line 1, in deep\n"]}"#,
            "KeyError at shop/price.py:3 in price",
        );
        check(
            r#"{"errorType":"TypeError","errorMessage":"x","trace":["TypeError: x","    at deep (/var/task/node_modules/a/i.js:1:1)","    at async price (/var/task/price.js:3:9)","    at exports.handler (file:///var/task/app.mjs:7:9)"]}"#,
            "TypeError at price.js:3 in price",
        );
        check(r#"{"trace":["Error","    at file:///var/task/app.mjs:7:9"]}"#, "Error at app.mjs:7");
        check(
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 6a7e8feb-b491 Error: Task timed out after 3.00 seconds"}"#,
            "Sandbox.Timedout: RequestId: # Error: Task timed out after # seconds",
        );
        check("no JSON", "Error");
        check(r#"{"errorType":5,"stackTrace":"x","errorMessage":["y"]}"#, "Error");
        let long = Error::of_document(format!("{{\"errorMessage\":\"{}\"}}", "ü".repeat(9_000)).as_bytes());
        assert!(long.message.len() <= TEXT_MAX && long.signature().len() < 600);
    }
}
