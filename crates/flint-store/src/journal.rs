//! The journal: one causally linked record of what happened to each event.
//!
//! Entries are part of a [`crate::Batch`], so an entry and the state that it tells of are one commit. Entries of a place
//! lie in commit order in the keyspace [`JOURNAL`]; [`BY_EVENT`] finds those of one event. Both are written by the
//! store alone. It keeps the newest entries of each place (10,000 unless told otherwise) and drops older ones in the
//! commit that adds new ones. Entries of runs on which no state hangs are kept packed, see [`pages`]: as many again. What went wrong is kept longer, see [`failures`]; what an entry calls its payload and its
//! answer lies in [`payloads`], where somebody kept it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use flint_base::{EventId, RequestId, Timestamp};
use flint_model::{Lineage, Place};

use crate::blobs::BlobHash;
use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::record;
use crate::store::{Direction, Store};

pub mod failures;
pub mod pages;
pub mod payloads;

pub use failures::{ERRORS, Error, FAILURES};
pub use pages::PAGES;
pub use payloads::{Kept, PAYLOADS};

/// Key: place, commit version, index within the commit. Value: an encoded [`Entry`].
pub const JOURNAL: Keyspace = Keyspace::new("journal");
/// Key: place, event id, commit version, index within the commit. Value: empty.
pub const BY_EVENT: Keyspace = Keyspace::new("journal-event");

/// Entries that a place keeps unless the store's options say otherwise.
pub const DEFAULT_RETENTION: usize = 10_000;

const LAYOUT: u8 = 1;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The event was taken in; from here on it ends somewhere that a person can find.
    Accepted,
    /// A rule, filter or subscription chose it.
    Matched,
    /// A function was asked to run for it.
    Attempted,
    /// A run came to its end; see the outcome.
    Finished,
    /// Its source was told that it is done.
    Settled,
    /// Another attempt is due.
    Retried,
    DeadLettered,
    /// Given up for good, by rule.
    Discarded,
    /// Brought back by a person.
    Redriven,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    /// The function answered with an error or died.
    FunctionError,
    TimedOut,
    OutOfMemory,
    Throttled,
    /// Flint's own fault.
    SystemError,
    /// The server died while the function ran.
    Unknown,
}

/// A payload by content; [`Kept`] keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadRef {
    pub hash: BlobHash,
    /// In bytes.
    pub len: u64,
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub place: Place,
    /// The event, its cause, its root and its depth.
    pub lineage: Lineage,
    pub kind: Kind,
    /// When it happened.
    pub at: Timestamp,
    /// ARN of where the event came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// ARN of where it was going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadRef>,
    /// 1 for the first attempt; 0 where attempts mean nothing.
    #[serde(default)]
    pub attempt: u32,
    /// The function's version or code hash that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// In milliseconds, as in the REPORT line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_ms: Option<u64>,
    /// A trace header that names no root. Otherwise the trace id is the root's, see `flint_model::trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What the function answered, its error document included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<PayloadRef>,
    /// Of what it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The invocation's id, where it is not the event's: that of a batch, or of a later attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The event that this one repeats because a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<EventId>,
    /// Not written: this ends a failure that was waiting for a person (a message deleted from its dead-letter queue).
    #[serde(skip)]
    pub recovered: bool,
}

impl Entry {
    /// An entry with the parts that each has; set the others by field.
    pub fn new(place: Place, lineage: Lineage, kind: Kind, at: Timestamp) -> Self {
        Self {
            place,
            lineage,
            kind,
            at,
            source: None,
            target: None,
            payload: None,
            attempt: 0,
            code_version: None,
            environment: None,
            started: None,
            ended: None,
            outcome: None,
            billed_ms: None,
            trace_id: None,
            answer: None,
            error: None,
            request: None,
            replay_of: None,
            recovered: false,
        }
    }

    /// As it is kept.
    pub fn encode(&self) -> Bytes {
        record::encode(LAYOUT, self)
    }

    /// Errors: what [`Entry::encode`] of this or an earlier version did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        record::decode(LAYOUT, bytes).map_err(|e| ReadError(format!("journal: {e}")))
    }
}

/// The event under which the journal keeps what befell a queue with all that lay in it, by the queue's ARN: an entry for
/// each of a million purged messages would be too dear.
pub fn whole(arn: &str) -> EventId {
    let hash = BlobHash::of(format!("whole {arn}").as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    // RFC 9562: version 8, the variant of that document.
    id[6] = (id[6] & 0x0F) | 0x80;
    id[8] = (id[8] & 0x3F) | 0x80;
    EventId::from_bytes(id)
}

/// Where an entry stands in its place's journal: pass it on to read the page behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub version: u64,
    pub index: u16,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.version, self.index)
    }
}

