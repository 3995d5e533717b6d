//! Local headers: each must say what the central directory says, and together with the entries' data they must fill the archive
//! from its first byte to the directory, without overlap and without a gap.
//!
//! Then a reader that goes through the archive from the front meets the same entries as one that starts at the end.

use std::collections::HashSet;

use super::Trouble;
use super::archive::{not_zip, refuse};
use super::directory::{Directory, Entry, Long};
use super::source::{Fields, Source};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
/// A local header without name and extra fields.
const LOCAL_SIZE: u64 = 30;
/// Room for the extra fields that are common, so that one read does for a header.
const USUAL_EXTRA: u64 = 64;
/// Longest first line of an archive that is also a script.
const MAX_SCRIPT_LINE: u64 = 512;

/// Sizes and checksum follow the data.
const LATER: u16 = 1 << 3;
/// How hard the compressor tried; says nothing to a reader.
const EFFORT: u16 = 0b110;

/// Where each entry's data begins, in the order of `entries`.
pub fn check_all(source: &Source, directory: &Directory, entries: &[Entry<'_>]) -> Result<Vec<u64>, Trouble> {
    let mut names = HashSet::with_capacity(entries.len());
    if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name)) {
        return Err(refuse(twice.name, "is there twice"));
    }
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&i| entries[i].header);
    let first = order.first().map_or(directory.start, |&i| entries[i].header);
    check_start(source, first)?;
    let mut data = vec![0; entries.len()];
    for (place, &index) in order.iter().enumerate() {
        let next = order.get(place + 1).map_or(directory.start, |&i| entries[i].header);
        data[index] = check(source, &entries[index], next)?;
    }
    Ok(data)
}

/// Nothing lies before the first entry, but for the first line of a script (as `zipapp` writes it).
fn check_start(source: &Source, first: u64) -> Result<(), Trouble> {
    if first == 0 {
        return Ok(());
    }
    if first <= MAX_SCRIPT_LINE {
        let line = source.take(0, first as usize)?;
        if line.starts_with(b"#!") && line.iter().position(|&b| b == b'\n') == Some(line.len() - 1) {
            return Ok(());
        }
    }
    Err(not_zip("something lies before its first entry"))
}

/// Checks one local header, whose entry must end where the next record begins; says where its data begins.
fn check(source: &Source, entry: &Entry<'_>, next: u64) -> Result<u64, Trouble> {
    let name = entry.name;
    let outside = || refuse(name, "lies outside of the archive or over another entry");
    let named =
        entry.header.checked_add(LOCAL_SIZE + name.len() as u64).filter(|&at| at <= next).ok_or_else(outside)?;
    let bytes = source.take(entry.header, (named + USUAL_EXTRA).min(next).saturating_sub(entry.header) as usize)?;
    let head = Head::read(&mut Fields(&bytes)).ok_or_else(|| refuse(name, "has no local header"))?;
    let own_name = bytes.get(LOCAL_SIZE as usize..(named - entry.header) as usize);
    if usize::from(head.name) != name.len() || own_name != Some(name) {
        return Err(refuse(name, "has another name in its local header"));
    }
    if (head.flags ^ entry.flags) & !EFFORT != 0 || head.method != entry.method {
        return Err(refuse(name, "is of another kind in its local header"));
    }
    let begin = named + u64::from(head.extra);
    let end = begin.checked_add(entry.packed).filter(|&end| end <= next).ok_or_else(outside)?;
    let here = (named - entry.header) as usize;
    let far;
    let extra = match bytes.get(here..here + usize::from(head.extra)) {
        Some(near) => near,
        None => {
            far = source.take(named, head.extra.into())?;
            &far
        }
    };
    let mut long = Long::find(name, extra)?;
    let (size, packed) = (long.take(head.size)?, long.take(head.packed)?);
    long.finish(&[size, packed])?;
    let same = (head.crc, packed, size) == (entry.crc, entry.packed, entry.size);
    if entry.flags & LATER == 0 {
        if !same {
            return Err(refuse(name, "has another size or checksum in its local header"));
        }
        return if end == next { Ok(begin) } else { Err(refuse(name, "is followed by what belongs to no entry")) };
    }
    // What is not known yet is zero.
    let fits = (head.crc == 0 || head.crc == entry.crc)
        && (packed == 0 || packed == entry.packed)
        && (size == 0 || size == entry.size);
    if !fits {
        return Err(refuse(name, "has another size or checksum in its local header"));
    }
    check_descriptor(source, entry, end, next, same)?;
    Ok(begin)
}

/// What follows the data of an entry whose sizes were not known before it.
fn check_descriptor(source: &Source, entry: &Entry<'_>, end: u64, next: u64, known: bool) -> Result<(), Trouble> {
    let wrong = || refuse(entry.name, "has another size or checksum behind its data");
    let length = next - end;
    if length > 24 {
        return Err(refuse(entry.name, "is followed by what belongs to no entry"));
    }
    let bytes = source.take(end, length as usize)?;
    let mut f = Fields(&bytes);
    let read = match length {
        // Some tools announce it and then do without, since they knew all along.
        0 if known => return Ok(()),
        16 | 24 if f.u32() != Some(DESCRIPTOR) => None,
        12 | 16 => (|| Some((f.u32()?, f.u32()?.into(), f.u32()?.into())))(),
        20 | 24 => (|| Some((f.u32()?, f.u64()?, f.u64()?)))(),
        _ => None,
    };
    if read == Some((entry.crc, entry.packed, entry.size)) { Ok(()) } else { Err(wrong()) }
}

struct Head {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    name: u16,
    extra: u16,
}

impl Head {
    fn read(f: &mut Fields<'_>) -> Option<Self> {
        if f.u32()? != LOCAL {
            return None;
        }
        // Version needed.
        f.u16()?;
        let (flags, method) = (f.u16()?, f.u16()?);
        // Time and date.
        f.u32()?;
        let (crc, packed, size) = (f.u32()?, f.u32()?, f.u32()?);
        Some(Self { flags, method, crc, packed, size, name: f.u16()?, extra: f.u16()? })
    }
}
