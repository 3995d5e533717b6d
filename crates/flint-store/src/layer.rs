//! A layer: the rows that changed since the last checkpoint, as they lie over the index.
//!
//! A row is a value or a tombstone. A row is *fresh* if nothing lies beneath it; deleting a fresh row leaves nothing, so
//! what lives shorter than a checkpoint never reaches the index.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Row, Versioned};

/// What a row costs besides its key and value, in bytes; an estimate for the checkpoint's trigger.
const ROW_OVERHEAD: usize = 96;

#[derive(Debug, Default)]
pub(crate) struct Layer {
    spaces: BTreeMap<Keyspace, BTreeMap<Key, Slot>>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Slot {
    /// `None`: deleted.
    pub value: Option<Versioned>,
    fresh: bool,
}

impl Layer {
    /// Estimated memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, keyspace: Keyspace, key: &Key) -> Option<&Slot> {
        self.spaces.get(&keyspace)?.get(key)
    }

    /// `fresh`: nothing lies beneath, should the row be new to this layer.
    pub fn put(&mut self, keyspace: Keyspace, key: Key, value: Versioned, fresh: bool) {
        let size = key.len() + value.value.len() + ROW_OVERHEAD;
        match self.spaces.entry(keyspace).or_default().entry(key) {
            Entry::Occupied(mut slot) => {
                self.bytes = self.bytes + size - slot.get().size(slot.key());
                slot.get_mut().value = Some(value);
            }
            Entry::Vacant(slot) => {
                self.bytes += size;
                slot.insert(Slot { value: Some(value), fresh });
            }
        }
    }

    /// `beneath`: something may lie beneath a key that this layer does not know.
    pub fn delete(&mut self, keyspace: Keyspace, key: &Key, beneath: bool) {
        let space = self.spaces.entry(keyspace).or_default();
        match space.get_mut(key) {
            Some(slot) => {
                self.bytes -= slot.size(key);
                if slot.fresh {
                    space.remove(key);
                } else {
                    slot.value = None;
                    self.bytes += key.len() + ROW_OVERHEAD;
                }
            }
            None if beneath => {
                self.bytes += key.len() + ROW_OVERHEAD;
                space.insert(key.clone(), Slot { value: None, fresh: false });
            }
            None => {}
        }
    }

    pub fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Key, &Slot)> + use<'_> {
        let bounds = (
            Bound::Included(range.start.clone()),
            match &range.end {
                Some(end) => Bound::Excluded(end.clone()),
                None => Bound::Unbounded,
            },
        );
        let space = self.spaces.get(&keyspace).filter(|_| !range.is_empty());
        space.into_iter().flat_map(move |space| space.range(bounds.clone()))
    }

    /// Every row, tombstones included, by keyspace and key.
    pub fn rows(&self) -> impl Iterator<Item = (Keyspace, &Key, &Slot)> {
        self.spaces.iter().flat_map(|(keyspace, space)| space.iter().map(|(key, slot)| (*keyspace, key, slot)))
    }
}

impl Slot {
    fn size(&self, key: &Key) -> usize {
        key.len() + self.value.as_ref().map_or(0, |v| v.value.len()) + ROW_OVERHEAD
    }
}

/// A row of one level; `None` hides what lies beneath.
pub(crate) type LevelRow = Result<(Key, Option<Versioned>), ReadError>;
pub(crate) type Level<'a> = Box<dyn Iterator<Item = LevelRow> + 'a>;

/// Merges levels, the topmost first, each in the direction's order, into at most `limit` live rows.
pub(crate) fn merge(levels: Vec<Level<'_>>, limit: usize, direction: Direction) -> Result<Vec<Row>, ReadError> {
    let mut levels: Vec<_> = levels.into_iter().map(Iterator::peekable).collect();
    let mut rows = Vec::new();
    while rows.len() < limit {
        let mut next: Option<Key> = None;
        for level in &mut levels {
            match level.peek() {
                Some(Ok((key, _))) => {
                    let ahead = next.as_ref().is_none_or(|best| match direction {
                        Direction::Forward => key < best,
                        Direction::Reverse => key > best,
                    });
                    if ahead {
                        next = Some(key.clone());
                    }
                }
                Some(Err(e)) => return Err(e.clone()),
                None => {}
            }
        }
        let Some(key) = next else { break };
        let mut top = None;
        for level in &mut levels {
            if let Some(Ok((_, value))) = level.next_if(|row| row.as_ref().is_ok_and(|(k, _)| *k == key)) {
                top.get_or_insert(value);
            }
        }
        if let Some(Some(Versioned { version, value })) = top {
            rows.push(Row { key, version, value });
        }
    }
    Ok(rows)
}

/// The bytes of a value without its owner's buffer.
pub(crate) fn own(value: Bytes) -> Bytes {
    // The state keeps values for long; one that shares its buffer with others would keep those too.
    if value.is_unique() { value } else { Bytes::copy_from_slice(&value) }
}
