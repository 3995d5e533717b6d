//! Finding events: one page, in the order of time, within bounded work and memory.
//!
//! Records stand in the order in which they came in, which is nearly that of time. A page is found by going through
//! the segments that can hold its events and keeping the best; a segment whose events all lie behind the page is not
//! read. When the budget of a call is used up at a place where all before it is known, the page ends there.

use std::collections::{BinaryHeap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flint_base::Clock;

use crate::Error;
use crate::filter::Pattern;
use crate::group::Group;
use crate::record::{Header, Scanner};

/// Events on the largest page. Reference: `GetLogEvents`, "up to 10,000 log events".
pub const PAGE_EVENTS_MAX: usize = 10_000;
/// Bytes of messages on the largest page, each with 26 bytes more; one event fits always.
const PAGE_BYTES_MAX: usize = 1 << 20;
const EVENT_COST: usize = 26;
/// What a call may read and how long it may take before it looks for a place to stop.
const BUDGET_BYTES: u64 = 64 << 20;
const BUDGET_TIME: Duration = Duration::from_secs(1);

/// A place between events: before the event with this time and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub seq: u64,
}

/// Where a page starts and in which direction it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first events at this position and after.
    Position(Position),
    /// The last events before this position.
    Before(Position),
}

/// What is looked for.
#[derive(Debug)]
pub struct Query {
    /// `None`: all streams.
    pub streams: Option<HashSet<u32>>,
    /// Milliseconds since the epoch; the end is left out.
    pub times: Range<i64>,
    pub from: From,
    pub limit: usize,
    pub pattern: Pattern,
}

/// An event that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub header: Header,
    pub stream: Arc<str>,
    pub message: String,
}

impl Found {
    /// Where the event stands.
    pub fn position(&self) -> Position {
        Position { at: self.header.at, seq: self.header.seq }
    }
}

/// Events in ascending order, and where to go on if there may be more in the query's direction.
#[derive(Debug)]
pub struct Page {
    pub events: Vec<Found>,
    pub more: Option<Position>,
}

/// A segment that may hold events of the page.
struct Plan {
    path: PathBuf,
    ranges: Vec<Range<u64>>,
    /// The least rank of an event in it.
    start: u128,
}

/// Positions as numbers that grow in the direction of the query.
#[derive(Clone, Copy)]
struct Ranking {
    backward: bool,
}

impl Ranking {
    fn of(self, position: Position) -> u128 {
        let at = position.at.cast_unsigned() ^ (1 << 63);
        let rank = u128::from(at) << 64 | u128::from(position.seq);
        if self.backward { !rank } else { rank }
    }

    /// The rank from which events are wanted, or `None` if there can be none.
    fn start(self, from: From) -> Option<u128> {
        match from {
            From::Position(position) => Some(self.of(position)),
            // Backward, "before" is one rank behind.
            From::Before(position) => self.of(position).checked_add(1),
        }
    }

    /// The position that a query must start from to go on at `rank`.
    fn resume(self, rank: u128) -> Position {
        // Backward, a query leaves out its position: the one before it in rank is named.
        let rank = if self.backward { (!rank).saturating_add(1) } else { rank };
        let at = u64::try_from(rank >> 64).expect("the upper half of 128 bits") ^ (1 << 63);
        Position { at: at.cast_signed(), seq: rank as u64 }
    }

    fn least(self, first: i64, last: i64) -> u128 {
        if self.backward {
            self.of(Position { at: last, seq: u64::MAX })
        } else {
            self.of(Position { at: first, seq: 0 })
        }
    }
}

/// An event on the page, ordered by its rank alone.
struct Candidate {
    rank: u128,
    header: Header,
    message: Vec<u8>,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// The page so far: the best events, and the rank from which on events are left to the next page.
struct Draft {
    best: BinaryHeap<Candidate>,
    bytes: usize,
    limit: usize,
    end: Option<u128>,
}

impl Draft {
    fn is_behind(&self, rank: u128) -> bool {
        self.end.is_some_and(|end| rank >= end)
    }

    fn add(&mut self, candidate: Candidate) {
        self.bytes += candidate.message.len() + EVENT_COST;
        self.best.push(candidate);
        while self.best.len() > self.limit || (self.bytes > PAGE_BYTES_MAX && self.best.len() > 1) {
            let Some(last) = self.best.pop() else { break };
            self.bytes -= last.message.len() + EVENT_COST;
            self.end = Some(last.rank);
        }
    }

