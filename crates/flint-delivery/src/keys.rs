//! Events at rest: key layouts and versioned records. The only file that knows these bytes.

use bytes::Bytes;
use flint_base::{EventId, RequestId, Timestamp};
use flint_model::{FunctionName, Lineage, Place};
use flint_store::batch::MAX_VALUE_BYTES;
use flint_store::{Batch, BlobHash, Direction, Key, KeyRange, Keyspace, Row, Store, record};
use serde::{Deserialize, Serialize};

use crate::due::Due;
use crate::error::Error;

/// Events that wait for a function. Key: place, function, due, event. Value: [`EventRecord`] and a small payload.
pub(crate) const EVENTS: Keyspace = Keyspace::new("async-events");
/// Records on their way to a target. Key: due, id. Value: [`OutboxRecord`] and a small payload.
pub(crate) const OUTBOX: Keyspace = Keyspace::new("outbox");
/// Pieces of payloads that are too large for a row. Key: event, number of the piece.
pub(crate) const PIECES: Keyspace = Keyspace::new("async-payloads");
/// Payloads whose pieces are being written: what is left of one after a crash belongs to nothing. Key: event.
pub(crate) const UNFINISHED: Keyspace = Keyspace::new("async-payloads-unfinished");
/// Key: place, function, qualifier. Value: [`SettingsRecord`].
pub(crate) const SETTINGS: Keyspace = Keyspace::new("event-invoke-configs");

const LAYOUT: u8 = 1;

/// Payloads up to here lie in the row itself.
pub(crate) const INLINE_MAX: usize = 16 << 10;
/// Bytes of one piece.
const PIECE: usize = MAX_VALUE_BYTES - 1024;
/// Pieces of one batch; a batch takes 1 MiB.
const PIECES_PER_BATCH: usize = 12;

/// An event that waits for a function, without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    pub place: Place,
    pub function: FunctionName,
    /// As the caller named it; `None` is `$LATEST`.
    pub qualifier: Option<String>,
    /// The same for every attempt: what the caller got with the 202.
    pub request_id: RequestId,
    pub lineage: Lineage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    /// ARN of what brought it, unless it came from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub accepted_ms: i64,
    /// Attempts that were used up.
    #[serde(default)]
    pub attempts: u32,
    /// How often in a row the function was not asked since.
    #[serde(default)]
    pub not_asked: u32,
    /// Status with which the function was not asked the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// Where it goes if its function is gone when it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    pub payload: Stored,
}

/// Where a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub len: u64,
    pub hash: BlobHash,
    /// 0: behind the record itself.
    pub pieces: u32,
}

/// What a record in the outbox is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    OnSuccess,
    OnFailure,
    DeadLetter,
}

/// A record on its way to a target, without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutboxRecord {
    pub place: Place,
    pub purpose: Purpose,
    /// ARN of the target.
    pub target: String,
    /// ARN of the function that the event was for.
    pub source: String,
    /// Of the event; what is brought is its child.
    pub lineage: Lineage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// `RequestID`, `ErrorCode` and `ErrorMessage` of a dead letter: name, value, whether it is a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String, bool)>,
    /// Of what the event failed, and what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<flint_store::journal::Error>,
    pub event: flint_store::journal::PayloadRef,
    pub created_ms: i64,
    #[serde(default)]
    pub tries: u32,
    pub payload: Stored,
}

/// `PutFunctionEventInvokeConfig` as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    pub place: Place,
    pub function: FunctionName,
    /// `$LATEST`, a version or an alias.
    pub qualifier: String,
    pub retries: Option<u32>,
    pub max_age_s: Option<u32>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub modified_ms: i64,
}

pub(crate) fn lane_prefix(place: &Place, function: &FunctionName) -> Key {
    Key::for_place(place).text(function.as_str())
}

pub(crate) fn event_key(place: &Place, function: &FunctionName, due: Due) -> Key {
    with_due(lane_prefix(place, function), due)
}

pub(crate) fn outbox_key(due: Due) -> Key {
    with_due(Key::default(), due)
}

