//! Backups: a directory with the files that a data directory is made of, and a manifest that names each by its hash.
//!
//! ```text
//! BACKUP/MANIFEST       store id, commit version, SHA-256 and length of each file, a checksum of itself
//! BACKUP/format         as in the data directory
//! BACKUP/log/N          the log from the index's mark to its end
//! BACKUP/state.redb     the index
//! BACKUP/blobs/ab/ab12… the blobs
//! BACKUP/...            what else the caller named, such as keys
//! ```
//! A backup appears under its name when it is whole and durable, and was opened and read once. Restoring reads and verifies
//! everything before it writes anything, and writes `format`, without which no store opens, last.
//!
//! What is copied lies in a directory that another user may write (the server's): no link is followed in it.

mod manifest;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flint_base::Timestamp;

use crate::backup::manifest::Manifest;
use crate::backup::tree::{Source, Target, collect};
use crate::error::Error;
use crate::log::{Extent, LogStore};

pub use manifest::FileEntry;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store's id, 32 hexadecimal digits.
    pub store: String,
    /// Version of the last commit that is in it.
    pub version: u64,
    pub made: Timestamp,
    pub files: usize,
    pub bytes: u64,
}

/// Makes the backup `out` of the store in `source`: a data directory that nobody has open, or an export of one with its
/// blobs linked beside it. `also` names further files of `source`, copied if they are there.
///
/// Errors: [`Error::Exists`] if there is something at `out`; [`Error::Damaged`] if what was copied is not a sound store;
/// [`Error::Full`], [`Error::Io`]. Nothing stays behind then.
pub fn take(source: &Path, also: &[&str], out: &Path, made: Timestamp) -> Result<Summary, Error> {
    if fs::symlink_metadata(out).is_ok() {
        return Err(Error::Exists(out.to_owned()));
    }
    let unfinished = beside(out)?;
    let _ = fs::remove_dir_all(&unfinished);
    make_dir(&unfinished)?;
    let taken = take_into(source, also, &unfinished, made).and_then(|summary| {
        fs::rename(&unfinished, out).map_err(Error::io("cannot write", out))?;
        sync_dir(parent(out))?;
        Ok(summary)
    });
    if taken.is_err() {
        // The first error is the one that counts.
        let _ = fs::remove_dir_all(&unfinished);
    }
    taken
}

fn take_into(source: &Path, also: &[&str], out: &Path, made: Timestamp) -> Result<Summary, Error> {
    let from = Source::open(source)?;
    let to = Target::new(out);
    for name in collect(source, also)? {
        let copied = to.write(&name, &mut from.file(&name)?)?;
        if let Some(wanted) = name.rsplit('/').next().filter(|_| name.starts_with("blobs/"))
            && wanted != copied.sha256
        {
            let reason = "the content does not match the name".to_owned();
            return Err(Error::Damaged { path: source.join(&name), reason });
        }
    }
    // Opening it proves that it is a store, and says what is in it.
    let extent = LogStore::verify(out)?;
    trim(out, &extent)?;
    let reader = Source::open(out)?;
    let mut files = Vec::new();
    for name in collect(out, also)? {
        files.push(reader.entry(&name)?);
    }
    let manifest = Manifest { store: hex::encode(extent.id), version: extent.version, made, files };
    to.write(manifest::NAME, &mut manifest.render().as_bytes())?;
    to.sync()?;
    Ok(manifest.summary())
}

/// Takes away what a start would not read: other segments, the unused part of the last one, the lock.
fn trim(dir: &Path, extent: &Extent) -> Result<(), Error> {
    let (first, last) = extent.segments;
    for name in tree::names(&dir.join("log"))? {
        let path = dir.join("log").join(&name);
        if name.parse::<u64>().is_ok_and(|number| (first..last).contains(&number)) {
            continue;
        }
        if name.parse() != Ok(last) {
            fs::remove_file(&path).map_err(Error::io("cannot remove", &path))?;
            continue;
        }
        let shortened = File::options().write(true).open(&path).and_then(|file| {
            file.set_len(extent.end)?;
            file.sync_all()
        });
        shortened.map_err(Error::io("cannot write", &path))?;
    }
    let lock = dir.join("lock");
    fs::remove_file(&lock).map_err(Error::io("cannot remove", &lock))
}

