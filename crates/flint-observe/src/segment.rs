//! Segments: the append-only files that hold a group's events, and what is known of each without reading it.
//!
//! A segment is named after the first sequence number that it may hold. When it is full its [`Summary`] is written
//! beside it (`.idx`), so that opening a group reads the newest segment only; a missing or damaged summary is made
//! again from the segment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::record::{HEADER_BYTES, Header, Scanner};
use crate::streams::{self, PackedTimes};

/// Bytes after which a new [`Block`] begins.
const BLOCK_BYTES: u64 = 256 * 1024;
/// The version of the summaries that this program writes and reads.
const VERSION: u32 = 1;

/// What is known of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes of whole records; readers go no further.
    pub bytes: u64,
    pub events: u64,
    /// Bytes of the messages alone.
    pub message_bytes: u64,
    /// The greatest sequence number.
    pub last_seq: u64,
    /// When the first event came in.
    pub opened: i64,
    pub streams: TimesByStream,
    pub blocks: Vec<Block>,
    /// There is damage with whole records behind it: nothing may be appended.
    #[serde(default)]
    pub damaged: bool,
}

/// When a stream's events of one segment, or of all, happened. Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTimes {
    pub first: i64,
    pub last: i64,
    pub last_ingested: i64,
}

/// When the events of each stream of a segment happened. At rest it is a map from number to times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<u32, StreamTimes>", into = "BTreeMap<u32, StreamTimes>")]
pub struct TimesByStream(Vec<(u32, PackedTimes)>);

impl TimesByStream {
    fn merge(&mut self, stream: u32, times: StreamTimes) {
        match self.0.binary_search_by_key(&stream, |(id, _)| *id) {
            Ok(at) => {
                let mut all = StreamTimes::from(self.0[at].1);
                all.merge(times);
                self.0[at].1 = all.into();
            }
            Err(at) => streams::insert(&mut self.0, at, (stream, times.into())),
        }
    }

    pub fn contains(&self, stream: u32) -> bool {
        self.0.binary_search_by_key(&stream, |(id, _)| *id).is_ok()
    }

    /// By number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, StreamTimes)> {
        self.0.iter().map(|(id, times)| (*id, (*times).into()))
    }
}

impl From<BTreeMap<u32, StreamTimes>> for TimesByStream {
    fn from(map: BTreeMap<u32, StreamTimes>) -> Self {
        Self(map.into_iter().map(|(id, times)| (id, times.into())).collect())
    }
}

impl From<TimesByStream> for BTreeMap<u32, StreamTimes> {
    fn from(times: TimesByStream) -> Self {
        times.iter().collect()
    }
}

/// A stretch of a segment that begins with a record, and the times in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub offset: u64,
    pub first: i64,
    pub last: i64,
}

impl StreamTimes {
    pub fn of(header: &Header) -> Self {
        Self { first: header.at, last: header.at, last_ingested: header.ingested }
    }

    pub fn merge(&mut self, other: StreamTimes) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.last_ingested = self.last_ingested.max(other.last_ingested);
    }
}

impl Summary {
    /// Counts a record that stands at `offset` with a message of `message` bytes.
    pub fn add(&mut self, offset: u64, header: &Header, message: usize) {
        if self.events == 0 {
            self.opened = header.ingested;
        }
        self.events += 1;
        self.message_bytes += message as u64;
        self.last_seq = self.last_seq.max(header.seq);
        self.bytes = offset + (HEADER_BYTES + message) as u64;
        let times = StreamTimes::of(header);
        self.streams.merge(header.stream, times);
        match self.blocks.last_mut() {
            Some(block) if offset - block.offset < BLOCK_BYTES => {
                block.first = block.first.min(header.at);
                block.last = block.last.max(header.at);
            }
            _ => self.blocks.push(Block { offset, first: header.at, last: header.at }),
        }
    }

    /// The least and the greatest time of an event.
    pub fn times(&self) -> Option<(i64, i64)> {
        let first = self.blocks.iter().map(|b| b.first).min()?;
        let last = self.blocks.iter().map(|b| b.last).max()?;
        Some((first, last))
    }

