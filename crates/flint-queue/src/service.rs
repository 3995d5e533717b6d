//! The `sqs` service: its table of operations and the way to each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, Key, OperationSpec, Output, Service};

use crate::address::{self, Handle};
use crate::api::{self, BatchResult, Successful};
use crate::message::{self, Attribute, Value, md5_of, md5_of_attributes};
use crate::ops::receive::{Ask, Received};
use crate::ops::send::{Outgoing, Sent};
use crate::ops::visibility::Change;
use crate::ops::{batch, delete, policy, purge, queues as admin, receive, send, tags, visibility};
use crate::queues::{Queue, Queues};
use crate::{Error, moves};

impl Queues {
    /// The SQS API.
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(Sqs { queues: self.clone() })
    }
}

#[derive(Debug)]
struct Sqs {
    queues: Arc<Queues>,
}

macro_rules! operations {
    ($($name:literal $action:literal $resource:ident)*) => {
        const OPERATIONS: &[OperationSpec] = &[$(
            OperationSpec { name: $name, action: concat!("sqs:", $action), resource: $resource }
        ),*];
    };
}

// Actions as in the Service Authorization Reference: a batch needs the permission of its single operation.
operations! {
    "AddPermission" "AddPermission" at_url
    "CancelMessageMoveTask" "CancelMessageMoveTask" any
    "ChangeMessageVisibility" "ChangeMessageVisibility" at_url
    "ChangeMessageVisibilityBatch" "ChangeMessageVisibility" at_url
    "CreateQueue" "CreateQueue" by_name
    "DeleteMessage" "DeleteMessage" at_url
    "DeleteMessageBatch" "DeleteMessage" at_url
    "DeleteQueue" "DeleteQueue" at_url
    "GetQueueAttributes" "GetQueueAttributes" at_url
    "GetQueueUrl" "GetQueueUrl" by_name
    "ListDeadLetterSourceQueues" "ListDeadLetterSourceQueues" at_url
    "ListMessageMoveTasks" "ListMessageMoveTasks" source
    "ListQueueTags" "ListQueueTags" at_url
    "ListQueues" "ListQueues" any
    "PurgeQueue" "PurgeQueue" at_url
    "ReceiveMessage" "ReceiveMessage" at_url
    "RemovePermission" "RemovePermission" at_url
    "SendMessage" "SendMessage" at_url
    "SendMessageBatch" "SendMessage" at_url
    "SetQueueAttributes" "SetQueueAttributes" at_url
    "StartMessageMoveTask" "StartMessageMoveTask" source
    "TagQueue" "TagQueue" at_url
    "UntagQueue" "UntagQueue" at_url
}

fn at_url(ctx: &Ctx, input: &Doc) -> String {
    let name = input.text_of("QueueUrl").and_then(|url| address::name_of(ctx, url).ok()).unwrap_or("*");
    arn(ctx, name)
}

fn arn(ctx: &Ctx, name: &str) -> String {
    format!("arn:aws:sqs:{}:{}:{name}", ctx.place.region, ctx.place.account)
}

fn by_name(ctx: &Ctx, input: &Doc) -> String {
    arn(ctx, input.text_of("QueueName").unwrap_or("*"))
}

fn source(_: &Ctx, input: &Doc) -> String {
    input.text_of("SourceArn").unwrap_or("*").to_owned()
}

fn any(ctx: &Ctx, _: &Doc) -> String {
    arn(ctx, "*")
}

#[async_trait]
impl Service for Sqs {
    fn name(&self) -> &'static str {
        "sqs"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let queues = &*self.queues;
        match operation {
            "SendMessage" => send_message(queues, ctx, input.parse()?).await,
            "ReceiveMessage" => receive_message(queues, ctx, input.parse()?).await,
            "DeleteMessage" => delete_message(queues, ctx, &input.parse()?).await,
            "SendMessageBatch" => send_batch(queues, ctx, input.parse()?).await,
            "DeleteMessageBatch" => delete_batch(queues, ctx, input.parse()?).await,
            "ChangeMessageVisibility" => change_visibility(queues, ctx, &input.parse()?).await,
            "ChangeMessageVisibilityBatch" => change_batch(queues, ctx, input.parse()?).await,
            _ => self.call_rare(ctx, operation, input).await,
        }
    }
}

