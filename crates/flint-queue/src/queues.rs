//! All queues of a server, by place and name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use flint_base::{Clock, EventId, Timestamp};
use flint_kit::Ctx;
use flint_model::{Arn, Place};
use flint_store::Store;
use tokio::sync::Notify;

use crate::keys::QueueRecord;
use crate::message::Message;
use crate::moves::Moves;
use crate::queue::Heart;
use crate::settings::Settings;
use crate::{Error, address};

/// How to open [`Queues`].
#[derive(Clone)]
pub struct Options {
    /// Makes the ids of messages. They influence nothing but themselves.
    pub mint: Arc<dyn Fn() -> EventId + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self { mint: Arc::new(EventId::next) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options")
    }
}

/// SQS: a [`flint_kit::Service`] (see [`Queues::service`]), a [`flint_kit::Target`] and a [`flint_kit::Source`].
#[derive(Debug)]
pub struct Queues {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    places: RwLock<BTreeMap<Place, Names>>,
    /// Held while queues are made, changed and deleted: those are one after the other.
    pub(crate) admin: tokio::sync::Mutex<Admin>,
    pub(crate) moves: Moves,
    /// Tells the worker that there is something to remove.
    pub(crate) work: Notify,
}

type Names = BTreeMap<String, Arc<Queue>>;

/// What only those know who change the set of queues.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The newest queue's id.
    pub last_id: u64,
}

/// One queue.
#[derive(Debug)]
pub struct Queue {
    pub id: u64,
    pub place: Place,
    pub name: String,
    pub arn: String,
    pub created: Timestamp,
    settings: RwLock<Arc<Settings>>,
    inner: Mutex<Inner>,
    /// One permit for each chance to receive something.
    pub(crate) arrived: Notify,
    /// Woken when a send under a deduplication id came to its end.
    pub(crate) decided: Notify,
}

/// What changes with messages.
#[derive(Debug)]
pub(crate) struct Inner {
    pub heart: Heart,
    pub modified: Timestamp,
    pub floor: u64,
    /// The queue is deleted.
    pub gone: bool,
    /// Deduplication ids whose first send is on its way.
    pub deciding: BTreeMap<[u8; 16], u64>,
    /// Receive requests by their attempt id: when they were, and what they got.
    pub attempts: BTreeMap<String, Attempt>,
    pub purged: Option<Timestamp>,
    /// The heart's number of changes that the tally at rest knows.
    pub tallied: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub at: i64,
    /// Sequence and generation of each message.
    pub messages: Vec<(u64, u32)>,
}

impl Queue {
    pub(crate) fn new(place: Place, name: String, record: QueueRecord, heart: Heart) -> Self {
        let QueueRecord { id, created, modified, settings, floor } = record;
        let (_, _, tallied) = heart.tally();
        Self {
            id,
            arn: Arn::new("sqs", &place, name.as_str()).to_string(),
            place,
            name,
            created,
            settings: RwLock::new(Arc::new(settings)),
            inner: Mutex::new(Inner {
                heart,
                modified,
                floor,
                gone: false,
                deciding: BTreeMap::new(),
                attempts: BTreeMap::new(),
                purged: None,
                tallied,
            }),
            arrived: Notify::new(),
            decided: Notify::new(),
        }
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is at rest, with other settings.
    pub(crate) fn record(&self, settings: Settings, modified: Timestamp) -> QueueRecord {
        QueueRecord { id: self.id, created: self.created, modified, settings, floor: self.lock().floor }
    }

    /// Lets one who waits look again.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }
}

impl Queues {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: Options,
        queues: impl IntoIterator<Item = Queue>,
        last_id: u64,
    ) -> Result<Self, Error> {
        let mut places: BTreeMap<Place, Names> = BTreeMap::new();
        for queue in queues {
            places.entry(queue.place.clone()).or_default().insert(queue.name.clone(), Arc::new(queue));
        }
        let moves = Moves::open(&*store)?;
        Ok(Self {
            store,
            clock,
            options,
            places: RwLock::new(places),
            admin: tokio::sync::Mutex::new(Admin { last_id }),
            moves,
            work: Notify::new(),
        })
    }

    /// Errors: `QueueDoesNotExist`.
    pub fn find(&self, place: &Place, name: &str) -> Result<Arc<Queue>, Error> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.get(place).and_then(|names| names.get(name)).cloned().ok_or(Error::QueueMissing)
    }

    /// The queue of a `QueueUrl`.
    pub fn at(&self, ctx: &Ctx, url: &str) -> Result<Arc<Queue>, Error> {
        self.find(&ctx.place, address::name_of(ctx, url)?)
    }

    /// The queue of an ARN.
    pub fn of_arn(&self, arn: &Arn) -> Result<Arc<Queue>, Error> {
        let (Ok(account), Ok(region)) = (arn.account.parse(), arn.region.parse()) else {
            return Err(Error::QueueMissing);
        };
        if arn.service != "sqs" {
            return Err(Error::QueueMissing);
        }
        self.find(&Place { account, region }, &arn.resource)
    }

    /// The queues of a place by name.
    pub fn list(&self, place: &Place) -> Vec<Arc<Queue>> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.get(place).map(|names| names.values().cloned().collect()).unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Arc<Queue>> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.values().flat_map(|names| names.values().cloned()).collect()
    }

    pub(crate) fn add(&self, queue: Arc<Queue>) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.entry(queue.place.clone()).or_default().insert(queue.name.clone(), queue);
    }

    pub(crate) fn remove(&self, queue: &Queue) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = places.get_mut(&queue.place) {
            names.remove(&queue.name);
        }
    }

    /// The dead-letter queue of `queue`, if it has one that exists.
    pub(crate) fn dead_letters_of(&self, queue: &Queue, settings: &Settings) -> Option<Arc<Queue>> {
        let redrive = settings.redrive.as_ref()?;
        self.find(&queue.place, &redrive.target).ok()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads a message and its text.
    ///
    /// Errors: what cannot be read. `None`: it is not there.
    pub(crate) fn read(&self, queue: u64, sequence: u64) -> Result<Option<(Message, bytes::Bytes)>, Error> {
        let key = crate::keys::message_key(queue, sequence);
        let Some(row) = self.store.get(crate::keys::MESSAGES, &key)? else { return Ok(None) };
        let message = crate::keys::decode_message(&row.value)?;
        let text = self.text_of(&message)?;
        Ok(Some((message, text)))
    }

    fn text_of(&self, message: &Message) -> Result<bytes::Bytes, Error> {
        use crate::message::Body;
        let (count, bytes) = match &message.body {
            Body::Inline(text) => return Ok(text.clone()),
            Body::Chunks { count, bytes } => (*count, *bytes),
        };
        let mut text = bytes::BytesMut::with_capacity(bytes as usize);
        for index in 0..count {
            let key = crate::keys::chunk_key(message.id, index);
            let row = self.store.get(crate::keys::CHUNKS, &key)?;
            text.extend_from_slice(&row.ok_or_else(|| Error::Damaged("a message lacks a chunk".to_owned()))?.value);
        }
        Ok(text.freeze())
    }
}