    /// Ends the page at `rank`.
    fn cut(&mut self, rank: u128) {
        if !self.is_behind(rank) {
            self.end = Some(rank);
        }
        while self.best.peek().is_some_and(|last| last.rank >= rank) {
            self.best.pop();
        }
    }
}

/// Finds one page of events. Reads files: call it where blocking is allowed.
///
/// Errors: [`Error::Io`]. A segment that was removed meanwhile has no events.
pub fn page(group: &Group, query: &Query, clock: &dyn Clock) -> Result<Page, Error> {
    let ranking = Ranking { backward: matches!(query.from, From::Before(_)) };
    let Some(start) = ranking.start(query.from) else { return Ok(Page { events: Vec::new(), more: None }) };
    let mut draft =
        Draft { best: BinaryHeap::new(), bytes: 0, limit: query.limit.clamp(1, PAGE_EVENTS_MAX), end: None };
    let deadline = clock.monotonic() + BUDGET_TIME;
    let mut read = 0;
    for plan in plans(group, query, ranking)? {
        if draft.is_behind(plan.start) {
            break;
        }
        // Only here all that ranks lower is known.
        let spent = read >= BUDGET_BYTES || (read > 0 && clock.monotonic() >= deadline);
        if spent && plan.start > start {
            draft.cut(plan.start);
            break;
        }
        read += scan(&plan, query, ranking, start, &mut draft).map_err(Error::io("read", &plan.path))?;
    }
    finish(group, ranking, draft)
}

/// The segments that may hold wanted events, by their least rank.
fn plans(group: &Group, query: &Query, ranking: Ranking) -> Result<Vec<Plan>, Error> {
    // What lies before the start need not be read either.
    let times = match query.from {
        From::Position(position) => query.times.start.max(position.at)..query.times.end,
        From::Before(position) => query.times.start..query.times.end.min(position.at.saturating_add(1)),
    };
    let mut plans = Vec::new();
    let mut state = group.lock();
    let (_, contents) = state.contents(group)?;
    for segment in &contents.segments {
        let summary = &segment.summary;
        let Some((first, last)) = summary.times() else { continue };
        if last < times.start || first >= times.end {
            continue;
        }
        if let Some(wanted) = &query.streams
            && !wanted.iter().any(|id| summary.streams.contains(*id))
        {
            continue;
        }
        let ranges = summary.ranges(times.start, times.end);
        let start = ranking.least(first.max(times.start), last.min(times.end.saturating_sub(1)));
        plans.push(Plan { path: group.segment_path(segment.base), ranges, start });
    }
    drop(state);
    plans.sort_by_key(|plan| plan.start);
    Ok(plans)
}

/// Goes through a segment. Answers how many bytes were read.
fn scan(plan: &Plan, query: &Query, ranking: Ranking, start: u128, draft: &mut Draft) -> io::Result<u64> {
    let file = match File::open(&plan.path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut read = 0;
    for range in &plan.ranges {
        read += range.end - range.start;
        let mut scanner = Scanner::new(file.try_clone()?, range.clone());
        while let Some(entry) = scanner.advance()? {
            let header = entry.header;
            let rank = ranking.of(Position { at: header.at, seq: header.seq });
            let wanted = query.times.contains(&header.at)
                && rank >= start
                && !draft.is_behind(rank)
                && query.streams.as_ref().is_none_or(|ids| ids.contains(&header.stream));
            if !wanted {
                continue;
            }
            let message = scanner.message(&entry);
            if query.pattern.is_all() || query.pattern.matches(&String::from_utf8_lossy(message)) {
                draft.add(Candidate { rank, header, message: message.to_vec() });
            }
        }
    }
    Ok(read)
}

/// Puts the page in order and names the streams; events of deleted streams drop out.
fn finish(group: &Group, ranking: Ranking, draft: Draft) -> Result<Page, Error> {
    let more = draft.end.map(|rank| ranking.resume(rank));
    let mut best = draft.best.into_sorted_vec();
    if ranking.backward {
        best.reverse();
    }
    let mut state = group.lock();
    let (_, contents) = state.contents(group)?;
    let events = best.into_iter().filter_map(|candidate| {
        let Candidate { header, message, .. } = candidate;
        let stream = contents.streams.get(header.stream)?.name.to_string().into();
        let message = match String::from_utf8(message) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        };
        Some(Found { header, stream, message })
    });
    let events = events.collect();
    Ok(Page { events, more })
}
