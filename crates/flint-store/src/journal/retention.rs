//! How long the journal keeps what.
//!
//! Entries of what went well go after a day, or when they and their payloads pass a gibibyte, the oldest of the whole
//! installation first; entries of what failed go after fourteen days, or beyond a size of their own. Deciding costs a
//! commit nothing: the state counts what was ever written, and a [`Floor`] says up to where it is gone and how much that
//! was. [`super::keeper`] moves the floor behind, a few milliseconds of work at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use flint_base::Timestamp;

use super::{BY_EVENT, Entry, JOURNAL, LAYOUT, PAGES, Position, RUNS, runs};
use crate::batch::{Batch, Expect, Mutation};
use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Row, Store};

/// Key: empty. Value: [`Floor`].
pub const FLOOR: Keyspace = Keyspace::new("journal-floor");
/// Key: empty. Value: [`Written`] as of a checkpoint.
pub(crate) const LEDGER: Keyspace = Keyspace::new("journal-ledger");

/// What an entry costs besides its text.
pub(crate) const ENTRY_BYTES: u64 = 20;

/// Entries, and rows, that one step looks at.
const STEP_ENTRIES: usize = 2_000;
const STEP_ROWS: usize = 160;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of what went well; in milliseconds.
    pub well_ms: i64,
    /// Entries and payloads together.
    pub well_bytes: u64,
    /// Of what failed.
    pub failed_ms: i64,
    /// Entries. What waits for a person is kept beside them.
    pub failed_bytes: u64,
}

impl Default for Limits {
    /// 24 hours or 1 GiB, whichever comes first; fourteen days, and at most 1 GiB.
    fn default() -> Self {
        const HOUR_MS: i64 = 3_600_000;
        Self { well_ms: 24 * HOUR_MS, well_bytes: 1 << 30, failed_ms: 14 * 24 * HOUR_MS, failed_bytes: 1 << 30 }
    }
}

/// What was ever written to the journal, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries of what went well.
    pub well: u64,
    /// Entries of what failed.
    pub failed: u64,
    /// Payloads, each time that one is kept.
    pub payloads: u64,
    /// The last commit that is counted.
    pub version: u64,
}

impl Written {
    pub(crate) fn encode(self) -> Bytes {
        numbers(&[self.well, self.failed, self.payloads, self.version])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let [well, failed, payloads, version] = read_numbers(bytes)?;
        Ok(Self { well, failed, payloads, version })
    }
}

/// Up to where the journal is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Packed entries before it do not exist any more, whether or not their rows do.
    pub at: Position,
    /// Bytes of entries that are gone, as [`Written`] counts them.
    pub well: u64,
    pub failed: u64,
    /// Of the row; 0 if there is none.
    version: u64,
}

impl Floor {
    pub fn read(store: &dyn Store) -> Result<Self, ReadError> {
        let Some(row) = store.get(FLOOR, &Key::default())? else { return Ok(Self::default()) };
        let [version, index, well, failed] = read_numbers(&row.value)?;
        let index = u16::try_from(index).map_err(|_| ReadError("journal: no floor".to_owned()))?;
        Ok(Self { at: Position { version, index }, well, failed, version: row.version })
    }

    /// Adds it to a batch, if nobody moved it meanwhile.
    fn add_to(self, mut batch: Batch) -> Batch {
        let expect = if self.version == 0 { Expect::Absent } else { Expect::Version(self.version) };
        batch.expect.push((FLOOR, Key::default(), expect));
        let value = numbers(&[self.at.version, self.at.index.into(), self.well, self.failed]);
        batch.put(FLOOR, Key::default(), value)
    }
}

fn numbers(all: &[u64]) -> Bytes {
    [LAYOUT].into_iter().chain(all.iter().flat_map(|n| n.to_le_bytes())).collect()
}

fn read_numbers<const N: usize>(bytes: &[u8]) -> Result<[u64; N], ReadError> {
    let read = bytes.strip_prefix(&[LAYOUT]).and_then(|bytes| {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: &[[u8; 8]; N] = numbers.try_into().ok()?;
        rest.is_empty().then(|| numbers.map(u64::from_le_bytes))
    });
    read.ok_or_else(|| ReadError("journal: numbers that cannot be read".to_owned()))
}

