//! Records at rest: the only file that knows bytes in the store.
//!
//! A queue is a record under its place and name; it holds the queue's id, and all else lies under that id, which is
//! never used again. A message is one row that is written once; what changes about it (receive count, visibility) is a
//! second, small row that exists only from the first receive or for a delay. Texts that do not fit a row lie in chunks
//! under the message's id, so that moving a message moves no text.

use bytes::{BufMut, Bytes, BytesMut};
use flint_base::{EventId, Timestamp};
use flint_model::{Lineage, Place};
use flint_store::{Batch, Key, KeyRange, Keyspace, Mutation};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::message::{Attribute, Body, Message, Value};
use crate::settings::Settings;

/// Key: place, name. Value: [`QueueRecord`].
pub const QUEUES: Keyspace = Keyspace::new("sqs-queue");
/// Key: queue, sequence. Value: a message.
pub const MESSAGES: Keyspace = Keyspace::new("sqs-message");
/// Key: queue, sequence. Value: [`Flight`].
pub const FLIGHTS: Keyspace = Keyspace::new("sqs-flight");
/// Key: message id, index. Value: a piece of the text.
pub const CHUNKS: Keyspace = Keyspace::new("sqs-chunk");
/// Key: message id. Value: how many chunks may lie there. Present while no message refers to them.
pub const UPLOADS: Keyspace = Keyspace::new("sqs-upload");
/// Key: queue, span of five minutes, digest. Value: [`Duplicate`].
pub const DUPLICATES: Keyspace = Keyspace::new("sqs-duplicate");
/// Key: queue. Value: [`Tally`].
pub const TALLIES: Keyspace = Keyspace::new("sqs-tally");
/// Key: queue. Value: the sequence below which its messages are to be removed.
pub const GARBAGE: Keyspace = Keyspace::new("sqs-garbage");
/// Key: place, source queue, start, id. Value: [`crate::moves::Task`].
pub const TASKS: Keyspace = Keyspace::new("sqs-move-task");

const LAYOUT: u8 = 1;

/// Bytes of a chunk of text.
pub const CHUNK: usize = 63 << 10;
/// A message row of at most so many bytes holds its text.
const INLINE: usize = 60 << 10;

/// A queue at rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRecord {
    pub id: u64,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub settings: Settings,
    /// Messages of lower sequence are purged.
    pub floor: u64,
}

/// What changes about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// In milliseconds since the epoch, like `first_received`, which is 0 before the first receive.
    pub visible_at: i64,
    pub first_received: i64,
    pub receive_count: u32,
    /// Counts hand-outs; a receipt handle carries it.
    pub generation: u32,
}

/// What a queue counted up to, written now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Messages in the queue.
    pub count: u64,
    /// The next sequence at that moment.
    pub next: u64,
}

/// A message that was sent under a deduplication id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub sequence: u64,
    pub id: EventId,
    /// In milliseconds since the epoch.
    pub until: i64,
}

pub fn queue_key(place: &Place, name: &str) -> Key {
    Key::for_place(place).text(name)
}

pub fn of_queue(id: u64) -> Key {
    Key::from_bytes(id.to_be_bytes())
}

/// A message's key, in [`MESSAGES`] and in [`FLIGHTS`].
pub fn message_key(queue: u64, sequence: u64) -> Key {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&queue.to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    Key::from_bytes(key)
}

/// The messages of a queue from a sequence on.
pub fn messages_from(queue: u64, sequence: u64) -> KeyRange {
    KeyRange { start: message_key(queue, sequence), end: KeyRange::prefix(&of_queue(queue)).end }
}

pub fn sequence_of(key: &Key) -> Result<u64, Error> {
    let tail = key.as_bytes().last_chunk::<8>().filter(|_| key.len() == 16);
    tail.map(|tail| u64::from_be_bytes(*tail)).ok_or_else(|| Error::Damaged("a message's key".to_owned()))
}

pub fn chunk_key(id: EventId, index: u16) -> Key {
    Key::default().raw(id.as_bytes()).raw(&index.to_be_bytes())
}

pub fn upload_key(id: EventId) -> Key {
    Key::default().raw(id.as_bytes())
}

pub fn duplicate_key(queue: u64, span: u64, digest: &[u8; 16]) -> Key {
    of_queue(queue).u64(span).raw(digest)
}

