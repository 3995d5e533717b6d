//! Reading a zip archive: the whole of it is checked before the first entry becomes a file.

use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};

use flint_model::ByteCount;

use super::content::{Content, DEFLATED, STORED};
use super::directory::{self, Entry};
use super::source::Source;
use super::tree::Tree;
use super::{Outcome, Trouble, local};
use crate::api::Unpacked;
use crate::error::Refusal;
use crate::message::UnpackRequest;

/// Longest target of a symbolic link.
const MAX_TARGET: u64 = 4095;

/// Flags that change nothing or that are checked: the compressor's effort, sizes behind the data, names in UTF-8.
const KNOWN_FLAGS: u16 = 0b110 | 1 << 3 | 1 << 11;
/// Flags of encryption: of the content, strong, and of the directory.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// What an entry becomes.
enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

pub fn unpack(archive: RawFd, staging: OwnedFd, limits: &UnpackRequest) -> Outcome {
    let source = Source::new(archive)?;
    let directory = directory::find(&source, limits.entries)?;
    let entries = directory.entries()?;
    let kinds = entries.iter().map(check).collect::<Result<Vec<_>, _>>()?;
    let data = local::check_all(&source, &directory, &entries)?;
    // What the headers say is known to be too much needs no writing; what is made is counted all the same.
    let said = entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.size));
    if said.is_none_or(|said| said > limits.bytes) {
        return Err(Refusal::TooLarge(ByteCount(limits.bytes)).into());
    }
    let mut tree = Tree::new(staging, limits.depth, limits.entries);
    let mut room = limits.bytes;
    let mut files = 0;
    for ((entry, kind), begin) in entries.iter().zip(kinds).zip(data) {
        let mut content = Content::new(&source, entry, begin);
        match kind {
            Kind::Directory => {
                io::copy(&mut content, &mut io::sink()).map_err(|e| damaged(entry.name, &e))?;
                tree.directory(entry.name)?;
                continue;
            }
            Kind::File { executable } => tree.file(entry.name, executable, &mut content, &mut room, limits.bytes)?,
            Kind::Link => {
                let mut target = Vec::new();
                content.read_to_end(&mut target).map_err(|e| damaged(entry.name, &e))?;
                room = room.checked_sub(target.len() as u64).ok_or(Refusal::TooLarge(ByteCount(limits.bytes)))?;
                tree.link(entry.name, target)?;
            }
        }
        files += 1;
    }
    tree.finish()?;
    Ok(Unpacked { bytes: ByteCount(limits.bytes - room), files })
}

/// Everything about an entry that its central header tells.
fn check(entry: &Entry<'_>) -> Result<Kind, Trouble> {
    let refuse = |problem: &str| Err(refuse(entry.name, problem));
    if entry.flags & ENCRYPTED != 0 {
        return refuse("is encrypted");
    }
    if entry.flags & !KNOWN_FLAGS != 0 {
        return refuse("has flags of an unknown meaning");
    }
    if entry.method != STORED && entry.method != DEFLATED {
        return refuse(&format!("uses compression method {}, only deflate is supported", entry.method));
    }
    if entry.method == STORED && entry.packed != entry.size {
        return refuse("is stored with two sizes");
    }
    let slash = entry.name.last() == Some(&b'/');
    match entry.mode & libc::S_IFMT {
        libc::S_IFLNK if !slash && entry.size > MAX_TARGET => refuse("the link's target is too long"),
        libc::S_IFLNK if !slash => Ok(Kind::Link),
        0 | libc::S_IFREG if !slash => Ok(Kind::File { executable: entry.mode & 0o111 != 0 }),
        0 | libc::S_IFDIR if slash && entry.size > 0 => refuse("is a directory with content"),
        0 | libc::S_IFDIR if slash => Ok(Kind::Directory),
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK => refuse("is marked as a file and as a directory"),
        _ => refuse("is neither a file nor a directory nor a link"),
    }
}

/// An entry's refusal, with its name made harmless for a terminal.
pub fn refuse(name: &[u8], problem: &str) -> Trouble {
    let entry = String::from_utf8_lossy(name).escape_debug().take(256).collect();
    Trouble::Refused(Refusal::Entry { entry, problem: problem.to_owned() })
}

/// The refusal of the archive as a whole.
pub fn not_zip(problem: &str) -> Trouble {
    Refusal::NotZip(problem.to_owned()).into()
}

/// Reading an entry's content failed: because of the disk, or because it is damaged.
pub fn damaged(name: &[u8], error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(errno) => Trouble::Io(io::Error::from_raw_os_error(errno)),
        None => refuse(name, &format!("is damaged: {error}")),
    }
}
