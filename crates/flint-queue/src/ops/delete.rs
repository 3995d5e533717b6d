//! `DeleteMessage`, `DeleteMessageBatch`, and what a mapping settles.

use flint_store::{Batch, CommitError};

use crate::Error;
use crate::address::Handle;
use crate::keys;
use crate::queue::{Head, Standing};
use crate::queues::{Queue, Queues};

/// Messages whose end is one commit.
const COMMIT: usize = 200;

/// Deletes messages for good; each handle has its own end. A message that is gone already is no error, and neither is an
/// older handle of one that was received again: of a standard queue it then stays.
///
/// Errors: `InvalidParameterValue` where the handle's time is over and the queue is FIFO.
pub async fn delete(queues: &Queues, queue: &Queue, handles: &[Handle]) -> Vec<Result<(), Error>> {
    let fifo = queue.settings().fifo;
    let mut results = Vec::with_capacity(handles.len());
    for part in handles.chunks(COMMIT) {
        let (decisions, commit) = {
            let mut inner = queue.lock();
            let mut batch = Batch::new();
            let mut decide = |handle: &Handle| {
                let standing = inner.heart.standing(handle.sequence, handle.generation);
                let head = match (standing, fifo) {
                    (Standing::Current, _) | (Standing::Lapsed, false) => inner.heart.get(handle.sequence).copied(),
                    (Standing::Stale, false) | (Standing::Gone, _) => return Ok(None),
                    (Standing::Stale | Standing::Lapsed, true) => return Err(expired(handle)),
                };
                let Some(head) = head else { return Ok(None) };
                erase(queues, queue, handle.sequence, head, &mut batch)?;
                inner.heart.hold(handle.sequence);
                Ok(Some(handle.sequence))
            };
            let decisions: Vec<Result<Option<u64>, Error>> = part.iter().map(&mut decide).collect();
            let commit = (!batch.write.is_empty()).then(|| queues.store.commit(batch));
            (decisions, commit)
        };
        let held: Vec<u64> = decisions.iter().filter_map(|d| d.as_ref().ok().copied().flatten()).collect();
        let mut end = Deleting { queues, queue, held, decided: false };
        let failed = match commit {
            Some(commit) => commit.await.err(),
            None => None,
        };
        end.decide(failed.is_none());
        results.extend(decisions.into_iter().map(|decision| told(decision, failed.as_ref())));
    }
    results
}

fn told(decision: Result<Option<u64>, Error>, failed: Option<&CommitError>) -> Result<(), Error> {
    match (decision?, failed) {
        (Some(_), Some(error)) => Err(error.clone().into()),
        _ => Ok(()),
    }
}

fn expired(handle: &Handle) -> Error {
    Error::value(handle.encode(), "ReceiptHandle", "The receipt handle has expired.")
}

fn erase(queues: &Queues, queue: &Queue, sequence: u64, head: Head, batch: &mut Batch) -> Result<(), Error> {
    let chunks = if head.chunks == 0 {
        None
    } else {
        let row = queues.store.get(keys::MESSAGES, &keys::message_key(queue.id, sequence))?;
        let id = row.map(|row| keys::Glance::at(&row.value).map(|g| g.id)).transpose()?;
        id.map(|id| (id, head.chunks))
    };
    keys::erase(batch, queue.id, sequence, chunks, head.has_flight);
    Ok(())
}

/// Tells the heart how the deletion ended. If nobody waits any more, it is on its way all the same.
struct Deleting<'a> {
    queues: &'a Queues,
    queue: &'a Queue,
    held: Vec<u64>,
    decided: bool,
}

impl Deleting<'_> {
    fn decide(&mut self, gone: bool) {
        self.decided = true;
        if self.held.is_empty() {
            return;
        }
        let mut inner = self.queue.lock();
        let now = self.queues.now().as_millis();
        for sequence in &self.held {
            if gone {
                inner.heart.remove(*sequence);
            } else {
                inner.heart.release(now, *sequence);
            }
        }
        let ready = inner.heart.has_ready();
        drop(inner);
        // A group may be open now.
        if ready {
            self.queue.wake();
        }
    }
}

impl Drop for Deleting<'_> {
    fn drop(&mut self) {
        if !self.decided {
            self.decide(true);
        }
    }
}
