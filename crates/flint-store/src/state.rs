//! The state: what a batch means, and where its rows are looked for.
//!
//! Shared by every engine of this crate, so that they cannot differ. Rows lie in up to three levels: the layer of what
//! changed last, a frozen layer on its way to the index, and the index. An engine in memory has the first alone.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, Expect, MAX_BATCH_BYTES, MAX_BATCH_PARTS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Mutation};
use crate::error::{CommitError, ReadError};
use crate::index::Snapshot;
use crate::journal::pages::Packed;
use crate::journal::{self, Position, Written};
use crate::key::{Key, KeyRange, Keyspace};
use crate::layer::{self, Layer, Level};
use crate::store::{Direction, Row, Versioned};

/// One change as it is logged and applied. Journal entries get their key when the commit gets its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put {
        keyspace: Keyspace,
        key: Key,
        value: Bytes,
        /// The batch demands that the key is absent, so nothing lies beneath it. Not logged: replay does without.
        absent: bool,
    },
    Delete(Keyspace, Key),
    DeleteRange(Keyspace, KeyRange),
    Journal {
        place: Key,
        event: [u8; 16],
        value: Bytes,
    },
    /// Packed journal entries.
    Page {
        place: Key,
        count: u16,
        value: Bytes,
    },
}

/// A batch that keeps the limits, ready to be checked and applied.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub expect: Vec<(Keyspace, Key, Expect)>,
    pub ops: Vec<Op>,
    /// Upper bound of the encoded size, in bytes.
    pub size: usize,
}

impl Prepared {
    /// Checks the limits of [`crate::batch`]. Runs on the caller's thread.
    pub fn new(batch: Batch) -> Result<Self, CommitError> {
        limit("the number of a batch's parts", batch.parts(), MAX_BATCH_PARTS)?;
        let Batch { expect, write, journal, packed } = batch;
        for (_, key, _) in &expect {
            limit("a key", key.len(), MAX_KEY_BYTES)?;
        }
        let mut size = 8;
        let mut ops = Vec::with_capacity(write.len() + journal.len());
        for mutation in write {
            ops.push(operation(mutation, &expect));
        }
        let (mut beside, mut failed) = (Vec::new(), Vec::new());
        let mut pack: Vec<Packed> = Vec::with_capacity(packed.len());
        for entry in journal {
            let value = entry.encode();
            journal::failures::consequences(&entry, &value, &mut beside);
            if entry.went_well() {
                pack.push(Packed::new(entry, value));
            } else {
                let (place, event) = (Key::for_place(&entry.place), *entry.lineage.event.as_bytes());
                failed.push(Op::Journal { place, event, value });
            }
        }
        pack.extend(packed.into_iter().map(|entry| {
            let value = entry.encode();
            Packed::new(entry, value)
        }));
        let pages = journal::pages::pack(pack).into_iter();
        ops.extend(pages.map(|(place, count, value)| Op::Page { place, count, value }));
        ops.append(&mut failed);
        ops.extend(beside.into_iter().map(|mutation| operation(mutation, &[])));
        for op in &ops {
            size += op.check()?;
        }
        limit("a batch", size, MAX_BATCH_BYTES)?;
        Ok(Self { expect, ops, size })
    }
}

fn operation(mutation: Mutation, expect: &[(Keyspace, Key, Expect)]) -> Op {
    match mutation {
        Mutation::Put(keyspace, key, value) => {
            let absent = expect.iter().any(|(k, e, x)| (*x, *k, e) == (Expect::Absent, keyspace, &key));
            Op::Put { keyspace, key, value: layer::own(value), absent }
        }
        Mutation::Delete(keyspace, key) => Op::Delete(keyspace, key),
        Mutation::DeleteRange(keyspace, range) => Op::DeleteRange(keyspace, range),
    }
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), CommitError> {
    if found > limit { Err(CommitError::TooLarge { what, found, limit }) } else { Ok(()) }
}

impl Op {
    /// Checks keys and values; returns an upper bound of the encoded size.
    fn check(&self) -> Result<usize, CommitError> {
        const FRAME: usize = 24;
        let key = |k: &Key| limit("a key", k.len(), MAX_KEY_BYTES).map(|()| k.len());
        let value = |v: &Bytes| limit("a value", v.len(), MAX_VALUE_BYTES).map(|()| v.len());
        Ok(FRAME
            + match self {
                Op::Put { keyspace, key: k, value: v, .. } => keyspace.name().len() + key(k)? + value(v)?,
                Op::Delete(keyspace, k) => keyspace.name().len() + key(k)?,
                Op::DeleteRange(keyspace, range) => {
                    let end = range.end.as_ref().map(key).transpose()?.unwrap_or(0);
                    keyspace.name().len() + key(&range.start)? + end
                }
                Op::Journal { place, value: v, .. } => place.len() + 16 + value(v)?,
                Op::Page { place, value: v, .. } => place.len() + value(v)?,
            })
    }
}

