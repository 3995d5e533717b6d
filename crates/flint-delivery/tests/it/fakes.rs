//! The rooms around delivery, played: a clock, an engine, a queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::{Clock, EventId, RequestId, Timestamp};
use flint_delivery::{Bounds, Delivery, Options, Parts};
use flint_kit::target::{Envelope, Receipt};
use flint_kit::{
    Body, Ctx, Doc, Fault, FunctionFacts, Input, Invocation, InvokeMode, Invoker, Outcome, Principal, Target,
};
use flint_model::{Arn, FunctionRef, Lineage, Place};
use flint_store::{Direction, KeyRange, Keyspace, MemoryStore, Store, journal};

use crate::sources::Records;

/// When every story begins: 2026-11-21T09:00:00.000Z.
pub const START: i64 = 1_795_251_600_000;

/// Wall-clock time that follows tokio's, which is paused.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(START).saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        tokio::time::Instant::now() - self.0
    }
}

/// What a function does with its `n`th call.
pub type Script = Arc<dyn Fn(&Call) -> Does + Send + Sync>;

#[derive(Clone, Debug)]
pub enum Does {
    Answer(&'static str),
    /// Works for a while, then answers this.
    Say(Duration, String),
    /// Answers with this error document.
    Fail(&'static str),
    /// Works for a while, then answers null.
    Work(Duration),
    Throttle,
    System,
}

/// A call as the engine saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub function: String,
    pub qualifier: Option<String>,
    /// Milliseconds since the story began.
    pub at_ms: u64,
    pub request_id: RequestId,
    pub payload: Bytes,
    pub lineage: Lineage,
    pub trace: Option<String>,
    /// 1 for the first call of this request id.
    pub attempt: usize,
}

impl Call {
    /// The ids of the records of a batch.
    pub fn ids(&self) -> Vec<String> {
        let event: serde_json::Value = serde_json::from_slice(&self.payload).expect("an event");
        let records = event["Records"].as_array().expect("records").clone();
        records.iter().map(|record| record["messageId"].as_str().expect("an id").to_owned()).collect()
    }

    pub fn has(&self, id: &str) -> bool {
        self.ids().iter().any(|other| other == id)
    }
}

#[derive(Clone)]
struct Function {
    script: Script,
    facts: FunctionFacts,
}

#[derive(Default)]
pub struct Engine {
    functions: Mutex<BTreeMap<String, Function>>,
    pub calls: Mutex<Vec<Call>>,
    clock: Mutex<Option<Arc<TokioClock>>>,
    pub running: Mutex<(usize, usize)>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    pub fn put(&self, name: &str, script: impl Fn(&Call) -> Does + Send + Sync + 'static) {
        let facts = FunctionFacts {
            arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"),
            version: "$LATEST".into(),
            timeout: Duration::from_secs(3),
            dead_letter: None,
            recursion_allowed: false,
            reserved_concurrency: None,
        };
        self.functions.lock().unwrap().insert(name.into(), Function { script: Arc::new(script), facts });
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut FunctionFacts)) {
        change(&mut self.functions.lock().unwrap().get_mut(name).expect("there").facts);
    }

    pub fn remove(&self, name: &str) {
        self.functions.lock().unwrap().remove(name);
    }

    /// Seconds at which `name` was called.
    pub fn seconds(&self, name: &str) -> Vec<u64> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.function == name).map(|call| call.at_ms / 1_000).collect()
    }

    async fn work(&self, span: Duration) {
        {
            let mut running = self.running.lock().unwrap();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        tokio::time::sleep(span).await;
        self.running.lock().unwrap().0 -= 1;
    }

    fn find(&self, function: &FunctionRef) -> Result<Function, Fault> {
        let known = matches!(&function.qualifier, None | Some(flint_model::Qualifier::Latest))
            || function.qualifier.as_ref().is_some_and(|q| q.to_string() == "live");
        let found = self.functions.lock().unwrap().get(function.name.as_str()).cloned();
        found.filter(|_| known).ok_or_else(|| {
            Fault::client(404, "ResourceNotFoundException", format!("Function not found: {}", function.name))
        })
    }
}

