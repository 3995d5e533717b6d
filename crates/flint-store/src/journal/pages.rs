//! Entries kept packed: runs on whose record no state hangs, of which there are very many. A page holds the entries of one
//! batch; those of one event are found by reading pages, of which a place keeps those with the newest entries.

use bytes::Bytes;
use flint_base::EventId;

use super::{Entry, Position, position_at_end, position_bytes};
use crate::error::ReadError;
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Store};

/// Key: place, position of the first entry. Value: a page.
pub const PAGES: Keyspace = Keyspace::new("journal-pages");

/// Bytes of a page's entries at most, but for one that is larger by itself.
const PAGE_BYTES: usize = 48 << 10;
const LAYOUT: u8 = 1;
/// Layout, then the number of entries.
const HEAD: usize = 3;
/// Event id and length before each entry.
const ENTRY_HEAD: usize = 20;

/// A page that is being filled.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    count: u16,
}

impl Draft {
    fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&[LAYOUT, 0, 0]);
        Self { bytes, count: 0 }
    }

    fn push(&mut self, event: &EventId, entry: &[u8]) {
        self.bytes.extend_from_slice(event.as_bytes());
        let len = u32::try_from(entry.len()).expect("a value is at most 64 KiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(entry);
        self.count += 1;
    }

    fn finish(mut self) -> (u16, Bytes) {
        self.bytes[1..HEAD].copy_from_slice(&self.count.to_le_bytes());
        self.bytes.shrink_to_fit();
        (self.count, self.bytes.into())
    }
}

/// Packs entries into pages, each of one place: place, number of entries, page.
pub(crate) fn pack(entries: Vec<Entry>) -> Vec<(Key, u16, Bytes)> {
    let mut pages = Vec::new();
    let mut open: Vec<(flint_model::Place, Draft)> = Vec::new();
    let alone = entries.len() == 1;
    for entry in entries {
        let encoded = entry.encode();
        let at = match open.iter().position(|(place, _)| *place == entry.place) {
            Some(at) => at,
            None => {
                // What a page of a busy server comes to, or one entry.
                let capacity = if alone { HEAD + ENTRY_HEAD + encoded.len() } else { PAGE_BYTES + 1024 };
                open.push((entry.place.clone(), Draft::new(capacity)));
                open.len() - 1
            }
        };
        let draft = &mut open[at].1;
        draft.push(&entry.lineage.event, &encoded);
        if draft.bytes.len() >= PAGE_BYTES {
            let (place, draft) = open.swap_remove(at);
            let (count, page) = draft.finish();
            pages.push((Key::for_place(&place), count, page));
        }
    }
    pages.extend(open.into_iter().map(|(place, draft)| {
        let (count, page) = draft.finish();
        (Key::for_place(&place), count, page)
    }));
    pages
}

/// How many entries a page holds.
pub(crate) fn count(page: &[u8]) -> Result<u16, ReadError> {
    match page.split_first_chunk::<HEAD>() {
        Some(([LAYOUT, low, high], _)) => Ok(u16::from_le_bytes([*low, *high])),
        _ => Err(ReadError("journal: a page of an unknown layout".to_owned())),
    }
}

/// The entries of a page, oldest first: event and encoded entry.
fn entries(page: &[u8]) -> Result<impl Iterator<Item = (EventId, &[u8])>, ReadError> {
    count(page)?;
    let mut rest = &page[HEAD..];
    Ok(std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<ENTRY_HEAD>()?;
        let (event, len) = head.split_first_chunk::<16>()?;
        let len = u32::from_le_bytes(*len.first_chunk()?) as usize;
        let (entry, behind) = behind.split_at_checked(len)?;
        rest = behind;
        Some((EventId::from_bytes(*event), entry))
    }))
}

fn positions(first: Position) -> impl Iterator<Item = Position> {
    (first.index..=u16::MAX).map(move |index| Position { version: first.version, index })
}

/// Packed entries of a place in the direction's order: newest first and older than `beyond`, or oldest first and newer.
pub(super) fn walk(
    store: &dyn Store,
    place: &Key,
    beyond: Option<Position>,
    limit: usize,
    direction: Direction,
) -> Result<Vec<(Position, Entry)>, ReadError> {
    let mut found = Vec::new();
    let mut range = KeyRange::prefix(place);
    if let Some(beyond) = beyond {
        let key = place.clone().raw(&position_bytes(beyond));
        range = match direction {
            Direction::Reverse => range.before(&key),
            // The page that begins at or before it may go on behind it.
            Direction::Forward => {
                let up_to = KeyRange { end: Some(key.clone().raw(&[0])), ..range.clone() };
                let page = store.scan(PAGES, &up_to, 1, Direction::Reverse)?;
                KeyRange { start: page.into_iter().next().map_or(key, |row| row.key), ..range }
            }
        };
    }
    // One page at a time: most callers want less than one holds.
    while found.len() < limit {
        let rows = store.scan(PAGES, &range, 1, direction)?;
        let Some(row) = rows.into_iter().next() else { break };
        let first = position_at_end(&row.key)?;
        let mut page: Vec<_> = positions(first).zip(entries(&row.value)?).collect();
        if direction == Direction::Reverse {
            page.reverse();
        }
        for (position, (_, entry)) in page {
            let wanted = beyond.is_none_or(|beyond| match direction {
                Direction::Reverse => position < beyond,
                Direction::Forward => position > beyond,
            });
            if wanted && found.len() < limit {
                found.push((position, Entry::decode(entry)?));
            }
        }
        range = match direction {
            Direction::Reverse => range.before(&row.key),
            Direction::Forward => range.after(&row.key),
        };
    }
    Ok(found)
}

/// The packed entries of one event, oldest first. Reads every page of the place.
pub(super) fn of_event(store: &dyn Store, place: &Key, event: EventId) -> Result<Vec<(Position, Entry)>, ReadError> {
    /// Pages in memory at a time.
    const AT_A_TIME: usize = 16;
    let mut found = Vec::new();
    let mut range = KeyRange::prefix(place);
    loop {
        let rows = store.scan(PAGES, &range, AT_A_TIME, Direction::Forward)?;
        for row in &rows {
            let first = position_at_end(&row.key)?;
            for (position, (id, entry)) in positions(first).zip(entries(&row.value)?) {
                if id == event {
                    found.push((position, Entry::decode(entry)?));
                }
            }
        }
        match rows.last() {
            Some(last) if rows.len() == AT_A_TIME => range = range.after(&last.key),
            _ => return Ok(found),
        }
    }
}
