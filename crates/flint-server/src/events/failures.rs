//! `ListFailures` and `GetFailureGroup`: what waits for a person, one group for each cause.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use flint_base::{EventId, Timestamp};
use flint_kit::{Ctx, Fault};
use flint_model::{Arn, Place, trace};
use flint_store::BlobHash;
use flint_store::journal::failures::{LastError, failures, last_error};
use flint_store::journal::{Entry, Error, Kind};
use serde::{Deserialize, Serialize};

use super::chain;
use super::entry::{function_of, word};
use super::{Events, unknown, unreadable};

const DEFAULT_ITEMS: usize = 100;

/// Where a failure stands among others: the commit that buried it, its place in the dead-letter queue, its event.
pub(super) type Order = (u64, u64, EventId);

/// An event that waits, and what is known of why.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The order in which events were buried.
    pub version: u64,
    pub entry: Entry,
    pub error: Error,
    /// ARN of the function that failed, where one did.
    pub function: Option<String>,
    /// The dead-letter queue that it lies in, and where in it.
    pub lies: Option<(Arn, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListFailuresInput {
    function_name: Option<String>,
    source: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListFailuresOutput {
    /// The largest first.
    groups: Vec<FailureGroup>,
    count: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FailureGroup {
    group_id: String,
    signature: String,
    error_type: String,
    error_message: String,
    frame: Option<String>,
    count: i64,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    sources: BTreeSet<String>,
    functions: BTreeSet<String>,
    /// One of them, the latest.
    event_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GroupInput {
    group_id: String,
    max_items: Option<usize>,
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GroupOutput {
    group: FailureGroup,
    failures: Vec<FailureView>,
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FailureView {
    event_id: String,
    trace_id: String,
    kind: String,
    at: Timestamp,
    source: Option<String>,
    target: Option<String>,
    function: Option<String>,
    attempt: Option<i64>,
    error_type: String,
    error_message: String,
    frame: Option<String>,
}

/// Which failures are meant.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Chosen {
    pub group_id: Option<String>,
    pub event_id: Option<String>,
    pub max_per_second: Option<u32>,
}

pub(super) fn list(events: &Events, ctx: &Ctx, input: &ListFailuresInput) -> Result<ListFailuresOutput, Fault> {
    let mut groups: BTreeMap<String, FailureGroup> = BTreeMap::new();
    let mut count = 0;
    for failure in all(events, &ctx.place)? {
        let named = |arn: &Option<String>| arn.as_deref().and_then(function_of);
        let ours = input.function_name.is_none() || named(&failure.function) == input.function_name;
        let source = input.source.as_ref();
        if !ours || source.is_some_and(|source| !failure.came_from(source)) {
            continue;
        }
        count += 1;
        let group = groups.entry(failure.group()).or_insert_with(|| FailureGroup::new(&failure));
        group.add(&failure);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| (b.count, &a.signature).cmp(&(a.count, &b.signature)));
    Ok(ListFailuresOutput { groups, count })
}

pub(super) fn group(events: &Events, ctx: &Ctx, input: &GroupInput) -> Result<GroupOutput, Fault> {
    let members = of_group(events, &ctx.place, &input.group_id)?;
    let mut group: Option<FailureGroup> = None;
    members.iter().for_each(|failure| group.get_or_insert_with(|| FailureGroup::new(failure)).add(failure));
    let group = group.ok_or_else(|| no_group(&input.group_id))?;
    let limit = input.max_items.unwrap_or(DEFAULT_ITEMS);
    let (page, next_token) = page(&members, input.next_token.as_deref(), limit);
    Ok(GroupOutput { group, failures: page.iter().map(FailureView::from).collect(), next_token })
}

/// The failures behind `token`, and the token of the next page.
fn page<'a>(members: &'a [Failure], token: Option<&str>, limit: usize) -> (&'a [Failure], Option<String>) {
    let order = token.and_then(order_of).unwrap_or((0, 0, EventId::from_bytes([0; 16])));
    let rest = &members[members.partition_point(|failure| failure.order() <= order)..];
    let (page, behind) = rest.split_at(limit.min(rest.len()));
    let token = |(version, place, event): Order| format!("{version}.{place}.{event}");
    (page, page.last().filter(|_| !behind.is_empty()).map(|last| token(last.order())))
}

fn order_of(token: &str) -> Option<Order> {
    let mut parts = token.splitn(3, '.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Everything that waits, in the order in which it was buried. Of messages those that still lie in their dead-letter
/// queue: who receives and deletes one there has dealt with it.
pub(super) fn all(events: &Events, place: &Place) -> Result<Vec<Failure>, Fault> {
    let store = &*events.store;
    let mut queues: BTreeMap<Arn, BTreeMap<EventId, u64>> = BTreeMap::new();
    let mut all = Vec::new();
    for (version, entry) in failures(store, place, None, usize::MAX).map_err(unreadable)? {
        let event = entry.lineage.event;
        let lies = match lies_in(&entry) {
            None => None,
            Some(queue) => {
                // A queue that is gone took its messages along.
                let places = match queues.entry(queue.clone()) {
                    btree_map::Entry::Occupied(found) => found.into_mut(),
                    btree_map::Entry::Vacant(free) => {
                        free.insert(events.dead_letters.places(&queue).unwrap_or_default())
                    }
                };
                let Some(at) = places.get(&event) else { continue };
                Some((queue, *at))
            }
        };
        let last = last_error(store, place, event).map_err(unreadable)?;
        all.push(Failure { lies, ..Failure::new(version, entry, last) });
    }
    all.sort_by_key(Failure::order);
    Ok(all)
}

/// The dead-letter queue in which a queue's message lies. What a function's event left in one is a copy: the event itself
/// is in the journal.
fn lies_in(entry: &Entry) -> Option<Arn> {
    let queue = |arn: &Option<String>| arn.as_deref()?.parse::<Arn>().ok().filter(|arn| arn.service == "sqs");
    queue(&entry.source).filter(|_| entry.kind == Kind::DeadLettered)?;
    queue(&entry.target)
}

/// Those of a group, of one event, or all, in the order in which they were buried.
///
/// Errors: `ResourceNotFoundException` where there are none.
pub(super) fn chosen(events: &Events, place: &Place, input: &Chosen) -> Result<Vec<Failure>, Fault> {
    let found = match (&input.group_id, &input.event_id) {
        (Some(group), None) => of_group(events, place, group)?,
        (None, Some(id)) => {
            let (event, _) = chain::find(&*events.store, place, id)?;
            all(events, place)?.into_iter().filter(|failure| failure.event() == event).collect()
        }
        (None, None) => all(events, place)?,
        (Some(_), Some(_)) => return Err(super::invalid("name a GroupId or an EventId, not both")),
    };
    if found.is_empty() && (input.group_id.is_some() || input.event_id.is_some()) {
        return Err(unknown("nothing that waits has this name"));
    }
    Ok(found)
}

fn of_group(events: &Events, place: &Place, id: &str) -> Result<Vec<Failure>, Fault> {
    let mut all = all(events, place)?;
    all.retain(|failure| failure.group() == id);
    if all.is_empty() { Err(no_group(id)) } else { Ok(all) }
}

fn no_group(id: &str) -> Fault {
    unknown(format!("no failure of group {id} waits"))
}

impl Failure {
    fn new(version: u64, entry: Entry, last: Option<LastError>) -> Self {
        let of = |arn: &Option<String>| arn.clone().filter(|arn| function_of(arn).is_some());
        let told = last.as_ref().and_then(|last| of(&last.target));
        let function = of(&entry.source).or_else(|| of(&entry.target)).or(told);
        let unknown = || Error::new("Unknown", "nobody said why");
        let error = entry.error.clone().or(last.map(|last| last.error)).unwrap_or_else(unknown);
        Self { version, entry, error, function, lies: None }
    }

    /// The name of its group: eight digits that stand for the signature.
    pub(super) fn group(&self) -> String {
        BlobHash::of(self.error.signature().as_bytes()).to_string()[..8].to_owned()
    }

    /// One commit buries many: among those the place in their dead-letter queue counts.
    pub(super) fn order(&self) -> Order {
        (self.version, self.lies.as_ref().map_or(0, |(_, at)| *at), self.event())
    }

    pub(super) fn event(&self) -> EventId {
        self.entry.lineage.event
    }

    /// Where it was before: a queue, or the function that was invoked.
    fn origin(&self) -> Option<&String> {
        self.entry.source.as_ref().or(self.entry.target.as_ref())
    }

    fn came_from(&self, name: &str) -> bool {
        self.origin().is_some_and(|arn| arn == name || arn.ends_with(&format!(":{name}")))
    }
}

impl FailureGroup {
    fn new(first: &Failure) -> Self {
        Self {
            group_id: first.group(),
            signature: first.error.signature(),
            error_type: first.error.kind.clone(),
            error_message: String::new(),
            frame: first.error.frame.clone(),
            count: 0,
            first_seen_at: first.entry.at,
            last_seen_at: first.entry.at,
            sources: BTreeSet::new(),
            functions: BTreeSet::new(),
            event_id: String::new(),
        }
    }

    fn add(&mut self, failure: &Failure) {
        self.count += 1;
        self.first_seen_at = self.first_seen_at.min(failure.entry.at);
        self.last_seen_at = self.last_seen_at.max(failure.entry.at);
        self.sources.extend(failure.origin().cloned());
        self.functions.extend(failure.function.as_deref().and_then(function_of));
        self.error_message.clone_from(&failure.error.message);
        self.event_id = failure.event().to_string();
    }
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        let entry = &failure.entry;
        Self {
            event_id: failure.event().to_string(),
            trace_id: trace::root_text(&entry.lineage.root),
            kind: word(&entry.kind),
            at: entry.at,
            source: entry.source.clone(),
            target: entry.target.clone(),
            function: failure.function.clone(),
            attempt: (entry.attempt > 0).then_some(entry.attempt.into()),
            error_type: failure.error.kind.clone(),
            error_message: failure.error.message.clone(),
            frame: failure.error.frame.clone(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use flint_model::Lineage;

    use super::*;

    /// Failures that two commits buried, four and three of them, with places against the order of their ids.
    pub(crate) fn buried() -> Vec<Failure> {
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        let queue: Arn = "arn:aws:sqs:us-east-1:000000000000:dead".parse().expect("legal");
        let failure = |n: u8| {
            let lineage = Lineage::root(EventId::from_bytes([100 - n; 16]));
            let entry = Entry::new(place.clone(), lineage, Kind::DeadLettered, Timestamp::from_millis(1));
            let version = if n < 4 { 5 } else { 9 };
            Failure { lies: Some((queue.clone(), n.into())), ..Failure::new(version, entry, None) }
        };
        (0..7).map(failure).collect()
    }

    #[test]
    fn pages_go_on_within_what_one_commit_buried() {
        let all = buried();
        assert!(all.is_sorted_by_key(Failure::order));
        for limit in 1..9 {
            let (mut seen, mut token) = (Vec::new(), None);
            loop {
                let (some, next) = page(&all, token.as_deref(), limit);
                seen.extend(some.iter().map(Failure::event));
                token = next;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all.iter().map(Failure::event).collect::<Vec<_>>(), "pages of {limit}");
        }
    }
}
