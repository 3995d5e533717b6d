//! Events that go through functions: asynchronous invocations with destinations and a dead-letter queue, and queues that are
//! mapped to functions. Senders, sinks for both ends, and what the functions' logs say.

use anyhow::{Context, Result, bail, ensure};
use http::{Method, StatusCode};
use scenarios::archive::zipped;
use scenarios::client::Client;
use scenarios::clock::monotonic_ns;
use scenarios::server::Access;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::book::Came;
use crate::ends::{RECEIVES, Run};
use crate::load::{self, REFUSED_PAUSE, Scene, Size, call, url};

/// Queues where events end, and whether they ended well.
const ENDS: [(&str, bool); 5] =
    [("done", true), ("out", true), ("failed", false), ("work-dead", false), ("work-dead.fifo", false)];
/// Queues that are mapped, their functions, and where they bury.
const MAPPED: [(&str, &str, &str); 2] = [("work", "worker", "work-dead"), ("work.fifo", "in-order", "work-dead.fifo")];
pub const QUEUES: [&str; 7] = ["done", "out", "failed", "work-dead", "work-dead.fifo", "work", "work.fifo"];
const FUNCTIONS: [&str; 4] = ["later", "buried", "worker", "in-order"];
const ROLE: &str = "torture";
/// As long as its function may take. What failed comes again so much later.
pub const WORK_HIDDEN_S: u64 = 3;
/// Servers' lives in which what waits for a minute is sent: it is due when the round ends.
const EARLY: u32 = 3;

/// Makes functions, queues and mappings.
pub async fn prepare(access: &Access) -> Result<()> {
    let mut client = Client::to(access).await?;
    for (name, _) in ENDS {
        load::make_queue(&mut client, name, &json!({})).await?;
    }
    for (name, _, dead) in MAPPED {
        let redrive = json!({ "deadLetterTargetArn": arn("sqs", dead), "maxReceiveCount": RECEIVES });
        let more = json!({ "VisibilityTimeout": WORK_HIDDEN_S.to_string(), "RedrivePolicy": redrive.to_string() });
        load::make_queue(&mut client, name, &more).await?;
    }
    make_role(&mut client).await?;
    let program = std::fs::read(std::env::current_exe()?.with_file_name("picky-bootstrap"))?;
    let archive = zipped("bootstrap", &program)?;
    for name in FUNCTIONS {
        let role = format!("arn:aws:iam::{}:role/{ROLE}", load::ACCOUNT);
        let mut changes =
            json!({ "Role": role, "Timeout": if MAPPED.iter().any(|m| m.1 == name) { WORK_HIDDEN_S } else { 60 } });
        if name == "buried" {
            changes["DeadLetterConfig"] = json!({ "TargetArn": arn("sqs", "failed") });
        }
        client.create_as(name, "provided.al2023", "none", &archive, &changes).await?;
    }
    let to = |queue: &str| json!({ "Destination": arn("sqs", queue) });
    let both = json!({ "OnSuccess": to("done"), "OnFailure": to("failed") });
    invoke_config(&mut client, "later", 0, both).await?;
    invoke_config(&mut client, "buried", 1, json!({ "OnSuccess": to("done") })).await?;
    for (queue, function, _) in MAPPED {
        let mapping = json!({
            "FunctionName": function, "EventSourceArn": arn("sqs", queue), "BatchSize": 5,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        let path = "/2015-03-31/event-source-mappings";
        let (status, body) = client.call(Method::POST, path, mapping.to_string().into()).await?;
        ensure!(status.is_success(), "CreateEventSourceMapping answered {status}: {body:?}");
    }
    Ok(())
}

/// What the mapped functions need to hand on what they did.
async fn make_role(client: &mut Client) -> Result<()> {
    let form = |fields: &[(&str, &str)]| {
        let encoded = fields.iter().map(|(name, value)| {
            let value = value.bytes().map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            });
            format!("&{name}={}", value.collect::<String>())
        });
        format!("Version=2010-05-08{}", encoded.collect::<String>())
    };
    let trust = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" } ] });
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn("sqs", "out") } ] });
    for fields in [
        [("Action", "CreateRole"), ("RoleName", ROLE), ("AssumeRolePolicyDocument", &trust.to_string()), ("Path", "/")],
        [
            ("Action", "PutRolePolicy"),
            ("RoleName", ROLE),
            ("PolicyDocument", &policy.to_string()),
            ("PolicyName", "out"),
        ],
    ] {
        let (status, body) = client.query("iam", form(&fields)).await?;
        ensure!(status.is_success(), "{} answered {status}: {body:?}", fields[0].1);
    }
    Ok(())
}

async fn invoke_config(client: &mut Client, name: &str, retries: u64, destinations: Value) -> Result<()> {
    let config = json!({ "MaximumRetryAttempts": retries, "DestinationConfig": destinations });
    let path = format!("/2019-09-25/functions/{name}/event-invoke-config");
    let (status, body) = client.call(Method::PUT, &path, config.to_string().into()).await?;
    ensure!(status.is_success(), "PutFunctionEventInvokeConfig answered {status}: {body:?}");
    Ok(())
}

/// Starts senders and sinks.
pub fn start(tasks: &mut JoinSet<Result<()>>, scene: &Scene, size: Size) {
    for sender in 0..size.callers {
        tasks.spawn(send_later(scene.clone(), "later", 'a', sender, size));
        tasks.spawn(send_later(scene.clone(), "buried", 'b', sender, size));
        tasks.spawn(send_work(scene.clone(), "work", 'w', sender, size));
        tasks.spawn(send_work(scene.clone(), "work.fifo", 'g', sender, size));
    }
    if size.callers > 0 {
        for (queue, well) in ENDS {
            tasks.spawn(sink(scene.clone(), queue, well));
        }
    }
}