impl Sqs {
    async fn call_rare(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let queues = &*self.queues;
        match operation {
            "CreateQueue" => Ok(url(admin::create_queue(queues, ctx, input.parse()?).await?)),
            "GetQueueUrl" => Ok(url(admin::get_queue_url(queues, ctx, &input.parse()?)?)),
            "ListQueues" => Output::render(&admin::list_queues(queues, ctx, &input.parse()?)?),
            "ListDeadLetterSourceQueues" => Output::render(&admin::list_sources(queues, ctx, &input.parse()?)?),
            "GetQueueAttributes" => {
                let api::GetQueueAttributes { queue_url, attribute_names } = input.parse()?;
                let queue = queues.at(ctx, &queue_url)?;
                let now = queues.now().as_millis();
                let doc = admin::get_queue_attributes(&queue, now, &attribute_names.unwrap_or_default())?;
                Ok(Output::from_doc(doc))
            }
            "ListQueueTags" => {
                let tags = queues.at(ctx, &input.parse::<api::OfQueue>()?.queue_url)?.settings().tags.clone();
                let tags = tags.into_iter().map(|(key, value)| (Key::Owned(key), Doc::from(value))).collect();
                Ok(Output::from_doc(Doc::Map(vec![("Tags".into(), Doc::Map(tags))])))
            }
            "SetQueueAttributes" => done(admin::set_queue_attributes(queues, ctx, &input.parse()?).await),
            "TagQueue" => done(tags::tag_queue(queues, ctx, input.parse()?).await),
            "UntagQueue" => done(tags::untag_queue(queues, ctx, &input.parse()?).await),
            "AddPermission" => done(policy::add_permission(queues, ctx, &input.parse()?).await),
            "RemovePermission" => done(policy::remove_permission(queues, ctx, &input.parse()?).await),
            "DeleteQueue" => {
                let queue = queues.at(ctx, &input.parse::<api::OfQueue>()?.queue_url)?;
                done(admin::delete_queue(queues, &queue).await)
            }
            "PurgeQueue" => {
                let queue = queues.at(ctx, &input.parse::<api::OfQueue>()?.queue_url)?;
                done(purge::purge_queue(queues, &queue).await)
            }
            "StartMessageMoveTask" => {
                let handle = moves::start(queues, ctx, &input.parse()?).await?;
                Ok(Output::from_doc(Doc::Map(vec![("TaskHandle".into(), Doc::from(handle))])))
            }
            "ListMessageMoveTasks" => Output::render(&moves::list(queues, ctx, &input.parse()?)?),
            "CancelMessageMoveTask" => {
                let moved = moves::cancel(queues, ctx, &input.parse()?).await?;
                let moved = Doc::from(i64::try_from(moved).unwrap_or(i64::MAX));
                Ok(Output::from_doc(Doc::Map(vec![("ApproximateNumberOfMessagesMoved".into(), moved)])))
            }
            other => Err(Fault::not_served(format_args!("sqs.{other}"))),
        }
    }
}

fn url(url: String) -> Output {
    Output::from_doc(Doc::Map(vec![("QueueUrl".into(), Doc::from(url))]))
}

fn done(end: Result<(), Error>) -> Result<Output, Fault> {
    end?;
    Ok(Output::empty())
}

// --- sending

/// What is told of a message that was sent, besides its id.
struct Digests {
    body: String,
    attributes: Option<String>,
    system: Option<String>,
}

type Given = Option<BTreeMap<String, api::AttributeValue>>;

async fn send_message(queues: &Queues, ctx: &Ctx, input: api::SendMessage) -> Result<Output, Fault> {
    let queue = queues.at(ctx, &input.queue_url)?;
    let entry = api::SendEntry {
        id: String::new(),
        message_body: input.message_body,
        delay_seconds: input.delay_seconds,
        message_attributes: input.message_attributes,
        message_system_attributes: input.message_system_attributes,
        message_deduplication_id: input.message_deduplication_id,
        message_group_id: input.message_group_id,
    };
    let (outgoing, digests) = outgoing(entry)?;
    let mut sent = send::send_all(queues, &queue, ctx, vec![outgoing]).await;
    let sent = sent.pop().unwrap_or(Err(Error::QueueMissing))?;
    let mut members: Vec<(Key, Doc)> = vec![
        ("MD5OfMessageBody".into(), Doc::from(digests.body)),
        ("MessageId".into(), Doc::from(sent.id.to_string())),
    ];
    members.extend(digests.attributes.map(|md5| ("MD5OfMessageAttributes".into(), Doc::from(md5))));
    members.extend(digests.system.map(|md5| ("MD5OfMessageSystemAttributes".into(), Doc::from(md5))));
    if queue.settings().fifo {
        members.push(("SequenceNumber".into(), Doc::from(sequence_number(sent.sequence))));
    }
    Ok(Output::from_doc(Doc::Map(members)))
}

