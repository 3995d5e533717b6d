//! Packed entries in the index: a checkpoint joins a place's pages into *runs* of many commits, so that a day of a busy
//! server is thousands of rows and not millions. What an entry says and where it stands does not change by that.
//!
//! Beside each run lies a *digest*: short hashes of the events that it tells of, and of the roots of their chains. Who
//! looks for one event reads all digests (4 bytes an event) and the few runs that may hold it.

use bytes::Bytes;
use flint_base::EventId;

use super::{Entry, PAGES, Position, pages, place_key, split_position};
use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Store};

/// Key: place, position of the first entry. Value: a run.
pub const RUNS: Keyspace = Keyspace::new("journal-runs");
/// Key: as in [`RUNS`]. Value: a digest.
pub const DIGESTS: Keyspace = Keyspace::new("journal-run-digests");

/// Bytes of a run at most, but for one of a single entry: with its key it fits one of the index's largest pages.
const RUN_BYTES: usize = 60 << 10;
const LAYOUT: u8 = 1;
/// Layout, then the number of entries.
const HEAD: usize = 3;
/// Position, event id and length before each entry.
const ENTRY_HEAD: usize = 30;

/// A row that takes the place of pages.
pub(crate) struct Joined {
    pub keyspace: Keyspace,
    pub key: Key,
    /// Of the newest commit in it.
    pub version: u64,
    pub value: Bytes,
}

/// Joins pages that come in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    place: Vec<u8>,
    first: Position,
    last: Position,
    run: Vec<u8>,
    count: u16,
    hashes: Vec<u32>,
}

impl Joiner {
    /// Takes a page; gives what is full by it. `None`: the row is no page that this program knows.
    pub fn add(&mut self, key: &Key, page: &Bytes, out: &mut Vec<Joined>) -> Option<()> {
        let (place, first) = split_position(key)?;
        if place != self.place {
            self.finish(out);
            self.place = place.to_vec();
        }
        for (position, (event, entry)) in pages::positions(first).zip(pages::entries(page).ok()?) {
            if self.run.len() + ENTRY_HEAD + entry.len() > RUN_BYTES {
                self.finish(out);
            }
            self.push(position, event, entry);
        }
        Some(())
    }

    fn push(&mut self, position: Position, event: EventId, entry: &[u8]) {
        if self.count == 0 {
            self.first = position;
            self.run.extend_from_slice(&[LAYOUT, 0, 0]);
        }
        self.last = position;
        self.run.extend_from_slice(&position.version.to_le_bytes());
        self.run.extend_from_slice(&position.index.to_le_bytes());
        self.run.extend_from_slice(event.as_bytes());
        let len = u32::try_from(entry.len()).expect("a value is at most 64 KiB");
        self.run.extend_from_slice(&len.to_le_bytes());
        self.run.extend_from_slice(entry);
        self.count += 1;
        self.hashes.push(hash(event));
        if let Some(root) = root_of(entry).filter(|root| *root != event) {
            self.hashes.push(hash(root));
        }
    }

    /// Gives what is begun.
    pub fn finish(&mut self, out: &mut Vec<Joined>) {
        if self.count == 0 {
            return;
        }
        let mut run = std::mem::take(&mut self.run);
        run[1..HEAD].copy_from_slice(&self.count.to_le_bytes());
        self.count = 0;
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.sort_unstable();
        hashes.dedup();
        let digest: Vec<u8> = [LAYOUT].into_iter().chain(hashes.into_iter().flat_map(u32::to_le_bytes)).collect();
        let key = super::entry_key(&Key::from_bytes(self.place.clone()), self.first);
        let version = self.last.version;
        out.push(Joined { keyspace: RUNS, key: key.clone(), version, value: run.into() });
        out.push(Joined { keyspace: DIGESTS, key, version, value: digest.into() });
    }
}

/// The root of an encoded entry, without reading all of it: quotes inside of texts are escaped, so this is the field.
fn root_of(entry: &[u8]) -> Option<EventId> {
    const FIELD: &[u8] = b"\"root\":\"";
    const ID: usize = 36;
    let start = entry.windows(FIELD.len()).position(|part| part == FIELD)? + FIELD.len();
    std::str::from_utf8(entry.get(start..start + ID)?).ok()?.parse().ok()
}

fn hash(event: EventId) -> u32 {
    crc32c::crc32c(event.as_bytes())
}

