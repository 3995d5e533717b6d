//! The bytes of one event in a segment, and of one stream in a group's `streams` file.
//!
//! ```text
//! 0      4      8      12      16  24        32   40
//! magic  crc32c length stream  at  ingested  seq  message…
//! ```
//! Little-endian. The checksum covers everything behind itself, so a flipped bit is never served and a torn tail is
//! recognised. Times are milliseconds since the epoch.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of a record without its message.
pub const HEADER_BYTES: usize = 40;
/// Bytes of the longest message. Reference: `PutLogEvents`, "Each log event can be no larger than 1 MB".
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

const MAGIC: [u8; 4] = [0xF1, b'L', b'o', 0x67];
/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// All of a record but its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub stream: u32,
    pub at: i64,
    pub ingested: i64,
    /// Unique in the group and growing: the order of events with the same time.
    pub seq: u64,
}

/// Appends a record to `out`. The message is at most [`MESSAGE_BYTES_MAX`] long.
pub fn encode(out: &mut Vec<u8>, header: Header, message: &[u8]) {
    debug_assert!(message.len() <= MESSAGE_BYTES_MAX);
    let start = out.len();
    let length = u32::try_from(message.len()).expect("a message is at most a mebibyte");
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&header.stream.to_le_bytes());
    out.extend_from_slice(&header.at.to_le_bytes());
    out.extend_from_slice(&header.ingested.to_le_bytes());
    out.extend_from_slice(&header.seq.to_le_bytes());
    out.extend_from_slice(message);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What stands at the start of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole record; its message ends at `HEADER_BYTES + length`.
    Whole(Header, usize),
    /// Perhaps a record: it takes this many bytes.
    Short(usize),
    Bad,
}

/// Looks at the start of `bytes`. Never panics.
pub fn decode(bytes: &[u8]) -> Decoded {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Decoded::Bad;
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Decoded::Short(HEADER_BYTES) };
    let length = u32_at(header, 8) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Decoded::Bad;
    }
    let Some(record) = bytes.get(..HEADER_BYTES + length) else { return Decoded::Short(HEADER_BYTES + length) };
    if crc32c::crc32c(&record[8..]) != u32_at(header, 4) {
        return Decoded::Bad;
    }
    let header = Header {
        stream: u32_at(header, 12),
        at: u64_at(header, 16).cast_signed(),
        ingested: u64_at(header, 24).cast_signed(),
        seq: u64_at(header, 32),
    };
    Decoded::Whole(header, length)
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Reads the records of a part of a file, in order, and steps over damage.
#[derive(Debug)]
pub struct Scanner {
    file: File,
    /// Where in the file `buffer[0]` comes from.
    base: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How far into the buffer the reader is.
    at: usize,
    /// Where the first byte that belongs to no record stands.
    damage: Option<u64>,
    /// Whether a whole record stands behind the damage: then it is no torn tail.
    resumed: bool,
}

/// A record and where it starts in the file.
#[derive(Debug)]
pub struct Entry {
    pub offset: u64,
    pub header: Header,
    message: Range<usize>,
}

impl Scanner {
    /// Reads the bytes `range` of `file`; a record starts at `range.start`.
    pub fn new(file: File, range: Range<u64>) -> Self {
        let Range { start, end } = range;
        Self { file, base: start, end, buffer: Vec::new(), at: 0, damage: None, resumed: false }
    }