async fn send_batch(queues: &Queues, ctx: &Ctx, input: api::SendMessageBatch) -> Result<Output, Fault> {
    batch::check(input.entries.iter().map(|entry| entry.id.as_str()))?;
    let queue = queues.at(ctx, &input.queue_url)?;
    let fifo = queue.settings().fifo;
    let mut accepted = Vec::with_capacity(input.entries.len());
    let mut told = Vec::with_capacity(input.entries.len());
    for mut entry in input.entries {
        let id = std::mem::take(&mut entry.id);
        match outgoing(entry) {
            Ok((one, digests)) => {
                accepted.push(one);
                told.push((id, Ok(digests)));
            }
            Err(error) => told.push((id, Err(error))),
        }
    }
    send::check_batch(&accepted)?;
    let mut sent = send::send_all(queues, &queue, ctx, accepted).await.into_iter();
    let mut result = BatchResult::default();
    for (id, digests) in told {
        let end = digests.and_then(|digests| {
            let sent = sent.next().unwrap_or(Err(Error::QueueMissing))?;
            Ok(successful(&sent, digests, fifo))
        });
        result.push(id, end);
    }
    Output::render(&result)
}

fn successful(sent: &Sent, digests: Digests, fifo: bool) -> Successful {
    Successful {
        message_id: Some(sent.id.to_string()),
        md5_of_body: Some(digests.body),
        md5_of_attributes: digests.attributes,
        md5_of_system_attributes: digests.system,
        sequence_number: fifo.then(|| sequence_number(sent.sequence)),
        ..Successful::default()
    }
}

/// Twenty digits, as the reference writes them: they sort as texts.
pub(crate) fn sequence_number(sequence: u64) -> String {
    format!("{sequence:020}")
}

fn outgoing(entry: api::SendEntry) -> Result<(Outgoing, Digests), Error> {
    let attributes = attributes(entry.message_attributes)?;
    let system = attributes_of_system(entry.message_system_attributes)?;
    let md5_of_body = md5_of(entry.message_body.as_bytes());
    let digests = Digests {
        body: hex(&md5_of_body),
        attributes: md5_of_attributes(&attributes).as_ref().map(hex),
        system: md5_of_attributes(&system).as_ref().map(hex),
    };
    let trace = system.into_iter().find_map(|attribute| match attribute.value {
        Value::Text(header) => Some(header.into()),
        Value::Binary(_) => None,
    });
    let outgoing = Outgoing {
        body: entry.message_body,
        md5_of_body,
        attributes,
        delay: entry.delay_seconds,
        group: entry.message_group_id,
        deduplication: entry.message_deduplication_id,
        trace,
        lineage: None,
    };
    Ok((outgoing, digests))
}