/// Bytes of payloads by the commit that kept them last, as a look found them: of what went well alone.
#[derive(Clone, Debug, Default)]
pub struct Payloads {
    by_version: BTreeMap<u64, u64>,
    /// Bytes that came after the look.
    pub newer: u64,
}

impl Payloads {
    /// Beyond it, neighbours are counted as one.
    const MOST: usize = 4_096;

    pub(super) fn add(&mut self, version: u64, bytes: u64) {
        *self.by_version.entry(version).or_default() += bytes;
        if self.by_version.len() > Self::MOST {
            let all: Vec<_> = std::mem::take(&mut self.by_version).into_iter().collect();
            let joined = all.chunks(2).filter_map(|pair| Some((pair.last()?.0, pair.iter().map(|(_, n)| n).sum())));
            self.by_version = joined.collect();
        }
    }

    fn total(&self) -> u64 {
        self.newer + self.by_version.values().sum::<u64>()
    }

    /// Bytes of commits in `from..to`.
    fn between(&self, from: u64, to: u64) -> u64 {
        if from >= to { 0 } else { self.by_version.range(from..to).map(|(_, bytes)| bytes).sum() }
    }
}

/// The next few entries of what went well that are to go; `None` if all that is left stays.
pub fn step(
    store: &dyn Store,
    now: Timestamp,
    limits: Limits,
    payloads: &Payloads,
) -> Result<Option<Batch>, ReadError> {
    // Before the rows: what is written meanwhile is not counted, and nothing goes too early.
    let written = store.journal_written();
    let mut floor = Floor::read(store)?;
    let oldest = now.as_millis().saturating_sub(limits.well_ms);
    let mut left = written.well.saturating_sub(floor.well)
        + payloads.total().saturating_sub(payloads.between(0, floor.at.version));
    let mut heads = Heads::open(store, false)?;
    let mut batch = Batch::new();
    let mut moved = false;
    for _ in 0..STEP_ENTRIES {
        let Some(next) = heads.first() else { break };
        // Of what came meanwhile not every place is known.
        if next.at.version > written.version {
            break;
        }
        // All of that commit is gone, and with it its payloads.
        if moved && next.at.version > floor.at.version && floor.at.index > 0 {
            left = left.saturating_sub(payloads.between(floor.at.version, floor.at.version + 1));
            floor.at = Position { version: floor.at.version + 1, index: 0 };
        }
        if next.at >= floor.at {
            if Entry::at(&next.entry)?.as_millis() >= oldest && left <= limits.well_bytes {
                break;
            }
            let after = Position { version: next.at.version, index: next.at.index.saturating_add(1) };
            let bytes = ENTRY_BYTES + next.entry.len() as u64;
            left = left.saturating_sub(bytes + payloads.between(floor.at.version, after.version));
            floor.well += bytes;
            floor.at = after;
            moved = true;
        }
        if let Some((keyspace, key)) = heads.pass(store)? {
            batch.write.push(Mutation::Delete(keyspace, key.clone()));
            if keyspace == RUNS {
                batch.write.push(Mutation::Delete(super::DIGESTS, key));
            }
        }
        if batch.write.len() >= STEP_ROWS {
            break;
        }
    }
    if moved && heads.first().is_none() {
        floor.at = Position { version: floor.at.version + 1, index: 0 };
    }
    Ok((moved || !batch.write.is_empty()).then(|| floor.add_to(batch)))
}

/// As [`step`], for what failed.
pub fn step_failed(store: &dyn Store, now: Timestamp, limits: Limits) -> Result<Option<Batch>, ReadError> {
    let written = store.journal_written();
    let mut floor = Floor::read(store)?;
    let before = |ms: i64| now.as_millis().saturating_sub(ms);
    let mut left = written.failed.saturating_sub(floor.failed);
    let mut heads = Heads::open(store, true)?;
    let mut batch = Batch::new();
    while batch.write.len() < STEP_ROWS
        && let Some(next) = heads.first()
    {
        if next.at.version > written.version {
            break;
        }
        let entry = Entry::decode(&next.entry)?;
        // Those of what went well are of an earlier version, which wrote them there.
        let age = if entry.went_well() { limits.well_ms } else { limits.failed_ms };
        if entry.at.as_millis() >= before(age) && left <= limits.failed_bytes {
            break;
        }
        let bytes = ENTRY_BYTES + next.entry.len() as u64;
        left = left.saturating_sub(bytes);
        floor.failed += bytes;
        let by_event = super::event_key(&Key::for_place(&entry.place), entry.lineage.event.as_bytes(), next.at);
        batch.write.push(Mutation::Delete(BY_EVENT, by_event));
        batch.write.extend(heads.pass(store)?.map(|(keyspace, key)| Mutation::Delete(keyspace, key)));
    }
    Ok((!batch.write.is_empty()).then(|| floor.add_to(batch)))
}