/// The entries of a run, oldest first.
pub(super) fn entries(run: &[u8]) -> Result<impl Iterator<Item = (Position, EventId, &[u8])>, ReadError> {
    if run.len() < HEAD || run[0] != LAYOUT {
        return Err(ReadError("journal: a run of an unknown layout".to_owned()));
    }
    let mut rest = &run[HEAD..];
    Ok(std::iter::from_fn(move || {
        let (version, behind) = rest.split_first_chunk::<8>()?;
        let (index, behind) = behind.split_first_chunk::<2>()?;
        let (event, behind) = behind.split_first_chunk::<16>()?;
        let (len, behind) = behind.split_first_chunk::<4>()?;
        let (entry, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = behind;
        let position = Position { version: u64::from_le_bytes(*version), index: u16::from_le_bytes(*index) };
        Some((position, EventId::from_bytes(*event), entry))
    }))
}

/// The entries of a row of [`PAGES`] or [`RUNS`], oldest first.
pub(super) fn unpack(
    keyspace: Keyspace,
    key: &Key,
    value: &Bytes,
) -> Result<Vec<(Position, EventId, Bytes)>, ReadError> {
    if keyspace == PAGES {
        let first = super::position_at_end(key)?;
        let found = pages::positions(first).zip(pages::entries(value)?);
        return Ok(found.map(|(at, (event, entry))| (at, event, value.slice_ref(entry))).collect());
    }
    Ok(entries(value)?.map(|(at, event, entry)| (at, event, value.slice_ref(entry))).collect())
}

/// The runs of a place that may tell of an event, or of the chain that it is the root of.
pub(super) fn that_may_know(
    store: &dyn Store,
    place: &Key,
    event: EventId,
    mut look: impl FnMut(Position, EventId, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    /// Digests in memory at a time: about a megabyte.
    const AT_A_TIME: usize = 512;
    let wanted = hash(event).to_le_bytes();
    let mut range = KeyRange::prefix(place);
    loop {
        let rows = store.scan(DIGESTS, &range, AT_A_TIME, Direction::Forward)?;
        for row in &rows {
            let hashes = row.value.get(1..).unwrap_or_default().as_chunks::<4>().0;
            if hashes.contains(&wanted)
                && let Some(run) = store.get(RUNS, &row.key)?
            {
                entries(&run.value)?.try_for_each(|(at, event, entry)| look(at, event, entry))?;
            }
        }
        match rows.last() {
            Some(last) if rows.len() == AT_A_TIME => range = range.after(&last.key),
            _ => return Ok(()),
        }
    }
}

/// Packed entries of a place in the direction's order: newest first and older than `beyond`, or oldest first and newer.
/// Those below `floor` are gone.
pub(super) fn walk(
    store: &dyn Store,
    keyspace: Keyspace,
    place: &Key,
    beyond: Option<Position>,
    floor: Position,
    limit: usize,
    direction: Direction,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let whole = KeyRange::prefix(place);
    let mut range = match (beyond, direction) {
        (None, Direction::Reverse) => whole,
        (Some(beyond), Direction::Reverse) => whole.before(&super::entry_key(place, beyond)),
        (_, Direction::Forward) => {
            // The row that begins at or before it may go on behind it.
            let key = super::entry_key(place, beyond.unwrap_or_default().max(floor));
            let up_to = KeyRange { end: Some(key.clone().raw(&[0])), ..whole.clone() };
            let row = store.scan(keyspace, &up_to, 1, Direction::Reverse)?;
            KeyRange { start: row.into_iter().next().map_or(key, |row| row.key), ..whole }
        }
    };
    // Most callers want less than a run holds; a page often holds one entry.
    let rows_max = if keyspace == PAGES { limit.clamp(1, 64) } else { 1 };
    let mut found = Vec::new();
    while found.len() < limit {
        let rows = store.scan(keyspace, &range, rows_max, direction)?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else { break };
        let over = rows.len() < rows_max;
        for row in rows {
            let mut entries = unpack(keyspace, &row.key, &row.value)?;
            if direction == Direction::Reverse {
                entries.reverse();
            }
            for (position, _, entry) in entries {
                let wanted = position >= floor
                    && beyond.is_none_or(|beyond| match direction {
                        Direction::Reverse => position < beyond,
                        Direction::Forward => position > beyond,
                    });
                if wanted && found.len() < limit {
                    found.push((position, Entry::decode(&entry)?));
                }
            }
        }
        let below = direction == Direction::Reverse && super::position_at_end(&last)? < floor;
        if over || below {
            break;
        }
        range = match direction {
            Direction::Reverse => range.before(&last),
            Direction::Forward => range.after(&last),
        };
    }
    Ok(found)
}

/// The places that have rows in a keyspace whose keys begin with one.
pub(super) fn places(store: &dyn Store, keyspace: Keyspace) -> Result<Vec<Key>, ReadError> {
    let mut places = Vec::new();
    let mut range = KeyRange::all();
    while let Some(row) = store.scan(keyspace, &range, 1, Direction::Forward)?.into_iter().next() {
        let place = place_key(&row.key).ok_or_else(|| ReadError("journal: a key without a place".to_owned()))?;
        let Some(end) = KeyRange::prefix(&place).end else { break };
        places.push(place);
        range = KeyRange { start: end, end: None };
    }
    Ok(places)
}
