//! An archive's end record and central directory, read so that there is one way to read them.
//!
//! Readers of zip archives disagree where an archive contradicts itself: one believes the last end record, another the first;
//! one believes the offsets, another what it meets on its way. Whoever checks an archive may then see other files than whoever
//! unpacks it. So nothing here is guessed or repaired: records that do not fit each other exactly are refused.
//!
//! Reference: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3 and 4.5.

use super::Trouble;
use super::archive::{not_zip, refuse};
use super::source::{Fields, Source};
use crate::error::Refusal;

const END: &[u8; 4] = b"PK\x05\x06";
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;

const END_SIZE: usize = 22;
const LOCATOR_64_SIZE: u64 = 20;
const END_64_SIZE: u64 = 56;
/// What the record says of its size: without its first two fields.
const END_64_TELLS: u64 = END_64_SIZE - 12;

/// The helper's memory is bounded; a directory of 65,536 entries with ordinary names has a tenth of this.
const MAX_DIRECTORY: u64 = 64 << 20;

/// Extra field of sizes and offsets above 4 GiB.
const EXTRA_64: u16 = 0x0001;
/// Extra field of Info-ZIP with the name in UTF-8.
const EXTRA_NAME: u16 = 0x7075;

/// Where the central directory lies.
#[derive(Debug)]
pub struct Directory {
    pub start: u64,
    pub bytes: Vec<u8>,
    pub count: u64,
}

/// One entry as the central directory has it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    /// Bytes in the archive.
    pub packed: u64,
    /// Bytes unpacked.
    pub size: u64,
    /// Where its local header begins.
    pub header: u64,
    /// Type and permissions; 0 where nothing is said.
    pub mode: u32,
}

/// Finds the one end record and what it points to.
pub fn find(source: &Source, entries_max: u32) -> Result<Directory, Trouble> {
    let length = source.length();
    let tail_length = length.min((END_SIZE + usize::from(u16::MAX)) as u64) as usize;
    let tail_start = length - tail_length as u64;
    let tail = source.take(tail_start, tail_length)?;
    let at = end_record(&tail)?;
    let end_at = tail_start + at as u64;

    let mut f = Fields(&tail[at + 4..at + END_SIZE]);
    let mut end = || -> Option<End> {
        let disks = [f.u16()?.into(), f.u16()?.into()];
        let counts = [f.u16()?.into(), f.u16()?.into()];
        Some(End { disks, counts, size: f.u32()?.into(), start: f.u32()?.into() })
    };
    let end = end().ok_or_else(|| not_zip("it is cut off"))?;
    let (end, directory_end) = match locate_64(source, end_at)? {
        Some((long, at)) => (end.widened(long)?, at),
        None => (end, end_at),
    };
    if end.disks != [0, 0] || end.counts[0] != end.counts[1] {
        return Err(not_zip("it is a part of a split archive"));
    }
    if end.start.checked_add(end.size) != Some(directory_end) {
        return Err(not_zip("its directory does not end where its end record begins"));
    }
    if end.counts[0] > u64::from(entries_max) {
        return Err(Refusal::TooManyEntries(entries_max).into());
    }
    if end.size > MAX_DIRECTORY {
        return Err(not_zip("its directory is too large"));
    }
    Ok(Directory { start: end.start, bytes: source.take(end.start, end.size as usize)?, count: end.counts[0] })
}

