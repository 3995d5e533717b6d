//! Reading the log back: the state up to its end, and the proof that the end is one.
//!
//! Frames follow each other; the first invalid one ends the log, unless the next segment goes on from exactly there.
//! A crash can tear only the group that was being written, and no frame is written before the one ahead of it is
//! durable. So a later frame that says the log was durable beyond the supposed end proves that acknowledged data is
//! damaged, and the store refuses to open.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::Decoder;
use crate::disk::{DiskFile, Mode, read_full, write_all};
use crate::error::Error;
use crate::index::Mark;
use crate::log::frame::{BLOCK, Header, Lsn};
use crate::log::segment::{Files, wipe};
use crate::state::State;

/// Where the writer goes on.
#[derive(Debug)]
pub(crate) struct Tail {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    pub offset: u64,
}

/// Applies the log from the index's mark on to `state`, and makes its end fit to be written.
pub(crate) fn replay(files: &Files, mark: Mark, state: &mut State) -> Result<Tail, Error> {
    // A life that was killed may have made names that are not durable yet; from here on we rely on them.
    for dir in [&files.dir, &Files::log_dir(&files.dir)] {
        files.disk.sync_dir(dir).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => damaged(files, "the log is missing".to_owned()),
            _ => Error::io("cannot sync", dir)(e),
        })?;
    }
    let first = mark.segment;
    let mut numbers = files.numbers()?;
    files.recycle_below(first);
    numbers.retain(|number| *number >= first);
    if numbers.first() != Some(&first) {
        let found = numbers.first().map_or("there is none".to_owned(), |n| format!("the oldest is {n}"));
        return Err(damaged(files, format!("the log should begin with segment {first}, {found}")));
    }
    let mut replay = Replay { files, state, decoder: Decoder::default(), last: None };
    let mut window = Window::open(files, first)?;
    let mut offset = mark.offset;
    let end = loop {
        offset = replay.segment(&mut window, offset)?;
        let end = files.lsn(window.number, offset);
        if !numbers.contains(&(window.number + 1)) {
            break end;
        }
        let mut next = Window::open(files, window.number + 1)?;
        if !replay.continues(&mut next, end)? {
            break end;
        }
        (window, offset) = (next, 0);
    };
    replay.search_beyond(&mut window, offset, end)?;
    let number = window.number;
    for later in numbers.iter().filter(|n| **n > number) {
        window.move_to(files, *later)?;
        replay.search_beyond(&mut window, 0, end)?;
    }
    let last = replay.last.filter(|last| last.number == number);
    open_tail(files, number, offset, last)
}

/// What is read at once. A segment is looked at in such pieces, so that a start takes no memory that it does not need later.
const WINDOW: usize = 256 << 10;

/// A segment seen through a window that follows its reader.
struct Window {
    number: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Offset of the window's first byte.
    start: u64,
    bytes: Vec<u8>,
    /// How many of them were read: fewer than there are at the file's end.
    len: usize,
}

impl Window {
    fn open(files: &Files, number: u64) -> Result<Self, Error> {
        let path = files.path(number);
        let file = files.disk.open(&path, Mode::Read).map_err(Error::io("cannot open", &path))?;
        Ok(Self { number, path, file, start: 0, bytes: vec![0; WINDOW], len: 0 })
    }

    /// The same window, on another segment.
    fn move_to(&mut self, files: &Files, number: u64) -> Result<(), Error> {
        let bytes = std::mem::take(&mut self.bytes);
        *self = Self { bytes, ..Self::open(files, number)? };
        Ok(())
    }

    /// At least `want` bytes from `offset` on, fewer only at the file's end.
    fn at(&mut self, offset: u64, want: usize) -> Result<&[u8], Error> {
        let inside = |start: u64| offset.checked_sub(start).and_then(|skip| usize::try_from(skip).ok());
        let held = inside(self.start).filter(|skip| skip.checked_add(want).is_some_and(|end| end <= self.len));
        let skip = match held {
            Some(skip) => skip,
            None => {
                if self.bytes.len() < want {
                    self.bytes.resize(want, 0);
                }
                self.len =
                    read_full(&*self.file, &mut self.bytes, offset).map_err(Error::io("cannot read", &self.path))?;
                self.start = offset;
                0
            }
        };
        Ok(&self.bytes[skip..self.len])
    }
}

