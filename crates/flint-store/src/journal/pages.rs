//! Entries kept packed: those of what went well, of which there are very many. A page holds the entries of one batch; the
//! next checkpoint puts it into a run.

use bytes::Bytes;
use flint_base::EventId;

use super::{Entry, Position, position_at_end};
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

/// An entry on its way into a page.
pub(crate) struct Packed {
    pub place: flint_model::Place,
    pub event: EventId,
    pub encoded: Bytes,
}

impl Packed {
    pub fn new(entry: Entry, encoded: Bytes) -> Self {
        Self { event: entry.lineage.event, place: entry.place, encoded }
    }
}

/// Packs entries into pages, each of one place: place, number of entries, page.
pub(crate) fn pack(entries: Vec<Packed>) -> Vec<(Key, u16, Bytes)> {
    let mut pages = Vec::new();
    let mut open: Vec<(flint_model::Place, Draft)> = Vec::new();
    let alone = entries.len() == 1;
    for Packed { place: of, event, encoded } in entries {
        let at = match open.iter().position(|(place, _)| *place == of) {
            Some(at) => at,
            None => {
                // What a page of a busy server comes to, or one entry.
                let capacity = if alone { HEAD + ENTRY_HEAD + encoded.len() } else { PAGE_BYTES + 1024 };
                open.push((of, Draft::new(capacity)));
                open.len() - 1
            }
        };
        let draft = &mut open[at].1;
        draft.push(&event, &encoded);
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

fn is_page(page: &[u8]) -> bool {
    page.first_chunk::<HEAD>().is_some_and(|head| head[0] == LAYOUT)
}

/// The entries of a page, oldest first: event and encoded entry.
pub(super) fn entries(page: &[u8]) -> Result<impl Iterator<Item = (EventId, &[u8])>, ReadError> {
    if !is_page(page) {
        return Err(ReadError("journal: a page of an unknown layout".to_owned()));
    }
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

/// Bytes of a page's entries, as [`super::Written`] counts them.
pub(crate) fn bytes(page: &[u8]) -> u64 {
    page.len().saturating_sub(HEAD) as u64
}

/// Where the entries of a page stand.
pub(super) fn positions(first: Position) -> impl Iterator<Item = Position> {
    (first.index..=u16::MAX).map(move |index| Position { version: first.version, index })
}

/// Every packed entry of a place that is not in a run.
pub(super) fn each(
    store: &dyn Store,
    place: &Key,
    mut look: impl FnMut(Position, EventId, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    /// Pages in memory at a time; most are of one entry.
    const AT_A_TIME: usize = 64;
    let mut range = KeyRange::prefix(place);
    loop {
        let rows = store.scan(PAGES, &range, AT_A_TIME, Direction::Forward)?;
        for row in &rows {
            let first = position_at_end(&row.key)?;
            positions(first).zip(entries(&row.value)?).try_for_each(|(at, (event, entry))| look(at, event, entry))?;
        }
        match rows.last() {
            Some(last) if rows.len() == AT_A_TIME => range = range.after(&last.key),
            _ => return Ok(()),
        }
    }
}