/// Where the end record begins in the archive's tail. Of two that could be meant neither is taken.
fn end_record(tail: &[u8]) -> Result<usize, Trouble> {
    let ends_there = |at: usize| {
        let comment = Fields(&tail[at + END_SIZE - 2..]).u16().map(usize::from);
        comment == Some(tail.len() - at - END_SIZE)
    };
    let mut marks = tail.windows(END.len()).enumerate().filter(|(_, w)| *w == END).map(|(at, _)| at).rev();
    let last = marks.next().ok_or_else(|| not_zip("it has no end record"))?;
    // Some readers take the last mark whatever follows it, others the one whose comment ends where the archive does.
    if tail.len() - last < END_SIZE || !ends_there(last) {
        return Err(not_zip("something lies behind its end record, or it is cut off"));
    }
    if marks.any(|at| tail.len() - at >= END_SIZE && ends_there(at)) {
        return Err(not_zip("it has two end records"));
    }
    Ok(last)
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct End {
    disks: [u64; 2],
    counts: [u64; 2],
    size: u64,
    start: u64,
}

impl End {
    /// The long record's values; the short one may only say the same, or that it can't.
    fn widened(self, long: Self) -> Result<Self, Trouble> {
        let agrees = |short: u64, long: u64, cannot: u64| short == long || short == cannot;
        let (few, many) = (u64::from(u16::MAX), u64::from(u32::MAX));
        let fits = (0..2)
            .all(|i| agrees(self.disks[i], long.disks[i], few) && agrees(self.counts[i], long.counts[i], few))
            && agrees(self.size, long.size, many)
            && agrees(self.start, long.start, many);
        if fits { Ok(long) } else { Err(not_zip("its two end records disagree")) }
    }
}

/// The zip64 end record, if there is one, and where it begins: right before its locator, which is right before the end record.
fn locate_64(source: &Source, end_at: u64) -> Result<Option<(End, u64)>, Trouble> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_64_SIZE) else { return Ok(None) };
    let locator = source.take(locator_at, LOCATOR_64_SIZE as usize)?;
    let mut f = Fields(&locator);
    if f.u32() != Some(LOCATOR_64) {
        return Ok(None);
    }
    let lies = || not_zip("its zip64 end record is not where it should be");
    let (disk, at, disks) = (f.u32(), f.u64().ok_or_else(lies)?, f.u32());
    if disk != Some(0) || disks != Some(1) || at.checked_add(END_64_SIZE) != Some(locator_at) {
        return Err(lies());
    }
    let record = source.take(at, END_64_SIZE as usize)?;
    let mut f = Fields(&record);
    if f.u32() != Some(END_64) || f.u64() != Some(END_64_TELLS) {
        return Err(lies());
    }
    let mut end = || -> Option<End> {
        // Versions.
        f.u32()?;
        let disks = [f.u32()?.into(), f.u32()?.into()];
        let counts = [f.u64()?, f.u64()?];
        Some(End { disks, counts, size: f.u64()?, start: f.u64()? })
    };
    Ok(Some((end().ok_or_else(lies)?, at)))
}

impl Directory {
    /// The entries; exactly as many as the end record says, and nothing between or behind them.
    pub fn entries(&self) -> Result<Vec<Entry<'_>>, Trouble> {
        let mut fields = Fields(&self.bytes);
        // Bounded by `find`.
        let mut entries = Vec::with_capacity(self.count as usize);
        for _ in 0..self.count {
            let head = Head::read(&mut fields).ok_or_else(|| not_zip("its directory is damaged"))?;
            entries.push(head.entry()?);
        }
        if !fields.0.is_empty() {
            return Err(not_zip("its directory holds more than its entries"));
        }
        Ok(entries)
    }
}