impl std::str::FromStr for Position {
    type Err = ReadError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parts = s.split_once('.').and_then(|(version, index)| Some((version.parse().ok()?, index.parse().ok()?)));
        let (version, index) = parts.ok_or_else(|| ReadError(format!("{s:?} is no position of the journal")))?;
        Ok(Self { version, index })
    }
}

/// The newest entries of a place, newest first; with `before`, those older than it.
pub fn recent(
    store: &dyn Store,
    place: &Place,
    before: Option<Position>,
    limit: usize,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let mut range = KeyRange::place(place);
    if let Some(position) = before {
        range = range.before(&entry_key(&Key::for_place(place), position));
    }
    let rows = store.scan(JOURNAL, &range, limit, Direction::Reverse)?;
    let own = rows.iter().map(|row| Ok((position_at_end(&row.key)?, Entry::decode(&row.value)?)));
    let mut all: Vec<_> = own.collect::<Result<_, ReadError>>()?;
    all.extend(pages::walk(store, &Key::for_place(place), before, limit, Direction::Reverse)?);
    all.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
    all.truncate(limit);
    Ok(all)
}

/// The oldest entries of a place that are newer than `after`, oldest first.
pub fn newer(
    store: &dyn Store,
    place: &Place,
    after: Position,
    limit: usize,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let range = KeyRange::place(place).after(&entry_key(&Key::for_place(place), after));
    let rows = store.scan(JOURNAL, &range, limit, Direction::Forward)?;
    let own = rows.iter().map(|row| Ok((position_at_end(&row.key)?, Entry::decode(&row.value)?)));
    let mut all: Vec<_> = own.collect::<Result<_, ReadError>>()?;
    all.extend(pages::walk(store, &Key::for_place(place), Some(after), limit, Direction::Forward)?);
    all.sort_by_key(|(position, _)| *position);
    all.truncate(limit);
    Ok(all)
}

/// All entries of one event, oldest first.
pub fn of_event(store: &dyn Store, place: &Place, event: EventId) -> Result<Vec<(Position, Entry)>, ReadError> {
    let place = Key::for_place(place);
    let range = KeyRange::prefix(&place.clone().raw(event.as_bytes()));
    let mut entries = Vec::new();
    for row in store.scan(BY_EVENT, &range, usize::MAX, Direction::Forward)? {
        let position = position_at_end(&row.key)?;
        // Gone between the two reads: retention dropped it.
        if let Some(found) = store.get(JOURNAL, &entry_key(&place, position))? {
            entries.push((position, Entry::decode(&found.value)?));
        }
    }
    entries.extend(pages::of_event(store, &place, event)?);
    entries.sort_by_key(|(position, _)| *position);
    Ok(entries)
}

pub(crate) fn entry_key(place: &Key, position: Position) -> Key {
    place.with_raw(&position_bytes(position))
}

pub(crate) fn event_key(place: &Key, event: &[u8; 16], position: Position) -> Key {
    place.clone().raw(event).raw(&position_bytes(position))
}

const POSITION_BYTES: usize = 10;

fn position_bytes(position: Position) -> [u8; POSITION_BYTES] {
    let mut out = [0; POSITION_BYTES];
    out[..8].copy_from_slice(&position.version.to_be_bytes());
    out[8..].copy_from_slice(&position.index.to_be_bytes());
    out
}

fn position_at_end(key: &Key) -> Result<Position, ReadError> {
    let (_, end) = split_position(key).ok_or_else(|| ReadError("journal: a key without a position".to_owned()))?;
    Ok(end)
}

/// The parts of a key in [`BY_EVENT`].
pub(crate) fn split_event_key(key: &Key) -> Result<(Key, [u8; 16], Position), ReadError> {
    let (head, position) = split_position(key).ok_or_else(|| ReadError("journal: a short key".to_owned()))?;
    let (place, event) = head.split_last_chunk::<16>().ok_or_else(|| ReadError("journal: a short key".to_owned()))?;
    Ok((Key::from_bytes(place), *event, position))
}

/// The parts of a key in [`PAGES`].
pub(crate) fn split_page_key(key: &Key) -> Result<(Key, Position), ReadError> {
    let (place, position) = split_position(key).ok_or_else(|| ReadError("journal: a short key".to_owned()))?;
    Ok((Key::from_bytes(place), position))
}

/// What stands before the position, and the position.
fn split_position(key: &Key) -> Option<(&[u8], Position)> {
    let (head, end) = key.as_bytes().split_last_chunk::<POSITION_BYTES>()?;
    let (version, index) = end.split_first_chunk::<8>()?;
    let index = index.first_chunk::<2>()?;
    Some((head, Position { version: u64::from_be_bytes(*version), index: u16::from_be_bytes(*index) }))
}
