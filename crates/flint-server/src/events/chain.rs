//! `GetEvent`: an event, what led to it and what came of it.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use bytes::Bytes;
use flint_base::EventId;
use flint_kit::{Ctx, Fault};
use flint_model::{Lineage, Place, trace};
use flint_store::journal::{self, Entry, Kind, PayloadRef, Position};
use flint_store::{ReadError, Store};
use serde::{Deserialize, Serialize};

use super::entry::JournalEntry;
use super::list::{LOOKED_MAX, PAGE, root_of};
use super::{Events, invalid, unknown, unreadable};

/// Events of one chain that are shown.
const EVENTS_MAX: usize = 1_000;

/// Bytes of a payload that are shown.
const SHOWN: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetEventInput {
    event_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetEventOutput {
    event_id: String,
    trace_id: String,
    /// Causes before what they brought about.
    events: Vec<ChainEvent>,
    /// The chain's first event is among them.
    complete: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChainEvent {
    event_id: String,
    cause_id: Option<String>,
    depth: i64,
    replay_of: Option<String>,
    entries: Vec<JournalEntry>,
    payload: Option<String>,
    answer: Option<String>,
    /// It failed, and waits for a person.
    waiting: bool,
}

type Entries = Vec<(Position, Entry)>;

pub(super) fn get(events: &Events, ctx: &Ctx, input: &GetEventInput) -> Result<GetEventOutput, Fault> {
    let store = &*events.store;
    let place = &ctx.place;
    let (event, root) = find(store, place, &input.event_id)?;
    let mut chain = chain(store, place, root).map_err(unreadable)?;
    taken_along(store, place, &mut chain).map_err(unreadable)?;
    let complete = chain.contains_key(&root);
    let mut shown = Vec::new();
    for id in in_order(&chain) {
        let entries = &chain[&id];
        shown.push(ChainEvent {
            event_id: id.to_string(),
            cause_id: entries.iter().find_map(|(_, e)| e.lineage.cause).map(|cause| cause.to_string()),
            depth: entries.first().map_or(0, |(_, e)| e.lineage.depth.into()),
            replay_of: entries.iter().find_map(|(_, e)| e.replay_of).map(|id| id.to_string()),
            payload: text_of(events, place, entries.iter().rev().find_map(|(_, e)| e.payload)),
            answer: text_of(events, place, entries.iter().rev().find_map(|(_, e)| e.answer)),
            waiting: journal::failures::failure(store, place, id).map_err(unreadable)?.is_some(),
            entries: entries.iter().map(JournalEntry::from).collect(),
        });
    }
    Ok(GetEventOutput { event_id: event.to_string(), trace_id: trace::root_text(&root), events: shown, complete })
}

/// An event by its id, by a trace id, or by the beginning of its id if it is among the newest or waits; with the root of
/// its chain.
///
/// Errors: `ResourceNotFoundException`; `ValidationException` where the ids of several events begin so.
pub(super) fn find(store: &dyn Store, place: &Place, text: &str) -> Result<(EventId, EventId), Fault> {
    let root = root_of(text);
    if let Some(id) = root {
        if let Some((_, entry)) = journal::of_event(store, place, id).map_err(unreadable)?.first() {
            return Ok((id, entry.lineage.root));
        }
        if let Some(entry) = journal::failures::failure(store, place, id).map_err(unreadable)? {
            return Ok((id, entry.lineage.root));
        }
        if let Some((_, entry)) = journal::of_root(store, place, id).map_err(unreadable)?.first() {
            return Ok((entry.lineage.event, entry.lineage.root));
        }
    }
    let wanted = text.to_ascii_lowercase();
    let mut begin_so: BTreeMap<EventId, EventId> = BTreeMap::new();
    let mut of_chain = None;
    let mut look = |entry: &Entry| {
        let Lineage { event, root: own, .. } = entry.lineage;
        if !wanted.is_empty() && event.to_string().starts_with(&wanted) {
            begin_so.insert(event, own);
        }
        of_chain = of_chain.or_else(|| Some((event, own)).filter(|_| root == Some(own)));
    };
    newest(store, place, &mut look).map_err(unreadable)?;
    let failures = journal::failures::failures(store, place, None, usize::MAX).map_err(unreadable)?;
    failures.iter().for_each(|(_, entry)| look(entry));
    if begin_so.len() > 1 {
        let some: Vec<_> = begin_so.keys().rev().take(2).map(ToString::to_string).collect();
        let (count, some) = (begin_so.len(), some.join(" and "));
        let why = format!("the ids of {count} events begin with {text}, {some} among them: give more of the id");
        return Err(invalid(why));
    }
    let found = begin_so.pop_first().or(of_chain);
    found.ok_or_else(|| unknown(format!("no event {text} in the journal")))
}

/// All entries of the chain that are left, by event.
fn chain(store: &dyn Store, place: &Place, root: EventId) -> Result<BTreeMap<EventId, Entries>, ReadError> {
    let mut chain: BTreeMap<EventId, Entries> = BTreeMap::new();
    for (position, entry) in journal::of_root(store, place, root)? {
        if chain.len() < EVENTS_MAX || chain.contains_key(&entry.lineage.event) {
            chain.entry(entry.lineage.event).or_default().push((position, entry));
        }
    }
    // What waits outlives the other entries.
    for (version, entry) in journal::failures::failures(store, place, None, usize::MAX)? {
        if entry.lineage.root == root && !chain.contains_key(&entry.lineage.event) {
            chain.insert(entry.lineage.event, vec![(Position { version, index: 0 }, entry)]);
        }
    }
    Ok(chain)
}

/// Adds what befell the queues in which events lay when they were last heard of: a purged message has no entry of its own
/// for its end.
fn taken_along(store: &dyn Store, place: &Place, chain: &mut BTreeMap<EventId, Entries>) -> Result<(), ReadError> {
    let mut of_queue: BTreeMap<String, Entries> = BTreeMap::new();
    for entries in chain.values_mut() {
        let Some((last, queue)) = entries.last().and_then(|(at, entry)| Some((*at, lies_in(entry)?.to_owned()))) else {
            continue;
        };
        let whole = match of_queue.entry(queue) {
            btree_map::Entry::Occupied(found) => found.into_mut(),
            btree_map::Entry::Vacant(new) => {
                let found = journal::of_event(store, place, journal::whole(new.key()))?;
                new.insert(found)
            }
        };
        entries.extend(whole.iter().find(|(at, _)| *at > last).cloned());
    }
    Ok(())
}

/// The ARN of the queue in which an event lies after this entry, if it does.
fn lies_in(entry: &Entry) -> Option<&str> {
    let arn = match entry.kind {
        Kind::Accepted | Kind::DeadLettered | Kind::Redriven => entry.target.as_deref(),
        Kind::Retried => entry.source.as_deref(),
        _ => None,
    };
    arn.filter(|arn| arn.starts_with("arn:aws:sqs:"))
}

/// The newest entries of the place, newest first: as many as one call may look at.
fn newest(store: &dyn Store, place: &Place, mut look: impl FnMut(&Entry)) -> Result<(), ReadError> {
    let mut before = None;
    for _ in 0..LOOKED_MAX / PAGE {
        let page = journal::recent(store, place, before, PAGE)?;
        page.iter().for_each(|(_, entry)| look(entry));
        match page.last() {
            Some((position, _)) if page.len() == PAGE => before = Some(*position),
            _ => break,
        }
    }
    Ok(())
}

/// Depth first: each event behind its cause, siblings by when they began.
fn in_order(chain: &BTreeMap<EventId, Entries>) -> Vec<EventId> {
    let began = |id: &EventId| chain[id].first().map(|(position, _)| *position).unwrap_or_default();
    let cause = |id: &EventId| chain[id].iter().find_map(|(_, e)| e.lineage.cause).filter(|c| chain.contains_key(c));
    let mut children: BTreeMap<Option<EventId>, Vec<EventId>> = BTreeMap::new();
    for id in chain.keys() {
        children.entry(cause(id)).or_default().push(*id);
    }
    children.values_mut().for_each(|ids| ids.sort_by_key(|id| std::cmp::Reverse(began(id))));
    let mut stack = children.remove(&None).unwrap_or_default();
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(id) = stack.pop() {
        if seen.insert(id) {
            order.push(id);
            stack.extend(children.remove(&Some(id)).unwrap_or_default());
        }
    }
    order
}

fn text_of(events: &Events, place: &Place, payload: Option<PayloadRef>) -> Option<String> {
    let content =
        payload.and_then(|payload| journal::payloads::read(&*events.store, place, &payload).ok().flatten())?;
    Some(text(&content))
}

/// As a person can read it, and no longer than is good for one.
pub(super) fn text(content: &Bytes) -> String {
    String::from_utf8_lossy(&content[..content.len().min(SHOWN)]).into_owned()
}

#[cfg(test)]
mod tests {
    use flint_base::Timestamp;
    use flint_store::journal::Kind;
    use flint_store::{Batch, MemoryStore};

    use super::*;

    #[tokio::test]
    async fn a_beginning_names_one_event_or_none() {
        let store = MemoryStore::new();
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        let ids: Vec<EventId> = ["01998c1e-5f2c-7d10-9c6a-3a3c7b1f0e55", "01998c1e-5f2d-7d10-9c6a-3a3c7b1f0e55"]
            .iter()
            .map(|id| id.parse().expect("an id"))
            .collect();
        for id in &ids {
            for kind in [Kind::Accepted, Kind::Settled] {
                let entry = Entry::new(place.clone(), Lineage::root(*id), kind, Timestamp::from_millis(1));
                store.commit(Batch::new().journal(entry)).await.expect("stored");
            }
        }
        let found = |text: &str| find(&store, &place, text).map(|(event, _)| event).map_err(|fault| fault.code);
        assert_eq!(found(&ids[1].to_string()), Ok(ids[1]));
        assert_eq!(found(&trace::root_text(&ids[0])), Ok(ids[0]));
        assert_eq!(found("01998C1E-5F2D"), Ok(ids[1]));
        assert_eq!(found("01998c1e"), Err("ValidationException".into()), "the first that comes could be the wrong one");
        assert_eq!(found(""), Err("ResourceNotFoundException".into()));
        assert_eq!(found("7"), Err("ResourceNotFoundException".into()));
    }
}
