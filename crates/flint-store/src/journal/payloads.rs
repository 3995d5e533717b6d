//! Payloads that the journal's entries refer to, by their hash, in pieces that fit the store's rows.
//!
//! They lie in the store and not among the [`crate::Blobs`], so that keeping one is part of a commit and costs no sync of
//! its own. Nothing counts references: [`sweep`] removes what no entry names any more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use flint_base::Timestamp;
use flint_model::Place;

use super::failures::FAILURES;
use super::{Entry, JOURNAL, Outcome, PayloadRef};
use crate::batch::{Batch, MAX_VALUE_BYTES, Mutation};
use crate::blobs::BlobHash;
use crate::error::{CommitError, ReadError};
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Row, Store};

/// Key: place, hash, number of the piece. Value: the piece.
pub const PAYLOADS: Keyspace = Keyspace::new("journal-payloads");

/// Bytes of one piece.
const PIECE: usize = MAX_VALUE_BYTES - (4 << 10);

/// Pieces that go into one batch: a commit stays small beside others of its group.
const PIECES: usize = 3;

/// What a payload costs in a batch: how it is referred to, and the writes that keep it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub payload: PayloadRef,
    writes: Vec<Mutation>,
}

impl Kept {
    /// Prepares `content` to be kept in `place`.
    pub fn new(place: &Place, content: &Bytes) -> Self {
        let hash = BlobHash::of(content);
        let prefix = Key::for_place(place).raw(hash.as_bytes());
        // Of nothing there is one piece, too: it was kept.
        let pieces = (0..content.len().max(1)).step_by(PIECE).zip(0_u64..);
        let piece = |(start, number): (usize, u64)| {
            let end = content.len().min(start + PIECE);
            Mutation::Put(PAYLOADS, prefix.clone().u64(number), content.slice(start..end))
        };
        Self { payload: PayloadRef { hash, len: content.len() as u64 }, writes: pieces.map(piece).collect() }
    }

    /// Adds the writes to the batch that holds the entry. A large payload does not fit one batch: its first pieces are
    /// committed before, and are swept if the entry never comes.
    ///
    /// Errors: the store's, for what had to be committed before.
    pub async fn add_to(self, store: &dyn Store, mut batch: Batch) -> Result<(Batch, PayloadRef), CommitError> {
        let mut writes = self.writes;
        while writes.len() > PIECES {
            let rest = writes.split_off(PIECES);
            store.commit(Batch { write: std::mem::replace(&mut writes, rest), ..Batch::new() }).await?;
        }
        batch.write.append(&mut writes);
        Ok((batch, self.payload))
    }
}

/// The payload, if it is (still) kept.
pub fn read(store: &dyn Store, place: &Place, payload: &PayloadRef) -> Result<Option<Bytes>, ReadError> {
    let range = KeyRange::prefix(&Key::for_place(place).raw(payload.hash.as_bytes()));
    let mut content = BytesMut::new();
    for row in store.scan(PAYLOADS, &range, usize::MAX, Direction::Forward)? {
        content.extend_from_slice(&row.value);
    }
    let content = content.freeze();
    let whole = content.len() as u64 == payload.len && BlobHash::of(&content) == payload.hash;
    Ok(whole.then_some(content))
}

/// What is kept of events that went well.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of payloads, newest first.
    pub bytes: u64,
    /// Older ones go.
    pub age_ms: i64,
}

impl Default for Limits {
    /// 24 hours or 1 GiB, whichever comes first.
    fn default() -> Self {
        Self { bytes: 1 << 30, age_ms: 24 * 3600 * 1000 }
    }
}

/// What a look found that nothing refers to. Only what two looks in a row find goes: the entry of a large payload comes
/// after it.
pub type Unnamed = BTreeSet<(Key, u64)>;

/// Finds the payloads that may go: those that no entry names, and those of events that went well beyond `limits`.
/// Returns the batches that remove what `before` had found already, and what is to be handed in the next time.
pub fn sweep(
    store: &dyn Store,
    now: Timestamp,
    limits: Limits,
    before: &Unnamed,
) -> Result<(Vec<Batch>, Unnamed), ReadError> {
    let named = named(store, now, limits)?;
    let mut found = Unnamed::new();
    for_each(store, PAYLOADS, |row| {
        let prefix = &row.key.as_bytes()[..row.key.len().saturating_sub(8)];
        if !named.contains(prefix) {
            found.insert((row.key, row.version));
        }
        Ok(())
    })?;
    let mut batches = Vec::new();
    let (gone, left): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| before.contains(row));
    for rows in gone.chunks(200) {
        let mut batch = Batch::new();
        for (key, version) in rows {
            let expect = crate::batch::Expect::Version(*version);
            batch = batch.expect(PAYLOADS, key.clone(), expect).delete(PAYLOADS, key.clone());
        }
        batches.push(batch);
    }
    Ok((batches, left.into_iter().collect()))
}

/// The keys, without the piece, of all payloads that stay.
fn named(store: &dyn Store, now: Timestamp, limits: Limits) -> Result<BTreeSet<Vec<u8>>, ReadError> {
    let mut named = BTreeSet::new();
    let mut of_success: BTreeMap<(i64, Vec<u8>), u64> = BTreeMap::new();
    for keyspace in [FAILURES, JOURNAL] {
        for_each(store, keyspace, |row| {
            let entry = Entry::decode(&row.value)?;
            let went_well = keyspace == JOURNAL && matches!(entry.outcome, None | Some(Outcome::Succeeded));
            for payload in [entry.payload, entry.answer].into_iter().flatten() {
                let key = Key::for_place(&entry.place).raw(payload.hash.as_bytes()).as_bytes().to_vec();
                if went_well {
                    of_success.insert((entry.at.as_millis(), key), payload.len);
                } else {
                    named.insert(key);
                }
            }
            Ok(())
        })?;
    }
    let oldest = now.as_millis().saturating_sub(limits.age_ms);
    let mut left = limits.bytes;
    for ((at, key), len) in of_success.into_iter().rev() {
        if at < oldest || len > left {
            break;
        }
        if named.insert(key) {
            left -= len;
        }
    }
    Ok(named)
}

/// Every row of a keyspace, a page at a time.
fn for_each(
    store: &dyn Store,
    keyspace: Keyspace,
    mut look: impl FnMut(Row) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    const PAGE: usize = 64;
    let mut range = KeyRange::all();
    loop {
        let rows = store.scan(keyspace, &range, PAGE, Direction::Forward)?;
        let (count, last) = (rows.len(), rows.last().map(|row| row.key.clone()));
        rows.into_iter().try_for_each(&mut look)?;
        match last {
            Some(last) if count == PAGE => range = range.after(&last),
            _ => return Ok(()),
        }
    }
}
