//! `ReceiveMessage`, and what a mapping polls.

use std::time::Duration;

use bytes::Bytes;
use flint_store::{Batch, Mutation, Pending};

use crate::Error;
use crate::keys;
use crate::message::Message;
use crate::open;
use crate::ops::dispose::{self, Holding};
use crate::queue::{Head, Rules, Standing, Taken};
use crate::queues::{Attempt, Inner, Queue, Queues};

/// Messages whose receive is one commit.
const COMMIT: usize = 400;
/// How long a receive request may be asked again by its attempt id, in milliseconds.
const ATTEMPT_MS: i64 = 300_000;

/// What a receiver asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// At most so many messages.
    pub max: usize,
    /// The queue's if there is none.
    pub visibility: Option<u32>,
    pub wait: Duration,
    /// `ReceiveRequestAttemptId`
    pub attempt: Option<String>,
}

/// A message that was handed out.
#[derive(Debug)]
pub struct Received {
    pub sequence: u64,
    pub head: Head,
    pub message: Message,
    pub text: Bytes,
}

/// What one look found.
struct Look {
    taken: Taken,
    commits: Vec<Pending>,
    /// When a hidden message becomes visible.
    due: Option<i64>,
    now: i64,
    more: bool,
}

/// What a receive waits when a dead or expired message could not be taken out of the way.
const DISPOSE_AGAIN: Duration = Duration::from_millis(250);

/// Hands out messages; waits for the first as long as the asker wants. The receive is on stable storage when this resolves.
///
/// Errors: `OverLimit` where 120,000 messages of a standard queue are in flight; `QueueDoesNotExist`, also if it is
/// deleted meanwhile.
pub async fn receive(queues: &Queues, queue: &Queue, ask: Ask) -> Result<Vec<Received>, Error> {
    let deadline = tokio::time::Instant::now() + ask.wait;
    loop {
        let arrived = queue.arrived.notified();
        let Look { taken, commits, due, now, more } = look(queues, queue, &ask)?;
        if more {
            queue.wake();
        }
        let moved = !taken.dead.is_empty() || !taken.expired.is_empty();
        if !taken.out.is_empty() {
            let (dead, expired) = (Holding::new(queues, queue, taken.dead), Holding::new(queues, queue, taken.expired));
            let out = hand_out(queues, queue, &taken.out, commits).await;
            dispose::both(queues, queue, dead.take(), expired.take()).await;
            return out;
        }
        let disposed = dispose::both(queues, queue, taken.dead, taken.expired).await;
        if moved && disposed {
            continue;
        }
        if moved && tokio::time::Instant::now() < deadline {
            // The store takes nothing now: another look at once would find the same messages, and so on without an end.
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + DISPOSE_AGAIN)).await;
            continue;
        }
        if taken.over_limit && !queue.settings().fifo {
            return Err(Error::OverLimit("Too many messages are in flight: at most 120000."));
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(Vec::new());
        }
        let due = due.map(|due| tokio::time::Instant::now() + millis(due.saturating_sub(now)));
        let until = due.map_or(deadline, |due| due.min(deadline));
        tokio::select! {
            () = arrived => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// At least one: a timer that fires early would look for nothing.
fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(1))
}