/// The deletions that end a message: its rows, and its chunks if it has some.
pub fn erase(batch: &mut Batch, queue: u64, sequence: u64, chunks: Option<(EventId, u16)>, has_flight: bool) {
    batch.write.push(Mutation::Delete(MESSAGES, message_key(queue, sequence)));
    if has_flight {
        batch.write.push(Mutation::Delete(FLIGHTS, message_key(queue, sequence)));
    }
    if let Some((id, count)) = chunks {
        for index in 0..count {
            batch.write.push(Mutation::Delete(CHUNKS, chunk_key(id, index)));
        }
    }
}

impl QueueRecord {
    pub fn encode(&self) -> Bytes {
        flint_store::record::encode(LAYOUT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        flint_store::record::decode(LAYOUT, bytes).map_err(|e| Error::Damaged(format!("a queue: {e}")))
    }
}

impl Flight {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(25);
        out.put_u8(LAYOUT);
        out.put_i64(self.visible_at);
        out.put_i64(self.first_received);
        out.put_u32(self.receive_count);
        out.put_u32(self.generation);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut read = Reader::new(bytes, "a flight")?;
        Ok(Self {
            visible_at: read.i64()?,
            first_received: read.i64()?,
            receive_count: read.u32()?,
            generation: read.u32()?,
        })
    }
}

impl Tally {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(17);
        out.put_u8(LAYOUT);
        out.put_u64(self.count);
        out.put_u64(self.next);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut read = Reader::new(bytes, "a tally")?;
        Ok(Self { count: read.u64()?, next: read.u64()? })
    }
}

impl Duplicate {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(33);
        out.put_u8(LAYOUT);
        out.put_u64(self.sequence);
        out.put_slice(self.id.as_bytes());
        out.put_i64(self.until);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut read = Reader::new(bytes, "a duplicate")?;
        Ok(Self { sequence: read.u64()?, id: EventId::from_bytes(read.array()?), until: read.i64()? })
    }
}

// Which of a message's optional parts are there.
const CAUSED: u8 = 1;
const GROUPED: u8 = 1 << 1;
const DEDUPLICATED: u8 = 1 << 2;
const TRACED: u8 = 1 << 3;
const MOVED: u8 = 1 << 4;
const CHUNKED: u8 = 1 << 5;

/// Writes a message. The order puts what [`Glance`] reads first.
pub fn encode_message(message: &Message) -> Bytes {
    let Message { id, lineage, sent, sender, md5_of_body, attributes, group, deduplication, trace, origin, body } =
        message;
    let (inline, flags) = match body {
        Body::Inline(text) => (&text[..], 0),
        Body::Chunks { .. } => (&[][..], CHUNKED),
    };
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    let flags = flags
        | flag(*lineage != Lineage::root(*id), CAUSED)
        | flag(group.is_some(), GROUPED)
        | flag(deduplication.is_some(), DEDUPLICATED)
        | flag(trace.is_some(), TRACED)
        | flag(origin.is_some(), MOVED);
    let mut out = BytesMut::with_capacity(overhead(message) + inline.len());
    out.put_u8(LAYOUT);
    out.put_u8(flags);
    out.put_i64(sent.as_millis());
    out.put_slice(id.as_bytes());
    if let Some(group) = group {
        put(&mut out, group.as_bytes());
    }
    if let Body::Chunks { count, bytes } = body {
        out.put_u16(*count);
        out.put_u32(*bytes);
    }
    if flags & CAUSED != 0 {
        out.put_slice(lineage.event.as_bytes());
        out.put_slice(lineage.cause.unwrap_or(lineage.event).as_bytes());
        out.put_slice(lineage.root.as_bytes());
        out.put_u32(lineage.depth);
    }
    out.put_slice(md5_of_body);
    put(&mut out, sender.as_bytes());
    let optional = [deduplication.as_deref(), trace.as_deref(), origin.as_deref()];
    for text in optional.into_iter().flatten() {
        put(&mut out, text.as_bytes());
    }
    // At most ten.
    out.put_u8(attributes.len() as u8);
    for Attribute { name, data_type, value } in attributes {
        put(&mut out, name.as_bytes());
        put(&mut out, data_type.as_bytes());
        out.put_u8(u8::from(matches!(value, Value::Binary(_))));
        put(&mut out, value.bytes());
    }
    out.put_slice(inline);
    out.freeze()
}

