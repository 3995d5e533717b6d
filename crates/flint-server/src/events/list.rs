//! `ListEvents`: the journal, newest first, filtered; or what is new behind a position.

use std::time::Duration;

use flint_base::{EventId, Timestamp};
use flint_kit::{Ctx, Fault};
use flint_model::trace;
use flint_store::journal::{self, Entry, Outcome, Position};
use serde::{Deserialize, Serialize};

use super::entry::{JournalEntry, function_of, word};
use super::{Events, invalid, unreadable};

/// Entries that one call looks at, at most; the token goes on.
pub(super) const LOOKED_MAX: usize = 20_000;
pub(super) const PAGE: usize = 500;
/// Entries lie in the order of their commits, which may be behind what they tell of for so long.
const DISORDER: Duration = Duration::from_secs(60);
const DEFAULT_ITEMS: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListEventsInput {
    function_name: Option<String>,
    source: Option<String>,
    outcome: Option<String>,
    kind: Option<String>,
    event_id: Option<String>,
    trace_id: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    after: Option<String>,
    max_items: Option<usize>,
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListEventsOutput {
    entries: Vec<JournalEntry>,
    next_token: Option<String>,
    /// Behind it there is nothing yet.
    newest: Option<String>,
}

/// What is wanted.
struct Filter<'a> {
    input: &'a ListEventsInput,
    root: Option<EventId>,
}

pub(super) fn list(events: &Events, ctx: &Ctx, input: &ListEventsInput) -> Result<ListEventsOutput, Fault> {
    let root = input.trace_id.as_deref().map(|text| root_of(text).ok_or_else(|| invalid(NO_TRACE))).transpose()?;
    check_words(input)?;
    let filter = Filter { input, root };
    let limit = input.max_items.unwrap_or(DEFAULT_ITEMS);
    let store = &*events.store;
    let newest = journal::recent(store, &ctx.place, None, 1).map_err(unreadable)?.first().map(|(at, _)| *at);
    let newest = newest.map(|at| at.to_string());
    if let Some(id) = &input.event_id {
        let event = id.parse().map_err(|_| invalid(format!("{id:?} is no event id")))?;
        let found = journal::of_event(store, &ctx.place, event).map_err(unreadable)?;
        let entries = found.iter().rev().filter(|(_, e)| filter.wants(e)).take(limit).map(JournalEntry::from).collect();
        return Ok(ListEventsOutput { entries, next_token: None, newest });
    }
    if let Some(after) = &input.after {
        return follow(events, ctx, &filter, position(after)?, limit);
    }
    let mut before = input.next_token.as_deref().map(position).transpose()?;
    let (mut entries, mut looked) = (Vec::new(), 0);
    loop {
        let page = journal::recent(store, &ctx.place, before, PAGE).map_err(unreadable)?;
        looked += page.len();
        let over = page.len() < PAGE;
        for found in &page {
            if input.since.is_some_and(|since| found.1.at.saturating_add(DISORDER) < since) {
                return Ok(ListEventsOutput { entries, next_token: None, newest });
            }
            before = Some(found.0);
            if filter.wants(&found.1) {
                entries.push(JournalEntry::from(found));
                if entries.len() == limit {
                    return Ok(ListEventsOutput { entries, next_token: before.map(|b| b.to_string()), newest });
                }
            }
        }
        if over || looked >= LOOKED_MAX {
            let next_token = before.filter(|_| !over).map(|b| b.to_string());
            return Ok(ListEventsOutput { entries, next_token, newest });
        }
    }
}

/// Oldest first, and where to go on.
fn follow(
    events: &Events,
    ctx: &Ctx,
    filter: &Filter<'_>,
    after: Position,
    limit: usize,
) -> Result<ListEventsOutput, Fault> {
    let found = journal::newer(&*events.store, &ctx.place, after, limit).map_err(unreadable)?;
    let newest = found.last().map_or(after, |(at, _)| *at);
    let entries = found.iter().filter(|(_, e)| filter.wants(e)).map(JournalEntry::from).collect();
    Ok(ListEventsOutput { entries, next_token: None, newest: Some(newest.to_string()) })
}

const NO_TRACE: &str =
    "a trace id has the form 1-5759e988-bd862e3fe1be46a994272793, or is the id of the chain's first event";

const KINDS: &[&str] =
    &["accepted", "matched", "attempted", "finished", "settled", "retried", "dead_lettered", "discarded", "redriven"];

const OUTCOMES: &[&str] =
    &["succeeded", "function_error", "timed_out", "out_of_memory", "throttled", "system_error", "unknown", "failed"];

fn check_words(input: &ListEventsInput) -> Result<(), Fault> {
    for (what, word, known) in [("Kind", &input.kind, KINDS), ("Outcome", &input.outcome, OUTCOMES)] {
        if let Some(word) = word
            && !known.contains(&word.as_str())
        {
            return Err(invalid(format!("{what} is one of {}, not {word:?}", known.join(", "))));
        }
    }
    Ok(())
}

/// A trace id as headers write it, or the id of the first event.
pub(super) fn root_of(text: &str) -> Option<EventId> {
    trace::read_root(text).or_else(|| text.parse().ok())
}

fn position(text: &str) -> Result<Position, Fault> {
    text.parse().map_err(|e: flint_store::ReadError| invalid(e.to_string()))
}

impl Filter<'_> {
    fn wants(&self, entry: &Entry) -> bool {
        let input = self.input;
        let of_function = |name: &String| {
            [&entry.target, &entry.source].into_iter().flatten().any(|arn| function_of(arn).as_ref() == Some(name))
        };
        let of_source =
            |source: &String| entry.source.as_ref().is_some_and(|s| s == source || s.ends_with(&format!(":{source}")));
        self.root.is_none_or(|root| entry.lineage.root == root)
            && input.until.is_none_or(|until| entry.at <= until)
            && input.since.is_none_or(|since| entry.at >= since)
            && input.function_name.as_ref().is_none_or(of_function)
            && input.source.as_ref().is_none_or(of_source)
            && input.kind.as_ref().is_none_or(|kind| word(&entry.kind) == *kind)
            && input.outcome.as_ref().is_none_or(|outcome| matches_outcome(entry.outcome.as_ref(), outcome))
    }
}

fn matches_outcome(found: Option<&Outcome>, wanted: &str) -> bool {
    match (found, wanted) {
        (None, _) => false,
        (Some(found), "failed") => *found != Outcome::Succeeded,
        (Some(found), wanted) => word(found) == wanted,
    }
}
