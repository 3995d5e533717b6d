//! The state in memory: ordered maps, and the rules by which a batch is checked and applied.
//!
//! Shared by every engine of this crate, so that they cannot differ in what a batch means.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::batch::{Batch, Expect, MAX_BATCH_BYTES, MAX_BATCH_PARTS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Mutation};
use crate::error::CommitError;
use crate::journal::{self, Position};
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Row, Versioned};

/// One change as it is logged and applied. Journal entries get their key when the commit gets its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(Keyspace, Key, Bytes),
    Delete(Keyspace, Key),
    DeleteRange(Keyspace, KeyRange),
    Journal { place: Key, event: [u8; 16], value: Bytes },
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
        let Batch { expect, write, journal } = batch;
        for (_, key, _) in &expect {
            limit("a key", key.len(), MAX_KEY_BYTES)?;
        }
        let mut size = 8;
        let mut ops = Vec::with_capacity(write.len() + journal.len());
        for mutation in write {
            ops.push(match mutation {
                Mutation::Put(keyspace, key, value) => Op::Put(keyspace, key, own(value)),
                Mutation::Delete(keyspace, key) => Op::Delete(keyspace, key),
                Mutation::DeleteRange(keyspace, range) => Op::DeleteRange(keyspace, range),
            });
        }
        for entry in journal {
            let (place, event) = (Key::for_place(&entry.place), *entry.lineage.event.as_bytes());
            ops.push(Op::Journal { place, event, value: entry.encode() });
        }
        for op in &ops {
            size += op.check()?;
        }
        limit("a batch", size, MAX_BATCH_BYTES)?;
        Ok(Self { expect, ops, size })
    }
}

/// The state keeps values for long; one that shares its buffer with others would keep those too.
fn own(value: Bytes) -> Bytes {
    if value.is_unique() { value } else { Bytes::copy_from_slice(&value) }
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
                Op::Put(keyspace, k, v) => keyspace.name().len() + key(k)? + value(v)?,
                Op::Delete(keyspace, k) => keyspace.name().len() + key(k)?,
                Op::DeleteRange(keyspace, range) => {
                    let end = range.end.as_ref().map(key).transpose()?.unwrap_or(0);
                    keyspace.name().len() + key(&range.start)? + end
                }
                Op::Journal { place, value: v, .. } => place.len() + 16 + value(v)?,
            })
    }
}

/// Every live key and value, and the journal's order per place.
#[derive(Debug)]
pub(crate) struct State {
    spaces: BTreeMap<Keyspace, BTreeMap<Key, Versioned>>,
    /// Version of the last applied commit; 0 before the first.
    version: u64,
    journal: Journal,
}

/// Live entries per place, oldest first, so that retention finds the oldest without a search.
#[derive(Debug)]
struct Journal {
    places: HashMap<Key, VecDeque<(Position, [u8; 16])>>,
    retention: usize,
}

impl State {
    pub fn new(journal_retention: usize) -> Self {
        let journal = Journal { places: HashMap::new(), retention: journal_retention };
        Self { spaces: BTreeMap::new(), version: 0, journal }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, keyspace: Keyspace, key: &Key) -> Option<&Versioned> {
        self.spaces.get(&keyspace)?.get(key)
    }

    pub fn scan(&self, keyspace: Keyspace, range: &KeyRange, limit: usize, direction: Direction) -> Vec<Row> {
        let Some(space) = self.spaces.get(&keyspace).filter(|_| !range.is_empty()) else { return Vec::new() };
        let rows = space.range(bounds(range));
        let row = |(key, found): (&Key, &Versioned)| Row {
            key: key.clone(),
            version: found.version,
            value: found.value.clone(),
        };
        match direction {
            Direction::Forward => rows.take(limit).map(row).collect(),
            Direction::Reverse => rows.rev().take(limit).map(row).collect(),
        }
    }

    /// Applies one batch as the commit of `version`.
    pub fn apply(&mut self, version: u64, ops: Vec<Op>) {
        debug_assert_eq!(version, self.version + 1, "commits apply in order and without gaps");
        self.version = version;
        let mut index = 0;
        for op in ops {
            match op {
                Op::Put(keyspace, key, value) => self.put(keyspace, key, Versioned { version, value }),
                Op::Delete(keyspace, key) => self.delete(keyspace, &key),
                Op::DeleteRange(keyspace, range) => self.delete_range(keyspace, &range),
                Op::Journal { place, event, value } => {
                    let position = Position { version, index };
                    index += 1;
                    self.write_entry(place, event, position, value);
                }
            }
        }
    }

    fn put(&mut self, keyspace: Keyspace, key: Key, value: Versioned) {
        self.spaces.entry(keyspace).or_default().insert(key, value);
    }

    fn delete(&mut self, keyspace: Keyspace, key: &Key) {
        if let Some(space) = self.spaces.get_mut(&keyspace) {
            space.remove(key);
        }
    }

    fn delete_range(&mut self, keyspace: Keyspace, range: &KeyRange) {
        let Some(space) = self.spaces.get_mut(&keyspace).filter(|_| !range.is_empty()) else { return };
        let doomed: Vec<Key> = space.range(bounds(range)).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            space.remove(&key);
        }
    }

    fn write_entry(&mut self, place: Key, event: [u8; 16], position: Position, value: Bytes) {
        let version = position.version;
        self.put(journal::JOURNAL, journal::entry_key(&place, position), Versioned { version, value });
        let by_event = journal::event_key(&place, &event, position);
        self.put(journal::BY_EVENT, by_event, Versioned { version, value: Bytes::new() });
        let entries = self.journal.places.entry(place.clone()).or_default();
        entries.push_back((position, event));
        let surplus = entries.len().saturating_sub(self.journal.retention);
        let old: Vec<_> = entries.drain(..surplus).collect();
        for (position, event) in old {
            self.delete(journal::JOURNAL, &journal::entry_key(&place, position));
            self.delete(journal::BY_EVENT, &journal::event_key(&place, &event, position));
        }
    }
}

pub(crate) fn bounds(range: &KeyRange) -> (Bound<&Key>, Bound<&Key>) {
    (Bound::Included(&range.start), range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded))
}

/// What the batches of a group that is not yet applied have changed, as far as preconditions can see it.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    keys: HashMap<(Keyspace, Key), Option<u64>>,
    deleted: Vec<(Keyspace, KeyRange)>,
}

impl Overlay {
    /// Checks a batch against `state` and the group so far.
    pub fn check(&self, state: &State, expect: &[(Keyspace, Key, Expect)]) -> Result<(), CommitError> {
        for (index, (keyspace, key, expect)) in expect.iter().enumerate() {
            let found = self.version_of(state, *keyspace, key);
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

    fn version_of(&self, state: &State, keyspace: Keyspace, key: &Key) -> Option<u64> {
        if self.keys.is_empty() && self.deleted.is_empty() {
            return state.get(keyspace, key).map(|v| v.version);
        }
        if let Some(version) = self.keys.get(&(keyspace, key.clone())) {
            return *version;
        }
        if self.deleted.iter().any(|(space, range)| *space == keyspace && range.contains(key)) {
            return None;
        }
        state.get(keyspace, key).map(|v| v.version)
    }

    /// Remembers an accepted batch that will be the commit of `version`.
    pub fn add(&mut self, version: u64, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put(keyspace, key, _) => {
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
                Op::Journal { .. } => {}
            }
        }
    }
}