/// Every live key and value, and how much was written to the journal.
#[derive(Debug)]
pub(crate) struct State {
    layer: Layer,
    beneath: Beneath,
    /// Version of the last applied commit; 0 before the first.
    version: u64,
    written: Written,
}

/// What lies under the layer. Immutable, so that it can be read without the state's lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beneath {
    /// A layer on its way into the index.
    pub frozen: Option<Arc<Layer>>,
    /// The index as of the last checkpoint; none for a store in memory.
    pub base: Option<Arc<Snapshot>>,
}

impl Beneath {
    pub fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        if let Some(slot) = self.frozen.as_ref().and_then(|layer| layer.get(keyspace, key)) {
            return Ok(slot.value.clone());
        }
        self.base.as_ref().map_or(Ok(None), |base| base.get(keyspace, key))
    }

    fn is_empty(&self) -> bool {
        self.frozen.is_none() && self.base.as_ref().is_none_or(|base| base.is_empty())
    }

    fn levels(&self, keyspace: Keyspace, range: &KeyRange, direction: Direction) -> Result<Vec<Level<'_>>, ReadError> {
        let mut levels = Vec::new();
        if let Some(frozen) = &self.frozen {
            levels.push(level(frozen, keyspace, range, direction));
        }
        if let Some(base) = self.base.as_ref().filter(|base| !base.is_empty() && !range.is_empty()) {
            levels.push(base.scan(keyspace, range, direction)?);
        }
        Ok(levels)
    }
}

fn level<'a>(layer: &'a Layer, keyspace: Keyspace, range: &KeyRange, direction: Direction) -> Level<'a> {
    let rows = layer.range(keyspace, range).map(|(key, slot)| Ok((key.clone(), slot.value.clone())));
    match direction {
        Direction::Forward => Box::new(rows),
        Direction::Reverse => Box::new(rows.rev()),
    }
}

impl State {
    /// An empty state.
    pub fn new() -> Self {
        Self { layer: Layer::default(), beneath: Beneath::default(), version: 0, written: Written::default() }
    }

    /// The state as of a checkpoint.
    pub fn over(base: Arc<Snapshot>, version: u64) -> Result<Self, ReadError> {
        let written = match base.get(journal::retention::LEDGER, &Key::default())? {
            Some(row) => Written::decode(&row.value)?,
            None => counted(&base)?,
        };
        let beneath = Beneath { frozen: None, base: Some(base) };
        Ok(Self { layer: Layer::default(), beneath, version, written })
    }

    pub fn written(&self) -> Written {
        Written { version: self.version, ..self.written }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        match self.look(keyspace, key) {
            Ok(found) => Ok(found),
            Err(beneath) => beneath.get(keyspace, key),
        }
    }

