//! Blobs: immutable bodies on disk, named by their SHA-256.
//!
//! `DIR/blobs/ab/ab12…`. A blob under its name is whole and durable: it is written to a temporary file, synced, renamed
//! and its directory synced. What refers to a blob lives in the store, so put the blob first and commit second; a crash
//! in between leaves a blob that nothing refers to, which its owner finds by [`Blobs::list`].

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{Disk, Mode, RealDisk, read_full, write_file};
use crate::error::Error;

/// The SHA-256 of a blob's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash([u8; 32]);

impl BlobHash {
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a blob's name is 64 lower-case hexadecimal digits, not {0:?}")]
pub struct ParseHashError(String);

impl FromStr for BlobHash {
    type Err = ParseHashError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut out = [0; 32];
        let canonical = !s.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(s, &mut out) {
            Ok(()) if canonical => Ok(Self(out)),
            _ => Err(ParseHashError(s.to_owned())),
        }
    }
}

impl TryFrom<String> for BlobHash {
    type Error = ParseHashError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> Self {
        hash.to_string()
    }
}

/// The blobs of one data directory. Cheap to clone; calls block on the disk, so keep them off async threads.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Makes temporary names unique within the process; the data directory's lock does so across processes.
    serial: Arc<AtomicU64>,
    held: Arc<Mutex<Held>>,
}

/// Removals that wait.
#[derive(Debug, Default)]
struct Held {
    holds: u32,
    removals: BTreeSet<BlobHash>,
}

/// While it lives no blob goes away; what was removed meanwhile goes when the last hold is dropped.
#[derive(Debug)]
pub struct BlobHold(Blobs);

impl Drop for BlobHold {
    fn drop(&mut self) {
        let mut held = self.0.held();
        held.holds -= 1;
        if held.holds > 0 {
            return;
        }
        // Under the lock, so that a blob that is put again is not taken away again.
        for hash in std::mem::take(&mut held.removals) {
            // What stays behind is found by its owner's next look at the list.
            let _ = self.0.remove_now(&hash);
        }
    }
}

impl Blobs {
    /// Opens (and makes) `dir/blobs`, and sweeps what unfinished puts left. The caller holds the data directory's lock.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_on(Arc::new(RealDisk), dir)
    }

    /// As [`Blobs::open`], on another disk.
    pub fn open_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let root = dir.join("blobs");
        disk.create_dir(&root).map_err(Error::io("cannot create", &root))?;
        disk.sync_dir(dir).map_err(Error::io("cannot sync", dir))?;
        for name in disk.list(&root).map_err(Error::io("cannot list", &root))? {
            if name.ends_with(".tmp") {
                let path = root.join(name);
                disk.remove(&path).map_err(Error::io("cannot remove", &path))?;
            }
        }
        Ok(Self { root, disk, serial: Arc::default(), held: Arc::default() })
    }

    /// Stores a body; durable when this returns. Storing what is there already costs a hash and a sync of its directory.
    ///
    /// Errors: [`Error::Full`] when space runs out; then nothing stays behind.
    pub fn put(&self, content: &[u8]) -> Result<BlobHash, Error> {
        let hash = BlobHash::of(content);
        self.held().removals.remove(&hash);
        let path = self.path(&hash);
        let shelf = path.parent().unwrap_or(&self.root);
        if self.length(&path)? == Some(content.len() as u64) {
            // An earlier put may have died before it came to this.
            self.disk.sync_dir(&self.root).map_err(Error::io("cannot sync", &self.root))?;
            self.disk.sync_dir(shelf).map_err(Error::io("cannot sync", shelf))?;
            return Ok(hash);
        }
        self.disk.create_dir(shelf).map_err(Error::io("cannot create", shelf))?;
        self.disk.sync_dir(&self.root).map_err(Error::io("cannot sync", &self.root))?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(format!("{serial}.tmp"));
        write_file(&*self.disk, &path, &temporary, content).map_err(Error::io("cannot write", &path))?;
        Ok(hash)
    }

    /// Opens a blob for reading, as a descriptor that can be handed to another process.
    ///
    /// Errors: [`Error::NoBlob`].
    pub fn open_file(&self, hash: &BlobHash) -> Result<File, Error> {
        let path = self.path(hash);
        File::open(&path).map_err(|e| self.missing(hash, e, path))
    }

    /// Reads a blob whole and verifies it.
    ///
    /// Errors: [`Error::NoBlob`]; [`Error::Damaged`] if the content does not match its name.
    pub fn read(&self, hash: &BlobHash) -> Result<Vec<u8>, Error> {
        let path = self.path(hash);
        let content = (|| {
            let file = self.disk.open(&path, Mode::Read)?;
            let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
            let len = read_full(&*file, &mut content, 0)?;
            content.truncate(len);
            Ok(content)
        })()
        .map_err(|e| self.missing(hash, e, path.clone()))?;
        if BlobHash::of(&content) != *hash {
            return Err(Error::Damaged { path, reason: "the content does not match the name".to_owned() });
        }
        Ok(content)
    }

    /// Removes a blob; fine if it is gone. Descriptors that are open stay readable. Under a [`BlobHold`] it goes later.
    pub fn remove(&self, hash: &BlobHash) -> Result<(), Error> {
        let mut held = self.held();
        if held.holds > 0 {
            held.removals.insert(*hash);
            return Ok(());
        }
        self.remove_now(hash)
    }

    /// Keeps every blob until the hold is dropped.
    pub fn hold(&self) -> BlobHold {
        self.held().holds += 1;
        BlobHold(self.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_now(&self, hash: &BlobHash) -> Result<(), Error> {
        let path = self.path(hash);
        match self.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("cannot remove", path)(e)),
            _ => Ok(()),
        }
    }

    /// Every blob that is there, in no order.
    pub fn list(&self) -> Result<Vec<BlobHash>, Error> {
        let mut found = Vec::new();
        for shelf in self.disk.list(&self.root).map_err(Error::io("cannot list", &self.root))? {
            if shelf.len() != 2 {
                continue;
            }
            let dir = self.root.join(shelf);
            let names = self.disk.list(&dir).map_err(Error::io("cannot list", &dir))?;
            found.extend(names.iter().filter_map(|name| name.parse::<BlobHash>().ok()));
        }
        Ok(found)
    }

    /// Where a blob lies, whether or not it is there.
    pub fn path(&self, hash: &BlobHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }

    fn length(&self, path: &Path) -> Result<Option<u64>, Error> {
        match self.disk.open(path, Mode::Read) {
            Ok(file) => file.len().map(Some).map_err(Error::io("cannot read", path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("cannot open", path)(e)),
        }
    }

    fn missing(&self, hash: &BlobHash, error: io::Error, path: PathBuf) -> Error {
        if error.kind() == io::ErrorKind::NotFound {
            Error::NoBlob(*hash)
        } else {
            Error::io("cannot read", path)(error)
        }
    }
}