/// Place and function of a row in [`EVENTS`].
pub(crate) fn lane_of(key: &Key) -> Option<(Place, FunctionName)> {
    let mut parts = key.parts();
    let place = Place { account: parts.text()?.parse().ok()?, region: parts.text()?.parse().ok()? };
    Some((place, parts.text()?.parse().ok()?))
}

fn with_due(prefix: Key, due: Due) -> Key {
    prefix.u64(u64::try_from(due.at.as_millis()).unwrap_or(0)).raw(due.id.as_bytes())
}

/// The rows behind `after` below `prefix`, at most `limit`, and whether there are none behind them.
pub(crate) fn read_due(
    store: &dyn Store,
    keyspace: Keyspace,
    prefix: &Key,
    after: Due,
    limit: usize,
) -> Result<(Vec<Due>, bool), Error> {
    let range = KeyRange::prefix(prefix);
    // What comes before every time is the start of the range itself.
    let range = if after.at.as_millis() < 0 { range } else { range.after(&with_due(prefix.clone(), after)) };
    let rows = store.scan(keyspace, &range, limit, Direction::Forward)?;
    let complete = rows.len() < limit;
    Ok((rows.iter().filter_map(|row| due_of(&row.key)).collect(), complete))
}

fn due_of(key: &Key) -> Option<Due> {
    let (rest, id) = key.as_bytes().split_last_chunk::<16>()?;
    let (_, at) = rest.split_last_chunk::<8>()?;
    let at = i64::try_from(u64::from_be_bytes(*at)).ok()?;
    Some(Due::new(Timestamp::from_millis(at), EventId::from_bytes(*id)))
}

/// A record, and behind it the payload if that is small.
pub(crate) fn encode<T: Serialize>(value: &T, stored: Stored, payload: &[u8]) -> Bytes {
    let head = record::encode(LAYOUT, value);
    let inline = if stored.pieces == 0 { payload } else { &[] };
    let mut out = Vec::with_capacity(4 + head.len() + inline.len());
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(inline);
    out.into()
}

/// What [`encode`] made: the record, and the bytes behind it.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(key: &Key, value: &Bytes) -> Result<(T, Bytes), Error> {
    let damaged = |why: String| Error::Record { key: format!("{key:?}"), why };
    let (len, rest) = value.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short".to_owned()))?;
    let len = u32::from_be_bytes(*len) as usize;
    let head = rest.get(..len).ok_or_else(|| damaged("it is cut off".to_owned()))?;
    let record = record::decode(LAYOUT, head).map_err(|e| damaged(e.to_string()))?;
    Ok((record, value.slice(4 + len..)))
}

pub(crate) fn encode_settings(settings: &SettingsRecord) -> Bytes {
    record::encode(LAYOUT, settings)
}

pub(crate) fn settings_key(place: &Place, function: &FunctionName, qualifier: &str) -> Key {
    lane_prefix(place, function).text(qualifier)
}

pub(crate) fn load_settings(store: &dyn Store) -> Result<Vec<SettingsRecord>, Error> {
    let rows = store.scan(SETTINGS, &KeyRange::all(), usize::MAX, Direction::Forward)?;
    rows.iter().map(decode_row).collect()
}

pub(crate) fn decode_row<T: serde::de::DeserializeOwned>(row: &Row) -> Result<T, Error> {
    let damaged = |e: record::Error| Error::Record { key: format!("{:?}", row.key), why: e.to_string() };
    record::decode(LAYOUT, &row.value).map_err(damaged)
}

/// How `payload` will lie in the store.
pub(crate) fn plan(payload: &[u8]) -> Stored {
    let pieces = if payload.len() <= INLINE_MAX { 0 } else { payload.len().div_ceil(PIECE) };
    Stored { len: payload.len() as u64, hash: BlobHash::of(payload), pieces: u32::try_from(pieces).unwrap_or(u32::MAX) }
}

