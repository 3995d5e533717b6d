//! `SendMessage`, `SendMessageBatch`, and every other way into a queue.

use std::sync::Arc;

use bytes::Bytes;
use flint_base::{EventId, Timestamp};
use flint_kit::Ctx;
use flint_model::{Lineage, trace};
use flint_store::journal::{Entry, Kind};
use flint_store::{Batch, Mutation, Pending};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::keys::{self, Duplicate};
use crate::message::{self, Attribute, Body, MAX_MESSAGE_BYTES, Message};
use crate::queues::{Inner, Queue, Queues};
use crate::settings::Settings;
use crate::{Error, queue::Heart};

/// How long a deduplication id keeps later ones away (SQS Developer Guide, "Exactly-once processing"), in milliseconds.
pub const DEDUPLICATION_MS: i64 = 300_000;
/// A batch of the store takes 1 MiB and 500 parts; stay below with room for keys and journal entries.
pub(crate) const BATCH_BYTES: usize = 900 << 10;
pub(crate) const BATCH_MESSAGES: usize = 80;
/// Chunks of text per batch.
const BATCH_CHUNKS: usize = 14;

/// What belongs to the letters of one call, of which there is mostly one.
type Few<T> = SmallVec<[T; 1]>;

/// What a sender gives.
#[derive(Debug)]
pub struct Outgoing {
    pub body: String,
    pub md5_of_body: [u8; 16],
    pub attributes: Vec<Attribute>,
    /// In seconds; the queue's if there is none.
    pub delay: Option<i64>,
    pub group: Option<String>,
    pub deduplication: Option<String>,
    /// `AWSTraceHeader`
    pub trace: Option<Arc<str>>,
    /// Where its event stands, if it is one that another room brings; else the message is an event of its own.
    pub lineage: Option<Lineage>,
}

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub id: EventId,
    pub sequence: u64,
}

/// A message on its way in.
#[derive(Debug)]
pub(crate) struct Letter {
    message: Message,
    /// The message as it is stored.
    row: Bytes,
    /// Becomes visible then, if that is later than now.
    visible_at: i64,
    /// Of its deduplication id.
    digest: Option<[u8; 16]>,
}

/// How one letter of several fares.
enum Fate {
    New {
        sequence: u64,
        batch: usize,
    },
    /// It was sent before.
    Known(Sent),
    /// It was sent before by an earlier letter of the same call.
    Same(usize),
}

/// Sends messages; each has its own end. All of them are checked already but for what the queue itself demands.
pub async fn send_all(queues: &Queues, queue: &Queue, ctx: &Ctx, outgoing: Vec<Outgoing>) -> Vec<Result<Sent, Error>> {
    let settings = queue.settings();
    let now = queues.now();
    let mut results: Vec<Option<Result<Sent, Error>>> = Vec::with_capacity(outgoing.len());
    let mut letters = Vec::with_capacity(outgoing.len());
    for one in outgoing {
        let letter = match prepare(queues, &settings, ctx, now, one) {
            Ok(letter) => upload(queues, letter).await,
            Err(error) => Err(error),
        };
        results.push(letter.map(|letter| letters.push(letter)).err().map(Err));
    }
    let ends = post(queues, queue, &settings, &mut letters).await;
    forget_unsent(queues, &letters, &ends);
    let mut ends = ends.into_iter();
    let end = |slot: Option<Result<Sent, Error>>| slot.or_else(|| ends.next()).unwrap_or(Err(Error::QueueMissing));
    results.into_iter().map(end).collect()
}

/// Checks a message and computes what belongs to it.
fn prepare(
    queues: &Queues,
    settings: &Settings,
    ctx: &Ctx,
    now: Timestamp,
    outgoing: Outgoing,
) -> Result<Letter, Error> {
    let Outgoing { body, md5_of_body, attributes, delay, group, deduplication, trace, lineage } = outgoing;
    message::check(&body, &attributes, settings.max_bytes as usize)?;
    let delay = check_delay(settings, delay)?;
    let deduplication = check_ids(settings, group.as_deref(), deduplication, &body)?;
    let digest = deduplication.as_deref().map(|id| digest(settings, group.as_deref(), id));
    let id = (queues.options.mint)();
    let own = || ctx.lineage.map_or_else(|| Lineage::root(id), |above| above.child(id));
    let message = Message {
        id,
        lineage: lineage.unwrap_or_else(own),
        sent: now,
        sender: ctx.principal.user_id(),
        md5_of_body,
        attributes,
        group,
        deduplication,
        // A call that belongs to a chain sends messages of that chain, whatever it writes on them.
        trace: match &ctx.trace {
            Some(own) if ctx.lineage.is_some() => Some(trace::bound(own, trace.as_deref())),
            own => trace.or_else(|| own.clone()),
        },
        origin: None,
        body: Body::Inline(Bytes::from(body)),
    };
    let visible_at = now.as_millis() + i64::from(delay) * 1000;
    Ok(Letter { message, row: Bytes::new(), visible_at, digest })
}

