//! A queue as a target and as a source of events.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flint_kit::{AttributeValue, Ctx, Envelope, Fault, Receipt, Source, SourceInfo, SourceRecord, Target, Told};
use flint_model::Arn;
use flint_store::journal::Entry;
use serde::{Serialize, Serializer};

use crate::Error;
use crate::address::Handle;
use crate::message::{Attribute, Value, md5_of, md5_of_attributes};
use crate::ops::delete::Ending;
use crate::ops::receive::{Ask, Received};
use crate::ops::send::Outgoing;
use crate::ops::visibility::Change;
use crate::ops::{delete, receive, send, visibility};
use crate::queues::{Queue, Queues};
use crate::service::{hex, system_attributes};

#[async_trait]
impl Target for Queues {
    fn check(&self, arn: &Arn) -> Result<(), Fault> {
        self.of_arn(arn)?;
        Ok(())
    }

    async fn deliver(&self, ctx: &Ctx, arn: &Arn, envelope: Envelope) -> Result<Receipt, Fault> {
        let queue = self.of_arn(arn)?;
        let settings = queue.settings();
        let text = |bytes: Bytes| {
            let text = String::from_utf8(bytes.into());
            text.map_err(|_| Error::Contents("a queue takes text, and this event is none".to_owned()))
        };
        let attribute = |a: flint_kit::Attribute| {
            let (data_type, value) = match a.value {
                AttributeValue::String(text) => ("String", Value::Text(text)),
                AttributeValue::Number(text) => ("Number", Value::Text(text)),
                AttributeValue::Binary(bytes) => ("Binary", Value::Binary(bytes)),
            };
            Attribute { name: a.name, data_type: data_type.to_owned(), value }
        };
        let outgoing = Outgoing {
            md5_of_body: md5_of(&envelope.payload),
            body: text(envelope.payload)?,
            attributes: envelope.attributes.into_iter().map(attribute).collect(),
            delay: None,
            group: envelope.group,
            // A standard queue does not know it.
            deduplication: envelope.deduplication.filter(|_| settings.fifo),
            trace: envelope.trace,
            lineage: Some(envelope.lineage),
        };
        let mut sent = send::send_all(self, &queue, ctx, vec![outgoing]).await;
        let sent = sent.pop().unwrap_or(Err(Error::QueueMissing))?;
        Ok(Receipt { id: sent.id.to_string() })
    }
}

#[async_trait]
impl Source for Queues {
    fn describe(&self, arn: &Arn) -> Result<SourceInfo, Fault> {
        let settings = self.of_arn(arn)?.settings();
        Ok(SourceInfo {
            event_source: "aws:sqs",
            fifo: settings.fifo,
            visibility_timeout: Duration::from_secs(settings.visibility.into()),
        })
    }

    async fn poll(&self, arn: &Arn, max: usize, wait: Duration) -> Result<Vec<SourceRecord>, Fault> {
        let queue = self.of_arn(arn)?;
        let ask = Ask { max, visibility: None, wait, attempt: None };
        let received = receive::receive(self, &queue, ask).await?;
        let arn = arn.to_string();
        received.into_iter().map(|one| Ok(record(&queue, &arn, one)?)).collect()
    }

    async fn settle(&self, arn: &Arn, records: Vec<Told>) -> Result<(), Fault> {
        let queue = self.of_arn(arn)?;
        let known =
            records.into_iter().filter_map(|told| Some((Handle::decode(&told.handle, queue.id).ok()?, told.note)));
        let endings = known.map(|(handle, note)| Ok(Ending { handle, note: entry(note)? }));
        let ends = delete::delete(self, &queue, endings.collect::<Result<_, Error>>()?).await;
        refused(ends)
    }

    async fn give_back(&self, arn: &Arn, records: Vec<Told>, after: Duration, uncounted: bool) -> Result<(), Fault> {
        let queue = self.of_arn(arn)?;
        let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let known =
            records.into_iter().filter_map(|told| Some((Handle::decode(&told.handle, queue.id).ok()?, told.note)));
        let changes = known.map(|(handle, note)| Ok(Change { handle, after_ms, uncounted, note: entry(note)? }));
        refused(visibility::change(self, &queue, changes.collect::<Result<_, Error>>()?).await)
    }

    fn backlog(&self, arn: &Arn) -> u64 {
        let Ok(queue) = self.of_arn(arn) else { return 0 };
        let mut inner = queue.lock();
        inner.heart.advance(self.now().as_millis());
        inner.heart.counts().0
    }
}

fn entry(note: Option<Bytes>) -> Result<Option<Entry>, Error> {
    Ok(note.map(|note| Entry::decode(&note)).transpose()?)
}

/// The first end that says that nothing could be written; unknown and expired handles are no error here.
fn refused(ends: Vec<Result<(), Error>>) -> Result<(), Fault> {
    let written = |error: &Error| matches!(error, Error::Full | Error::Commit(_) | Error::Read(_));
    match ends.into_iter().filter_map(Result::err).find(written) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

pub(crate) fn record(queue: &Queue, arn: &str, received: Received) -> Result<SourceRecord, Error> {
    let Received { sequence, head, message, text } = received;
    let handle = Handle { queue: queue.id, sequence, generation: head.generation }.encode();
    let id = message.id.to_string();
    let body = std::str::from_utf8(&text).map_err(|_| Error::Damaged("a message that is no text".to_owned()))?;
    let event = Event {
        message_id: &id,
        receipt_handle: &handle,
        body,
        attributes: Pairs(&system_attributes(queue, sequence, &head, &message)),
        message_attributes: Attributes(&message.attributes),
        md5_of_message_attributes: md5_of_attributes(&message.attributes).as_ref().map(hex),
        md5_of_body: hex(&message.md5_of_body),
        event_source: "aws:sqs",
        event_source_arn: arn,
        aws_region: queue.place.region.as_str(),
    };
    let document = serde_json::to_vec(&event).map_err(|e| Error::Damaged(format!("a record: {e}")))?;
    Ok(SourceRecord {
        handle,
        id,
        document: document.into(),
        group: message.group,
        receive_count: head.receive_count,
        lineage: message.lineage,
        trace: message.trace,
    })
}

/// A record as functions get it.
///
/// Reference: Lambda Developer Guide, "Using Lambda with Amazon SQS", the example events.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: Pairs<'a>,
    message_attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    md5_of_body: String,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

struct Pairs<'a>(&'a [(&'static str, String)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct Attributes<'a>(&'a [Attribute]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|attribute| (&attribute.name, EventAttribute::of(attribute))))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventAttribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    string_list_values: [(); 0],
    binary_list_values: [(); 0],
    data_type: &'a str,
}

impl<'a> EventAttribute<'a> {
    fn of(attribute: &'a Attribute) -> Self {
        let (string_value, binary_value) = match &attribute.value {
            Value::Text(text) => (Some(text.as_str()), None),
            Value::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
        };
        Self {
            string_value,
            binary_value,
            string_list_values: [],
            binary_list_values: [],
            data_type: &attribute.data_type,
        }
    }
}