pub(crate) fn hex(digest: &[u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(32);
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn attributes(given: Given) -> Result<Vec<Attribute>, Error> {
    let read = |(name, value): (String, api::AttributeValue)| {
        let api::AttributeValue { string_value, binary_value, string_list_values, binary_list_values, data_type } =
            value;
        if string_list_values.is_some_and(|l| !l.is_empty()) || binary_list_values.is_some_and(|l| !l.is_empty()) {
            return Err(Error::Unsupported(
                "Message attribute list values in SendMessage operation are not supported.".to_owned(),
            ));
        }
        let value = match (string_value, binary_value) {
            (Some(_), Some(_)) => {
                return Err(Error::Invalid(format!("Message attribute '{name}' has multiple values.")));
            }
            (None, Some(bytes)) => Value::Binary(bytes.0),
            (text, None) if data_type.starts_with("Binary") && text.is_none() => Value::Binary(Default::default()),
            (text, None) => Value::Text(text.unwrap_or_default()),
        };
        Ok(Attribute { name, data_type, value })
    };
    given.unwrap_or_default().into_iter().map(read).collect()
}

fn attributes_of_system(given: Given) -> Result<Vec<Attribute>, Error> {
    let attributes = attributes(given)?;
    for attribute in &attributes {
        if attribute.name != "AWSTraceHeader" {
            return Err(Error::Invalid(format!("Message system attribute name '{}' is invalid.", attribute.name)));
        }
        let legal = matches!(&attribute.value, Value::Text(text) if message::is_trace_header(text));
        if attribute.data_type != "String" || !legal {
            return Err(Error::Invalid(
                "The message system attribute 'AWSTraceHeader' must be of type String, and one line of ASCII characters."
                    .to_owned(),
            ));
        }
    }
    Ok(attributes)
}

// --- receiving

/// The system attributes that `ReceiveMessage` knows.
const SYSTEM: &[&str] = &[
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

async fn receive_message(queues: &Queues, ctx: &Ctx, input: api::ReceiveMessage) -> Result<Output, Fault> {
    let queue = queues.at(ctx, &input.queue_url)?;
    let settings = queue.settings();
    let ask = ask(&input, settings.wait, settings.fifo)?;
    let system: Vec<String> =
        input.attribute_names.into_iter().chain(input.message_system_attribute_names).flatten().collect();
    if let Some(unknown) = system.iter().find(|name| !SYSTEM.contains(&name.as_str())) {
        // The older list takes names of queue attributes too and answers nothing for them.
        if !crate::settings::is_attribute(unknown) {
            return Err(Error::AttributeName(unknown.clone()).into());
        }
    }
    let named = input.message_attribute_names.unwrap_or_default();
    let received = receive::receive(queues, &queue, ask).await?;
    if received.is_empty() {
        return Ok(Output::empty());
    }
    let messages = received.into_iter().map(|one| shown(&queue, one, &system, &named)).collect();
    Ok(Output::from_doc(Doc::Map(vec![("Messages".into(), Doc::List(messages))])))
}

fn ask(input: &api::ReceiveMessage, wait: u32, fifo: bool) -> Result<Ask, Error> {
    let within = |name: &str, given: Option<i64>, min: i64, max: i64, default: i64| match given {
        None => Ok(default),
        Some(n) if (min..=max).contains(&n) => Ok(n),
        Some(n) => Err(Error::value(n, name, &format!("Must be >= {min} and <= {max}, if provided."))),
    };
    let max = within("MaxNumberOfMessages", input.max_number_of_messages, 1, 10, 1)?;
    let wait = within("WaitTimeSeconds", input.wait_time_seconds, 0, 20, i64::from(wait))?;
    let attempt = input.receive_request_attempt_id.clone();
    if let Some(id) = &attempt {
        if !fifo {
            let reason = "The request include parameter that is not valid for this queue type";
            return Err(Error::value(id, "ReceiveRequestAttemptId", reason));
        }
        if !message::is_token(id) {
            let reason =
                "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length.";
            return Err(Error::value(id, "ReceiveRequestAttemptId", reason));
        }
    }
    let (max, wait) = (usize::try_from(max).unwrap_or(1), u64::try_from(wait).unwrap_or(0));
    let visibility = input.visibility_timeout.map(visibility::check).transpose()?;
    Ok(Ask { max, visibility, wait: Duration::from_secs(wait), attempt })
}

/// A message as `ReceiveMessage` answers it.
fn shown(queue: &Queue, received: Received, system: &[String], named: &[String]) -> Doc {
    let Received { sequence, head, message, text } = received;
    let handle = Handle { queue: queue.id, sequence, generation: head.generation }.encode();
    let mut members: Vec<(Key, Doc)> = vec![
        ("MessageId".into(), Doc::from(message.id.to_string())),
        ("ReceiptHandle".into(), Doc::from(handle)),
        ("MD5OfBody".into(), Doc::from(hex(&message.md5_of_body))),
        // It was text when it was sent.
        ("Body".into(), Doc::from(String::from_utf8(text.into()).unwrap_or_default())),
    ];
    let wanted: Vec<&Attribute> = message.attributes.iter().filter(|a| is_named(&a.name, named)).collect();
    if let Some(md5) = md5_of_attributes(wanted.iter().copied()) {
        members.push(("MD5OfMessageAttributes".into(), Doc::from(hex(&md5))));
        let shown = wanted.into_iter().map(|a| (Key::Owned(a.name.clone()), attribute_doc(a))).collect();
        members.push(("MessageAttributes".into(), Doc::Map(shown)));
    }
    if !system.is_empty() {
        let all = system_attributes(queue, sequence, &head, &message);
        let wanted = |name: &str| system.iter().any(|n| n == "All" || n == name);
        let shown: Vec<(Key, Doc)> =
            all.into_iter().filter(|(name, _)| wanted(name)).map(|(name, v)| (name.into(), Doc::from(v))).collect();
        if !shown.is_empty() {
            members.push(("Attributes".into(), Doc::Map(shown)));
        }
    }
    Doc::Map(members)
}

/// Whether the names that a receiver gave choose an attribute: all of them, a name, or a prefix.
fn is_named(name: &str, named: &[String]) -> bool {
    named.iter().any(|wanted| match wanted.strip_suffix(".*") {
        _ if wanted == "All" || wanted == ".*" || wanted == name => true,
        Some(prefix) => name.starts_with(prefix),
        None => false,
    })
}

fn attribute_doc(attribute: &Attribute) -> Doc {
    let value = match &attribute.value {
        Value::Text(text) => (Key::from("StringValue"), Doc::from(text.as_str())),
        Value::Binary(bytes) => ("BinaryValue".into(), Doc::Blob(bytes.clone())),
    };
    Doc::Map(vec![value, ("DataType".into(), Doc::from(attribute.data_type.as_str()))])
}

/// Every system attribute that a message has.
pub(crate) fn system_attributes(
    queue: &Queue,
    sequence: u64,
    head: &crate::queue::Head,
    message: &message::Message,
) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("SenderId", message.sender.clone()),
        ("SentTimestamp", message.sent.as_millis().to_string()),
        ("ApproximateReceiveCount", head.receive_count.to_string()),
        ("ApproximateFirstReceiveTimestamp", head.first_received.to_string()),
    ];
    if queue.settings().fifo {
        all.push(("SequenceNumber", sequence_number(sequence)));
    }
    let optional = [
        ("MessageDeduplicationId", message.deduplication.as_deref()),
        ("MessageGroupId", message.group.as_deref()),
        ("AWSTraceHeader", message.trace.as_deref()),
        ("DeadLetterQueueSourceArn", message.origin.as_deref()),
    ];
    all.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))));
    all
}