/// Reads a backup from end to end.
///
/// Errors: [`Error::Backup`] if a file is missing, added or changed, or if there is no whole manifest.
pub fn verify(backup: &Path) -> Result<Summary, Error> {
    verified(backup).map(|(manifest, _)| manifest.summary())
}

fn verified(backup: &Path) -> Result<(Manifest, Source), Error> {
    let refused = |reason: String| Error::Backup { path: backup.to_owned(), reason };
    let source = Source::open(backup)?;
    let text = match source.text(manifest::NAME) {
        Ok(text) => text,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(refused("it has no MANIFEST, so it was never finished".to_owned()));
        }
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(refused("its MANIFEST is damaged".to_owned()));
        }
        Err(e) => return Err(e),
    };
    let manifest = Manifest::parse(&text).map_err(refused)?;
    let mut found = tree::everything(backup)?;
    found.retain(|name| name != manifest::NAME);
    let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    if let Some(stranger) = found.iter().find(|name| !listed.contains(name.as_str())) {
        return Err(refused(format!("{stranger} is not in its MANIFEST")));
    }
    for wanted in &manifest.files {
        if !found.contains(&wanted.name) {
            return Err(refused(format!("{} is missing", wanted.name)));
        }
        if source.entry(&wanted.name)? != *wanted {
            return Err(refused(format!("{} is damaged", wanted.name)));
        }
    }
    Ok((manifest, source))
}

/// Restores a backup into `data`, which must be new or empty.
///
/// Everything is verified before anything is written, what is written is verified again, and the store is opened and read
/// once. Errors: [`Error::NotEmpty`], and as of [`verify`]; nothing stays behind in `data` then.
pub fn restore(backup: &Path, data: &Path) -> Result<Summary, Error> {
    let was_there = match tree::names(data) {
        Ok(names) if names.is_empty() => true,
        Ok(_) => return Err(Error::NotEmpty(data.to_owned())),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(e),
    };
    let (manifest, source) = verified(backup)?;
    if !was_there {
        make_dir(data)?;
    }
    let restored = restore_into(&manifest, &source, backup, data);
    if restored.is_err() {
        // Best effort; `format` goes first, so that what may stay is no store.
        let _ = fs::remove_file(data.join("format"));
        for name in tree::names(data).unwrap_or_default() {
            let path = data.join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        if !was_there {
            let _ = fs::remove_dir(data);
        }
    }
    restored
}

fn restore_into(manifest: &Manifest, source: &Source, backup: &Path, data: &Path) -> Result<Summary, Error> {
    let refused = |reason: String| Error::Backup { path: backup.to_owned(), reason };
    let to = Target::new(data);
    // The log first and `format` last: in between, a server refuses the directory.
    let rank = |file: &&FileEntry| match file.name.as_str() {
        "format" => 2,
        name if name.starts_with("log/") => 0,
        _ => 1,
    };
    let mut files: Vec<&FileEntry> = manifest.files.iter().collect();
    files.sort_by_key(rank);
    for file in files {
        if file.name == "format" {
            to.sync()?;
        }
        if to.write(&file.name, &mut source.file(&file.name)?)? != *file {
            return Err(refused(format!("{} changed while it was read", file.name)));
        }
    }
    to.sync()?;
    let extent = LogStore::verify(data)?;
    if extent.version != manifest.version || hex::encode(extent.id) != manifest.store {
        return Err(refused(format!("it ends with commit {}, not {}", extent.version, manifest.version)));
    }
    sync_dir(parent(data))?;
    Ok(manifest.summary())
}

/// A name beside `out` for what is not finished.
fn beside(out: &Path) -> Result<PathBuf, Error> {
    let name = out.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::io("cannot write", out)(io::ErrorKind::InvalidInput.into()))?;
    Ok(out.with_file_name(format!(".{name}.unfinished")))
}

fn make_dir(path: &Path) -> Result<(), Error> {
    // What is in it holds keys.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("cannot create", path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("cannot sync", path))
}