fn check_delay(settings: &Settings, delay: Option<i64>) -> Result<u32, Error> {
    let Some(delay) = delay else { return Ok(settings.delay) };
    let legal = u32::try_from(delay).ok().filter(|d| *d <= 900);
    let legal = legal.ok_or_else(|| Error::value(delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900."))?;
    if settings.fifo && legal != settings.delay {
        let reason = "The request include parameter that is not valid for this queue type";
        return Err(Error::value(delay, "DelaySeconds", reason));
    }
    Ok(legal)
}

/// Checks group and deduplication id; answers the latter, made from the body where the queue does that.
fn check_ids(
    settings: &Settings,
    group: Option<&str>,
    deduplication: Option<String>,
    body: &str,
) -> Result<Option<String>, Error> {
    let legal = |id: &str, name: &str| {
        let reason = format!("{name} can only include alphanumeric and punctuation characters. 1 to 128 in length.");
        if message::is_token(id) { Ok(()) } else { Err(Error::value(id, name, &reason)) }
    };
    group.map_or(Ok(()), |id| legal(id, "MessageGroupId"))?;
    deduplication.as_deref().map_or(Ok(()), |id| legal(id, "MessageDeduplicationId"))?;
    if !settings.fifo {
        return match deduplication {
            None => Ok(None),
            Some(id) => {
                let reason = "The request include parameter that is not valid for this queue type";
                Err(Error::value(id, "MessageDeduplicationId", reason))
            }
        };
    }
    if group.is_none() {
        return Err(Error::Missing("MessageGroupId"));
    }
    match deduplication {
        Some(id) => Ok(Some(id)),
        None if settings.content_deduplication => Ok(Some(hex(&Sha256::digest(body)))),
        None => Err(Error::Invalid(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
                .to_owned(),
        )),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn digest(settings: &Settings, group: Option<&str>, id: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    if settings.per_group {
        hash.update(group.unwrap_or(""));
        hash.update([0]);
    }
    hash.update(id);
    let whole = hash.finalize();
    let mut digest = [0; 16];
    digest.copy_from_slice(&whole[..16]);
    digest
}

/// Encodes a message, and stores its text if that has no place in the message's row. Until the message refers to it, a
/// note says so.
async fn upload(queues: &Queues, mut letter: Letter) -> Result<Letter, Error> {
    let Body::Inline(text) = &letter.message.body else { return Ok(letter) };
    if keys::fits_inline(&letter.message, text.len()) {
        letter.row = keys::encode_message(&letter.message);
        return Ok(letter);
    }
    let (text, id) = (text.clone(), letter.message.id);
    let chunks: Vec<Bytes> = text.chunks(keys::CHUNK).map(|chunk| text.slice_ref(chunk)).collect();
    let mut index = 0u16;
    for group in chunks.chunks(BATCH_CHUNKS) {
        let mut batch = Batch::new().put(keys::UPLOADS, keys::upload_key(id), Bytes::new());
        for chunk in group {
            batch = batch.put(keys::CHUNKS, keys::chunk_key(id, index), chunk.clone());
            index += 1;
        }
        queues.store.commit(batch).await?;
    }
    // A message has at most 1 MiB.
    letter.message.body = Body::Chunks { count: index, bytes: text.len() as u32 };
    letter.row = keys::encode_message(&letter.message);
    Ok(letter)
}

/// Removes the texts of letters that did not become messages: those that were sent before, and those that were refused.
fn forget_unsent(queues: &Queues, letters: &[Letter], ends: &[Result<Sent, Error>]) {
    for (letter, end) in letters.iter().zip(ends) {
        let Body::Chunks { count, .. } = letter.message.body else { continue };
        let id = letter.message.id;
        if end.as_ref().is_ok_and(|sent| sent.id == id) {
            continue;
        }
        let mut batch = Batch::new().delete(keys::UPLOADS, keys::upload_key(id));
        batch.write.extend((0..count).map(|index| Mutation::Delete(keys::CHUNKS, keys::chunk_key(id, index))));
        // On its way when this returns. If it is refused, the next start finds the note.
        drop(queues.store.commit(batch));
    }
}

/// Puts letters into a queue, in their order.
async fn post(queues: &Queues, queue: &Queue, settings: &Settings, letters: &mut [Letter]) -> Vec<Result<Sent, Error>> {
    loop {
        // Made before the look at what others send, so that their end is not missed.
        let decided = queue.decided.notified();
        let handed_over = {
            let mut inner = queue.lock();
            if inner.gone {
                return letters.iter().map(|_| Err(Error::QueueMissing)).collect();
            }
            let foreign = letters.iter().filter_map(|letter| letter.digest).any(|d| inner.deciding.contains_key(&d));
            if foreign { None } else { Some(hand_over(queues, queue, settings, &mut inner, letters)) }
        };
        match handed_over {
            None => decided.await,
            Some(Err(error)) => return letters.iter().map(|_| Err(error.again())).collect(),
            Some(Ok((fates, commits))) => return settle(queue, letters, fates, commits).await,
        }
    }
}

/// Gives every letter its sequence and hands the batches to the store, all under the queue's lock: so commits come in the
/// order of sequences.
fn hand_over(
    queues: &Queues,
    queue: &Queue,
    settings: &Settings,
    inner: &mut Inner,
    letters: &mut [Letter],
) -> Result<(Few<Fate>, Few<Pending>), Error> {
    let now = queues.now();
    // All look-ups come first: from here on nothing can fail half-way.
    let known = letters
        .iter()
        .map(|letter| letter.digest.as_ref().map_or(Ok(None), |digest| known(queues, queue, digest, now)));
    let known = known.collect::<Result<Few<Option<Sent>>, Error>>()?;
    let mut fates: Few<Fate> = Few::new();
    let mut commits = Few::new();
    let (mut batch, mut bytes, mut messages) = (Batch::new(), 0, 0);
    for index in 0..letters.len() {
        let (before, rest) = letters.split_at_mut(index);
        let letter = &mut rest[0];
        if let Some(digest) = &letter.digest {
            let same = before.iter().position(|earlier| earlier.digest.as_ref() == Some(digest));
            if let Some(earlier) = same {
                fates.push(Fate::Same(earlier));
                continue;
            }
            if let Some(known) = known[index] {
                fates.push(Fate::Known(known));
                continue;
            }
        }
        let sequence = place(queue, &mut inner.heart, now, letter, &mut batch, &mut bytes);
        if let Some(digest) = letter.digest {
            inner.deciding.insert(digest, sequence);
            let duplicate = Duplicate { sequence, id: letter.message.id, until: now.as_millis() + DEDUPLICATION_MS };
            let key = keys::duplicate_key(queue.id, span(now.as_millis()), &digest);
            batch.write.push(Mutation::Put(keys::DUPLICATES, key, duplicate.encode()));
        }
        let entry = accepted(queue, &letter.message, now);
        // What comes from outside comes in masses; what a function sent is part of a chain.
        if letter.message.lineage.depth == 0 { &mut batch.packed } else { &mut batch.journal }.push(entry);
        messages += 1;
        fates.push(Fate::New { sequence, batch: commits.len() });
        if bytes > BATCH_BYTES - keys::CHUNK || messages == BATCH_MESSAGES {
            commits.push(queues.store.commit(std::mem::take(&mut batch)));
            (bytes, messages) = (0, 0);
        }
    }
    if messages > 0 {
        commits.push(queues.store.commit(batch));
    }
    debug_assert!(settings.fifo || letters.iter().all(|letter| letter.digest.is_none()));
    Ok((fates, commits))
}

/// Adds the rows of a letter to a batch; answers its sequence.
fn place(
    queue: &Queue,
    heart: &mut Heart,
    now: Timestamp,
    letter: &mut Letter,
    batch: &mut Batch,
    bytes: &mut usize,
) -> u64 {
    let Letter { message, row, visible_at, .. } = letter;
    let row = std::mem::take(row);
    let chunks = match message.body {
        Body::Inline(_) => 0,
        Body::Chunks { count, .. } => count,
    };
    let now = now.as_millis();
    let sequence = heart.send(now, *visible_at, message.group.as_deref(), chunks);
    let key = keys::message_key(queue.id, sequence);
    *bytes += row.len() + 1024;
    if *visible_at > now {
        let flight = keys::Flight { visible_at: *visible_at, first_received: 0, receive_count: 0, generation: 0 };
        batch.write.push(Mutation::Put(keys::FLIGHTS, key.clone(), flight.encode()));
    }
    if chunks > 0 {
        batch.write.push(Mutation::Delete(keys::UPLOADS, keys::upload_key(message.id)));
    }
    batch.write.push(Mutation::Put(keys::MESSAGES, key, row));
    sequence
}

/// The spans of five minutes by which deduplication ids lie in the store.
pub(crate) fn span(now: i64) -> u64 {
    u64::try_from(now / DEDUPLICATION_MS).unwrap_or(0)
}

/// What was sent under the same deduplication id within five minutes.
fn known(queues: &Queues, queue: &Queue, digest: &[u8; 16], now: Timestamp) -> Result<Option<Sent>, Error> {
    let now = now.as_millis();
    let this = span(now);
    for span in [this, this.saturating_sub(1)] {
        let row = queues.store.get(keys::DUPLICATES, &keys::duplicate_key(queue.id, span, digest))?;
        let found = row.map(|row| Duplicate::decode(&row.value)).transpose()?.filter(|found| found.until > now);
        if let Some(Duplicate { sequence, id, .. }) = found {
            return Ok(Some(Sent { id, sequence }));
        }
    }
    Ok(None)
}

fn accepted(queue: &Queue, message: &Message, at: Timestamp) -> Entry {
    let mut entry = Entry::new(queue.place.clone(), message.lineage, Kind::Accepted, at);
    entry.target = Some(queue.arn.clone());
    entry.trace_id = message.trace.as_deref().and_then(root_of_trace);
    entry
}

/// The `Root` of a trace header.
pub(crate) fn root_of_trace(header: &str) -> Option<String> {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).map(str::to_owned)
}

/// Waits for the commits and tells everyone.
async fn settle(
    queue: &Queue,
    letters: &[Letter],
    fates: Few<Fate>,
    commits: Few<Pending>,
) -> Vec<Result<Sent, Error>> {
    let mut ends: Few<_> = Few::new();
    let mut guard = Sending { queue, letters, fates: &fates, decided: 0, failed: Few::new() };
    for commit in commits {
        let end = commit.await;
        guard.failed.push(end.is_err());
        ends.push(end.err());
        guard.decide();
    }
    drop(guard);
    let mut results: Vec<Result<Sent, Error>> = Vec::with_capacity(fates.len());
    for (fate, letter) in fates.iter().zip(letters) {
        let result = match fate {
            Fate::Known(sent) => Ok(*sent),
            Fate::Same(earlier) => match &results[*earlier] {
                Ok(sent) => Ok(*sent),
                Err(error) => Err(error.again()),
            },
            Fate::New { sequence, batch } => match &ends[*batch] {
                None => Ok(Sent { id: letter.message.id, sequence: *sequence }),
                Some(error) => Err(error.clone().into()),
            },
        };
        results.push(result);
    }
    results
}

/// Tells the queue's heart how commits ended. If nobody waits any more, they are on their way all the same.
struct Sending<'a> {
    queue: &'a Queue,
    letters: &'a [Letter],
    fates: &'a [Fate],
    /// Commits whose end the heart knows.
    decided: usize,
    failed: Few<bool>,
}

impl Sending<'_> {
    fn decide(&mut self) {
        let mut inner = self.queue.lock();
        let mut arrived = 0;
        for (fate, letter) in self.fates.iter().zip(self.letters) {
            let Fate::New { sequence, batch } = fate else { continue };
            let known = *batch >= self.decided && *batch < self.failed.len();
            if !known {
                continue;
            }
            if let Some(digest) = &letter.digest {
                inner.deciding.remove(digest);
            }
            if self.failed[*batch] {
                inner.heart.unsend(*sequence);
            } else if inner.heart.sent(*sequence) {
                arrived += 1;
            }
        }
        drop(inner);
        self.decided = self.failed.len();
        (0..arrived).for_each(|_| self.queue.wake());
        if self.letters.iter().any(|letter| letter.digest.is_some()) {
            self.queue.decided.notify_waiters();
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let batches = self.fates.iter().filter_map(|fate| match fate {
            Fate::New { batch, .. } => Some(batch + 1),
            _ => None,
        });
        let batches = batches.max().unwrap_or(0);
        if self.failed.len() < batches {
            self.failed.resize(batches, false);
            self.decide();
        }
    }
}

/// Refuses a batch that is too large as a whole, and knows each message's size.
///
/// Errors: `BatchRequestTooLong`.
pub fn check_batch(outgoing: &[Outgoing]) -> Result<(), Error> {
    let size = |one: &Outgoing| {
        let attributes = one.attributes.iter().map(|a| a.name.len() + a.data_type.len() + a.value.bytes().len());
        one.body.len() + attributes.sum::<usize>()
    };
    match outgoing.iter().map(size).sum::<usize>() {
        total if total > MAX_MESSAGE_BYTES => Err(Error::LargeBatch(total)),
        _ => Ok(()),
    }
}