    /// Looks in the layer alone; `Err` is where to look on.
    pub fn look(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, &Beneath> {
        match self.layer.get(keyspace, key) {
            Some(slot) => Ok(slot.value.clone()),
            None if self.beneath.is_empty() => Ok(None),
            None => Err(&self.beneath),
        }
    }

    pub fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError> {
        let mut levels = vec![level(&self.layer, keyspace, range, direction)];
        levels.extend(self.beneath.levels(keyspace, range, direction)?);
        layer::merge(levels, limit, direction)
    }

    /// Applies one batch as the commit of `version`.
    ///
    /// Errors only if the index cannot be read; the state is then of no more use.
    pub fn apply(&mut self, version: u64, ops: Vec<Op>) -> Result<(), ReadError> {
        debug_assert_eq!(version, self.version + 1, "commits apply in order and without gaps");
        self.version = version;
        let mut index = 0;
        for op in ops {
            match op {
                Op::Put { keyspace, key, value, absent } => {
                    if keyspace == journal::PAYLOADS {
                        self.written.payloads += value.len() as u64;
                    }
                    self.put(keyspace, key, Versioned { version, value }, absent);
                }
                Op::Delete(keyspace, key) => self.delete(keyspace, &key),
                Op::DeleteRange(keyspace, range) => self.delete_range(keyspace, &range)?,
                Op::Journal { place, event, value } => {
                    let position = Position { version, index };
                    index += 1;
                    self.write_entry(&place, event, position, value);
                }
                Op::Page { place, count, value } => {
                    let position = Position { version, index };
                    index += count;
                    self.write_page(&place, position, value);
                }
            }
        }
        Ok(())
    }

    /// Estimated memory of what is not on its way to the index, in bytes.
    pub fn layer_bytes(&self) -> usize {
        self.layer.bytes()
    }

    pub fn is_frozen(&self) -> bool {
        self.beneath.frozen.is_some()
    }

    /// Starts a new layer; the present one is to be written to the index and then installed.
    pub fn freeze(&mut self) -> Arc<Layer> {
        debug_assert!(!self.is_frozen(), "one checkpoint at a time");
        let written = Versioned { version: self.version, value: self.written().encode() };
        self.put(journal::retention::LEDGER, Key::default(), written, false);
        let frozen = Arc::new(std::mem::take(&mut self.layer));
        self.beneath.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// The frozen layer is in the index now. Returns what it replaces, to be dropped without the lock.
    pub fn install(&mut self, base: Arc<Snapshot>) -> Beneath {
        std::mem::replace(&mut self.beneath, Beneath { frozen: None, base: Some(base) })
    }

    fn put(&mut self, keyspace: Keyspace, key: Key, value: Versioned, absent: bool) {
        let fresh = absent || self.beneath.is_empty();
        self.layer.put(keyspace, key, value, fresh);
    }

    fn delete(&mut self, keyspace: Keyspace, key: &Key) {
        self.layer.delete(keyspace, key, !self.beneath.is_empty());
    }

    fn delete_range(&mut self, keyspace: Keyspace, range: &KeyRange) -> Result<(), ReadError> {
        let beneath = self.beneath.levels(keyspace, range, Direction::Forward)?;
        let beneath = layer::merge(beneath, usize::MAX, Direction::Forward)?;
        let above: Vec<Key> = self.layer.range(keyspace, range).map(|(key, _)| key.clone()).collect();
        for key in above.iter().chain(beneath.iter().map(|row| &row.key)) {
            self.delete(keyspace, key);
        }
        Ok(())
    }

    fn write_page(&mut self, place: &Key, position: Position, value: Bytes) {
        let version = position.version;
        self.written.well += journal::pages::bytes(&value);
        // No earlier commit can have written a key that carries this version.
        self.put(journal::PAGES, journal::entry_key(place, position), Versioned { version, value }, true);
    }

    fn write_entry(&mut self, place: &Key, event: [u8; 16], position: Position, value: Bytes) {
        let version = position.version;
        self.written.failed += journal::retention::ENTRY_BYTES + value.len() as u64;
        // No earlier commit can have written a key that carries this version.
        self.put(journal::JOURNAL, journal::entry_key(place, position), Versioned { version, value }, true);
        let by_event = journal::event_key(place, &event, position);
        self.put(journal::BY_EVENT, by_event, Versioned { version, value: Bytes::new() }, true);
    }
}

/// What the journal of a store holds that was made before there was a ledger.
fn counted(base: &Snapshot) -> Result<Written, ReadError> {
    let mut written = Written::default();
    for row in base.scan(journal::PAGES, &KeyRange::all(), Direction::Forward)? {
        written.well += row?.1.map_or(0, |page| journal::pages::bytes(&page.value));
    }
    for row in base.scan(journal::JOURNAL, &KeyRange::all(), Direction::Forward)? {
        written.failed += row?.1.map_or(0, |entry| journal::retention::ENTRY_BYTES + entry.value.len() as u64);
    }
    Ok(written)
}

/// What the batches of a group that is not yet applied have changed, as far as preconditions can see it.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    keys: HashMap<(Keyspace, Key), Option<u64>>,
    deleted: Vec<(Keyspace, KeyRange)>,
}

impl Overlay {
    /// Checks a batch against `state` and the group so far.
    ///
    /// Errors: [`CommitError::Conflict`]; [`CommitError::Stopped`] if the index cannot be read.
    pub fn check(&self, state: &State, expect: &[(Keyspace, Key, Expect)]) -> Result<(), CommitError> {
        for (index, (keyspace, key, expect)) in expect.iter().enumerate() {
            let found = self.version_of(state, *keyspace, key);
            let found = found.map_err(|e| CommitError::Stopped(e.to_string()))?;
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::Version(wanted) => found == Some(*wanted),
            };
            if !holds {
                return Err(CommitError::Conflict { index, keyspace: *keyspace, key: key.clone(), found });
            }
        }
        Ok(())
    }

    fn version_of(&self, state: &State, keyspace: Keyspace, key: &Key) -> Result<Option<u64>, ReadError> {
        if !self.keys.is_empty() || !self.deleted.is_empty() {
            if let Some(version) = self.keys.get(&(keyspace, key.clone())) {
                return Ok(*version);
            }
            if self.deleted.iter().any(|(space, range)| *space == keyspace && range.contains(key)) {
                return Ok(None);
            }
        }
        Ok(state.get(keyspace, key)?.map(|found| found.version))
    }

    /// Remembers an accepted batch that will be the commit of `version`.
    pub fn add(&mut self, version: u64, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put { keyspace, key, .. } => {
                    self.keys.insert((*keyspace, key.clone()), Some(version));
                }
                Op::Delete(keyspace, key) => {
                    self.keys.insert((*keyspace, key.clone()), None);
                }
                Op::DeleteRange(keyspace, range) => {
                    for ((space, key), version) in &mut self.keys {
                        if space == keyspace && range.contains(key) {
                            *version = None;
                        }
                    }
                    self.deleted.push((*keyspace, range.clone()));
                }
                // Nobody states preconditions on journal keys: their versions are not known ahead.
                Op::Journal { .. } | Op::Page { .. } => {}
            }
        }
    }
}
