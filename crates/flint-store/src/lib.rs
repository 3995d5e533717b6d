//! Durable state: ordered keyspaces with atomic commits, the journal, and blobs.
//!
//! What it promises: a commit is acknowledged after it is on stable storage, all of a batch or nothing of it is there
//! after any crash, and damage is refused, never served. [`Store`] is the seam; [`LogStore`] is the engine
//! on disk, [`MemoryStore`] the model that it is tested against.
//!
//! Reading order: [`key`], [`batch`], [`store`], [`journal`], [`record`], [`blobs`], [`disk`], [`log`],
//! [`backup`].

pub mod backup;
pub mod batch;
#[doc(hidden)]
pub mod bench;
pub mod blobs;
mod codec;
pub mod disk;
pub mod error;
mod index;
pub mod journal;
pub mod key;
mod layer;
pub mod log;
mod memory;
pub mod record;
mod state;
pub mod store;
pub mod testing;

pub use batch::{Batch, Commit, Expect, Mutation};
pub use blobs::{BlobHash, BlobHold, Blobs};
pub use error::{CommitError, Error, ReadError};
pub use key::{Key, KeyRange, Keyspace};
pub use log::{Extent, LogStore, Options};
pub use memory::MemoryStore;
pub use store::{Direction, Health, Pending, Row, Store, Versioned, stopped};
