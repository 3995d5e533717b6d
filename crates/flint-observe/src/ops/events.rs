//! Reading events: `GetLogEvents` and `FilterLogEvents`.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use flint_kit::Ctx;

use crate::api::{FilterLogEvents, FilteredLogEvent, FilteredLogEvents, GetLogEvents, GotLogEvents, OutputLogEvent};
use crate::filter::Pattern;
use crate::group::Group;
use crate::observe::Observe;
use crate::read::{self, From, PAGE_EVENTS_MAX, Position, Query};
use crate::token::Turn;
use crate::{Error, ops, token};

/// Streams that `FilterLogEvents` takes by name. Reference: "logStreamNames".
const STREAM_NAMES_MAX: usize = 100;

/// Without a token the last events come first, unless `startFromHead` is set; within a page they ascend.
///
/// At the end of the stream the token that was sent comes back.
pub async fn get_log_events(observe: &Arc<Observe>, ctx: &Ctx, input: GetLogEvents) -> Result<GotLogEvents, Error> {
    let name = ops::group_name(&ctx.place, input.log_group_name, input.log_group_identifier)?;
    let limit = ops::limit(input.limit, PAGE_EVENTS_MAX)?;
    let scope = format!("events {:?} {name} {}", ctx.place, input.log_stream_name);
    let start = input.start_time.unwrap_or(i64::MIN);
    let head = Position { at: start, seq: 0 };
    let turn = match input.next_token {
        Some(token) => Turn::parse(&token, &scope)?,
        None if input.start_from_head == Some(true) => Turn::Forward(head),
        None => Turn::Backward(Position { at: i64::MAX, seq: u64::MAX }),
    };
    let is_first = matches!(turn, Turn::Backward(Position { at: i64::MAX, seq: u64::MAX }));
    let from = match turn {
        Turn::Forward(position) => From::Position(position),
        Turn::Backward(position) => From::Before(position),
    };
    let (place, stream) = (ctx.place.clone(), input.log_stream_name);
    let end = input.end_time.unwrap_or(i64::MAX);
    let page = observe
        .read(move |observe| {
            let group = observe.registry.find(&place, &name)?;
            let id = {
                let mut state = group.lock();
                let (_, contents) = state.contents(&group)?;
                contents.streams.of(&stream).ok_or(Error::StreamMissing)?.id
            };
            let times = start.max(expiry(&group, observe))..end;
            let query = Query { streams: Some(HashSet::from([id])), times, from, limit, pattern: Pattern::all() };
            read::page(&group, &query, &*observe.clock)
        })
        .await?;
    // A page lies between two positions; each token goes on from one of them.
    let (before, after) = match (turn, page.events.first(), page.events.last()) {
        (Turn::Forward(position), first, last) => {
            let behind_last = last.map_or(position, |e| next(e.position()));
            (first.map_or(position, |e| e.position()), page.more.unwrap_or(behind_last))
        }
        (Turn::Backward(position), first, last) => {
            // What comes after an empty stream is what comes at all.
            let position = if is_first { head } else { position };
            let first = first.map_or(position, |e| e.position());
            (page.more.unwrap_or(first), last.map_or(position, |e| next(e.position())))
        }
    };
    let output = |e: read::Found| OutputLogEvent {
        timestamp: e.header.at,
        message: e.message,
        ingestion_time: e.header.ingested,
    };
    Ok(GotLogEvents {
        events: page.events.into_iter().map(output).collect(),
        next_forward_token: Turn::Forward(after).render(&scope),
        next_backward_token: Turn::Backward(before).render(&scope),
    })
}

/// The place just behind an event.
fn next(position: Position) -> Position {
    Position { seq: position.seq.saturating_add(1), ..position }
}

/// Events of all wanted streams in the order of time. A page may be empty and still have a token: then a call's budget
/// was used up before anything matched.
pub async fn filter_log_events(
    observe: &Arc<Observe>,
    ctx: &Ctx,
    input: FilterLogEvents,
) -> Result<FilteredLogEvents, Error> {
    let name = ops::group_name(&ctx.place, input.log_group_name, input.log_group_identifier)?;
    let limit = ops::limit(input.limit, PAGE_EVENTS_MAX)?;
    if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
        let text = "logStreamNames and logStreamNamePrefix cannot both be specified.";
        return Err(Error::Invalid(text.to_owned()));
    }
    if input.log_stream_names.as_ref().is_some_and(|names| names.is_empty() || names.len() > STREAM_NAMES_MAX) {
        return Err(Error::Invalid(format!(
            "1 validation error detected: Value at 'logStreamNames' failed to satisfy constraint: Member must have \
             length between 1 and {STREAM_NAMES_MAX}"
        )));
    }
    let pattern = match &input.filter_pattern {
        Some(text) => Pattern::parse(text).map_err(|e| Error::Invalid(e.to_string()))?,
        None => Pattern::all(),
    };
    let scope = format!("filter {:?} {name}", ctx.place);
    let start = input.start_time.unwrap_or(i64::MIN);
    let from = match input.next_token {
        Some(token) => token::position(&token, &scope)?,
        None => Position { at: start, seq: 0 },
    };
    let place = ctx.place.clone();
    // Here the end of the range belongs to it.
    let end = input.end_time.map_or(i64::MAX, |end| end.saturating_add(1));
    observe
        .read(move |observe| {
            let group = observe.registry.find(&place, &name)?;
            let streams = wanted_streams(&group, input.log_stream_names, input.log_stream_name_prefix)?;
            let times = start.max(expiry(&group, observe))..end;
            let query = Query { streams, times, from: From::Position(from), limit, pattern };
            let page = read::page(&group, &query, &*observe.clock)?;
            let ids = EventIds::of(&group);
            let output = |e: read::Found| FilteredLogEvent {
                event_id: ids.id(e.position()),
                log_stream_name: e.stream.to_string(),
                timestamp: e.header.at,
                message: e.message,
                ingestion_time: e.header.ingested,
            };
            Ok(FilteredLogEvents {
                next_token: page.more.map(|position| token::digits(position, &scope)),
                events: page.events.into_iter().map(output).collect(),
                // As the reference does since 2020.
                searched_log_streams: Vec::new(),
            })
        })
        .await
}

fn wanted_streams(
    group: &Group,
    names: Option<Vec<String>>,
    prefix: Option<String>,
) -> Result<Option<HashSet<u32>>, Error> {
    let mut state = group.lock();
    let (_, contents) = state.contents(group)?;
    let streams = &contents.streams;
    match (names, prefix) {
        (Some(names), _) => {
            let ids = names.iter().map(|name| streams.of(name).map(|s| s.id).ok_or(Error::StreamMissing));
            ids.collect::<Result<_, _>>().map(Some)
        }
        (None, Some(prefix)) => {
            let range = streams.range(Bound::Included(&prefix), Bound::Unbounded);
            Ok(Some(range.take_while(|s| s.name.to_string().starts_with(&prefix)).map(|s| s.id).collect()))
        }
        (None, None) => Ok(None),
    }
}

fn expiry(group: &Group, observe: &Observe) -> i64 {
    group.meta().expiry(observe.clock.now().as_millis())
}

/// Makes event ids: 56 digits that sort by time, unique among all groups that ever were and the same at each reading.
struct EventIds {
    group: u64,
}

impl EventIds {
    fn of(group: &Group) -> Self {
        Self { group: group.meta().id.as_u64_pair().0 }
    }

    fn id(&self, Position { at, seq }: Position) -> String {
        format!("3{:014}{seq:020}{:021}", at.clamp(0, 99_999_999_999_999), self.group)
    }
}
