//! The journal: one causally linked record of what happened to each event.
//!
//! Entries are part of a [`crate::Batch`], so an entry and the state that it tells of are one commit. The store alone
//! writes the journal's rows. Entries of what went well are many, and are kept packed: a [page](pages) for each commit, which
//! checkpoints join into [runs]. Those of what failed lie one by one in [`JOURNAL`], with [`BY_EVENT`] to find them by.
//! [`retention`] says how long each is kept, [`keeper`] sees to it. What waits for a person is kept beside, see [`failures`];
//! what an entry calls its payload and its answer lies in [`payloads`], where somebody kept it.

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
pub mod keeper;
pub mod pages;
pub mod payloads;
pub mod retention;
pub mod runs;

pub use failures::{ERRORS, Error, FAILURES};
pub use keeper::Keeper;
pub use pages::PAGES;
pub use payloads::{Kept, PAYLOADS};
pub use retention::{Floor, Limits, Written};
pub use runs::{DIGESTS, RUNS};

/// Key: place, commit version, index within the commit. Value: an encoded [`Entry`].
pub const JOURNAL: Keyspace = Keyspace::new("journal");
/// Key: place, event id, commit version, index within the commit. Value: empty.
pub const BY_EVENT: Keyspace = Keyspace::new("journal-event");

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

    /// Whether it tells of something that went well; what failed is kept longer.
    pub fn went_well(&self) -> bool {
        let ended_well = matches!(self.outcome, None | Some(Outcome::Succeeded));
        ended_well && !matches!(self.kind, Kind::Retried | Kind::DeadLettered | Kind::Discarded | Kind::Redriven)
    }

    /// When it happened, of an encoded one.
    pub(crate) fn at(bytes: &[u8]) -> Result<Timestamp, ReadError> {
        #[derive(Deserialize)]
        struct At {
            at: Timestamp,
        }
        record::decode::<At>(LAYOUT, bytes).map(|found| found.at).map_err(|e| ReadError(format!("journal: {e}")))
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
    let place = Key::for_place(place);
    let mut range = KeyRange::prefix(&place);
    if let Some(position) = before {
        range = range.before(&entry_key(&place, position));
    }
    let mut all = packed(store, &place, before, limit, Direction::Reverse)?;
    for row in store.scan(JOURNAL, &range, limit, Direction::Reverse)? {
        all.push((position_at_end(&row.key)?, Entry::decode(&row.value)?));
    }
    all.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
    all.dedup_by_key(|(position, _)| *position);
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
    let place = Key::for_place(place);
    let range = KeyRange::prefix(&place).after(&entry_key(&place, after));
    let mut all = packed(store, &place, Some(after), limit, Direction::Forward)?;
    for row in store.scan(JOURNAL, &range, limit, Direction::Forward)? {
        all.push((position_at_end(&row.key)?, Entry::decode(&row.value)?));
    }
    in_order(&mut all);
    all.truncate(limit);
    Ok(all)
}

/// Pages before runs: a checkpoint turns the ones into the others, and what is seen twice is better than not at all.
fn packed(
    store: &dyn Store,
    place: &Key,
    beyond: Option<Position>,
    limit: usize,
    direction: Direction,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let floor = Floor::read(store)?.at;
    let mut all = runs::walk(store, PAGES, place, beyond, floor, limit, direction)?;
    all.extend(runs::walk(store, RUNS, place, beyond, floor, limit, direction)?);
    Ok(all)
}

fn in_order(entries: &mut Vec<(Position, Entry)>) {
    entries.sort_by_key(|(position, _)| *position);
    entries.dedup_by_key(|(position, _)| *position);
}

/// All entries of one event, oldest first.
pub fn of_event(store: &dyn Store, place: &Place, event: EventId) -> Result<Vec<(Position, Entry)>, ReadError> {
    let place = Key::for_place(place);
    let range = KeyRange::prefix(&place.clone().raw(event.as_bytes()));
    let mut entries = packed_of(store, &place, event, |id, _| id == event)?;
    for row in store.scan(BY_EVENT, &range, usize::MAX, Direction::Forward)? {
        let position = position_at_end(&row.key)?;
        // Gone between the two reads: retention dropped it.
        if let Some(found) = store.get(JOURNAL, &entry_key(&place, position))? {
            entries.push((position, Entry::decode(&found.value)?));
        }
    }
    in_order(&mut entries);
    Ok(entries)
}

/// Entries of the events of one chain, oldest first: all of what went well, and of what failed those that are among the
/// newest 20,000 of the place.
pub fn of_root(store: &dyn Store, place: &Place, root: EventId) -> Result<Vec<(Position, Entry)>, ReadError> {
    const FAILED: usize = 20_000;
    const PAGE: usize = 256;
    let place = Key::for_place(place);
    let text = root.to_string();
    let names = |entry: &[u8]| entry.windows(text.len()).any(|part| part == text.as_bytes());
    let mut entries = packed_of(store, &place, root, |_, entry| names(entry))?;
    let mut range = KeyRange::prefix(&place);
    for _ in 0..FAILED / PAGE {
        let rows = store.scan(JOURNAL, &range, PAGE, Direction::Reverse)?;
        for row in rows.iter().filter(|row| names(&row.value)) {
            entries.push((position_at_end(&row.key)?, Entry::decode(&row.value)?));
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE => range = range.before(&last.key),
            _ => break,
        }
    }
    entries.retain(|(_, entry)| entry.lineage.root == root);
    in_order(&mut entries);
    Ok(entries)
}

/// The packed entries that `wanted` wants, of the runs that know `event` and of all pages.
fn packed_of(
    store: &dyn Store,
    place: &Key,
    event: EventId,
    wanted: impl Fn(EventId, &[u8]) -> bool,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let floor = Floor::read(store)?.at;
    let mut found = Vec::new();
    let mut look = |position: Position, id: EventId, entry: &[u8]| {
        if position >= floor && wanted(id, entry) {
            found.push((position, Entry::decode(entry)?));
        }
        Ok(())
    };
    pages::each(store, place, &mut look)?;
    runs::that_may_know(store, place, event, &mut look)?;
    Ok(found)
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

/// The place that a key begins with.
pub(crate) fn place_key(key: &Key) -> Option<Key> {
    let mut parts = key.parts();
    parts.text()?;
    parts.text()?;
    let place = key.as_bytes().len() - parts.rest().len();
    Some(Key::from_bytes(&key.as_bytes()[..place]))
}

/// What stands before the position, and the position.
pub(crate) fn split_position(key: &Key) -> Option<(&[u8], Position)> {
    let (head, end) = key.as_bytes().split_last_chunk::<POSITION_BYTES>()?;
    let (version, index) = end.split_first_chunk::<8>()?;
    let index = index.first_chunk::<2>()?;
    Some((head, Position { version: u64::from_be_bytes(*version), index: u16::from_be_bytes(*index) }))
}
