//! Reading the log back: the state up to its end, and the proof that the end is one.
//!
//! Frames follow each other; the first invalid one ends the log, unless the next segment goes on from exactly there.
//! A crash can tear only the group that was being written, and no frame is written before the one ahead of it is
//! durable. So a later frame that says the log was durable beyond the supposed end proves that acknowledged data is
//! damaged, and the store refuses to open.

use std::io;
use std::sync::Arc;

use crate::codec::Decoder;
use crate::disk::{DiskFile, Mode, read_full};
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
    let mut replay = Replay { files, state, decoder: Decoder::default() };
    let mut number = first;
    let mut bytes = Vec::new();
    replay.load(number, &mut bytes)?;
    let mut offset = usize::try_from(mark.offset).unwrap_or(usize::MAX);
    let (offset, end) = loop {
        offset = replay.segment(number, offset, &bytes)?;
        let end = files.lsn(number, offset as u64);
        if !numbers.contains(&(number + 1)) {
            break (offset, end);
        }
        let mut next = Vec::new();
        replay.load(number + 1, &mut next)?;
        if !replay.continues(number + 1, &next, end) {
            break (offset, end);
        }
        (number, bytes, offset) = (number + 1, next, 0);
    };
    replay.search_beyond(number, &bytes, offset, end)?;
    for later in numbers.iter().filter(|n| **n > number) {
        replay.load(*later, &mut bytes)?;
        replay.search_beyond(*later, &bytes, 0, end)?;
    }
    open_tail(files, number, offset as u64)
}

struct Replay<'a> {
    files: &'a Files,
    state: &'a mut State,
    decoder: Decoder,
}

impl Replay<'_> {
    fn load(&self, number: u64, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let path = self.files.path(number);
        let size = usize::try_from(self.files.segment).unwrap_or(usize::MAX);
        let file = self.files.disk.open(&path, Mode::Read).map_err(Error::io("cannot open", &path))?;
        bytes.resize(size, 0);
        let len = read_full(&*file, bytes, 0).map_err(Error::io("cannot read", &path))?;
        bytes.truncate(len);
        Ok(())
    }

    /// Applies a segment's frames from `offset` on; returns the offset of the first that is not one.
    fn segment(&mut self, number: u64, mut offset: usize, bytes: &[u8]) -> Result<usize, Error> {
        let seed = self.files.seed();
        while let Some(rest) = bytes.get(offset..) {
            let lsn = self.files.lsn(number, offset as u64);
            let Some(header) = Header::read(seed, lsn, rest) else { break };
            let Some(body) = header.body(seed, rest) else { break };
            self.apply(&header, body)?;
            offset += usize::try_from(header.padded_len()).unwrap_or(usize::MAX);
        }
        Ok(offset)
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
    fn continues(&self, number: u64, bytes: &[u8], end: Lsn) -> bool {
        let seed = self.files.seed();
        Header::read(seed, self.files.lsn(number, 0), bytes)
            .is_some_and(|header| header.durable == end && header.body(seed, bytes).is_some())
    }

    /// Refuses if a frame at or behind `offset` knows of durable data beyond `end`.
    fn search_beyond(&self, number: u64, bytes: &[u8], offset: usize, end: Lsn) -> Result<(), Error> {
        for at in (offset..bytes.len().max(offset)).step_by(BLOCK) {
            let lsn = self.files.lsn(number, at as u64);
            match Header::read(self.files.seed(), lsn, &bytes[at..]) {
                Some(header) if header.durable > end => return Err(self.damaged_at(end, "is not intact")),
                _ => {}
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
fn open_tail(files: &Files, number: u64, offset: u64) -> Result<Tail, Error> {
    let path = files.path(number);
    let file = files.disk.open(&path, Mode::Write).map_err(Error::io("cannot open", &path))?;
    files.fill(&*file).map_err(Error::io("cannot write", &path))?;
    let made_sure = if offset < files.segment { wipe(&*file, offset) } else { file.sync() };
    made_sure.map_err(Error::io("cannot write", &path))?;
    Ok(Tail { number, file, offset })
}
