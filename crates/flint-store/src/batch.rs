//! What a caller hands to [`crate::Store::commit`]: preconditions, writes and journal entries, all or nothing.

use bytes::Bytes;

use crate::journal;
use crate::key::{Key, KeyRange, Keyspace};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 4 << 10;
/// Largest value, in bytes. Larger bodies go to [`crate::Blobs`] and are referred to by hash.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Largest batch as encoded, in bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Most preconditions, writes and journal entries of one batch together.
pub const MAX_BATCH_PARTS: usize = 500;

/// What must hold for a key when the batch is applied. Checked against everything committed before, in commit order,
/// and before the batch's own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Present,
    /// The key was last written by the commit of this version.
    Version(u64),
}

/// One write. Writes of a batch apply in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    Put(Keyspace, Key, Bytes),
    /// Deleting what is not there is no error.
    Delete(Keyspace, Key),
    DeleteRange(Keyspace, KeyRange),
}

/// One atomic change.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub expect: Vec<(Keyspace, Key, Expect)>,
    pub write: Vec<Mutation>,
    /// Written to the journal in the same commit.
    pub journal: Vec<journal::Entry>,
    /// As `journal`, kept packed ([`journal::pages`]); bounded by the size of the batch only.
    pub packed: Vec<journal::Entry>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn expect(mut self, keyspace: Keyspace, key: Key, expect: Expect) -> Self {
        self.expect.push((keyspace, key, expect));
        self
    }

    #[must_use]
    pub fn put(mut self, keyspace: Keyspace, key: Key, value: impl Into<Bytes>) -> Self {
        self.write.push(Mutation::Put(keyspace, key, value.into()));
        self
    }

    /// Puts a key that must not be there yet.
    #[must_use]
    pub fn insert(self, keyspace: Keyspace, key: Key, value: impl Into<Bytes>) -> Self {
        self.expect(keyspace, key.clone(), Expect::Absent).put(keyspace, key, value)
    }

    /// Puts a key whose present value was written by the commit of `version`.
    #[must_use]
    pub fn replace(self, keyspace: Keyspace, key: Key, version: u64, value: impl Into<Bytes>) -> Self {
        self.expect(keyspace, key.clone(), Expect::Version(version)).put(keyspace, key, value)
    }

    #[must_use]
    pub fn delete(mut self, keyspace: Keyspace, key: Key) -> Self {
        self.write.push(Mutation::Delete(keyspace, key));
        self
    }

    #[must_use]
    pub fn delete_range(mut self, keyspace: Keyspace, range: KeyRange) -> Self {
        self.write.push(Mutation::DeleteRange(keyspace, range));
        self
    }

    #[must_use]
    pub fn journal(mut self, entry: journal::Entry) -> Self {
        self.journal.push(entry);
        self
    }

    pub(crate) fn parts(&self) -> usize {
        self.expect.len() + self.write.len() + self.journal.len()
    }
}

/// The outcome of a commit: the batch is on stable storage and visible to reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The batch's place in the order of all commits: 1, 2, 3 and so on. Every key that it wrote carries it.
    pub version: u64,
}