/// Whether the text has its place in the message's row.
pub fn fits_inline(message: &Message, text: usize) -> bool {
    overhead(message) + text <= INLINE
}

/// Bytes of a row besides the text, or a few more.
fn overhead(message: &Message) -> usize {
    let text = |text: Option<&str>| text.map_or(0, |t| t.len() + 4);
    let attributes: usize =
        message.attributes.iter().map(|a| a.name.len() + a.data_type.len() + a.value.bytes().len() + 13).sum();
    192 + message.sender.len()
        + text(message.group.as_deref())
        + text(message.deduplication.as_deref())
        + text(message.trace.as_deref())
        + text(message.origin.as_deref())
        + attributes
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    // A message has at most 1 MiB.
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

/// What the heart wants to know of a message's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    pub sent: i64,
    pub id: EventId,
    pub group: Option<&'a str>,
    pub chunks: u16,
}

impl<'a> Glance<'a> {
    pub fn at(row: &'a [u8]) -> Result<Self, Error> {
        let mut read = Reader::new(row, "a message")?;
        let flags = read.u8()?;
        let (sent, id) = (read.i64()?, EventId::from_bytes(read.array()?));
        let group = if flags & GROUPED != 0 { Some(read.text()?) } else { None };
        let chunks = if flags & CHUNKED != 0 { read.u16()? } else { 0 };
        Ok(Self { sent, id, group, chunks })
    }
}

/// What the journal wants to know of a message's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    pub id: EventId,
    pub lineage: Lineage,
    /// It lies in a dead-letter queue.
    pub moved: bool,
}

impl Trail {
    pub fn at(row: &[u8]) -> Result<Self, Error> {
        let mut read = Reader::new(row, "a message")?;
        let flags = read.u8()?;
        read.i64()?;
        let id = EventId::from_bytes(read.array()?);
        if flags & GROUPED != 0 {
            read.bytes()?;
        }
        if flags & CHUNKED != 0 {
            read.u16()?;
            read.u32()?;
        }
        let lineage = read.lineage(flags, id)?;
        Ok(Self { id, lineage, moved: flags & MOVED != 0 })
    }
}

/// Reads a message back. An inline text shares the row's buffer.
pub fn decode_message(row: &Bytes) -> Result<Message, Error> {
    let mut read = Reader::new(row, "a message")?;
    let flags = read.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let (sent, id) = (read.i64()?, EventId::from_bytes(read.array()?));
    let group = if has(GROUPED) { Some(read.text()?.to_owned()) } else { None };
    let chunks = if has(CHUNKED) { Some((read.u16()?, read.u32()?)) } else { None };
    let lineage = read.lineage(flags, id)?;
    let md5_of_body = read.array()?;
    let sender = read.text()?.to_owned();
    let deduplication = if has(DEDUPLICATED) { Some(read.text()?.to_owned()) } else { None };
    let trace = if has(TRACED) { Some(read.text()?.into()) } else { None };
    let origin = if has(MOVED) { Some(read.text()?.to_owned()) } else { None };
    let mut attributes = Vec::new();
    for _ in 0..read.u8()? {
        let (name, data_type) = (read.text()?.to_owned(), read.text()?.to_owned());
        let value = match read.u8()? {
            0 => Value::Text(read.text()?.to_owned()),
            _ => Value::Binary(Bytes::copy_from_slice(read.bytes()?)),
        };
        attributes.push(Attribute { name, data_type, value });
    }
    let body = match chunks {
        Some((count, bytes)) => Body::Chunks { count, bytes },
        None => Body::Inline(row.slice(row.len() - read.rest.len()..)),
    };
    let sent = Timestamp::from_millis(sent);
    Ok(Message { id, lineage, sent, sender, md5_of_body, attributes, group, deduplication, trace, origin, body })
}