    /// The next whole record, or `None` at the end.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        loop {
            match decode(&self.buffer[self.at..]) {
                Decoded::Whole(header, length) => {
                    let start = self.at + HEADER_BYTES;
                    let entry = Entry { offset: self.position(), header, message: start..start + length };
                    self.at = entry.message.end;
                    self.resumed |= self.damage.is_some();
                    return Ok(Some(entry));
                }
                Decoded::Short(wanted) => {
                    if self.fill(wanted)? {
                        continue;
                    }
                    if self.position() >= self.end {
                        return Ok(None);
                    }
                    self.step_over();
                }
                Decoded::Bad => self.step_over(),
            }
        }
    }

    /// The message of an entry that [`Scanner::advance`] has just answered.
    pub fn message(&self, entry: &Entry) -> &[u8] {
        &self.buffer[entry.message.clone()]
    }

    /// Where the records end that can be read from the start without a gap.
    pub fn whole_until(&self) -> u64 {
        self.damage.unwrap_or_else(|| self.position())
    }

    /// Whether there is damage with whole records behind it.
    pub fn is_damaged_within(&self) -> bool {
        self.resumed
    }

    fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Goes to the next byte that could start a record.
    fn step_over(&mut self) {
        self.damage.get_or_insert(self.base + self.at as u64);
        self.at += 1;
        let rest = &self.buffer[self.at.min(self.buffer.len())..];
        self.at += memchr::memchr(MAGIC[0], rest).unwrap_or(rest.len());
    }

    /// Makes `wanted` bytes available; `false` if the part ends before.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.base += self.at as u64;
        self.at = 0;
        let have = self.buffer.len();
        let left = self.end.saturating_sub(self.base + have as u64);
        let more = wanted.saturating_sub(have).max(CHUNK).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.buffer.resize(have + more, 0);
        let mut filled = have;
        while filled < self.buffer.len() {
            match self.file.read_at(&mut self.buffer[filled..], self.base + filled as u64) {
                // The file is shorter than was said.
                Ok(0) => {
                    self.end = self.base + filled as u64;
                    break;
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer.truncate(filled);
        Ok(filled >= wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn header(seq: u64) -> Header {
        Header { stream: 7, at: 1_000 + seq.cast_signed(), ingested: -1, seq }
    }

    fn bytes(messages: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for (i, message) in messages.iter().enumerate() {
            encode(&mut out, header(i as u64), message);
            ends.push(out.len());
        }
        (out, ends)
    }

    fn scan(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, Scanner) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("writes");
        let mut scanner = Scanner::new(file, 0..bytes.len() as u64);
        let mut found = Vec::new();
        while let Some(entry) = scanner.advance().expect("reads") {
            found.push((entry.header.seq, scanner.message(&entry).to_vec()));
        }
        (found, scanner)
    }

    #[test]
    fn a_tail_torn_anywhere_is_recognised() {
        let (whole, ends) = bytes(&[b"one", b"", b"three"]);
        for cut in ends[0]..whole.len() {
            let (found, scanner) = scan(&whole[..cut]);
            let kept = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(found.len(), kept, "cut at {cut}");
            assert_eq!(scanner.whole_until(), ends[kept - 1] as u64);
            assert!(!scanner.is_damaged_within());
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_record_only() {
        let (whole, ends) = bytes(&[b"one", b"two", b"three"]);
        for bit in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count();
            let (found, scanner) = scan(&bent);
            let seqs: Vec<_> = found.iter().map(|(seq, _)| *seq as usize).collect();
            assert_eq!(seqs, (0..3).filter(|i| *i != hit).collect::<Vec<_>>(), "bit {bit}");
            assert_eq!(scanner.is_damaged_within(), hit < 2);
        }
    }

    #[test]
    fn messages_longer_than_a_chunk_are_read() {
        let long = vec![b'x'; MESSAGE_BYTES_MAX];
        let (whole, _) = bytes(&[&long, b"short", &long]);
        let (found, scanner) = scan(&whole);
        assert_eq!(found.iter().map(|(_, m)| m.len()).collect::<Vec<_>>(), [long.len(), 5, long.len()]);
        assert_eq!(scanner.whole_until(), whole.len() as u64);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(noise in prop::collection::vec(any::<u8>(), 0..300), at in 0..300usize) {
            let (whole, _) = bytes(&[b"one", b"two"]);
            let mut mixed = noise.clone();
            let at = at.min(mixed.len());
            mixed.splice(at..at, whole);
            let (found, _) = scan(&mixed);
            prop_assert!(found.iter().map(|(_, m)| m.as_slice()).collect::<Vec<_>>().ends_with(&[b"one", b"two"]));
        }
    }
}
