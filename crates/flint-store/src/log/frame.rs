//! Frames: what one group of batches looks like in a segment.
//!
//! A frame starts at a block boundary and is padded with zeros to the next, so it never shares a block with one that was
//! acknowledged. The checksum covers its position, the position up to which the log was durable when it was written, and
//! its content, and is seeded with the store's id: neither an old frame in a recycled segment, nor another store's, nor
//! bytes inside a value pass for a frame.

/// Unit of writing, in bytes.
pub(crate) const BLOCK: usize = 4096;
const HEADER: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"FLog");

/// Position in the log: segment number x segment size + offset.
pub(crate) type Lsn = u64;

/// Tells this store's frames from all others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub fn of(store_id: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(store_id))
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub lsn: Lsn,
    /// Everything before this position was on stable storage when the frame was written.
    pub durable: Lsn,
    /// Version of its first batch; the others count up.
    pub version: u64,
    /// Bytes of the body.
    pub len: u32,
    /// Batches in the body; 0 for a seal, which only proves what is before it.
    pub count: u32,
    crc: u32,
}

/// A frame being built; its buffer is reused.
#[derive(Debug)]
pub(crate) struct Builder {
    buf: Vec<u8>,
    count: u32,
}

impl Builder {
    pub fn new() -> Self {
        Self { buf: vec![0; HEADER], count: 0 }
    }

    pub fn clear(&mut self) {
        self.buf.truncate(HEADER);
        self.count = 0;
    }

    /// Adds one encoded batch.
    pub fn push(&mut self, batch: &[u8]) {
        self.buf.extend_from_slice(batch);
        self.count += 1;
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the finished frame takes in the log.
    pub fn padded_len(&self) -> u64 {
        pad(self.buf.len())
    }

    /// Writes the header and the padding; the frame as it goes to disk.
    pub fn finish(&mut self, seed: Seed, lsn: Lsn, durable: Lsn, version: u64) -> &[u8] {
        let len = u32::try_from(self.buf.len() - HEADER).expect("a group is at most a few MiB");
        self.buf[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.buf[8..16].copy_from_slice(&lsn.to_le_bytes());
        self.buf[16..24].copy_from_slice(&durable.to_le_bytes());
        self.buf[24..32].copy_from_slice(&version.to_le_bytes());
        self.buf[32..36].copy_from_slice(&len.to_le_bytes());
        self.buf[36..40].copy_from_slice(&self.count.to_le_bytes());
        let crc = content_crc(seed, &self.buf[8..40], &self.buf[HEADER..]);
        self.buf[4..8].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed.0, &self.buf[0..40]);
        self.buf[40..44].copy_from_slice(&crc.to_le_bytes());
        self.buf[44..HEADER].fill(0);
        let padded = usize::try_from(self.padded_len()).expect("fits memory, as its parts do");
        self.buf.resize(padded, 0);
        &self.buf
    }
}

fn content_crc(seed: Seed, header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed.0, header), body)
}

fn pad(len: usize) -> u64 {
    (len as u64).next_multiple_of(BLOCK as u64)
}

impl Header {
    /// Reads the header of a frame that claims to stand at `lsn`; `bytes` begin there.
    pub fn read(seed: Seed, lsn: Lsn, bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let sound = u32_at(0) == MAGIC
            && u32_at(40) == crc32c::crc32c_append(seed.0, &header[0..40])
            && u64_at(8) == lsn
            && u64_at(16) <= lsn;
        sound.then(|| Self {
            lsn,
            durable: u64_at(16),
            version: u64_at(24),
            len: u32_at(32),
            count: u32_at(36),
            crc: u32_at(4),
        })
    }

    /// The body, if all of it is there and intact; `bytes` begin at the frame.
    pub fn body<'a>(&self, seed: Seed, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(HEADER..)?.get(..self.len as usize)?;
        (content_crc(seed, &bytes[8..40], body) == self.crc).then_some(body)
    }

    /// Bytes that the frame takes in the log.
    pub fn padded_len(&self) -> u64 {
        pad(HEADER + self.len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_at_its_place_only() {
        let (seed, other) = (Seed::of(&[1; 16]), Seed::of(&[2; 16]));
        let mut builder = Builder::new();
        builder.push(&[9; 5000]);
        builder.push(&[8; 3]);
        let bytes = builder.finish(seed, 8192, 4096, 7).to_vec();
        assert_eq!(bytes.len(), 8192);
        let header = Header::read(seed, 8192, &bytes).unwrap();
        assert_eq!((header.durable, header.version, header.len, header.count), (4096, 7, 5003, 2));
        assert_eq!(header.padded_len(), 8192);
        assert_eq!(header.body(seed, &bytes).unwrap()[4999..], [9, 8, 8, 8]);
        assert_eq!(Header::read(seed, 4096, &bytes), None);
        assert_eq!(Header::read(other, 8192, &bytes), None);
        for len in 0..HEADER + 5003 {
            let read = Header::read(seed, 8192, &bytes[..len]).and_then(|h| h.body(seed, &bytes[..len]));
            assert_eq!(read, None, "{len}");
        }
        for at in (0..44).chain([48, 4000, 5050]) {
            let mut bent = bytes.clone();
            bent[at] ^= 0x10;
            let read = Header::read(seed, 8192, &bent).and_then(|h| h.body(seed, &bent));
            assert_eq!(read, None, "{at}");
        }
    }
}