/// Invokes asynchronously. Who does not know whether an event was taken goes on with the next.
async fn send_later(mut scene: Scene, function: &str, kind: char, sender: u64, size: Size) -> Result<()> {
    let Some((mut life, mut client)) = scene.connect().await else { return Ok(()) };
    for n in 1u64.. {
        if !scene.awake().await {
            return Ok(());
        }
        let poison = match kind {
            'a' => n % 8 == 3,
            _ => n % 8 == 2 && size.attempts && life <= EARLY,
        };
        let id = format!("{kind}-{sender}-{n}{}", if poison { "-poison" } else { "" });
        scene.ledger.write(format!("sent {id}")).await?;
        scene.ends().sent(&id, life);
        match client.event(function, json!(id).to_string().into()).await {
            Ok(StatusCode::ACCEPTED) => {
                scene.ends().acknowledged(&id);
                scene.ledger.write(format!("acknowledged {id}")).await?;
            }
            Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            Ok(status) if status.is_client_error() => bail!("an event was answered {status}"),
            Ok(_) | Err(_) => match scene.connect().await {
                Some(next) => (life, client) = next,
                None => return Ok(()),
            },
        }
        tokio::time::sleep(size.pause).await;
    }
    Ok(())
}

/// Sends to a mapped queue; in a FIFO queue until the answer comes, under the same deduplication id.
async fn send_work(mut scene: Scene, queue: &str, kind: char, sender: u64, size: Size) -> Result<()> {
    let Some((mut life, mut client)) = scene.connect().await else { return Ok(()) };
    for n in 1u64.. {
        if !scene.awake().await {
            return Ok(());
        }
        // Poison holds its group up for as often as it is handed out.
        let poison = if kind == 'g' { [5, 60].contains(&n) } else { n % 16 == 3 };
        let id = format!("{kind}-{sender}-{n}{}", if poison { "-poison" } else { "" });
        scene.ledger.write(format!("sent {id}")).await?;
        scene.ends().sent(&id, life);
        let mut input = json!({ "QueueUrl": url(queue), "MessageBody": id });
        if kind == 'g' {
            input["MessageGroupId"] = sender.to_string().into();
            input["MessageDeduplicationId"] = id.clone().into();
        }
        let taken = loop {
            match call(&mut client, "SendMessage", &input).await {
                Ok(Some(_)) => break true,
                Ok(None) => tokio::time::sleep(REFUSED_PAUSE).await,
                Err(_) => {
                    match scene.connect().await {
                        Some(next) => (life, client) = next,
                        None => return Ok(()),
                    }
                    if kind != 'g' {
                        break false;
                    }
                }
            }
        };
        if taken {
            scene.ends().acknowledged(&id);
            scene.ledger.write(format!("acknowledged {id}")).await?;
        }
        tokio::time::sleep(size.pause).await;
    }
    Ok(())
}

/// Takes events from where they end.
async fn sink(mut scene: Scene, queue: &str, well: bool) -> Result<()> {
    while let Some((life, mut client)) = scene.connect().await {
        loop {
            let asked_ns = monotonic_ns();
            let Ok(received) = load::receive(&mut client, queue, 10, 1).await else { break };
            let came = Came { life, asked_ns, at_ns: monotonic_ns() };
            for (body, message, handle) in received {
                let id = event(&body);
                scene.ledger.write(format!("ended {id} {queue} {message} {life}")).await?;
                scene.ends().ended(&id, well, &message, came);
                let input = json!({ "QueueUrl": url(queue), "ReceiptHandle": handle });
                if call(&mut client, "DeleteMessage", &input).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Whose end a message tells: a destination's record, an event in a dead-letter queue, or a message that was buried.
fn event(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(Value::String(id)) => id,
        Ok(record) => record["requestPayload"].as_str().unwrap_or(body).to_owned(),
        Err(_) => body.to_owned(),
    }
}

/// Tells what the functions did, from their logs. `starts`: when each life began.
pub async fn read_logs(access: &Access, starts: &[u64], mut ran: impl FnMut(&str, Run)) -> Result<()> {
    let mut client = Client::to(access).await?;
    for function in FUNCTIONS {
        let mut query = json!({ "logGroupName": format!("/aws/lambda/{function}"), "filterPattern": "?DID ?FAILED" });
        loop {
            let (status, body) = client.json("logs", "Logs_20140328.FilterLogEvents", &query).await?;
            // Without a line there is no group.
            if status == StatusCode::BAD_REQUEST && String::from_utf8_lossy(&body).contains("ResourceNotFound") {
                break;
            }
            ensure!(status.is_success(), "FilterLogEvents answered {status}: {body:?}");
            let page: Value = serde_json::from_slice(&body)?;
            for event in page["events"].as_array().into_iter().flatten() {
                let text = event["message"].as_str().context("a line")?;
                let words: Vec<&str> = text.split_whitespace().collect();
                let [word, id, message, at] = words[..] else { bail!("a function said {text:?}") };
                let at_ns: u64 = at.parse()?;
                let life = u32::try_from(starts.partition_point(|start| *start <= at_ns))?;
                ran(id, Run { at_ns, life, well: word == "DID", message: message.to_owned() });
            }
            match page["nextToken"].as_str() {
                Some(token) => query["nextToken"] = token.into(),
                None => break,
            }
        }
    }
    Ok(())
}

fn arn(service: &str, name: &str) -> String {
    format!("arn:aws:{service}:us-east-1:{}:{name}", load::ACCOUNT)
}