/// The oldest entries of every place, in the order of their positions.
struct Heads {
    lines: Vec<Line>,
}

/// Entries of one place, oldest first.
struct Line {
    /// One by one in [`JOURNAL`], or packed in the two others.
    failed: bool,
    pages: KeyRange,
    runs: KeyRange,
    ahead: VecDeque<Ahead>,
}

struct Ahead {
    at: Position,
    entry: Bytes,
    /// Its row, if it is the last in it.
    row: Option<(Keyspace, Key)>,
}

impl Heads {
    fn open(store: &dyn Store, failed: bool) -> Result<Self, ReadError> {
        let keyspaces: &[Keyspace] = if failed { &[JOURNAL] } else { &[PAGES, RUNS] };
        let mut places = BTreeSet::new();
        for keyspace in keyspaces {
            places.extend(runs::places(store, *keyspace)?);
        }
        let mut lines = Vec::new();
        for place in places {
            let range = KeyRange::prefix(&place);
            let mut line = Line { failed, pages: range.clone(), runs: range, ahead: VecDeque::new() };
            line.fill(store)?;
            lines.push(line);
        }
        Ok(Self { lines })
    }

    fn first_line(&mut self) -> Option<&mut Line> {
        let known = self.lines.iter_mut().filter(|line| !line.ahead.is_empty());
        known.min_by_key(|line| line.ahead.front().map(|ahead| ahead.at))
    }

    fn first(&mut self) -> Option<&Ahead> {
        self.first_line()?.ahead.front()
    }

    /// Goes on behind the first; answers the row that ends with it.
    fn pass(&mut self, store: &dyn Store) -> Result<Option<(Keyspace, Key)>, ReadError> {
        let Some(line) = self.first_line() else { return Ok(None) };
        let row = line.ahead.pop_front().and_then(|ahead| ahead.row);
        if line.ahead.is_empty() {
            line.fill(store)?;
        }
        Ok(row)
    }
}

impl Line {
    fn fill(&mut self, store: &dyn Store) -> Result<(), ReadError> {
        const PAGES_AT_A_TIME: usize = 32;
        if self.failed {
            for row in store.scan(JOURNAL, &self.pages, PAGES_AT_A_TIME, Direction::Forward)? {
                self.pages = self.pages.after(&row.key);
                let at = super::position_at_end(&row.key)?;
                self.ahead.push_back(Ahead { at, entry: row.value, row: Some((JOURNAL, row.key)) });
            }
            return Ok(());
        }
        // Pages before runs: a checkpoint turns the ones into the others. So nothing is missed that stands before a page.
        let pages = store.scan(PAGES, &self.pages, PAGES_AT_A_TIME, Direction::Forward)?;
        let run = store.scan(RUNS, &self.runs, 1, Direction::Forward)?.into_iter().next();
        let until = run.as_ref().map(|run| run.key.clone());
        let ahead_of_run = pages.into_iter().take_while(|page| until.as_ref().is_none_or(|run| page.key < *run));
        for page in ahead_of_run {
            self.pages = self.pages.after(&page.key);
            self.take(PAGES, page)?;
        }
        if self.ahead.is_empty()
            && let Some(run) = run
        {
            self.runs = self.runs.after(&run.key);
            self.take(RUNS, run)?;
        }
        Ok(())
    }

    fn take(&mut self, keyspace: Keyspace, row: Row) -> Result<(), ReadError> {
        let entries = runs::unpack(keyspace, &row.key, &row.value)?;
        self.ahead.extend(entries.into_iter().map(|(at, _, entry)| Ahead { at, entry, row: None }));
        if let Some(last) = self.ahead.back_mut() {
            last.row = Some((keyspace, row.key));
        }
        Ok(())
    }
}
