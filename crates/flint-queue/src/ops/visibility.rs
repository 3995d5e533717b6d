//! `ChangeMessageVisibility`, its batch, and what a mapping gives back.

use flint_store::journal::Entry;
use flint_store::{Batch, Mutation, Pending};

use crate::Error;
use crate::address::Handle;
use crate::keys;
use crate::queue::Standing;
use crate::queues::{Inner, Queue, Queues};

/// A message may stay hidden so long after it was received, in milliseconds (SQS Developer Guide, "Amazon SQS visibility
/// timeout").
const LONGEST_MS: i64 = 43_200_000;
/// Changes per commit, each with an entry: a batch takes 500 parts.
const COMMIT: usize = 200;

/// When a message is to be visible again.
#[derive(Debug)]
pub struct Change {
    pub handle: Handle,
    pub after_ms: i64,
    /// Its last receive is not to count.
    pub uncounted: bool,
    /// What the journal is to say of it.
    pub note: Option<Entry>,
}

/// A `VisibilityTimeout` as it is given.
///
/// Errors: `InvalidParameterValue`.
pub fn check(seconds: i64) -> Result<u32, Error> {
    let legal = u32::try_from(seconds).ok().filter(|s| *s <= 43_200);
    legal.ok_or_else(|| Error::value(seconds, "VisibilityTimeout", "Must be between 0 and 43200, if provided."))
}

/// Changes messages that are out; each has its own end.
///
/// Errors: `MessageNotInflight`, `InvalidParameterValue` for what is gone and for more than twelve hours in all.
pub async fn change(queues: &Queues, queue: &Queue, mut changes: Vec<Change>) -> Vec<Result<(), Error>> {
    let mut results = Vec::with_capacity(changes.len());
    for part in changes.chunks_mut(COMMIT) {
        let (mut decided, commit) = hand_over(queues, queue, part);
        queue.wake();
        let failed = match commit {
            Some(commit) => commit.await.err(),
            None => None,
        };
        if let Some(error) = failed {
            for decision in decided.iter_mut().filter(|d| d.is_ok()) {
                *decision = Err(error.clone().into());
            }
        }
        results.append(&mut decided);
    }
    results
}

fn hand_over(queues: &Queues, queue: &Queue, part: &mut [Change]) -> (Vec<Result<(), Error>>, Option<Pending>) {
    let now = queues.now().as_millis();
    let mut inner = queue.lock();
    inner.heart.advance(now);
    let mut batch = Batch::new();
    let decided = part.iter_mut().map(|change| decide(queue, &mut inner, now, change, &mut batch)).collect();
    // What was noted happened, whatever became of the handle since.
    batch.journal.extend(part.iter_mut().filter_map(|change| change.note.take()));
    let commit = (!batch.write.is_empty() || !batch.journal.is_empty()).then(|| queues.store.commit(batch));
    (decided, commit)
}

fn decide(queue: &Queue, inner: &mut Inner, now: i64, change: &Change, batch: &mut Batch) -> Result<(), Error> {
    let Change { handle, after_ms, uncounted, note: _ } = *change;
    let refused = |reason: &str| Error::value(handle.encode(), "ReceiptHandle", reason);
    match inner.heart.standing(handle.sequence, handle.generation) {
        Standing::Current => {}
        Standing::Lapsed => return Err(Error::NotInFlight),
        Standing::Stale | Standing::Gone => {
            return Err(refused("Message does not exist or is not available for visibility timeout change."));
        }
    }
    let taken_at = inner.heart.get(handle.sequence).map_or(now, |head| head.taken_at);
    let visible_at = now.saturating_add(after_ms);
    if visible_at.saturating_sub(taken_at) > LONGEST_MS {
        let seconds = after_ms / 1000;
        let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds].";
        return Err(Error::value(seconds, "VisibilityTimeout", reason));
    }
    if let Some(head) = inner.heart.change(now, handle.sequence, visible_at, uncounted) {
        let key = keys::message_key(queue.id, handle.sequence);
        batch.write.push(Mutation::Put(keys::FLIGHTS, key, head.flight().encode()));
    }
    Ok(())
}
