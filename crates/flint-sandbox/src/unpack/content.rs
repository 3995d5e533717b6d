//! An entry's content, unpacked and checked against what its headers say of it.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};

use super::directory::Entry;
use super::source::{Part, Source};

/// As they lie in the archive.
pub const STORED: u16 = 0;
pub const DEFLATED: u16 = 8;

const BUFFER: u64 = 64 << 10;

/// Reads an entry's bytes; fails at its end unless size and checksum are what was said, and where more comes than was said.
pub struct Content {
    packing: Packing,
    crc: crc32fast::Hasher,
    made: u64,
    size: u64,
    crc_said: u32,
}

enum Packing {
    Stored(Part),
    Deflated { input: BufReader<Part>, state: Box<Decompress>, ended: bool },
}

impl Content {
    /// The caller has checked the method and that the data lies inside the archive.
    pub fn new(source: &Source, entry: &Entry<'_>, begin: u64) -> Self {
        let part = source.part(begin, entry.packed);
        let packing = if entry.method == STORED {
            Packing::Stored(part)
        } else {
            let input = BufReader::with_capacity(entry.packed.clamp(1, BUFFER) as usize, part);
            Packing::Deflated { input, state: Box::new(Decompress::new(false)), ended: false }
        };
        Self { packing, crc: crc32fast::Hasher::new(), made: 0, size: entry.size, crc_said: entry.crc }
    }

    fn check_end(&mut self) -> io::Result<()> {
        let whole = match &mut self.packing {
            Packing::Stored(part) => part.is_empty(),
            Packing::Deflated { input, ended, .. } => *ended && input.fill_buf()?.is_empty(),
        };
        if !whole {
            return Err(wrong("its data goes on behind its end, or breaks off"));
        }
        if self.made != self.size {
            return Err(wrong("it is shorter than its header says"));
        }
        if self.crc.clone().finalize() != self.crc_said {
            return Err(wrong("its checksum is wrong"));
        }
        Ok(())
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.packing {
            Packing::Stored(part) => part.read(buffer)?,
            Packing::Deflated { ended: true, .. } => 0,
            Packing::Deflated { input, state, ended } => inflate(input, state, ended, buffer)?,
        };
        if n == 0 && !buffer.is_empty() {
            self.check_end()?;
        }
        self.made += n as u64;
        if self.made > self.size {
            return Err(wrong("it is longer than its header says"));
        }
        self.crc.update(&buffer[..n]);
        Ok(n)
    }
}

/// Fills a part of `buffer`; 0 only at the stream's end or where the input breaks off.
fn inflate(
    input: &mut BufReader<Part>,
    state: &mut Decompress,
    ended: &mut bool,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        let packed = input.fill_buf()?;
        let exhausted = packed.is_empty();
        let (before_in, before_out) = (state.total_in(), state.total_out());
        let status = state
            .decompress(packed, buffer, FlushDecompress::None)
            .map_err(|_| wrong("its data is no deflate stream"))?;
        let (taken, made) = (state.total_in() - before_in, state.total_out() - before_out);
        input.consume(taken as usize);
        *ended = status == Status::StreamEnd;
        if made > 0 || *ended || exhausted {
            return Ok(made as usize);
        }
        if taken == 0 {
            return Err(wrong("its data is no deflate stream"));
        }
    }
}

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
