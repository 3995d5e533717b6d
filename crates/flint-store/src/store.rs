//! The seam: what every engine can do.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::batch::{Batch, Commit};
use crate::error::{CommitError, ReadError};
use crate::journal::Written;
use crate::key::{Key, KeyRange, Keyspace};

/// Ordered keyspaces with atomic, durable commits. Used as `Arc<dyn Store>`.
///
/// Reads see exactly the committed batches, in commit order; a read that starts after a commit's future resolved sees
/// that commit. Reads are synchronous and answer from memory or a memory-mapped-fast index; they never wait for a sync.
pub trait Store: Send + Sync + fmt::Debug {
    /// Hands a batch to the store. It is durable and visible when the future resolves with `Ok`.
    ///
    /// The batch is on its way when this returns: dropping the future does not take it back (that is how the journal is
    /// written behind). Batches that one thread hands over are applied in that order.
    fn commit(&self, batch: Batch) -> Pending;

    fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError>;

    /// At most `limit` rows of a range, in the direction's order. Go on with [`KeyRange::after`] or [`KeyRange::before`].
    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError>;

    /// What was ever written to the journal.
    fn journal_written(&self) -> Written;

    /// How the store is, now and whenever it changes. When it says [`Health::Stopped`] the server must exit non-zero.
    fn health(&self) -> watch::Receiver<Health>;
}

/// A value with the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    pub version: u64,
    pub value: Bytes,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    pub version: u64,
    pub value: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Reverse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Serving,
    /// Writes are refused for want of space; heals by itself.
    Full,
    /// The log failed (the reason is for the log only). Nothing will be acknowledged any more.
    Stopped(String),
}

/// Resolves when the store has stopped, with the reason. Never resolves for a store that is dropped in good health.
pub async fn stopped(store: &dyn Store) -> String {
    let mut health = store.health();
    loop {
        if let Health::Stopped(reason) = &*health.borrow_and_update() {
            return reason.clone();
        }
        if health.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A commit on its way. Await it, or block on [`Pending::wait`] from a plain thread.
#[derive(Debug)]
pub struct Pending(Inner);

#[derive(Debug)]
enum Inner {
    Ready(Option<Result<Commit, CommitError>>),
    Waiting(oneshot::Receiver<Result<Commit, CommitError>>),
}

impl Pending {
    pub(crate) fn ready(result: Result<Commit, CommitError>) -> Self {
        Self(Inner::Ready(Some(result)))
    }

    pub(crate) fn waiting(reply: oneshot::Receiver<Result<Commit, CommitError>>) -> Self {
        Self(Inner::Waiting(reply))
    }

    /// Blocks until the commit is decided. Not for async code: it would hold up the runtime's thread.
    pub fn wait(self) -> Result<Commit, CommitError> {
        match self.0 {
            Inner::Ready(result) => result.unwrap_or_else(gone),
            Inner::Waiting(reply) => reply.blocking_recv().unwrap_or_else(|_| gone()),
        }
    }
}

fn gone() -> Result<Commit, CommitError> {
    Err(CommitError::Stopped("the writer is gone".to_owned()))
}

impl Future for Pending {
    type Output = Result<Commit, CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Ready(result) => Poll::Ready(result.take().unwrap_or_else(gone)),
            Inner::Waiting(reply) => Pin::new(reply).poll(cx).map(|r| r.unwrap_or_else(|_| gone())),
        }
    }
}
