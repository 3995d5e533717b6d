//! A server's worth of queues that can be stopped and opened again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flint_base::{Clock, RequestId, Timestamp};
use flint_kit::{Ctx, Doc, Fault, Input, Principal, Service};
use flint_model::{AccountId, Place};
use flint_queue::{Options, Queues};
use flint_store::{
    Batch, Direction, Health, Key, KeyRange, Keyspace, MemoryStore, Pending, ReadError, Row, Store, Versioned,
};

/// A store that can be told to have no room.
#[derive(Debug)]
pub struct Limited {
    inner: MemoryStore,
    pub full: AtomicBool,
}

impl Store for Limited {
    fn commit(&self, batch: Batch) -> Pending {
        if self.full.load(Ordering::SeqCst) { self.inner.commit(refusal()) } else { self.inner.commit(batch) }
    }

    fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.inner.get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, range: &KeyRange, limit: usize, way: Direction) -> Result<Vec<Row>, ReadError> {
        self.inner.scan(keyspace, range, limit, way)
    }

    fn journal_written(&self) -> flint_store::journal::Written {
        self.inner.journal_written()
    }

    fn health(&self) -> tokio::sync::watch::Receiver<Health> {
        self.inner.health()
    }
}

/// What no store takes.
fn refusal() -> Batch {
    Batch::new().delete(Keyspace::new("nothing"), Key::from_bytes(vec![0; 1 << 20]))
}

/// The clock that tokio's paused time moves.
#[derive(Debug)]
pub struct PausedClock {
    pub start: tokio::time::Instant,
    /// What an operator moved it by, in milliseconds.
    pub moved: Mutex<i64>,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let moved = *self.moved.lock().expect("nobody panics with it");
        Timestamp::from_millis(1_800_000_000_000 + moved).saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

pub struct World {
    pub store: Arc<Limited>,
    pub clock: Arc<PausedClock>,
    pub queues: Arc<Queues>,
    service: Arc<dyn Service>,
    run: tokio::task::JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        let store = Arc::new(Limited { inner: MemoryStore::new(), full: AtomicBool::new(false) });
        let clock = Arc::new(PausedClock { start: tokio::time::Instant::now(), moved: Mutex::new(0) });
        Self::open(store, clock).await
    }

    async fn open(store: Arc<Limited>, clock: Arc<PausedClock>) -> Self {
        let queues = Queues::open(store.clone(), clock.clone(), Options::default()).await.expect("opens");
        let service = queues.service();
        let run = tokio::spawn({
            let queues = queues.clone();
            async move { queues.run().await }
        });
        Self { store, clock, queues, service, run }
    }

    /// Stops without a word, and opens again.
    pub async fn restart(self) -> Self {
        self.run.abort();
        let _ = self.run.await;
        Self::open(self.store, self.clock).await
    }

    pub async fn call(&self, operation: &str, members: &[(&'static str, Doc)]) -> Result<Doc, Fault> {
        let doc = Doc::Map(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect());
        self.service.call(&ctx(), operation, Input::from_doc(doc)).await.map(|output| output.doc)
    }

    /// Makes a queue; answers its address.
    pub async fn queue(&self, name: &str, attributes: &[(&'static str, &str)]) -> String {
        let mut given: Vec<_> = attributes.iter().map(|(n, v)| ((*n).into(), Doc::from(*v))).collect();
        if name.ends_with(".fifo") {
            given.push(("FifoQueue".into(), Doc::from("true")));
        }
        let members = [("QueueName", Doc::from(name)), ("Attributes", Doc::Map(given))];
        let doc = self.call("CreateQueue", &members).await.expect("made");
        doc.text_of("QueueUrl").expect("an address").to_owned()
    }

    pub async fn send(&self, url: &str, body: &str) -> Result<Doc, Fault> {
        self.call("SendMessage", &[("QueueUrl", Doc::from(url)), ("MessageBody", Doc::from(body))]).await
    }

    pub async fn send_to(&self, url: &str, group: &str, id: &str, body: &str) -> Result<Doc, Fault> {
        let members = [
            ("QueueUrl", Doc::from(url)),
            ("MessageBody", Doc::from(body)),
            ("MessageGroupId", Doc::from(group)),
            ("MessageDeduplicationId", Doc::from(id)),
        ];
        self.call("SendMessage", &members).await
    }

    /// Bodies and handles.
    pub async fn receive(&self, url: &str, max: i64, visibility: i64) -> Vec<(String, String)> {
        let members = [
            ("QueueUrl", Doc::from(url)),
            ("MaxNumberOfMessages", Doc::from(max)),
            ("VisibilityTimeout", Doc::from(visibility)),
        ];
        let doc = self.call("ReceiveMessage", &members).await.expect("received");
        messages(&doc)
    }

    pub async fn bodies(&self, url: &str, max: i64, visibility: i64) -> Vec<String> {
        self.receive(url, max, visibility).await.into_iter().map(|(body, _)| body).collect()
    }

    pub async fn delete(&self, url: &str, handle: &str) -> Result<Doc, Fault> {
        self.call("DeleteMessage", &[("QueueUrl", Doc::from(url)), ("ReceiptHandle", Doc::from(handle))]).await
    }

    pub async fn attribute(&self, url: &str, name: &str) -> String {
        let names = Doc::List(vec![Doc::from(name)]);
        let doc = self.call("GetQueueAttributes", &[("QueueUrl", Doc::from(url)), ("AttributeNames", names)]).await;
        let doc = doc.expect("attributes");
        doc.get("Attributes").and_then(|a| a.text_of(name)).unwrap_or("none").to_owned()
    }

    /// Rows of a keyspace.
    pub fn rows(&self, keyspace: Keyspace) -> usize {
        self.store.scan(keyspace, &KeyRange::all(), usize::MAX, Direction::Forward).expect("reads").len()
    }
}

pub fn messages(doc: &Doc) -> Vec<(String, String)> {
    let Some(Doc::List(messages)) = doc.get("Messages") else { return Vec::new() };
    let text = |message: &Doc, name: &str| message.text_of(name).expect("text").to_owned();
    messages.iter().map(|m| (text(m, "Body"), text(m, "ReceiptHandle"))).collect()
}

pub fn ctx() -> Ctx {
    let account: AccountId = "000000000000".parse().expect("account");
    Ctx {
        request_id: RequestId::random(),
        place: Place { account: account.clone(), region: "us-east-1".parse().expect("region") },
        principal: Principal::Platform { account },
        received: Timestamp::from_millis(0),
        base_url: "http://localhost:4566".into(),
        lineage: None,
        trace: None,
    }
}

pub fn arn(name: &str) -> flint_model::Arn {
    flint_model::Arn::new("sqs", &ctx().place, name)
}

/// Waits in virtual time.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
