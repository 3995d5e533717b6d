//! The data directory before anything is opened in it: made, locked, owned by the service user, entered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::runtimes;

/// Locked by the server that runs, and holds its process id.
pub(crate) const LOCK_FILE: &str = "server.lock";

/// A locked data directory. The lock ends with the value, or with the process however it dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory (mode 0700) if it is missing and locks it.
    ///
    /// The store has a lock of its own, but it is opened after privileges are dropped; this one must be held before
    /// the spawner sweeps what an earlier life of this directory left.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Data { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(path.join(LOCK_FILE)).map_err(failed)?;
        match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // For `flint stop`.
                lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id())).map_err(failed)?;
                Ok(Self { path, _lock: lock })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(path)),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Tells this directory from every other one on the host, now: its device and inode. Not stored, so that a copy
    /// of the directory is another one.
    pub(crate) fn id(&self) -> Result<String, Error> {
        let meta = fs::metadata(&self.path).map_err(|source| Error::Data { path: self.path.clone(), source })?;
        Ok(format!("{:x}{:012x}", meta.dev(), meta.ino()))
    }

    /// Hands the directory and all that lies in it to the service user, at the first start.
    pub(crate) fn give_to(&self, user: u32) -> Result<(), Error> {
        let failed = |source| Error::Data { path: self.path.clone(), source };
        if fs::metadata(&self.path).map_err(failed)?.uid() != user {
            give(&self.path, user, &self.path.join(runtimes::FILE)).map_err(failed)?;
        }
        // Made by root before privileges were dropped.
        chown(self.path.join(LOCK_FILE), Some(user), Some(user)).map_err(failed)
    }

    /// Makes the directory the current one, so that its parents need not be open to the service user.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        std::env::set_current_dir(&self.path).map_err(|source| Error::Data { path: self.path.clone(), source })
    }
}

/// Writes where the server is and, in a second line, its region, where `flint env` finds them.
pub(crate) fn write_endpoint(url: &str, region: &str) -> io::Result<()> {
    let mut file = File::create("endpoint.tmp")?;
    writeln!(file, "{url}\n{region}")?;
    fs::rename("endpoint.tmp", "endpoint")
}

/// Changes the owner of a tree, its root last: a first start that was cut short begins again. `kept` stays
/// root's.
fn give(path: &Path, user: u32, kept: &Path) -> io::Result<()> {
    if path == kept {
        return Ok(());
    }
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, kept)?;
        }
    }
    lchown(path, Some(user), Some(user))
}