/// A central header, unread.
struct Head<'a> {
    host: u8,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    disk: u16,
    attributes: u32,
    header: u32,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(f: &mut Fields<'a>) -> Option<Self> {
        if f.u32()? != CENTRAL {
            return None;
        }
        let made_by = f.u16()?;
        // Version needed.
        f.u16()?;
        let (flags, method) = (f.u16()?, f.u16()?);
        // Time and date.
        f.u32()?;
        let (crc, packed, size) = (f.u32()?, f.u32()?, f.u32()?);
        let (name, extra, comment) = (f.u16()?, f.u16()?, f.u16()?);
        let disk = f.u16()?;
        // Internal attributes.
        f.u16()?;
        let (attributes, header) = (f.u32()?, f.u32()?);
        let name = f.bytes(name.into())?;
        let extra = f.bytes(extra.into())?;
        f.bytes(comment.into())?;
        Some(Self {
            host: (made_by >> 8) as u8,
            flags,
            method,
            crc,
            packed,
            size,
            disk,
            attributes,
            header,
            name,
            extra,
        })
    }

    fn entry(&self) -> Result<Entry<'a>, Trouble> {
        let mut long = Long::find(self.name, self.extra)?;
        let (size, packed) = (long.take(self.size)?, long.take(self.packed)?);
        let header = long.take(self.header)?;
        if long.disk(self.disk)? != 0 {
            return Err(refuse(self.name, "lies in another part of a split archive"));
        }
        long.finish(&[size, packed, header])?;
        Ok(Entry {
            name: self.name,
            flags: self.flags,
            method: self.method,
            crc: self.crc,
            packed,
            size,
            header,
            mode: mode(self.host, self.attributes),
        })
    }
}

/// Unix' type and permissions, as far as the archive's maker wrote any.
fn mode(host: u8, attributes: u32) -> u32 {
    const DOS: u8 = 0;
    const DOS_DIRECTORY: u32 = 0x10;
    if attributes == 0 {
        return 0;
    }
    match host {
        DOS if attributes & DOS_DIRECTORY != 0 => libc::S_IFDIR | 0o755,
        DOS => libc::S_IFREG | 0o644,
        _ => attributes >> 16,
    }
}

/// The 64-bit values of a header whose 32-bit fields say that they can't hold them, in their fixed order.
pub struct Long<'a> {
    name: &'a [u8],
    fields: Fields<'a>,
    taken: bool,
}

impl<'a> Long<'a> {
    /// Walks through a header's extra fields. One that tells another name is refused, since some readers believe it.
    pub fn find(name: &'a [u8], extra: &'a [u8]) -> Result<Self, Trouble> {
        let mut found = None;
        let mut rest = Fields(extra);
        // Up to three bytes are padding of tools that align entries.
        while rest.0.len() >= 4 {
            let head = (rest.u16(), rest.u16());
            let (Some(id), Some(length)) = head else { break };
            let value = rest.bytes(length.into()).ok_or_else(|| refuse(name, "has a damaged extra field"))?;
            match id {
                EXTRA_64 if found.is_some() => return Err(refuse(name, "has two zip64 fields")),
                EXTRA_64 => found = Some(value),
                EXTRA_NAME if value.get(5..) != Some(name) => {
                    return Err(refuse(name, "has another name in its extra field"));
                }
                _ => {}
            }
        }
        Ok(Self { name, fields: Fields(found.unwrap_or_default()), taken: false })
    }

    /// A field's value, or the next long one where it has none.
    pub fn take(&mut self, short: u32) -> Result<u64, Trouble> {
        if short != u32::MAX {
            return Ok(short.into());
        }
        self.taken = true;
        self.fields.u64().ok_or_else(|| refuse(self.name, "has no zip64 field for what it lacks"))
    }

    fn disk(&mut self, short: u16) -> Result<u32, Trouble> {
        if short != u16::MAX {
            return Ok(short.into());
        }
        self.taken = true;
        self.fields.u32().ok_or_else(|| refuse(self.name, "has no zip64 field for what it lacks"))
    }

    /// Nothing may be left that some reader takes for a field's value; only all of it again, as some tools write it.
    pub fn finish(mut self, said: &[u64]) -> Result<(), Trouble> {
        let repeats =
            !self.taken && said.iter().all(|&value| self.fields.0.is_empty() || self.fields.u64() == Some(value));
        if self.fields.0.is_empty() && (self.taken || repeats) {
            return Ok(());
        }
        Err(refuse(self.name, "has a zip64 field for what it does not lack"))
    }
}
