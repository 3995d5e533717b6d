//! A queue over the wire: durable single sends beside Redis that syncs every command and beside a bare hyper server, and
//! whole cycles of send, receive and delete.
//!
//! The sides take turns within one run. All of them are driven by the same lean caller: requests are rendered and signed
//! ahead; only deletions, which name what was received, are signed as they go.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::lean::{Lean, sqs};
use scenarios::server::{Access, Server};
use scenarios::usage::cpu_us;
use serde_json::{Value, json};

use crate::redis::Redis;

const CALLERS: usize = 64;
/// One side's turn.
const TURN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
/// Bytes of a message.
const BODY: usize = 256;
/// Messages per request where batches are used.
const BATCH: usize = 10;

/// What the bare server answers: as long as the answer to a send.
const ANSWER: &str =
    r#"{"MD5OfMessageBody":"00000000000000000000000000000000","MessageId":"01a21e30-762e-74cb-8881-01c5e52b0997"}"#;

#[derive(Default)]
struct Turns {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary)?;
    let access = server.access();
    let body = "x".repeat(BODY);
    println!(
        "queue: {CALLERS} callers, {BODY}-byte messages, {ROUNDS} rounds of {} s a side, medians; every send is on disk when it is answered",
        TURN.as_secs()
    );
    let send = create(&access, "sends", &body).await?;
    let bare = Bare::start()?;
    let plain = sqs(&Access { address: bare.address.clone(), ..access.clone() }, "SendMessage", send.body.as_bytes())?;
    let redis = Redis::start()?;
    let mut turns: [Turns; 3] = Default::default();
    for _ in 0..ROUNDS {
        turns[0].take(&server.pids()?, post(&access.address, &send.request)).await?;
        turns[1].take(&[bare.child.id()], post(&bare.address, &plain)).await?;
        if let Some(redis) = &redis {
            turns[2].take(&[redis.pid()], redis.add(CALLERS, &body, TURN)).await?;
        }
    }
    let [flint, hyper, redis] = turns.map(Turns::medians);
    for (name, told) in [("flint", &flint), ("bare hyper", &hyper), ("redis, always", &redis)] {
        println!("  sends, {name:<14} {told}");
    }
    report("sends_rate", flint.rate, "per_s")?;
    report("sends_cpu_us", flint.cpu_us, "us")?;
    report("sends_times_hyper", flint.rate / hyper.rate, "x")?;
    if redis.rate > 0.0 {
        report("sends_times_redis", flint.rate / redis.rate, "x")?;
    } else {
        println!("  redis-server is not installed: apt-get install redis-server");
    }
    cycles(&server, &body).await
}

/// Messages that are sent, received and deleted: one by one, and by tens.
async fn cycles(server: &Server, body: &str) -> Result<()> {
    let access = server.access();
    for (name, figure, batch) in [("one by one", "cycles_single_rate", 1), ("by tens", "cycles_rate", BATCH)] {
        let queue = create(&access, &format!("cycles-{batch}"), body).await?;
        let mut turns = Turns::default();
        for _ in 0..ROUNDS {
            turns.take(&server.pids()?, cycle(&access, &queue, batch)).await?;
        }
        let told = turns.medians();
        println!("  cycles, {name:<13} {told}");
        report(figure, told.rate, "per_s")?;
        report(&format!("{figure}_cpu_us"), told.cpu_us, "us")?;
    }
    Ok(())
}

/// A queue and the request that sends it one message.
struct Queue {
    url: String,
    body: String,
    request: Bytes,
}

async fn create(access: &Access, name: &str, text: &str) -> Result<Queue> {
    let mut lean = Lean::connect(&access.address, Bytes::new()).await?;
    let asked = json!({ "QueueName": name }).to_string();
    let answer: Value = serde_json::from_slice(lean.exchange(&sqs(access, "CreateQueue", asked.as_bytes())?).await?)?;
    let url = answer["QueueUrl"].as_str().context("an address")?.to_owned();
    let body = json!({ "QueueUrl": url, "MessageBody": text }).to_string();
    let request = sqs(access, "SendMessage", body.as_bytes())?;
    Ok(Queue { url, body, request })
}

/// What one turn brought: how much was done, and how long each took, in milliseconds.
pub struct Done {
    pub count: usize,
    pub latencies: Series,
}

/// Keeps all callers busy with one request.
async fn post(address: &str, request: &Bytes) -> Result<Done> {
    let until = monotonic_ns() + u64::try_from(TURN.as_nanos())?;
    let mut tasks = Vec::new();
    for _ in 0..CALLERS {
        let mut lean = Lean::connect(address, request.clone()).await?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Series::default();
            loop {
                let from = monotonic_ns();
                if from >= until {
                    return anyhow::Ok(latencies);
                }
                lean.repeat().await?;
                latencies.push(ms(from, monotonic_ns()));
            }
        }));
    }
    let mut latencies = Series::default();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Done { count: latencies.len(), latencies })
}

