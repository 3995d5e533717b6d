//! `PurgeQueue`.

use std::time::Duration;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_model::Lineage;
use flint_store::Batch;
use flint_store::journal::{self, Entry, Kind};

use crate::Error;
use crate::keys::{self, QueueRecord, Tally};
use crate::open;
use crate::queues::{Queue, Queues};

/// The reference allows one purge in this time.
const PAUSE: Duration = Duration::from_secs(60);

/// Adds one entry for all messages of a queue that go at once.
pub(crate) fn taken_along(mut batch: Batch, queue: &Queue, now: Timestamp, kind: &str, what: &str) -> Batch {
    let entry = Entry::new(queue.place.clone(), Lineage::root(journal::whole(&queue.arn)), Kind::Discarded, now);
    let error = Some(journal::Error::new(kind, what));
    // Packed: nobody is to look after what was thrown away on purpose, as they are after a failure.
    batch.packed.push(Entry { source: Some(queue.arn.clone()), error, ..entry });
    batch
}

/// Forgets every message of a queue, those in flight too. What lies in the store is removed by the worker.
///
/// Errors: `PurgeQueueInProgress`.
pub async fn purge_queue(queues: &Queues, queue: &Queue) -> Result<(), Error> {
    let _admin = queues.admin.lock().await;
    let now = queues.now();
    let commit = {
        let mut inner = queue.lock();
        if inner.gone {
            return Err(Error::QueueMissing);
        }
        if inner.purged.is_some_and(|at| now.since(at) < PAUSE) {
            return Err(Error::Purging(queue.name.clone()));
        }
        let (count, _, _) = inner.heart.tally();
        let floor = inner.heart.purge();
        inner.floor = floor;
        inner.attempts.clear();
        let record = QueueRecord {
            id: queue.id,
            created: queue.created,
            modified: inner.modified,
            settings: (*queue.settings()).clone(),
            floor,
        };
        let garbage = Bytes::copy_from_slice(&floor.to_be_bytes());
        let batch = Batch::new()
            .put(keys::QUEUES, keys::queue_key(&queue.place, &queue.name), record.encode())
            .put(keys::TALLIES, keys::of_queue(queue.id), Tally { count: 0, next: floor }.encode())
            .put(keys::GARBAGE, keys::of_queue(queue.id), garbage);
        queues.store.commit(taken_along(batch, queue, now, "Purged", &format!("PurgeQueue took {count} messages")))
    };
    let end = commit.await;
    let mut inner = queue.lock();
    match end {
        Ok(_) => {
            inner.purged = Some(now);
            drop(inner);
            queues.work.notify_one();
            Ok(())
        }
        Err(error) => {
            // The messages are all there: look at the store again.
            let row = queues.store.get(keys::QUEUES, &keys::queue_key(&queue.place, &queue.name))?;
            let record = QueueRecord::decode(&row.ok_or(Error::QueueMissing)?.value)?;
            inner.floor = record.floor;
            inner.heart = open::open_heart(&*queues.store, &record, now.as_millis())?;
            Err(error.into())
        }
    }
}
