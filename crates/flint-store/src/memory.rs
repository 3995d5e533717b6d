//! The engine in memory: the model that others are tested against, and the store of unit tests.

use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use crate::batch::{Batch, Commit};
use crate::error::{CommitError, ReadError};
use crate::journal::Written;
use crate::key::{Key, KeyRange, Keyspace};
use crate::state::{Overlay, Prepared, State};
use crate::store::{Direction, Health, Pending, Row, Store, Versioned};

/// A [`Store`] that forgets everything when dropped. Commits are decided at once.
#[derive(Debug)]
pub struct MemoryStore {
    state: RwLock<State>,
    health: watch::Sender<Health>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { state: RwLock::new(State::new()), health: watch::Sender::new(Health::Serving) }
    }

    fn decide(&self, batch: Batch) -> Result<Commit, CommitError> {
        let prepared = Prepared::new(batch)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        Overlay::default().check(&state, &prepared.expect)?;
        let version = state.version() + 1;
        state.apply(version, prepared.ops).expect("there is no index that could fail");
        Ok(Commit { version })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Pending {
        Pending::ready(self.decide(batch))
    }

    fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).scan(keyspace, range, limit, direction)
    }

    fn journal_written(&self) -> Written {
        self.state.read().unwrap_or_else(PoisonError::into_inner).written()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_suite() {
        crate::testing::suite(MemoryStore::new);
    }
}
