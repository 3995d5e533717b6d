//! The store of a simulated server: the engine on a simulated disk, driven on this thread, with a disk's delays.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flint_store::log::Driver;
use flint_store::{
    Batch, Direction, Health, Key, KeyRange, Keyspace, LogStore, Mutation, Pending, ReadError, Row, Store, Versioned,
};
use tokio::sync::{Notify, watch};

use crate::bugs::{Bug, Loss};
use crate::sim::Sim;

pub struct SimStore {
    log: LogStore,
    sim: Arc<Sim>,
    arrived: Notify,
}

impl SimStore {
    pub fn new(log: LogStore, sim: Arc<Sim>) -> Self {
        Self { log, sim, arrived: Notify::new() }
    }

    /// A batch without some of what it puts.
    fn lose(&self, loss: Loss, batch: &mut Batch) {
        let deletes =
            |name| batch.write.iter().any(|m| matches!(m, Mutation::Delete(space, _) if space.name() == name));
        let puts = |m: &Mutation| matches!(m, Mutation::Put(space, ..) if space.name() == loss.of);
        if loss.with.is_none_or(deletes) && batch.write.iter().any(puts) && self.sim.chance(40) {
            batch.write.retain(|m| !puts(m));
        }
    }

    /// Decides what waits, a group at a time, each after the time that a sync takes.
    pub async fn drive(store: Arc<Self>, mut driver: Driver) {
        loop {
            store.arrived.notified().await;
            loop {
                // Mostly quick, sometimes not: a disk has bad moments.
                let delay = if store.sim.chance(3) {
                    store.sim.ms(5, 400)
                } else {
                    Duration::from_micros(200 + store.sim.below(1500))
                };
                tokio::time::sleep(delay).await;
                if !driver.turn() {
                    break;
                }
                store.sim.say(format_args!("committed up to {}", store.log.version()));
            }
        }
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl Store for SimStore {
    fn commit(&self, mut batch: Batch) -> Pending {
        if let Some(loss) = self.sim.bug.and_then(Bug::loss) {
            self.lose(loss, &mut batch);
        }
        let pending = self.log.commit(batch);
        self.arrived.notify_one();
        pending
    }

    fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.log.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError> {
        self.log.scan(keyspace, range, limit, direction)
    }

    fn journal_written(&self) -> flint_store::journal::Written {
        self.log.journal_written()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.log.health()
    }
}