// --- the end of messages

async fn delete_message(queues: &Queues, ctx: &Ctx, input: &api::DeleteMessage) -> Result<Output, Fault> {
    let queue = queues.at(ctx, &input.queue_url)?;
    let handle = Handle::decode(&input.receipt_handle, queue.id)?;
    let mut end = delete::delete(queues, &queue, vec![handle.into()]).await;
    done(end.pop().unwrap_or(Ok(())))
}

async fn delete_batch(queues: &Queues, ctx: &Ctx, input: api::DeleteMessageBatch) -> Result<Output, Fault> {
    batch::check(input.entries.iter().map(|entry| entry.id.as_str()))?;
    let queue = queues.at(ctx, &input.queue_url)?;
    let decoded: Vec<_> =
        input.entries.into_iter().map(|e| (e.id, Handle::decode(&e.receipt_handle, queue.id))).collect();
    let endings = decoded.iter().filter_map(|(_, handle)| Some((*handle.as_ref().ok()?).into())).collect();
    let mut ends = delete::delete(queues, &queue, endings).await.into_iter();
    let mut result = BatchResult::default();
    for (id, handle) in decoded {
        let end = handle.and_then(|_| ends.next().unwrap_or(Ok(())));
        result.push(id, end.map(|()| Successful::default()));
    }
    Output::render(&result)
}

async fn change_visibility(queues: &Queues, ctx: &Ctx, input: &api::ChangeMessageVisibility) -> Result<Output, Fault> {
    let queue = queues.at(ctx, &input.queue_url)?;
    let change = change_of(&queue, &input.receipt_handle, Some(input.visibility_timeout))?;
    let mut end = visibility::change(queues, &queue, vec![change]).await;
    done(end.pop().unwrap_or(Ok(())))
}

async fn change_batch(queues: &Queues, ctx: &Ctx, input: api::ChangeMessageVisibilityBatch) -> Result<Output, Fault> {
    batch::check(input.entries.iter().map(|entry| entry.id.as_str()))?;
    let queue = queues.at(ctx, &input.queue_url)?;
    let entries = input.entries.into_iter();
    let mut changes = Vec::new();
    let mut decoded = Vec::new();
    for entry in entries {
        let change = change_of(&queue, &entry.receipt_handle, entry.visibility_timeout);
        decoded.push((entry.id, change.map(|change| changes.push(change))));
    }
    let mut ends = visibility::change(queues, &queue, changes).await.into_iter();
    let mut result = BatchResult::default();
    for (id, change) in decoded {
        let end = change.and_then(|()| ends.next().unwrap_or(Ok(())));
        result.push(id, end.map(|()| Successful::default()));
    }
    Output::render(&result)
}

fn change_of(queue: &Queue, handle: &str, timeout: Option<i64>) -> Result<Change, Error> {
    let seconds = visibility::check(timeout.ok_or(Error::Missing("VisibilityTimeout"))?)?;
    let handle = Handle::decode(handle, queue.id)?;
    Ok(Change { handle, after_ms: i64::from(seconds) * 1000, uncounted: false, note: None })
}
