//! Senders and sinks: they outlive the server, and tell the book what they sent, what was acknowledged and what came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::StatusCode;
use scenarios::client::Client;
use scenarios::clock::monotonic_ns;
use scenarios::server::Access;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::book::{Book, Came};
use crate::ends::Ends;
use crate::functions;
use crate::ledger::Ledger;

/// How long a message that was received stays hidden, in seconds: what was out when the server died is back so much later.
pub const HIDDEN_S: u64 = 5;
pub const ACCOUNT: &str = "000000000000";
/// Queues with consumers outside.
const PLAIN: [&str; 2] = ["plain", "ordered.fifo"];

/// After a refusal for want of room.
pub const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What a round is made of.
#[derive(Clone, Copy)]
pub struct Size {
    /// Senders of the standard queue.
    pub senders: u64,
    /// Groups of the FIFO queue, one sender each.
    pub groups: u64,
    pub sinks: u64,
    /// Senders of each kind of event that goes through a function.
    pub callers: u64,
    /// Whether some of these fail and are tried again, a minute later.
    pub attempts: bool,
    /// Between one sender's sends.
    pub pause: Duration,
}

/// The server as its clients see it: `None` while it is down. Lives count from 1.
pub type Lives = watch::Receiver<Option<(u32, Access)>>;

#[derive(Clone)]
pub struct Scene {
    pub book: Arc<Mutex<Book>>,
    pub ends: Arc<Mutex<Ends>>,
    pub ledger: Ledger,
    pub lives: Lives,
    /// True: nothing new is sent.
    pub resting: watch::Receiver<bool>,
}

/// Makes the queues, and functions where they are wanted.
pub async fn prepare(access: &Access, size: Size) -> Result<()> {
    let mut client = Client::to(access).await?;
    for name in PLAIN {
        make_queue(&mut client, name, &json!({})).await?;
    }
    if size.callers > 0 { functions::prepare(access).await } else { Ok(()) }
}

/// Makes a queue; `more` are attributes in place of the usual ones.
pub async fn make_queue(client: &mut Client, name: &str, more: &Value) -> Result<()> {
    let mut attributes = json!({ "VisibilityTimeout": HIDDEN_S.to_string() });
    if name.ends_with(".fifo") {
        attributes["FifoQueue"] = "true".into();
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        attributes[key] = value.clone();
    }
    let input = json!({ "QueueName": name, "Attributes": attributes });
    call(client, "CreateQueue", &input).await?.with_context(|| format!("{name} was not made"))?;
    Ok(())
}

/// Starts all of them.
pub fn start(scene: &Scene, size: Size) -> JoinSet<Result<()>> {
    let mut tasks = JoinSet::new();
    for sender in 0..size.senders {
        tasks.spawn(send_plain(scene.clone(), sender, size.pause));
    }
    for group in 0..size.groups {
        tasks.spawn(send_ordered(scene.clone(), group, size.pause));
    }
    for _ in 0..size.sinks {
        tasks.spawn(sink(scene.clone(), "plain"));
        tasks.spawn(sink(scene.clone(), "ordered.fifo"));
    }
    functions::start(&mut tasks, scene, size);
    tasks
}

impl Scene {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the next life that answers, and its number. `None` when there will be none.
    pub async fn connect(&mut self) -> Option<(u32, Client)> {
        loop {
            let now = self.lives.borrow_and_update().clone();
            if let Some((life, access)) = now {
                let client = Client::to(&access).await;
                // Connecting may take long enough for the next life to answer: it is whose it is afterwards. There is no life
                // between the end of one and the start of the next.
                let same = self.lives.borrow().as_ref().is_some_and(|(now, _)| *now == life);
                if let (Ok(client), true) = (client, same) {
                    return Some((life, client));
                }
                // Just dead, or not quite there.
                tokio::time::sleep(Duration::from_millis(2)).await;
                if self.lives.has_changed().is_err() {
                    return None;
                }
                continue;
            }
            self.lives.changed().await.ok()?;
        }
    }

    /// Waits while there is to be rest. False when all is over.
    pub async fn awake(&mut self) -> bool {
        self.resting.wait_for(|resting| !resting).await.is_ok() && self.lives.has_changed().is_ok()
    }
}

