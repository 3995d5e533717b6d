//! `ReplayEvent`: a recorded event once more, now, with somebody looking on.

use bytes::Bytes;
use flint_base::{EventId, Timestamp};
use flint_kit::{Ctx, Fault, Invocation, InvokeMode};
use flint_model::{Arn, FunctionRef, Place, Qualifier};
use flint_store::journal::{self, Entry, Kind};
use flint_store::{Batch, ReadError, Store};
use serde::{Deserialize, Serialize};

use super::chain::{find, text};
use super::entry::{function_of, number};
use super::{Events, invalid, unreadable};

/// Bytes of an answer that are compared.
const ANSWER_MAX: usize = 8 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReplayInput {
    event_id: String,
    /// A version or an alias; else what the event was for.
    version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReplayOutput {
    event_id: String,
    /// The event that the replay is; the request id of its log lines.
    replay_id: String,
    function_name: String,
    executed_version: String,
    payload: String,
    answer: String,
    function_error: Option<&'static str>,
    log: String,
    billed_ms: i64,
    former_answer: Option<String>,
    former_error: Option<String>,
    former_version: Option<String>,
    former_at: Option<Timestamp>,
    /// What it answers is not what it answered, as far as that is known.
    differs: Option<bool>,
}

/// What was recorded of an event.
#[derive(Default)]
struct Recorded {
    /// ARN, with the qualifier that was named.
    function: Option<String>,
    payload: Option<Bytes>,
    answer: Option<Bytes>,
    error: Option<journal::Error>,
    version: Option<String>,
    at: Option<Timestamp>,
}

pub(super) async fn replay(events: &Events, ctx: &Ctx, input: &ReplayInput) -> Result<ReplayOutput, Fault> {
    let (event, root) = find(&*events.store, &ctx.place, &input.event_id)?;
    let recorded = recorded(events, &ctx.place, event)?;
    let payload = recorded.payload.clone().ok_or_else(|| {
        invalid("its payload is not kept: that of a failed event is for 14 days, of a delivered one that went well for a day")
    })?;
    let arn = recorded.function.as_deref().ok_or_else(|| invalid("no function has handled this event"))?;
    let mut function: FunctionRef = arn.parse().map_err(|_| invalid(format!("{arn} is no function")))?;
    if let Some(version) = &input.version {
        let qualifier: Qualifier = version.parse().map_err(|_| invalid(format!("{version:?} is no version")))?;
        function.qualifier = Some(qualifier);
    }
    let name = function.name.to_string();

    let id = EventId::next();
    let lineage = journal::of_event(&*events.store, &ctx.place, event).map_err(unreadable)?;
    let lineage =
        lineage.first().map_or_else(|| flint_model::Lineage::root(root), |(_, entry)| entry.lineage).child(id);
    let mark = Entry {
        replay_of: Some(event),
        source: Some("flint:replay".to_owned()),
        target: Some(arn.to_owned()),
        ..Entry::new(ctx.place.clone(), lineage, Kind::Accepted, events.clock.now())
    };
    let committed = events.store.commit(Batch::new().journal(mark)).await;
    committed.map_err(|error| Fault::unavailable(error.to_string()))?;
    let invocation = Invocation {
        function,
        mode: InvokeMode::RequestResponse,
        payload: payload.clone(),
        client_context: None,
        tail: true,
        lineage,
    };
    let outcome = events.invoker.invoke(&events.on_behalf(ctx, id, root), invocation).await?;
    let too_large = || Fault::server(500, "ServiceException", "an answer without end");
    let answer = outcome.payload.collect(ANSWER_MAX, too_large).await?;
    Ok(ReplayOutput {
        event_id: event.to_string(),
        replay_id: id.to_string(),
        function_name: name,
        executed_version: outcome.executed_version.to_string(),
        payload: text(&payload),
        function_error: outcome.function_error,
        log: outcome.tail.map(|tail| text(&tail)).unwrap_or_default(),
        billed_ms: number(outcome.billed_ms),
        differs: differs(&recorded, &answer, outcome.function_error.is_some()),
        former_answer: recorded.answer.as_ref().map(text),
        former_error: recorded.error.as_ref().map(|error| error.signature()),
        former_version: recorded.version,
        former_at: recorded.at,
        answer: text(&answer),
    })
}

/// Whether the answer is another one; of an error, whether it has another cause.
fn differs(before: &Recorded, answer: &Bytes, failed: bool) -> Option<bool> {
    match (&before.error, &before.answer, failed) {
        (Some(error), _, true) => Some(error.signature() != journal::Error::of_document(answer).signature()),
        (Some(_), _, false) => Some(true),
        (None, Some(_), true) => Some(true),
        (None, Some(former), false) => Some(!same_json(former, answer)),
        (None, None, _) => None,
    }
}

fn same_json(a: &Bytes, b: &Bytes) -> bool {
    let value = |bytes: &Bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    a == b || value(a).is_some_and(|a| Some(a) == value(b))
}

/// What the journal, and the queue in which it may lie, know of the event.
fn recorded(events: &Events, place: &Place, event: EventId) -> Result<Recorded, Fault> {
    let store = &*events.store;
    let mut found = Recorded::default();
    let mut batches = Vec::new();
    let failure = journal::failures::failure(store, place, event).map_err(unreadable)?;
    let mut entries: Vec<Entry> =
        journal::of_event(store, place, event).map_err(unreadable)?.into_iter().map(|(_, e)| e).collect();
    entries.extend(failure.clone());
    for entry in &entries {
        take(store, place, &mut found, entry).map_err(unreadable)?;
        batches.extend(entry.request.map(EventId::from).filter(|id| *id != event));
    }
    if let Some(last) = journal::failures::last_error(store, place, event).map_err(unreadable)? {
        found.function = found.function.or(last.target);
        found.version = found.version.or(last.code_version);
        found.error = Some(last.error);
        found.at = Some(last.at);
    }
    // A message came to its function in a batch with others: of the batch's event its record is what is replayed.
    if found.payload.is_none() {
        for batch in batches.into_iter().rev() {
            let mut whole = Recorded::default();
            for (_, entry) in journal::of_event(store, place, batch).map_err(unreadable)? {
                take(store, place, &mut whole, &entry).map_err(unreadable)?;
            }
            if let Some(own) = whole.payload.as_ref().and_then(|payload| record_of(payload, event)) {
                let former = Recorded { payload: Some(own), ..whole };
                found = Recorded {
                    error: found.error.or(former.error),
                    function: found.function.or(former.function),
                    ..former
                };
                break;
            }
        }
    }
    if found.payload.is_none()
        && let Some(queue) = failure.as_ref().and_then(|e| e.target.as_deref()).and_then(|arn| arn.parse::<Arn>().ok())
        && queue.service == "sqs"
        && let Some(at) = events.dead_letters.places(&queue)?.get(&event)
        && let Some(record) = events.dead_letters.peek(&queue, event, *at)?
    {
        found.payload = Some([&b"{\"Records\":["[..], &record, b"]}"].concat().into());
    }
    Ok(found)
}

/// What one entry adds; the latest word counts.
fn take(store: &dyn Store, place: &Place, found: &mut Recorded, entry: &Entry) -> Result<(), ReadError> {
    for arn in [&entry.source, &entry.target].into_iter().flatten() {
        if function_of(arn).is_some() {
            found.function = Some(arn.clone());
        }
    }
    if let Some(content) =
        entry.payload.map(|payload| journal::payloads::read(store, place, &payload)).transpose()?.flatten()
    {
        found.payload = Some(content);
    }
    let answer = entry.answer.map(|answer| journal::payloads::read(store, place, &answer)).transpose()?.flatten();
    if let Some(answer) = answer {
        let failed = entry.outcome.is_some_and(|outcome| outcome != journal::Outcome::Succeeded);
        found.error = failed.then(|| journal::Error::of_document(&answer));
        found.answer = Some(answer);
        found.version = entry.code_version.clone();
        found.at = Some(entry.at);
    }
    if let Some(error) = &entry.error {
        found.error = Some(error.clone());
        found.version = entry.code_version.clone().or(found.version.take());
        found.at = Some(entry.at);
    }
    Ok(())
}

/// The event with the one record whose message is `event`.
fn record_of(payload: &Bytes, event: EventId) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(rename = "Records", borrow)]
        records: Vec<&'a serde_json::value::RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        message_id: String,
    }
    let batch: Batch<'_> = serde_json::from_slice(payload).ok()?;
    let id = event.to_string();
    let own = batch
        .records
        .into_iter()
        .find(|raw| serde_json::from_str::<Record>(raw.get()).is_ok_and(|record| record.message_id == id))?;
    Some(format!("{{\"Records\":[{}]}}", own.get()).into())
}