    /// The stretches that may hold events with `from <= at < to`, neighbours joined.
    pub fn ranges(&self, from: i64, to: i64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            if block.last < from || block.first >= to {
                continue;
            }
            let end = self.blocks.get(i + 1).map_or(self.bytes, |next| next.offset);
            match ranges.last_mut() {
                Some(range) if range.end == block.offset => range.end = end,
                _ => ranges.push(block.offset..end),
            }
        }
        ranges
    }

    /// Reads the whole segment `path`.
    ///
    /// Errors: [`Error::Io`]. A torn tail is left out of [`Summary::bytes`]; damage within is stepped over.
    pub fn scan(path: &Path) -> Result<Self, Error> {
        let failed = || Error::io("read", path);
        let file = File::open(path).map_err(failed())?;
        let length = file.metadata().map_err(failed())?.len();
        let mut scanner = Scanner::new(file, 0..length);
        let mut summary = Self::default();
        while let Some(entry) = scanner.advance().map_err(failed())? {
            summary.add(entry.offset, &entry.header, scanner.message(&entry).len());
        }
        if scanner.is_damaged_within() {
            tracing::error!(path = %path.display(), at = scanner.whole_until(), "a log segment is damaged; what can be read is served");
            summary.damaged = true;
        }
        Ok(summary)
    }

    /// The summary of the full segment `path`, from the file beside it or else from the segment itself.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let length = fs::metadata(path).map_err(Error::io("inspect", path))?.len();
        if let Some(summary) = read_index(&index_path(path))
            && summary.bytes <= length
        {
            return Ok(summary);
        }
        let summary = Self::scan(path)?;
        summary.save(path);
        Ok(summary)
    }

    /// Writes the summary beside its segment. Failing is no harm: it can be made again.
    pub fn save(&self, segment: &Path) {
        let path = index_path(segment);
        let json = serde_json::to_string(self).expect("a summary always renders");
        let text = format!("{VERSION} {:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        if let Err(error) = write_whole(&path, text.as_bytes()) {
            tracing::debug!(path = %path.display(), %error, "the summary of a segment could not be written");
        }
    }
}

fn read_index(path: &Path) -> Option<Summary> {
    let text = fs::read_to_string(path).ok()?;
    let (version, rest) = text.trim_end().split_once(' ')?;
    let (crc, json) = rest.split_once(' ')?;
    let sound = version.parse() == Ok(VERSION) && u32::from_str_radix(crc, 16) == Ok(crc32c::crc32c(json.as_bytes()));
    if sound { serde_json::from_str(json).ok() } else { None }
}

/// Writes a file beside `path` and renames it over. Not synced.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    File::create(&temporary)?.write_all(bytes)?;
    fs::rename(temporary, path)
}

/// The path of the segment of `dir` whose first sequence number is `base`.
pub fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// Removes a segment and its summary.
pub fn remove(segment: &Path) -> io::Result<()> {
    match fs::remove_file(index_path(segment)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::remove_file(segment)
}

/// The first sequence numbers of the segments in `dir`, ascending.
pub fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|n| n.strip_suffix(".seg")).and_then(|n| n.parse::<u64>().ok());
        bases.extend(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    fn segment(dir: &Path, events: &[(u32, i64, usize)]) -> PathBuf {
        let path = segment_path(dir, 0);
        let mut bytes = Vec::new();
        for (seq, (stream, at, length)) in events.iter().enumerate() {
            let header = Header { stream: *stream, at: *at, ingested: 50, seq: seq as u64 };
            record::encode(&mut bytes, header, &vec![b'x'; *length]);
        }
        fs::write(&path, bytes).expect("writes");
        path
    }

    #[test]
    fn a_summary_is_the_same_from_both_sources() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = segment(dir.path(), &[(1, 10, 3), (2, 5, 300_000), (1, 20, 0)]);
        let scanned = Summary::load(&path).expect("scans");
        assert!(index_path(&path).exists());
        assert_eq!(Summary::load(&path).expect("loads"), scanned);
        assert_eq!((scanned.events, scanned.message_bytes, scanned.last_seq), (3, 300_003, 2));
        assert_eq!(scanned.times(), Some((5, 20)));
        assert_eq!(scanned.streams.iter().next(), Some((1, StreamTimes { first: 10, last: 20, last_ingested: 50 })));
        assert_eq!(list(dir.path()).expect("lists"), [0]);
        // A damaged summary is made again.
        let mut text = fs::read_to_string(index_path(&path)).expect("reads");
        text = text.replace("\"events\":3", "\"events\":4");
        fs::write(index_path(&path), text).expect("writes");
        assert_eq!(Summary::load(&path).expect("scans again"), scanned);
        remove(&path).expect("removes");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
    }

    #[test]
    fn ranges_leave_out_blocks_of_other_times() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = segment(dir.path(), &[(1, 10, 300_000), (1, 20, 300_000), (1, 30, 300_000), (1, 40, 1)]);
        let summary = Summary::scan(&path).expect("scans");
        let one = (HEADER_BYTES + 300_000) as u64;
        let check = |from, to, expected: Option<(u64, u64)>| {
            let found: Vec<_> = summary.ranges(from, to).iter().map(|r| (r.start, r.end)).collect();
            assert_eq!(found, Vec::from_iter(expected), "{from}..{to}");
        };
        check(0, 100, Some((0, summary.bytes)));
        check(20, 30, Some((one, 2 * one)));
        check(20, 31, Some((one, 3 * one)));
        check(50, 60, None);
    }
}
