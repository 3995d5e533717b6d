//! Payloads that the journal's entries refer to, by their hash, in pieces that fit the store's rows.
//!
//! They lie in the store and not among the [`crate::Blobs`], so that keeping one is part of a commit and costs no sync of
//! its own. Nothing counts references: who names a payload keeps it anew, and [`super::keeper`] removes what was
//! last kept longer ago than the oldest entry that there is, and no failure names.

use bytes::{Bytes, BytesMut};
use flint_model::Place;

use super::PayloadRef;
use crate::batch::{Batch, MAX_VALUE_BYTES, Mutation};
use crate::blobs::BlobHash;
use crate::error::{CommitError, ReadError};
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Store};

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