async fn send_plain(mut scene: Scene, sender: u64, pause: Duration) -> Result<()> {
    let Some((_, mut client)) = scene.connect().await else { return Ok(()) };
    for n in 1u64.. {
        if !scene.awake().await {
            return Ok(());
        }
        let id = format!("p-{sender}-{n}");
        scene.ledger.write(format!("sent {id}")).await?;
        scene.book().sent(&id);
        let input = json!({ "QueueUrl": url("plain"), "MessageBody": id });
        match call(&mut client, "SendMessage", &input).await {
            Ok(Some(_)) => {
                scene.book().acknowledged(&id);
                scene.ledger.write(format!("acknowledged {id}")).await?;
            }
            // Refused for want of room: it is not in.
            Ok(None) => tokio::time::sleep(REFUSED_PAUSE).await,
            // In doubt. A sender without deduplication goes on with the next.
            Err(_) => match scene.connect().await {
                Some((_, next)) => client = next,
                None => return Ok(()),
            },
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn send_ordered(mut scene: Scene, group: u64, pause: Duration) -> Result<()> {
    let Some((_, mut client)) = scene.connect().await else { return Ok(()) };
    for n in 1u64.. {
        if !scene.awake().await {
            return Ok(());
        }
        let id = format!("f-{group}-{n}");
        scene.ledger.write(format!("sent {id}")).await?;
        scene.book().sent(&id);
        let input = json!({
            "QueueUrl": url("ordered.fifo"), "MessageBody": id,
            "MessageGroupId": group.to_string(), "MessageDeduplicationId": id,
        });
        // What is in doubt is sent again, under the same deduplication id, until the answer comes.
        loop {
            match call(&mut client, "SendMessage", &input).await {
                Ok(Some(_)) => break,
                Ok(None) => tokio::time::sleep(REFUSED_PAUSE).await,
                Err(_) => match scene.connect().await {
                    Some((_, next)) => client = next,
                    None => return Ok(()),
                },
            }
        }
        scene.book().acknowledged(&id);
        scene.ledger.write(format!("acknowledged {id}")).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Receives, writes down, deletes. What could not be deleted comes again.
async fn sink(mut scene: Scene, queue: &str) -> Result<()> {
    while let Some((life, mut client)) = scene.connect().await {
        loop {
            let asked_ns = monotonic_ns();
            let Ok(received) = receive(&mut client, queue, 5, 1).await else { break };
            let came = Came { life, asked_ns, at_ns: monotonic_ns() };
            for (id, message, handle) in received {
                scene.book().delivered(&id, &message, came);
                scene.ledger.write(format!("delivered {id} {message} {life}")).await?;
                let input = json!({ "QueueUrl": url(queue), "ReceiptHandle": handle });
                match call(&mut client, "DeleteMessage", &input).await {
                    Ok(Some(_)) => scene.book().deleted(&id),
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
    }
    Ok(())
}

/// Takes everything out of the queues, in the order in which it comes.
pub async fn drain(client: &mut Client) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for queue in PLAIN {
        loop {
            let received = receive(client, queue, 10, 0).await?;
            if received.is_empty() {
                break;
            }
            for (id, _, handle) in received {
                found.push(id);
                call(client, "DeleteMessage", &json!({ "QueueUrl": url(queue), "ReceiptHandle": handle })).await?;
            }
        }
    }
    Ok(found)
}

/// Body, message id and handle of what a receive brought.
pub async fn receive(client: &mut Client, queue: &str, max: u64, wait_s: u64) -> Result<Vec<(String, String, String)>> {
    let input = json!({ "QueueUrl": url(queue), "MaxNumberOfMessages": max, "WaitTimeSeconds": wait_s });
    let Some(answer) = call(client, "ReceiveMessage", &input).await? else { return Ok(Vec::new()) };
    let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let messages = answer["Messages"].as_array().into_iter().flatten();
    Ok(messages.map(|m| (text(m, "Body"), text(m, "MessageId"), text(m, "ReceiptHandle"))).collect())
}

/// Messages in the queues, hidden ones included.
pub async fn depth(access: &Access, size: Size) -> Result<u64> {
    let mut client = Client::to(access).await?;
    let mut all = 0;
    let of_functions = if size.callers > 0 { &functions::QUEUES[..] } else { &[] };
    for queue in PLAIN.iter().chain(of_functions) {
        let input = json!({ "QueueUrl": url(queue), "AttributeNames": ["All"] });
        let answer = call(&mut client, "GetQueueAttributes", &input).await?.context("refused")?;
        for name in ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"] {
            all += answer["Attributes"][name].as_str().context("a count")?.parse::<u64>()?;
        }
    }
    Ok(all)
}

/// One call. `None` if the server refused it for want of room (503); an error leaves it in doubt.
pub async fn call(client: &mut Client, operation: &str, input: &Value) -> Result<Option<Value>> {
    let (status, body) = client.json("sqs", &format!("AmazonSQS.{operation}"), input).await?;
    match status {
        StatusCode::OK => Ok(Some(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? })),
        StatusCode::SERVICE_UNAVAILABLE => Ok(None),
        // A server that is dying answers 500: in doubt.
        status => bail!("{operation} answered {status}: {}", String::from_utf8_lossy(&body)),
    }
}

pub fn url(queue: &str) -> String {
    // The path alone counts; the host is whoever answers.
    format!("http://127.0.0.1/{ACCOUNT}/{queue}")
}
