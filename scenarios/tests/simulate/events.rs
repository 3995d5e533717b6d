//! Store, queues and delivery together: senders and functions outside, queues with dead letters, mappings, asynchronous calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flint_base::{Clock, RequestId};
use flint_delivery::{Bounds, Delivery};
use flint_kit::{Ctx, Doc, Fault, Input, Invocation, InvokeMode, Principal, Service, Source};
use flint_model::{Lineage, Place};
use flint_queue::Queues;
use flint_store::journal::{Keeper, Limits};
use serde_json::{Value, json};

use crate::function::Functions;
use crate::mutant::Mutant;
use crate::outside::Outside;
use crate::sim::{End, Life, Sim, Trouble, lock};

/// Longest that an event may take to its end when nothing goes wrong any more: attempts wait for minutes.
const END_WITHIN: Duration = Duration::from_secs(4 * 3600);
const HIDDEN_S: u64 = 30;
const RECEIVES_MAX: u64 = 3;

/// The rooms of one life.
#[derive(Clone)]
struct Rooms {
    clock: Arc<dyn Clock>,
    queues: Arc<dyn Service>,
    delivery: Delivery,
}

pub fn run(sim: &Arc<Sim>) -> Result<(), String> {
    let outside = Arc::new(Mutex::new(Outside::new(sim)));
    let lives = 1 + sim.below(4);
    one_life(sim, &outside, Trouble::None, Part::Prepare)?;
    for _ in 0..lives {
        one_life(sim, &outside, sim.trouble(), Part::Work)?;
    }
    one_life(sim, &outside, Trouble::None, Part::End)?;
    lock(&outside).judge()
}

/// What a life is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prepare,
    Work,
    /// Nothing goes wrong any more: everything that was taken comes to its end.
    End,
}

fn one_life(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, trouble: Trouble, part: Part) -> Result<(), String> {
    let problem = Arc::new(Mutex::new(None));
    lock(outside).begin(matches!(trouble, Trouble::Full(..)));
    let (task_sim, task_outside, task_problem) = (Arc::clone(sim), Arc::clone(outside), Arc::clone(&problem));
    let end = sim.live(trouble, |life| async move {
        if let Err(why) = live(task_sim, task_outside, life, part).await {
            *lock(&task_problem) = Some(why);
        }
    })?;
    match lock(&problem).take() {
        Some(why) => Err(why),
        None if end == End::Crashed && part != Part::Work => Err("a life without trouble crashed".to_owned()),
        None => Ok(()),
    }
}