/// Sends, receives and deletes with every caller; counts deletions.
async fn cycle(access: &Access, queue: &Queue, batch: usize) -> Result<Done> {
    let until = monotonic_ns() + u64::try_from(TURN.as_nanos())?;
    let text: Value = serde_json::from_str(&queue.body)?;
    let entries: Vec<Value> =
        (0..batch).map(|n| json!({ "Id": n.to_string(), "MessageBody": text["MessageBody"] })).collect();
    let sent = json!({ "QueueUrl": queue.url, "Entries": entries }).to_string();
    let send = if batch == 1 { queue.request.clone() } else { sqs(access, "SendMessageBatch", sent.as_bytes())? };
    let asked = json!({ "QueueUrl": queue.url, "MaxNumberOfMessages": batch }).to_string();
    let receive = sqs(access, "ReceiveMessage", asked.as_bytes())?;
    let mut tasks = Vec::new();
    for _ in 0..CALLERS {
        let mut lean = Lean::connect(&access.address, Bytes::new()).await?;
        let (access, url, send, receive) = (access.clone(), queue.url.clone(), send.clone(), receive.clone());
        tasks.push(tokio::spawn(async move {
            let mut done = Done { count: 0, latencies: Series::default() };
            loop {
                let from = monotonic_ns();
                if from >= until {
                    return anyhow::Ok(done);
                }
                lean.exchange(&send).await?;
                let handles = handles(lean.exchange(&receive).await?);
                if handles.is_empty() {
                    continue;
                }
                done.count += handles.len();
                let request = deletion(&access, &url, &handles)?;
                lean.exchange(&request).await?;
                done.latencies.push(ms(from, monotonic_ns()));
            }
        }));
    }
    let mut all = Done { count: 0, latencies: Series::default() };
    for task in tasks {
        let done = task.await??;
        all.count += done.count;
        all.latencies.extend(done.latencies);
    }
    Ok(all)
}

/// The receipt handles of an answer. A parser would cost more than the server does.
fn handles(answer: &[u8]) -> Vec<String> {
    const NAME: &str = r#""ReceiptHandle":""#;
    let text = String::from_utf8_lossy(answer);
    text.split(NAME).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

fn deletion(access: &Access, url: &str, handles: &[String]) -> Result<Bytes> {
    if let [handle] = handles {
        let body = format!(r#"{{"QueueUrl":"{url}","ReceiptHandle":"{handle}"}}"#);
        return sqs(access, "DeleteMessage", body.as_bytes());
    }
    let entries: Vec<String> =
        handles.iter().enumerate().map(|(n, handle)| format!(r#"{{"Id":"{n}","ReceiptHandle":"{handle}"}}"#)).collect();
    let body = format!(r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#, entries.join(","));
    sqs(access, "DeleteMessageBatch", body.as_bytes())
}

impl Turns {
    async fn take(&mut self, pids: &[u32], turn: impl Future<Output = Result<Done>>) -> Result<()> {
        let (began, cpu) = (monotonic_ns(), cpu_us(pids)?);
        let Done { count, mut latencies } = turn.await?;
        if count == 0 {
            bail!("nothing was done in a turn");
        }
        self.rate.push(count as f64 / (ms(began, monotonic_ns()) / 1000.0));
        self.cpu_us.push((cpu_us(pids)? - cpu) as f64 / count as f64);
        self.p50.push(latencies.percentile(50.0));
        self.p99.push(latencies.percentile(99.0));
        Ok(())
    }

    fn medians(self) -> Told {
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Told { rate: median(self.rate), p50: median(self.p50), p99: median(self.p99), cpu_us: median(self.cpu_us) }
    }
}

struct Told {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu_us: f64,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { rate, p50, p99, cpu_us } = self;
        write!(f, "{rate:9.0}/s  p50 {p50:7.3} ms  p99 {p99:7.3} ms  {cpu_us:6.1} us of its processors each")
    }
}

/// The bare server, in a process of its own.
struct Bare {
    child: Child,
    address: String,
}

impl Bare {
    fn start() -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program).arg("bare").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every request with the same text: what HTTP alone costs. Runs until it is killed.
pub fn bare() -> Result<()> {
    // Like the server's own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                // A connection that breaks is its caller's business.
                let _ = connection.await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // What breaks here breaks at the caller too.
    let _ = request.into_body().collect().await;
    let answer = Response::builder().header("content-type", "application/x-amz-json-1.0");
    Ok(answer.body(Full::new(Bytes::from_static(ANSWER.as_bytes()))).unwrap_or_default())
}

/// Puts about `count` messages into a new queue; answers its address.
pub async fn fill(server: &Server, name: &str, count: usize) -> Result<String> {
    let access = server.access();
    let queue = create(&access, name, &"x".repeat(BODY)).await?;
    let text: Value = serde_json::from_str(&queue.body)?;
    let entries: Vec<Value> =
        (0..BATCH).map(|n| json!({ "Id": n.to_string(), "MessageBody": text["MessageBody"] })).collect();
    let sent = json!({ "QueueUrl": queue.url, "Entries": entries }).to_string();
    let request = sqs(&access, "SendMessageBatch", sent.as_bytes())?;
    let mut tasks = Vec::new();
    for _ in 0..CALLERS {
        let mut lean = Lean::connect(&access.address, request.clone()).await?;
        tasks.push(tokio::spawn(async move {
            for _ in 0..count / CALLERS / BATCH {
                lean.repeat().await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(queue.url)
}