#[async_trait]
impl Invoker for Engine {
    async fn invoke(&self, ctx: &Ctx, invocation: Invocation) -> Result<Outcome, Fault> {
        let function = self.find(&invocation.function)?;
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let clock = self.clock.lock().unwrap().clone().expect("a world");
            let call = Call {
                function: invocation.function.name.to_string(),
                qualifier: invocation.function.qualifier.as_ref().map(ToString::to_string),
                at_ms: u64::try_from(clock.now().as_millis() - START).unwrap(),
                request_id: ctx.request_id,
                payload: invocation.payload,
                lineage: invocation.lineage,
                trace: ctx.trace.as_deref().map(str::to_owned),
                attempt: 1 + calls.iter().filter(|call| call.request_id == ctx.request_id).count(),
            };
            calls.push(call.clone());
            call
        };
        let answer = |payload: &str, function_error| {
            Ok(Outcome {
                status: 200,
                payload: Body::Whole(Bytes::copy_from_slice(payload.as_bytes())),
                function_error,
                executed_version: "$LATEST".into(),
                tail: None,
                billed_ms: 1,
            })
        };
        match (function.script)(&call) {
            Does::Answer(payload) => answer(payload, None),
            Does::Fail(document) => answer(document, Some("Unhandled")),
            Does::Work(span) => {
                self.work(span).await;
                answer("null", None)
            }
            Does::Say(span, said) => {
                self.work(span).await;
                answer(&said, None)
            }
            Does::Throttle => Err(Fault::throttle("TooManyRequestsException", "Rate Exceeded.")),
            Does::System => Err(Fault::server(500, "ServiceException", "internal error")),
        }
    }

    fn describe(&self, _: &Place, function: &FunctionRef) -> Result<FunctionFacts, Fault> {
        self.find(function).map(|function| function.facts)
    }
}

/// A queue that takes everything, or nothing for a while.
#[derive(Debug, Default)]
pub struct Queue {
    pub sent: Mutex<Vec<(String, Envelope)>>,
    /// Faults to answer first.
    pub faults: Mutex<Vec<Fault>>,
}

#[async_trait]
impl Target for Queue {
    fn check(&self, arn: &Arn) -> Result<(), Fault> {
        if arn.resource.starts_with("no-") {
            return Err(Fault::client(400, "AWS.SimpleQueueService.NonExistentQueue", "no such queue"));
        }
        Ok(())
    }

    async fn deliver(&self, _: &Ctx, arn: &Arn, envelope: Envelope) -> Result<Receipt, Fault> {
        self.check(arn)?;
        if let Some(fault) = self.faults.lock().unwrap().pop() {
            return Err(fault);
        }
        self.sent.lock().unwrap().push((arn.resource.clone(), envelope));
        Ok(Receipt { id: "m".into() })
    }
}

/// What outlives a restart.
#[derive(Default)]
struct Rooms {
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    records: Arc<Records>,
}