/// Reads fields in order, with bounds.
struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], what: &'static str) -> Result<Self, Error> {
        match bytes.split_first() {
            Some((&LAYOUT, rest)) => Ok(Self { rest, what }),
            Some((version, _)) => {
                Err(Error::Damaged(format!("{what} of layout {version}, this program knows {LAYOUT}")))
            }
            None => Err(Error::Damaged(format!("{what} is empty"))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        let what = self.what;
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Damaged(format!("{what} holds a text that is none")))
    }

    /// Where the event of message `id` stands.
    fn lineage(&mut self, flags: u8, id: EventId) -> Result<Lineage, Error> {
        if flags & CAUSED == 0 {
            return Ok(Lineage::root(id));
        }
        let mut event = || Ok::<_, Error>(EventId::from_bytes(self.array()?));
        let (event, cause, root) = (event()?, event()?, event()?);
        // An event is not its own cause: that stands for none.
        Ok(Lineage { event, cause: Some(cause).filter(|c| *c != event), root, depth: self.u32()? })
    }

    fn short(&self) -> Error {
        Error::Damaged(format!("{} is cut short", self.what))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let optional = || prop::option::of("[a-z]{1,9}");
        let attribute = ("[a-z]{1,5}", "String(\\.x)?", any::<Vec<u8>>(), any::<bool>()).prop_map(
            |(name, data_type, bytes, binary)| {
                let value = if binary { Value::Binary(bytes.into()) } else { Value::Text(format!("{bytes:?}")) };
                Attribute { name, data_type, value }
            },
        );
        let body = prop_oneof![
            any::<Vec<u8>>().prop_map(|b| Body::Inline(b.into())),
            (any::<u16>(), any::<u32>()).prop_map(|(count, bytes)| Body::Chunks { count, bytes }),
        ];
        let lineage = (any::<[u8; 16]>(), any::<Option<[u8; 16]>>(), any::<u32>()).prop_map(|(event, cause, depth)| {
            let event = EventId::from_bytes(event);
            match cause.map(EventId::from_bytes) {
                None => Lineage::root(event),
                Some(cause) => Lineage { event, cause: Some(cause).filter(|c| *c != event), root: cause, depth },
            }
        });
        let texts = (optional(), optional(), optional(), optional());
        (lineage, any::<i64>(), any::<[u8; 16]>(), prop::collection::vec(attribute, 0..4), texts, body).prop_map(
            |(lineage, sent, md5_of_body, attributes, (group, deduplication, trace, origin), body)| Message {
                id: if sent % 2 == 0 { lineage.event } else { lineage.root },
                lineage,
                sent: Timestamp::from_millis(sent),
                sender: "AIDA".to_owned(),
                md5_of_body,
                attributes,
                group,
                deduplication,
                trace: trace.map(Into::into),
                origin,
                body,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_read_back(message in message()) {
            let row = encode_message(&message);
            let glance = Glance::at(&row).expect("a glance");
            prop_assert_eq!(glance.group, message.group.as_deref());
            prop_assert_eq!((glance.sent, glance.id), (message.sent.as_millis(), message.id));
            prop_assert_eq!(decode_message(&row).expect("a message"), message);
        }

        #[test]
        fn bent_rows_are_refused_or_read(message in message(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut row = encode_message(&message).to_vec();
            let index = at.index(row.len());
            row[index] ^= byte;
            row.truncate(cut.index(row.len()) + 1);
            let _ = decode_message(&Bytes::from(row.clone()));
            let _ = (Glance::at(&row), Flight::decode(&row), Tally::decode(&row), Duplicate::decode(&row));
        }

        #[test]
        fn small_records_read_back(a: i64, b: i64, c: u32, d: u32, e: u64, f: u64, id: [u8; 16]) {
            let flight = Flight { visible_at: a, first_received: b, receive_count: c, generation: d };
            prop_assert_eq!(Flight::decode(&flight.encode()).expect("a flight"), flight);
            let tally = Tally { count: e, next: f };
            prop_assert_eq!(Tally::decode(&tally.encode()).expect("a tally"), tally);
            let duplicate = Duplicate { sequence: e, id: EventId::from_bytes(id), until: a };
            prop_assert_eq!(Duplicate::decode(&duplicate.encode()).expect("a duplicate"), duplicate);
            let key = message_key(e, f);
            prop_assert_eq!(sequence_of(&key).expect("a key"), f);
            prop_assert!(messages_from(e, f).contains(&key));
        }
    }
}