async fn live(sim: Arc<Sim>, outside: Arc<Mutex<Outside>>, life: Life, part: Part) -> Result<(), String> {
    let rooms = open(&sim, &outside, &life).await?;
    if part == Part::Prepare {
        prepare(&rooms).await.map_err(|fault| format!("preparing: {fault}"))?;
        return Ok(());
    }
    let senders = lock(&outside).senders();
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|sender| tokio::spawn(send(Arc::clone(&sim), Arc::clone(&outside), rooms.clone(), sender)))
        .collect();
    for task in tasks {
        task.await.map_err(|e| format!("a sender: {e}"))?;
    }
    if part == Part::Work {
        // Some of what was sent gets further in this life, some does not.
        tokio::time::sleep(sim.ms(0, 200_000)).await;
        return Ok(());
    }
    let waited = tokio::time::timeout(END_WITHIN, async {
        loop {
            for queue in ["dead", "dead.fifo"] {
                drain(&rooms, &outside, queue).await?;
            }
            if lock(&outside).is_over() {
                return Ok::<_, Fault>(());
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    // Whoever judges says what is missing.
    if let Ok(outcome) = waited.await {
        outcome.map_err(|fault| format!("draining: {fault}"))?;
    }
    // And what comes once too often may come late.
    tokio::time::sleep(Duration::from_secs(10 * HIDDEN_S)).await;
    for queue in ["dead", "dead.fifo"] {
        drain(&rooms, &outside, queue).await.map_err(|fault| format!("draining: {fault}"))?;
    }
    Ok(())
}

/// Opens the rooms as the server does. A store that has no room for that is tried again.
async fn open(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, life: &Life) -> Result<Rooms, String> {
    let mut tries = 0;
    loop {
        match try_open(sim, outside, life).await {
            Ok(rooms) => return Ok(rooms),
            // The life is about to end, or there is no room for a while.
            Err(why) if tries > 60 => return Err(format!("the rooms do not open: {why}")),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn try_open(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, life: &Life) -> Result<Rooms, String> {
    let (store, clock) = (life.store.clone(), life.clock.clone());
    let queues = Queues::open(store.clone(), clock.clone(), flint_queue::Options::default()).await;
    let queues = queues.map_err(|e| e.to_string())?;
    let source: Arc<dyn Source> = match sim.bug {
        Some(bug) if bug.is_of_source() => Arc::new(Mutant::new(queues.clone(), Arc::clone(sim), bug)),
        _ => queues.clone(),
    };
    // Small enough that a life meets them.
    let limits = Limits { well_ms: 20_000, well_bytes: 48 << 10, failed_ms: 60_000, failed_bytes: 64 << 10 };
    let keeper = Keeper::new(store.clone(), clock.clone(), limits);
    let parts = flint_delivery::Parts {
        store,
        clock: clock.clone(),
        invoker: Arc::new(Functions::new(Arc::clone(sim), clock.clone(), Arc::clone(outside))),
        targets: vec![("sqs", queues.clone())],
        sources: vec![("sqs", source)],
        load: None,
    };
    let options = flint_delivery::Options { background: Bounds { least: 8, most: 8 }, parity: false };
    let delivery = Delivery::open(parts, options).await.map_err(|e| e.to_string())?;
    let loops = (queues.clone(), delivery.clone());
    tokio::spawn(async move {
        let unreadable = |error: &_| panic!("the journal cannot be read: {error}");
        tokio::join!(loops.0.run(), loops.1.run(), keeper.run(unreadable));
    });
    Ok(Rooms { clock, queues: queues.service(), delivery })
}

async fn prepare(rooms: &Rooms) -> Result<(), Fault> {
    for (name, dead) in [("dead", None), ("dead.fifo", None), ("work", Some("dead")), ("work.fifo", Some("dead.fifo"))]
    {
        let mut attributes = json!({ "VisibilityTimeout": HIDDEN_S.to_string() });
        if name.ends_with(".fifo") {
            attributes["FifoQueue"] = "true".into();
        }
        if let Some(dead) = dead {
            let policy = json!({ "deadLetterTargetArn": arn("sqs", dead), "maxReceiveCount": RECEIVES_MAX });
            attributes["RedrivePolicy"] = policy.to_string().into();
        }
        rooms.queue("CreateQueue", json!({ "QueueName": name, "Attributes": attributes })).await?;
    }
    for (queue, function) in [("work", "worker"), ("work.fifo", "in-order")] {
        let mapping = json!({
            "FunctionName": function, "EventSourceArn": arn("sqs", queue), "BatchSize": 5,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        let input = Input::from_doc(doc_of(&mapping));
        rooms.delivery.service().call(&rooms.ctx(), "CreateEventSourceMapping", input).await?;
    }
    Ok(())
}

/// Who sends what.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    pub kind: Kind,
    pub number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the standard queue.
    Plain,
    /// To a group of the FIFO queue.
    Ordered,
    /// Asynchronous invocations.
    Later,
}

async fn send(sim: Arc<Sim>, outside: Arc<Mutex<Outside>>, rooms: Rooms, sender: Sender) {
    loop {
        let Some(id) = lock(&outside).next_of(sender) else { return };
        rooms.clock.now();
        sim.say(format_args!("send {id}"));
        let sent = match sender.kind {
            Kind::Plain => {
                rooms.queue("SendMessage", json!({ "QueueUrl": url("work"), "MessageBody": id })).await.map(drop)
            }
            Kind::Ordered => {
                let message = json!({
                    "QueueUrl": url("work.fifo"), "MessageBody": id,
                    "MessageGroupId": sender.number.to_string(), "MessageDeduplicationId": id,
                });
                rooms.queue("SendMessage", message).await.map(drop)
            }
            Kind::Later => rooms.invoke(&id).await,
        };
        rooms.clock.now();
        sim.say(format_args!("sent {id}: {}", sent.as_ref().err().map_or("acknowledged", |fault| &fault.message)));
        lock(&outside).sent(sender, &id, sent.is_ok());
        tokio::time::sleep(sim.ms(0, 400)).await;
    }
}

/// Takes what lies in a dead-letter queue.
async fn drain(rooms: &Rooms, outside: &Mutex<Outside>, queue: &str) -> Result<(), Fault> {
    loop {
        let input = json!({ "QueueUrl": url(queue), "MaxNumberOfMessages": 10 });
        let answer = rooms.queue("ReceiveMessage", input).await?;
        let messages = match answer.get("Messages") {
            Some(Doc::List(messages)) if !messages.is_empty() => messages,
            _ => return Ok(()),
        };
        for message in messages {
            let text = |name: &str| message.text_of(name).unwrap_or_default().to_owned();
            lock(outside).dead(&text("Body"));
            rooms
                .queue("DeleteMessage", json!({ "QueueUrl": url(queue), "ReceiptHandle": text("ReceiptHandle") }))
                .await?;
        }
    }
}

impl Rooms {
    async fn queue(&self, operation: &str, input: Value) -> Result<Doc, Fault> {
        self.queues.call(&self.ctx(), operation, Input::from_doc(doc_of(&input))).await.map(|output| output.doc)
    }

    async fn invoke(&self, id: &str) -> Result<(), Fault> {
        let ctx = self.ctx();
        let invocation = Invocation {
            function: "later".parse().expect("a function's name"),
            mode: InvokeMode::RequestResponse,
            payload: json!(id).to_string().into(),
            client_context: None,
            tail: false,
            lineage: Lineage::root(ctx.request_id.into()),
        };
        self.delivery.async_invoker().accept(&ctx, invocation).await
    }

    fn ctx(&self) -> Ctx {
        Ctx {
            request_id: RequestId::random(),
            place: place(),
            principal: Principal::Platform { account: place().account },
            received: self.clock.now(),
            base_url: Arc::from("http://127.0.0.1"),
            lineage: None,
            trace: None,
        }
    }
}

pub fn place() -> Place {
    Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") }
}

pub fn arn(service: &str, name: &str) -> String {
    format!("arn:aws:{service}:us-east-1:000000000000:{name}")
}

fn url(queue: &str) -> String {
    format!("http://127.0.0.1/000000000000/{queue}")
}

fn doc_of(value: &Value) -> Doc {
    match value {
        Value::Null => Doc::Null,
        Value::Bool(b) => Doc::Bool(*b),
        Value::Number(n) => Doc::Int(n.as_i64().expect("an integer")),
        Value::String(s) => Doc::Text(s.clone()),
        Value::Array(items) => Doc::List(items.iter().map(doc_of).collect()),
        Value::Object(members) => Doc::Map(members.iter().map(|(k, v)| (k.clone().into(), doc_of(v))).collect()),
    }
}
