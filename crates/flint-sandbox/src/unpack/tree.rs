//! Writing the tree: one component at a time, never through a link, never onto something that exists.
//!
//! Links are made last, so that while files are written there is no link that a path could lead through. Their targets
//! may climb only at their start, and not above the root: then, by induction over the links, none leads out of it.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};

use flint_model::ByteCount;

use super::Trouble;
use super::archive::{damaged, refuse};
use crate::error::Refusal;
use crate::sys::{check_int, fds};

/// Longest path; the kernel's own limit.
const MAX_PATH: usize = 4095;
/// Longest component; the kernel's own limit.
const MAX_NAME: usize = 255;

pub struct Tree {
    root: OwnedFd,
    depth: u32,
    /// What may still be made.
    entries: u32,
    entries_max: u32,
    /// The directory of the entry before: neighbours usually share it.
    last: Option<(Vec<CString>, OwnedFd)>,
    links: Vec<Link>,
}

struct Link {
    name: Vec<u8>,
    target: CString,
}

impl Tree {
    pub fn new(root: OwnedFd, depth: u32, entries: u32) -> Self {
        Self { root, depth, entries, entries_max: entries, last: None, links: Vec::new() }
    }

    pub fn directory(&mut self, name: &[u8]) -> Result<(), Trouble> {
        let parts = self.components(name)?;
        self.enter(name, &parts)
    }

    /// Writes one file; takes what it writes from `room`, of `limit` bytes altogether.
    pub fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        content: &mut impl Read,
        room: &mut u64,
        limit: u64,
    ) -> Result<(), Trouble> {
        let (parent, leaf) = self.parent(name)?;
        self.count()?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = fds::open_at(parent, &leaf, flags, 0o600).map_err(|e| exists(name, e))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(name, &error)),
            };
            *room = room.checked_sub(n as u64).ok_or(Refusal::TooLarge(ByteCount(limit)))?;
            fds::write_all(file.as_raw_fd(), &buffer[..n])?;
        }
        fds::chmod(file.as_raw_fd(), if executable { 0o755 } else { 0o644 })?;
        Ok(())
    }

    /// Checks a link and keeps it for [`Tree::finish`].
    pub fn link(&mut self, name: &[u8], target: Vec<u8>) -> Result<(), Trouble> {
        let parts = self.components(name)?;
        let depth = parts.len().checked_sub(1).ok_or_else(|| refuse(name, "has no name"))?;
        check_target(&target, depth).map_err(|problem| refuse(name, problem))?;
        self.count()?;
        let target = CString::new(target).map_err(|_| refuse(name, "the link's target holds a NUL"))?;
        self.links.push(Link { name: name.to_vec(), target });
        Ok(())
    }

    /// Makes the links and puts everything on stable storage.
    pub fn finish(mut self) -> Result<(), Trouble> {
        for link in std::mem::take(&mut self.links) {
            let (parent, leaf) = self.parent(&link.name)?;
            fds::symlink_at(&link.target, parent, &leaf).map_err(|e| exists(&link.name, e))?;
        }
        // SAFETY: no pointers.
        check_int(unsafe { libc::syncfs(self.root.as_raw_fd()) })?;
        Ok(())
    }

    fn count(&mut self) -> Result<(), Trouble> {
        self.entries = self.entries.checked_sub(1).ok_or(Refusal::TooManyEntries(self.entries_max))?;
        Ok(())
    }

    /// The components of an entry's name, all of them plain.
    fn components(&self, name: &[u8]) -> Result<Vec<CString>, Trouble> {
        let parts = split(name).map_err(|problem| refuse(name, problem))?;
        if parts.len() > self.depth as usize {
            return Err(refuse(name, "is too deep"));
        }
        Ok(parts)
    }

    /// The open directory above an entry, and the entry's last component.
    fn parent(&mut self, name: &[u8]) -> Result<(i32, CString), Trouble> {
        let mut parts = self.components(name)?;
        let leaf = parts.pop().ok_or_else(|| refuse(name, "has no name"))?;
        self.enter(name, &parts)?;
        let dir = self.last.as_ref().map_or(&self.root, |(_, fd)| fd);
        Ok((dir.as_raw_fd(), leaf))
    }

    /// Opens a directory, making what is missing, and remembers it.
    fn enter(&mut self, name: &[u8], parts: &[CString]) -> Result<(), Trouble> {
        if parts.is_empty() {
            self.last = None;
            return Ok(());
        }
        if self.last.as_ref().is_some_and(|(known, _)| known == parts) {
            return Ok(());
        }
        let mut dir: Option<OwnedFd> = None;
        for part in parts {
            let at = dir.as_ref().unwrap_or(&self.root).as_raw_fd();
            match fds::mkdir_at(at, part, 0o755) {
                Ok(()) => self.count()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            dir = Some(fds::open_at(at, part, flags, 0).map_err(|e| exists(name, e))?);
        }
        self.last = dir.map(|fd| (parts.to_vec(), fd));
        Ok(())
    }
}

