//! The files of a backup: which belong to it, reading them without following a link, writing them durably.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use sha2::{Digest, Sha256};

use crate::backup::manifest::FileEntry;
use crate::blobs::BlobHash;
use crate::error::Error;

const CHUNK: usize = 256 << 10;

/// Names of the files that a backup of `dir` holds, in order.
pub(super) fn collect(dir: &Path, also: &[&str]) -> Result<Vec<String>, Error> {
    let mut found = vec!["format".to_owned(), "state.redb".to_owned()];
    for name in names(&dir.join("log"))? {
        if name.len() == 20 && name.parse::<u64>().is_ok() {
            found.push(format!("log/{name}"));
        }
    }
    for shelf in names_if_there(&dir.join("blobs"))?.iter().filter(|shelf| shelf.len() == 2) {
        for blob in names(&dir.join("blobs").join(shelf))? {
            if blob.parse::<BlobHash>().is_ok() {
                found.push(format!("blobs/{shelf}/{blob}"));
            }
        }
    }
    found
        .extend(also.iter().filter(|name| fs::symlink_metadata(dir.join(name)).is_ok()).map(|name| (*name).to_owned()));
    found.sort_unstable();
    Ok(found)
}

/// Names of all files below `dir`, whatever they are.
pub(super) fn everything(dir: &Path) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![String::new()];
    while let Some(prefix) = waiting.pop() {
        for name in names(&dir.join(&prefix))? {
            let name = format!("{prefix}{name}");
            let path = dir.join(&name);
            if fs::symlink_metadata(&path).map_err(Error::io("cannot read", &path))?.is_dir() {
                waiting.push(name + "/");
            } else {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// Names of a directory's entries, in order.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let listed = || -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = listed().map_err(Error::io("cannot list", dir))?;
    names.sort_unstable();
    Ok(names)
}

fn names_if_there(dir: &Path) -> Result<Vec<String>, Error> {
    match names(dir) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// A directory whose files are read.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    dir: rustix::fd::OwnedFd,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from);
        Ok(Self { path: path.to_owned(), dir: dir.map_err(Error::io("cannot open", path))? })
    }

    /// A plain file below the directory; a link anywhere on the way, a pipe or a device is an error.
    pub fn file(&self, name: &str) -> Result<File, Error> {
        let failed = Error::io("cannot read", self.path.join(name));
        let opened = || -> io::Result<File> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let file = File::from(openat2(&self.dir, name, flags, Mode::empty(), resolve)?);
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a plain file"));
            }
            Ok(file)
        };
        opened().map_err(failed)
    }

    pub fn text(&self, name: &str) -> Result<String, Error> {
        let mut text = String::new();
        let mut file = self.file(name)?;
        file.read_to_string(&mut text).map_err(Error::io("cannot read", self.path.join(name)))?;
        Ok(text)
    }

    /// The file's length and hash.
    pub fn entry(&self, name: &str) -> Result<FileEntry, Error> {
        let mut file = self.file(name)?;
        pour(name, &mut file, &mut io::sink()).map_err(Error::io("cannot read", self.path.join(name)))
    }
}

/// A directory that is written.
#[derive(Debug)]
pub(super) struct Target<'a> {
    dir: &'a Path,
}

impl<'a> Target<'a> {
    pub fn new(dir: &'a Path) -> Self {
        Self { dir }
    }

    /// Writes a new file and syncs it.
    pub fn write(&self, name: &str, content: &mut dyn Read) -> Result<FileEntry, Error> {
        let path = self.dir.join(name);
        let mut written = || -> io::Result<FileEntry> {
            if let Some(parent) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            let entry = pour(name, content, &mut file)?;
            file.sync_all()?;
            Ok(entry)
        };
        written().map_err(Error::io("cannot write", &path))
    }

    /// Makes all names durable.
    pub fn sync(&self) -> Result<(), Error> {
        let mut dirs = BTreeSet::from([self.dir.to_owned()]);
        for name in everything(self.dir)? {
            dirs.extend(Path::new(&name).ancestors().skip(1).map(|dir| self.dir.join(dir)));
        }
        for dir in dirs {
            File::open(&dir).and_then(|open| open.sync_all()).map_err(Error::io("cannot sync", &dir))?;
        }
        Ok(())
    }
}

/// Copies to the end; what went by.
fn pour(name: &str, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<FileEntry> {
    let (mut sum, mut len, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        sum.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        len += read as u64;
    }
    Ok(FileEntry { name: name.to_owned(), sha256: hex::encode(sum.finalize()), len })
}
