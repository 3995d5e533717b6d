//! Background loops: tallies, retention, what deletion and purge left in the store, move tasks.

use std::time::Duration;

use flint_store::{Batch, Direction, Key, KeyRange, Mutation};

use crate::keys::{self, Glance, Tally};
use crate::ops::dispose;
use crate::ops::send::span;
use crate::queues::{Queue, Queues};
use crate::{Error, moves, open};

/// How often tallies are written and old messages looked for.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two looks for deduplication ids that are forgotten.
const FORGET_ROUNDS: u32 = 60;
/// Expired messages that one queue loses in one round.
const EXPIRE: usize = 1_000;
/// Rows that are removed by one commit.
const SWEEP: usize = 200;
/// What to wait for a disk that takes no writes.
const PAUSE: Duration = Duration::from_secs(1);

impl Queues {
    /// Runs for as long as the queues are used. Drop it to stop; nothing is lost by that.
    pub async fn run(&self) {
        tokio::join!(moves::run(self), rounds(self), sweep(self));
    }

    /// Writes what an orderly end can write: after it, counts are exact at the next start.
    pub async fn close(&self) {
        tally(self).await;
    }
}

async fn rounds(queues: &Queues) {
    let mut tick = tokio::time::interval(ROUND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u32;
    loop {
        tick.tick().await;
        tally(queues).await;
        for queue in queues.all() {
            expire(queues, &queue).await;
            if round.is_multiple_of(FORGET_ROUNDS) && queue.settings().fifo {
                forget(queues, &queue).await;
            }
        }
        round = round.wrapping_add(1);
    }
}

/// Writes the counts of queues that changed. Each is handed over under its queue's lock, so that it is true for the place
/// in the order of commits where it stands.
async fn tally(queues: &Queues) {
    for queue in queues.all() {
        let commit = {
            let inner = &mut *queue.lock();
            let (count, next, changes) = inner.heart.tally();
            if inner.gone || changes == inner.tallied {
                continue;
            }
            inner.tallied = changes;
            let value = Tally { count, next }.encode();
            queues.store.commit(Batch::new().put(keys::TALLIES, keys::of_queue(queue.id), value))
        };
        if let Err(error) = commit.await {
            tracing::debug!(queue = queue.arn, %error, "a tally was not written");
        }
    }
}

async fn expire(queues: &Queues, queue: &Queue) {
    let retention_ms = i64::from(queue.settings().retention) * 1000;
    let now = queues.now().as_millis();
    let expired = {
        let mut inner = queue.lock();
        if let Err(error) = open::fill(&*queues.store, queue.id, &mut inner.heart, 1) {
            tracing::error!(queue = queue.arn, %error, "messages cannot be read");
        }
        inner.heart.expire(now, retention_ms, EXPIRE)
    };
    if !expired.is_empty() {
        dispose::discard(queues, queue, expired).await;
    }
}

/// Drops deduplication ids whose time is over.
async fn forget(queues: &Queues, queue: &Queue) {
    // The span before this one may hold ids that count for a while yet.
    let until = span(queues.now().as_millis()).saturating_sub(1);
    let start = keys::of_queue(queue.id);
    let range = KeyRange::between(start.clone(), start.u64(until));
    if let Err(error) = remove_all(queues, keys::DUPLICATES, &range).await {
        tracing::debug!(queue = queue.arn, %error, "old deduplication ids were not removed");
    }
}

/// Removes the rows of a range, a few hundred per commit.
async fn remove_all(queues: &Queues, keyspace: flint_store::Keyspace, range: &KeyRange) -> Result<(), Error> {
    loop {
        let page = queues.store.scan(keyspace, range, SWEEP, Direction::Forward)?;
        if page.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.write.extend(page.into_iter().map(|row| Mutation::Delete(keyspace, row.key)));
        queues.store.commit(batch).await?;
        tokio::task::yield_now().await;
    }
}

/// Removes what deleted and purged queues left.
async fn sweep(queues: &Queues) {
    loop {
        let left = queues.store.scan(keys::GARBAGE, &KeyRange::all(), 1, Direction::Forward);
        let first = left.ok().and_then(|rows| rows.into_iter().next());
        let Some(row) = first else {
            queues.work.notified().await;
            continue;
        };
        if let Err(error) = sweep_queue(queues, &row.key, &row.value, row.version).await {
            tracing::debug!(%error, "the rest of a queue was not removed; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn sweep_queue(queues: &Queues, key: &Key, value: &[u8], version: u64) -> Result<(), Error> {
    let id = key.parts().u64().ok_or_else(|| Error::Damaged("a key of garbage".to_owned()))?;
    let floor = value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let whole = floor == u64::MAX;
    let end = if whole { KeyRange::prefix(key).end } else { Some(keys::message_key(id, floor)) };
    let range = KeyRange { start: key.clone(), end };
    remove_messages(queues, &range).await?;
    remove_all(queues, keys::FLIGHTS, &range).await?;
    if whole {
        remove_all(queues, keys::DUPLICATES, &range).await?;
    }
    let done = Batch::new().expect(keys::GARBAGE, key.clone(), flint_store::Expect::Version(version));
    match queues.store.commit(done.delete(keys::GARBAGE, key.clone())).await {
        // Purged again or deleted meanwhile: the next look finds that.
        Ok(_) | Err(flint_store::CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes messages with their chunks.
async fn remove_messages(queues: &Queues, range: &KeyRange) -> Result<(), Error> {
    loop {
        // Half of a page's rows may have chunks and still fit a batch.
        let page = queues.store.scan(keys::MESSAGES, range, SWEEP / 10, Direction::Forward)?;
        if page.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for row in page {
            let glance = Glance::at(&row.value)?;
            batch.write.push(Mutation::Delete(keys::MESSAGES, row.key));
            let chunks = (0..glance.chunks).map(|index| keys::chunk_key(glance.id, index));
            batch.write.extend(chunks.map(|key| Mutation::Delete(keys::CHUNKS, key)));
        }
        queues.store.commit(batch).await?;
        tokio::task::yield_now().await;
    }
}