/// Something else is where an entry should go.
fn exists(name: &[u8], error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EEXIST | libc::ENOTDIR | libc::ELOOP) => refuse(name, "collides with another entry"),
        _ => error.into(),
    }
}

/// Splits a name at its slashes. `.` is skipped, as zip tools write it; all else that is not a plain name is refused.
fn split(name: &[u8]) -> Result<Vec<CString>, &'static str> {
    let text = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    if text.len() > MAX_PATH {
        return Err("has too long a name");
    }
    if text.starts_with('/') {
        return Err("has an absolute path");
    }
    if text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.as_bytes().get(1) == Some(&b':') {
        return Err("has a drive in its path");
    }
    if text.contains('\\') {
        return Err("has a backslash in its name");
    }
    if text.chars().any(|c| c.is_control()) {
        return Err("has a control character in its name");
    }
    let mut parts = Vec::new();
    for part in text.strip_suffix('/').unwrap_or(text).split('/') {
        match part {
            "" => return Err("has an empty component in its path"),
            ".." => return Err("has .. in its path"),
            "." => {}
            part if part.len() > MAX_NAME => return Err("has too long a name"),
            part => parts.push(CString::new(part).map_err(|_| "has a NUL in its name")?),
        }
    }
    Ok(parts)
}

/// A link's target, seen from `depth` directories below the root.
fn check_target(target: &[u8], depth: usize) -> Result<(), &'static str> {
    if target.is_empty() || target.contains(&0) {
        return Err("the link has no usable target");
    }
    if target[0] == b'/' {
        return Err("the link's target is absolute");
    }
    let mut climbs = 0;
    let mut plain = false;
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if plain => return Err("the link's target climbs after it has descended"),
            b".." => climbs += 1,
            _ => plain = true,
        }
    }
    if climbs > depth { Err("the link leads out of the archive") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_paths() {
        let good = |name: &str| split(name.as_bytes()).unwrap().len();
        assert_eq!(good("a"), 1);
        assert_eq!(good("a/b/c.py"), 3);
        assert_eq!(good("./a/./b/"), 2);
        assert_eq!(good("ä/日本"), 2);
        assert_eq!(good("..."), 1);
        let long = "x".repeat(256);
        for bad in
            ["/a", "a/../b", "..", "a//b", "", "a\\b", "..\\a", "a\0b", "a\nb", "C:\\x", "C:x", "c:/x", "//", &long]
        {
            assert!(split(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(split(b"\xff").is_err());
    }

    #[test]
    fn links_stay_inside() {
        let check = |target: &str, depth| check_target(target.as_bytes(), depth);
        assert_eq!(check("libfoo.so.1", 0), Ok(()));
        assert_eq!(check("../lib/x", 1), Ok(()));
        assert_eq!(check("./a/b", 0), Ok(()));
        for (bad, depth) in
            [("/etc/passwd", 3), ("..", 0), ("../..", 1), ("a/../../x", 1), ("a/..", 3), ("", 0), ("a\0", 0)]
        {
            assert!(check(bad, depth).is_err(), "{bad:?}");
        }
    }
}
