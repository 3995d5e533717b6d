//! What ends in a queue without being deleted: too often received, or too old.

use std::sync::Arc;

use flint_base::Timestamp;
use flint_store::journal::{self, Entry, Kind};
use flint_store::{Batch, Mutation, Pending};

use crate::Error;
use crate::keys;
use crate::message::Message;
use crate::ops::send::{BATCH_BYTES, BATCH_MESSAGES, root_of_trace};
use crate::queue::Head;
use crate::queues::{Queue, Queues};

/// Messages on their way from one queue into another.
pub(crate) struct Moving {
    pub kind: Kind,
    /// Whether the message is to say where it came from.
    pub keep_origin: bool,
}

/// Messages that are held. If whoever deals with them stops waiting half-way, they are let go: those whose commit is on its
/// way leave the queue, the others are on the market again.
#[derive(Debug)]
pub(crate) struct Holding<'a> {
    queues: &'a Queues,
    queue: &'a Queue,
    rest: Vec<(u64, Head)>,
    leaving: Vec<(u64, Head)>,
    /// Where those that leave arrive, and as what.
    arriving: Option<(&'a Queue, Vec<u64>)>,
}

impl<'a> Holding<'a> {
    pub(crate) fn new(queues: &'a Queues, queue: &'a Queue, rest: Vec<(u64, Head)>) -> Self {
        Self { queues, queue, rest, leaving: Vec::new(), arriving: None }
    }

    /// The messages, for somebody else to hold.
    pub(crate) fn take(mut self) -> Vec<(u64, Head)> {
        std::mem::take(&mut self.rest)
    }

    /// The first `count` are in a commit that was handed over.
    fn leave(&mut self, count: usize, arriving: Option<(&'a Queue, Vec<u64>)>) {
        self.leaving = self.rest.drain(..count).collect();
        self.arriving = arriving;
    }

    /// The commit is durable.
    fn left(&mut self) {
        if let Some((target, sequences)) = self.arriving.take() {
            arrive(target, &sequences);
        }
        remove(self.queue, &std::mem::take(&mut self.leaving));
    }

    /// The commit was refused.
    fn stay(&mut self) {
        if let Some((target, sequences)) = self.arriving.take() {
            let mut inner = target.lock();
            sequences.iter().for_each(|sequence| inner.heart.unsend(*sequence));
        }
        let rest = std::mem::take(&mut self.leaving);
        release(self.queues, self.queue, &rest);
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        if !self.leaving.is_empty() {
            self.left();
        }
        if !self.rest.is_empty() {
            release(self.queues, self.queue, &self.rest);
        }
    }
}

/// Buries dead messages and erases expired ones. Both are held, and come back if that fails: then the answer is false, and
/// whoever looks again at once finds the same.
pub(crate) async fn both(queues: &Queues, queue: &Queue, dead: Vec<(u64, Head)>, expired: Vec<(u64, Head)>) -> bool {
    let dead = Holding::new(queues, queue, dead);
    let discarded = discard(queues, queue, expired).await;
    if dead.rest.is_empty() {
        return discarded;
    }
    match queues.dead_letters_of(queue, &queue.settings()) {
        Some(target) => {
            let moving = Moving { kind: Kind::DeadLettered, keep_origin: true };
            let dead = dead.take();
            let count = dead.len();
            shift(queues, queue, &target, dead, &moving, |_, _| {}).await == count && discarded
        }
        // It was deleted a moment ago: the message stays where it is, and can be received.
        None => discarded,
    }
}

/// Moves held messages into another queue: each leaves one and is in the other in one commit. Answers how many moved; the
/// others are where they were. `with` may add to each batch.
///
/// Reference: SQS Developer Guide, "Using dead-letter queues": the age of a message counts from its first queue, unless
/// the queues are FIFO.
pub(crate) async fn shift(
    queues: &Queues,
    queue: &Queue,
    target: &Arc<Queue>,
    messages: Vec<(u64, Head)>,
    moving: &Moving,
    mut with: impl FnMut(&mut Batch, usize),
) -> usize {
    let mut moved = 0;
    let mut held = Holding::new(queues, queue, messages);
    while !held.rest.is_empty() {
        let (part, read) = match read_part(queues, queue, &held.rest) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(queue = queue.arn, %error, "messages cannot be moved");
                return moved;
            }
        };
        let now = queues.now();
        let Some((sequences, commit)) = hand_over(queues, queue, target, &part, read, moving, now, &mut with) else {
            return moved;
        };
        let count = sequences.len();
        held.leave(part.len(), Some((target, sequences)));
        if let Err(error) = commit.await {
            tracing::warn!(queue = queue.arn, %error, "messages were not moved");
            held.stay();
            return moved;
        }
        held.left();
        moved += count;
    }
    moved
}

type Part = Vec<(u64, Head)>;

