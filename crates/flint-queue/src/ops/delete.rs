//! `DeleteMessage`, `DeleteMessageBatch`, and what a mapping settles.

use flint_base::Timestamp;
use flint_store::journal::{Entry, Kind};
use flint_store::{Batch, CommitError};

use crate::Error;
use crate::address::Handle;
use crate::keys;
use crate::queue::{Head, Standing};
use crate::queues::{Queue, Queues};

/// Messages whose end is one commit.
const COMMIT: usize = 200;

/// A message that is to be deleted.
#[derive(Debug)]
pub struct Ending {
    pub handle: Handle,
    /// What the journal is to say of its end, if who asks knows more than that it was deleted.
    pub note: Option<Entry>,
}

impl From<Handle> for Ending {
    fn from(handle: Handle) -> Self {
        Self { handle, note: None }
    }
}

/// Deletes messages for good, each with an entry for its end; each handle has its own result. A message that is gone already is no error, and neither is an
/// older handle of one that was received again: of a standard queue it then stays.
///
/// Errors: `InvalidParameterValue` where the handle's time is over and the queue is FIFO.
pub async fn delete(queues: &Queues, queue: &Queue, mut endings: Vec<Ending>) -> Vec<Result<(), Error>> {
    let fifo = queue.settings().fifo;
    let mut results = Vec::with_capacity(endings.len());
    for part in endings.chunks_mut(COMMIT) {
        let (decisions, commit) = {
            let mut inner = queue.lock();
            let mut batch = Batch::new();
            let now = queues.now();
            let mut decide = |Ending { handle, note }: &mut Ending| {
                let standing = inner.heart.standing(handle.sequence, handle.generation);
                let head = match (standing, fifo) {
                    (Standing::Current, _) | (Standing::Lapsed, false) => inner.heart.get(handle.sequence).copied(),
                    (Standing::Stale, false) => {
                        batch.packed.extend(note.take());
                        return Ok(None);
                    }
                    // Its end is written.
                    (Standing::Gone, _) => return Ok(None),
                    (Standing::Stale | Standing::Lapsed, true) => {
                        batch.packed.extend(note.take());
                        return Err(expired(handle));
                    }
                };
                let Some(head) = head else { return Ok(None) };
                let end = End { sequence: handle.sequence, head, note: note.take() };
                end.add_to(&mut batch, queues, queue, now)?;
                inner.heart.hold(handle.sequence);
                Ok(Some(handle.sequence))
            };
            let decisions: Vec<Result<Option<u64>, Error>> = part.iter_mut().map(&mut decide).collect();
            let commit = (!batch.write.is_empty() || !batch.packed.is_empty()).then(|| queues.store.commit(batch));
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

/// The end of one message.
struct End {
    sequence: u64,
    head: Head,
    note: Option<Entry>,
}

impl End {
    /// Adds the deletions and the entry to a batch.
    fn add_to(self, batch: &mut Batch, queues: &Queues, queue: &Queue, now: Timestamp) -> Result<(), Error> {
        let Self { sequence, head, note } = self;
        let row = queues.store.get(keys::MESSAGES, &keys::message_key(queue.id, sequence))?;
        let trail = row.map(|row| keys::Trail::at(&row.value)).transpose()?;
        let chunks = trail.filter(|_| head.chunks > 0).map(|trail| (trail.id, head.chunks));
        keys::erase(batch, queue.id, sequence, chunks, head.has_flight);
        // Without a row it was never sent.
        let Some(trail) = trail else { return Ok(()) };
        let told = || {
            let entry = Entry::new(queue.place.clone(), trail.lineage, Kind::Settled, now);
            Entry { source: Some(queue.arn.clone()), attempt: head.receive_count, ..entry }
        };
        let mut entry = note.unwrap_or_else(told);
        entry.recovered = trail.moved;
        // What ends a failure changes other rows, too.
        if trail.moved { &mut batch.journal } else { &mut batch.packed }.push(entry);
        Ok(())
    }
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