/// Everything that a story needs. Dropping it and making one with the same store is a restart after a kill.
pub struct World {
    pub store: Arc<dyn Store>,
    pub engine: Arc<Engine>,
    pub queue: Arc<Queue>,
    pub records: Arc<Records>,
    pub clock: Arc<TokioClock>,
    pub delivery: Delivery,
    loops: tokio::task::JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self::limited(1_000).await
    }

    /// With at most this many invocations at once.
    pub async fn limited(most: usize) -> Self {
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        Self::with(Arc::new(MemoryStore::new()), Rooms::default(), clock, most, false).await
    }

    async fn with(store: Arc<dyn Store>, rooms: Rooms, clock: Arc<TokioClock>, most: usize, parity: bool) -> Self {
        let Rooms { engine, queue, records } = rooms;
        records.store.get_or_init(|| store.clone());
        *engine.clock.lock().unwrap() = Some(clock.clone());
        let parts = Parts {
            store: store.clone(),
            clock: clock.clone(),
            invoker: engine.clone(),
            targets: vec![("sqs", queue.clone())],
            sources: vec![("sqs", records.clone())],
            load: None,
        };
        let options = Options { background: Bounds { least: most, most }, parity };
        let delivery = Delivery::open(parts, options).await.expect("opens");
        let running = delivery.clone();
        let loops = tokio::spawn(async move { running.run().await });
        tokio::task::yield_now().await;
        Self { store, engine, queue, records, clock, delivery, loops }
    }

    /// The context of a request with this id.
    pub fn ctx(&self, id: RequestId) -> Ctx {
        Ctx {
            request_id: id,
            place: place(),
            principal: Principal::Platform { account: place().account },
            received: self.clock.now(),
            base_url: Arc::from("http://127.0.0.1"),
            lineage: None,
            trace: Some(Arc::from("Root=1-5759e988-bd862e3fe1be46a994272793")),
        }
    }

    /// An event for `function`, as the engine hands it over. Answers its request id.
    pub async fn send(&self, function: &str, payload: impl Into<Bytes>) -> RequestId {
        let id = RequestId::random();
        self.send_as(id, function, payload).await;
        id
    }

    pub async fn send_as(&self, id: RequestId, function: &str, payload: impl Into<Bytes>) {
        let invocation = Invocation {
            function: function.parse().expect("a function"),
            mode: InvokeMode::RequestResponse,
            payload: payload.into(),
            client_context: None,
            tail: false,
            lineage: Lineage::root(id.into()),
        };
        self.delivery.async_invoker().accept(&self.ctx(id), invocation).await.expect("accepted");
    }

    /// With the reference's own rates.
    pub async fn parity() -> Self {
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        Self::with(Arc::new(MemoryStore::new()), Rooms::default(), clock, 1_000, true).await
    }

    pub async fn call(&self, operation: &str, doc: serde_json::Value) -> Result<Doc, Fault> {
        let input = Input::from_doc(doc_of(&doc));
        self.delivery.service().call(&self.ctx(RequestId::random()), operation, input).await.map(|output| output.doc)
    }

    /// Milliseconds since the story began.
    pub fn clock_ms(&self) -> u64 {
        u64::try_from(self.clock.now().as_millis() - START).unwrap()
    }

    /// What the journal says of an event, oldest first.
    pub fn journal(&self, id: RequestId) -> Vec<journal::Entry> {
        let entries = journal::of_event(&*self.store, &place(), EventId::from(id)).expect("readable");
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    pub fn kinds(&self, id: RequestId) -> Vec<journal::Kind> {
        self.journal(id).iter().map(|entry| entry.kind).collect()
    }

    /// Rows of delivery's keyspaces that hold events.
    pub fn rows(&self) -> usize {
        let names = ["async-events", "outbox", "async-payloads", "async-payloads-unfinished"];
        let all = |name| {
            let rows = self.store.scan(Keyspace::new(name), &KeyRange::all(), usize::MAX, Direction::Forward);
            rows.expect("readable").len()
        };
        names.into_iter().map(all).sum()
    }

    /// A kill and a start: every task ends where it stands, and what the store has is what is left.
    pub async fn restart(self, most: usize) -> Self {
        self.restart_after(Duration::ZERO, most).await
    }

    /// The same, but the next start is a while later.
    pub async fn restart_after(self, down: Duration, most: usize) -> Self {
        self.delivery.abandon();
        self.loops.abort();
        tokio::time::sleep(down).await;
        let rooms = Rooms { engine: self.engine, queue: self.queue, records: self.records };
        Self::with(self.store, rooms, self.clock, most, false).await
    }
}

pub fn place() -> Place {
    Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") }
}

/// Lets `seconds` pass.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn doc_of(value: &serde_json::Value) -> Doc {
    match value {
        serde_json::Value::Null => Doc::Null,
        serde_json::Value::Bool(b) => Doc::Bool(*b),
        serde_json::Value::Number(n) => Doc::Int(n.as_i64().expect("an integer")),
        serde_json::Value::String(s) => Doc::Text(s.clone()),
        serde_json::Value::Array(items) => Doc::List(items.iter().map(doc_of).collect()),
        serde_json::Value::Object(members) => {
            Doc::Map(members.iter().map(|(key, value)| (key.clone().into(), doc_of(value))).collect())
        }
    }
}