/// Looks for messages and takes them, all under the queue's lock.
fn look(queues: &Queues, queue: &Queue, ask: &Ask) -> Result<Look, Error> {
    let settings = queue.settings();
    let now = queues.now().as_millis();
    let dead_letters = queues.dead_letters_of(queue, &settings);
    let rules = Rules {
        max: ask.max,
        visibility_ms: i64::from(ask.visibility.unwrap_or(settings.visibility)) * 1000,
        max_receives: settings.redrive.as_ref().filter(|_| dead_letters.is_some()).map(|r| r.max_receives),
        retention_ms: i64::from(settings.retention) * 1000,
    };
    let mut inner = queue.lock();
    if inner.gone {
        return Err(Error::QueueMissing);
    }
    inner.heart.advance(now);
    if let Some(again) = ask.attempt.as_ref().and_then(|id| repeat(&mut inner, id, now, rules)) {
        let commits = commit(queues, queue, &again.out);
        return Ok(Look { taken: again, commits, due: None, now, more: inner.heart.has_ready() });
    }
    open::fill(&*queues.store, queue.id, &mut inner.heart, ask.max)?;
    let taken = inner.heart.take(now, rules);
    let commits = commit(queues, queue, &taken.out);
    if let Some(id) = ask.attempt.clone().filter(|_| !taken.out.is_empty()) {
        let messages = taken.out.iter().map(|(sequence, head)| (*sequence, head.generation)).collect();
        inner.attempts.retain(|_, attempt| now.saturating_sub(attempt.at) < ATTEMPT_MS);
        inner.attempts.insert(id, Attempt { at: now, messages });
    }
    let more = inner.heart.has_ready() && !taken.over_limit;
    Ok(Look { taken, commits, due: inner.heart.next_due(), now, more })
}

/// The answer of an earlier receive under the same attempt id, if all of its messages are still out under it: they stay
/// hidden for another visibility timeout.
///
/// Differs: attempt ids are forgotten when the server restarts.
fn repeat(inner: &mut Inner, id: &str, now: i64, rules: Rules) -> Option<Taken> {
    let attempt = inner.attempts.get(id).filter(|a| now.saturating_sub(a.at) < ATTEMPT_MS)?.clone();
    let current =
        |(sequence, generation): &(u64, u32)| inner.heart.standing(*sequence, *generation) == Standing::Current;
    if !attempt.messages.iter().all(current) {
        inner.attempts.remove(id);
        return None;
    }
    let visible_at = now.saturating_add(rules.visibility_ms);
    let again = attempt.messages.iter().filter_map(|(sequence, _)| {
        let head = inner.heart.change(now, *sequence, visible_at, false)?;
        Some((*sequence, head))
    });
    Some(Taken { out: again.collect(), ..Taken::default() })
}

fn commit(queues: &Queues, queue: &Queue, out: &[(u64, Head)]) -> Vec<Pending> {
    let batch = |messages: &[(u64, Head)]| {
        let mut batch = Batch::new();
        batch.write.extend(messages.iter().map(|(sequence, head)| {
            let key = keys::message_key(queue.id, *sequence);
            Mutation::Put(keys::FLIGHTS, key, head.flight().encode())
        }));
        queues.store.commit(batch)
    };
    out.chunks(COMMIT).map(batch).collect()
}

/// Reads the messages while their receive is being committed.
async fn hand_out(
    queues: &Queues,
    queue: &Queue,
    out: &[(u64, Head)],
    commits: Vec<Pending>,
) -> Result<Vec<Received>, Error> {
    let read = read(queues, queue, out);
    let mut failed = None;
    for (commit, messages) in commits.into_iter().zip(out.chunks(COMMIT)) {
        if let Err(error) = commit.await {
            let mut inner = queue.lock();
            messages.iter().for_each(|(sequence, head)| inner.heart.untake(*sequence, head.generation));
            drop(inner);
            queue.wake();
            failed = Some(error);
        }
    }
    match failed {
        // A part of a large poll may be out already; it comes back when its visibility timeout ends.
        Some(error) => Err(error.into()),
        None => read,
    }
}

fn read(queues: &Queues, queue: &Queue, out: &[(u64, Head)]) -> Result<Vec<Received>, Error> {
    let mut messages = Vec::with_capacity(out.len());
    for (sequence, head) in out {
        match queues.read(queue.id, *sequence)? {
            Some((message, text)) => {
                messages.push(Received { sequence: *sequence, head: *head, message, text });
            }
            // Its sender stopped waiting before it was refused for want of space.
            None => queue.lock().heart.remove(*sequence),
        }
    }
    Ok(messages)
}