/// Writes the pieces of a large payload, durable when this returns; nothing to do for a small one. The batch that puts
/// the row that refers to them takes [`finish_pieces`] along.
pub(crate) async fn put_pieces(store: &dyn Store, id: EventId, stored: Stored, payload: &Bytes) -> Result<(), Error> {
    if stored.pieces == 0 {
        return Ok(());
    }
    let mut batch = Batch::new().put(UNFINISHED, Key::default().raw(id.as_bytes()), Bytes::new());
    let mut in_batch = 0;
    for (number, start) in (0..payload.len()).step_by(PIECE).enumerate() {
        let piece = payload.slice(start..payload.len().min(start + PIECE));
        batch = batch.put(PIECES, piece_key(id, number as u64), piece);
        in_batch += 1;
        if in_batch == PIECES_PER_BATCH {
            store.commit(std::mem::take(&mut batch)).await?;
            in_batch = 0;
        }
    }
    if in_batch > 0 {
        store.commit(batch).await?;
    }
    Ok(())
}

/// The row that refers to the pieces is in this batch.
pub(crate) fn finish_pieces(batch: Batch, id: EventId, stored: Stored) -> Batch {
    if stored.pieces == 0 { batch } else { batch.delete(UNFINISHED, Key::default().raw(id.as_bytes())) }
}

/// The row that referred to the pieces goes in this batch.
pub(crate) fn drop_pieces(batch: Batch, id: EventId, stored: Stored) -> Batch {
    if stored.pieces == 0 {
        return batch;
    }
    batch.delete_range(PIECES, KeyRange::prefix(&Key::default().raw(id.as_bytes())))
}

/// The payload that lies behind its row, or in pieces.
pub(crate) fn payload(store: &dyn Store, id: EventId, stored: Stored, inline: Bytes) -> Result<Bytes, Error> {
    if stored.pieces == 0 {
        return Ok(inline);
    }
    let range = KeyRange::prefix(&Key::default().raw(id.as_bytes()));
    let rows = store.scan(PIECES, &range, stored.pieces as usize, Direction::Forward)?;
    let mut whole = Vec::with_capacity(usize::try_from(stored.len).unwrap_or(0));
    for row in rows {
        whole.extend_from_slice(&row.value);
    }
    if whole.len() as u64 == stored.len {
        return Ok(whole.into());
    }
    Err(Error::Record { key: format!("payload of {id}"), why: format!("{} of {} bytes", whole.len(), stored.len) })
}

/// Removes the pieces that a crash left behind.
pub(crate) async fn sweep_unfinished(store: &dyn Store) -> Result<(), Error> {
    for row in store.scan(UNFINISHED, &KeyRange::all(), usize::MAX, Direction::Forward)? {
        let pieces = KeyRange::prefix(&row.key);
        store.commit(Batch::new().delete_range(PIECES, pieces).delete(UNFINISHED, row.key)).await?;
    }
    Ok(())
}

fn piece_key(id: EventId, number: u64) -> Key {
    Key::default().raw(id.as_bytes()).u64(number)
}

/// The id of what `parent` brings about under the name `what`: the same each time that it is asked for, so that what is
/// done again after a crash is not another event.
pub(crate) fn child_id(parent: EventId, what: &str) -> EventId {
    let mut seed = parent.as_bytes().to_vec();
    seed.extend_from_slice(what.as_bytes());
    let hash = BlobHash::of(&seed);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    // RFC 9562: version 8, the variant of that document.
    id[6] = (id[6] & 0x0F) | 0x80;
    id[8] = (id[8] & 0x3F) | 0x80;
    EventId::from_bytes(id)
}

/// Event source mappings. Key: place, UUID. Value: [`MappingRecord`].
pub(crate) const MAPPINGS: Keyspace = Keyspace::new("event-source-mappings");

/// An event source mapping as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MappingRecord {
    pub place: Place,
    pub uuid: String,
    /// ARN of the source.
    pub source: String,
    pub function: FunctionName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    pub enabled: bool,
    pub batch_size: u32,
    pub window_s: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// `ReportBatchItemFailures`
    pub partial: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    pub modified_ms: i64,
}

pub(crate) fn mapping_key(place: &Place, uuid: &str) -> Key {
    Key::for_place(place).text(uuid)
}

pub(crate) fn encode_mapping(mapping: &MappingRecord) -> Bytes {
    record::encode(LAYOUT, mapping)
}

pub(crate) fn load_mappings(store: &dyn Store) -> Result<Vec<MappingRecord>, Error> {
    let rows = store.scan(MAPPINGS, &KeyRange::all(), usize::MAX, Direction::Forward)?;
    rows.iter().map(decode_row).collect()
}