struct Replay<'a> {
    files: &'a Files,
    state: &'a mut State,
    decoder: Decoder,
    last: Option<Place>,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    offset: u64,
    len: u64,
}

impl Replay<'_> {
    /// Applies a segment's frames from `offset` on; returns the offset of the first that is not one.
    fn segment(&mut self, window: &mut Window, mut offset: u64) -> Result<u64, Error> {
        while let Some(header) = self.header(window, offset)? {
            let Some(body) = self.body(window, offset, &header)? else { break };
            self.apply(&header, body)?;
            self.last = Some(Place { number: window.number, offset, len: header.padded_len() });
            offset += header.padded_len();
        }
        Ok(offset)
    }

    fn header(&self, window: &mut Window, offset: u64) -> Result<Option<Header>, Error> {
        let lsn = self.files.lsn(window.number, offset);
        Ok(Header::read(self.files.seed(), lsn, window.at(offset, BLOCK)?))
    }

    /// The frame's body, if it is intact. A length that leaves the segment is not.
    fn body<'w>(&self, window: &'w mut Window, offset: u64, header: &Header) -> Result<Option<&'w [u8]>, Error> {
        let len = header.padded_len();
        if len > self.files.segment.saturating_sub(offset) {
            return Ok(None);
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(header.body(self.files.seed(), window.at(offset, len)?))
    }

    fn apply(&mut self, header: &Header, mut body: &[u8]) -> Result<(), Error> {
        let due = self.state.version() + 1;
        if header.version != due {
            let what = format!("holds commit {} where {due} is due", header.version);
            return Err(self.damaged_at(header.lsn, &what));
        }
        for version in (due..).take(header.count as usize) {
            let ops = self.decoder.batch(&mut body);
            let ops = ops.ok_or_else(|| self.damaged_at(header.lsn, "holds a batch that cannot be read"))?;
            self.state.apply(version, ops).map_err(|e| damaged(self.files, e.to_string()))?;
        }
        Ok(())
    }

    /// True if the segment's first frame was written when the log ended at `end`.
    fn continues(&self, window: &mut Window, end: Lsn) -> Result<bool, Error> {
        match self.header(window, 0)? {
            Some(header) if header.durable == end => Ok(self.body(window, 0, &header)?.is_some()),
            _ => Ok(false),
        }
    }

    /// Refuses if a frame at or behind `offset` knows of durable data beyond `end`.
    fn search_beyond(&self, window: &mut Window, offset: u64, end: Lsn) -> Result<(), Error> {
        for at in (offset..self.files.segment).step_by(BLOCK) {
            if self.header(window, at)?.is_some_and(|header| header.durable > end) {
                return Err(self.damaged_at(end, "is not intact"));
            }
            if window.len == 0 {
                break; // the file ends before the segment does
            }
        }
        Ok(())
    }

    fn damaged_at(&self, lsn: Lsn, what: &str) -> Error {
        let (number, offset) = (lsn / self.files.segment, lsn % self.files.segment);
        damaged(self.files, format!("the frame in log segment {number} at byte {offset} {what}"))
    }
}

fn damaged(files: &Files, reason: String) -> Error {
    Error::Damaged { path: files.dir.clone(), reason }
}

/// Makes what was read durable (it may be in the page cache alone) and what is behind it impossible to mistake.
///
/// The last frame may be one whose sync failed: then the kernel counts its pages as clean although the disk never had them, and
/// another sync would do nothing. So it is written once more. Every frame before it was durable when it was written.
fn open_tail(files: &Files, number: u64, offset: u64, last: Option<Place>) -> Result<Tail, Error> {
    let path = files.path(number);
    let file = files.disk.open(&path, Mode::Write).map_err(Error::io("cannot open", &path))?;
    files.fill(&*file).map_err(Error::io("cannot write", &path))?;
    if let Some(Place { offset, len, .. }) = last {
        rewrite(&*file, offset, len).map_err(Error::io("cannot write", &path))?;
    }
    let made_sure = if offset < files.segment { wipe(&*file, offset) } else { file.sync() };
    made_sure.map_err(Error::io("cannot write", &path))?;
    Ok(Tail { number, file, offset })
}

fn rewrite(file: &dyn DiskFile, offset: u64, len: u64) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = read_full(file, &mut bytes, offset)?;
    write_all(file, &bytes[..read], offset)
}
