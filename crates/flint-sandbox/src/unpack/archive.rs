//! Reading a zip archive: every entry is checked before it becomes a file.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{OwnedFd, RawFd};

use flint_model::ByteCount;
use zip::{CompressionMethod, ZipArchive};

use super::tree::Tree;
use super::{Outcome, Trouble};
use crate::api::Unpacked;
use crate::error::Refusal;
use crate::message::UnpackRequest;
use crate::sys::fds;

/// Longest target of a symbolic link.
const MAX_TARGET: u64 = 4095;

/// Reads by offset: the descriptor's own position is shared with the server and stays untouched.
struct Positioned {
    fd: RawFd,
    at: u64,
    length: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = fds::read_at(self.fd, buffer, self.at as i64)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.length, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = base.checked_add_signed(by).filter(|&at| at <= i64::MAX as u64);
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// What an entry becomes.
enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

pub fn unpack(archive: RawFd, staging: OwnedFd, limits: &UnpackRequest) -> Outcome {
    let length = u64::try_from(fds::stat(archive)?.st_size).unwrap_or(0);
    let source = BufReader::with_capacity(64 * 1024, Positioned { fd: archive, at: 0, length });
    let mut zip = ZipArchive::new(source).map_err(unreadable)?;
    if zip.has_duplicate_names() {
        return Err(Refusal::NotZip("an entry is there twice".to_owned()).into());
    }
    if zip.len() > limits.entries as usize {
        return Err(Refusal::TooManyEntries(limits.entries).into());
    }
    zip.validate_header_consistency().map_err(unreadable)?;
    let mut tree = Tree::new(staging, limits.depth, limits.entries);
    let mut room = limits.bytes;
    let mut files = 0;
    for index in 0..zip.len() {
        let mut entry = zip.by_index_raw(index).map_err(unreadable)?;
        let name = entry.name_raw().to_vec();
        let kind = check(&entry, &name)?;
        drop(entry);
        match kind {
            Kind::Directory => tree.directory(&name)?,
            Kind::File { executable } => {
                entry = zip.by_index(index).map_err(|e| broken(&name, &e))?;
                tree.file(&name, executable, &mut entry, &mut room, limits.bytes)?;
                files += 1;
            }
            Kind::Link => {
                entry = zip.by_index(index).map_err(|e| broken(&name, &e))?;
                let mut target = Vec::new();
                let n = (&mut entry).take(MAX_TARGET + 1).read_to_end(&mut target).map_err(|e| damaged(&name, &e))?;
                if n as u64 > MAX_TARGET {
                    return Err(refuse(&name, "the link's target is too long"));
                }
                room = room.checked_sub(n as u64).ok_or(Refusal::TooLarge(ByteCount(limits.bytes)))?;
                tree.link(&name, target)?;
                files += 1;
            }
        }
    }
    tree.finish()?;
    Ok(Unpacked { bytes: ByteCount(limits.bytes - room), files })
}

/// Everything about an entry that its headers tell.
fn check<R: Read>(entry: &zip::read::ZipFile<'_, R>, name: &[u8]) -> Result<Kind, Trouble> {
    if entry.encrypted() {
        return Err(refuse(name, "is encrypted"));
    }
    let method = entry.compression();
    if method != CompressionMethod::Stored && method != CompressionMethod::Deflated {
        return Err(refuse(name, &format!("uses compression method {method}, only deflate is supported")));
    }
    let mode = entry.unix_mode().unwrap_or(0);
    let slash = name.last() == Some(&b'/');
    match mode & libc::S_IFMT {
        libc::S_IFLNK if !slash => Ok(Kind::Link),
        0 | libc::S_IFREG if !slash => Ok(Kind::File { executable: mode & 0o111 != 0 }),
        0 | libc::S_IFDIR if slash => Ok(Kind::Directory),
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK => Err(refuse(name, "is marked as a file and as a directory")),
        _ => Err(refuse(name, "is neither a file nor a directory nor a link")),
    }
}

/// An entry's refusal, with its name made harmless for a terminal.
pub fn refuse(name: &[u8], problem: &str) -> Trouble {
    let entry = String::from_utf8_lossy(name).escape_debug().take(256).collect();
    Trouble::Refused(Refusal::Entry { entry, problem: problem.to_owned() })
}

/// Reading an entry's content failed: because of the disk, or because it is damaged.
pub fn damaged(name: &[u8], error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(errno) => Trouble::Io(io::Error::from_raw_os_error(errno)),
        None => refuse(name, &format!("is damaged: {error}")),
    }
}

fn broken(name: &[u8], error: &zip::result::ZipError) -> Trouble {
    match error {
        zip::result::ZipError::Io(error) => damaged(name, error),
        other => refuse(name, &format!("is damaged: {other}")),
    }
}

fn unreadable(error: zip::result::ZipError) -> Trouble {
    match &error {
        zip::result::ZipError::Io(io) if io.raw_os_error().is_some() => {
            Trouble::Io(io::Error::from_raw_os_error(io.raw_os_error().unwrap_or(libc::EIO)))
        }
        _ => Refusal::NotZip(error.to_string().escape_debug().collect()).into(),
    }
}