/// The messages that fit one batch, in their order, and what they are.
fn read_part(queues: &Queues, queue: &Queue, messages: &[(u64, Head)]) -> Result<(Part, Vec<Option<Message>>), Error> {
    let (mut part, mut read, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (sequence, head) in messages.iter().take(BATCH_MESSAGES) {
        let row = queues.store.get(keys::MESSAGES, &keys::message_key(queue.id, *sequence))?;
        bytes += row.as_ref().map_or(0, |row| row.value.len()) + 2048;
        if bytes > BATCH_BYTES && !part.is_empty() {
            break;
        }
        part.push((*sequence, *head));
        read.push(row.map(|row| keys::decode_message(&row.value)).transpose()?);
    }
    Ok((part, read))
}

#[expect(clippy::too_many_arguments, reason = "one step of `shift`, which has all of them at hand")]
fn hand_over(
    queues: &Queues,
    queue: &Queue,
    target: &Queue,
    part: &[(u64, Head)],
    read: Vec<Option<Message>>,
    moving: &Moving,
    now: Timestamp,
    with: &mut impl FnMut(&mut Batch, usize),
) -> Option<(Vec<u64>, Pending)> {
    let mut batch = Batch::new();
    let mut sequences = Vec::new();
    let mut inner = target.lock();
    if inner.gone {
        return None;
    }
    for ((sequence, head), message) in part.iter().zip(read) {
        keys::erase(&mut batch, queue.id, *sequence, None, head.has_flight);
        let Some(mut message) = message else { continue };
        batch.journal.push(moved_entry(queue, target, head, &message, moving, now));
        message.origin = if moving.keep_origin { Some(queue.arn.clone()) } else { None };
        let fifo = target.settings().fifo;
        if fifo {
            message.sent = now;
        }
        let placed = inner.heart.send(message.sent.as_millis(), 0, message.group.as_deref(), head.chunks);
        let key = keys::message_key(target.id, placed);
        batch.write.push(Mutation::Put(keys::MESSAGES, key, keys::encode_message(&message)));
        sequences.push(placed);
    }
    with(&mut batch, sequences.len());
    Some((sequences, queues.store.commit(batch)))
}

fn moved_entry(queue: &Queue, target: &Queue, head: &Head, message: &Message, moving: &Moving, at: Timestamp) -> Entry {
    let mut entry = Entry::new(queue.place.clone(), message.lineage, moving.kind, at);
    entry.source = Some(queue.arn.clone());
    entry.target = Some(target.arn.clone());
    entry.attempt = head.receive_count;
    entry.trace_id = message.trace.as_deref().and_then(root_of_trace);
    entry
}

/// Erases held messages that have outlived their retention, and says so in the journal. False if some could not be.
pub(crate) async fn discard(queues: &Queues, queue: &Queue, messages: Vec<(u64, Head)>) -> bool {
    let (now, mut all) = (queues.now(), true);
    let mut held = Holding::new(queues, queue, messages);
    while !held.rest.is_empty() {
        let part = &held.rest[..held.rest.len().min(BATCH_MESSAGES / 4)];
        let mut batch = Batch::new();
        for (sequence, head) in part {
            let row = queues.store.get(keys::MESSAGES, &keys::message_key(queue.id, *sequence));
            let message = row.ok().flatten().and_then(|row| keys::decode_message(&row.value).ok());
            let chunks = message.as_ref().map(|m| (m.id, head.chunks));
            keys::erase(&mut batch, queue.id, *sequence, chunks, head.has_flight);
            if let Some(message) = message {
                let mut entry = Entry::new(queue.place.clone(), message.lineage, Kind::Discarded, now);
                entry.source = Some(queue.arn.clone());
                entry.attempt = head.receive_count;
                entry.error = Some(journal::Error::new("Expired", "it was older than its queue keeps messages"));
                batch.journal.push(entry);
            }
        }
        let count = part.len();
        let commit = queues.store.commit(batch);
        held.leave(count, None);
        match commit.await {
            Ok(_) => held.left(),
            Err(error) => {
                tracing::warn!(queue = queue.arn, %error, "expired messages were not removed");
                held.stay();
                all = false;
            }
        }
    }
    all
}

fn arrive(target: &Queue, sequences: &[u64]) {
    let mut inner = target.lock();
    let arrived = sequences.iter().filter(|sequence| inner.heart.sent(**sequence)).count();
    drop(inner);
    (0..arrived).for_each(|_| target.wake());
}

pub(crate) fn remove(queue: &Queue, messages: &[(u64, Head)]) {
    let mut inner = queue.lock();
    messages.iter().for_each(|(sequence, _)| inner.heart.remove(*sequence));
    let ready = inner.heart.has_ready();
    drop(inner);
    if ready {
        queue.wake();
    }
}

pub(crate) fn release(queues: &Queues, queue: &Queue, messages: &[(u64, Head)]) {
    let now = queues.now().as_millis();
    let mut inner = queue.lock();
    messages.iter().for_each(|(sequence, _)| inner.heart.release(now, *sequence));
    drop(inner);
    queue.wake();
}
