//! Backups of a data directory, of a server at work or of one that is stopped, and their restoring.
//!
//! A server at work stages: a directory of its own beside its files, with an export of the store and links to the rest. Whoever
//! asked copies from there, because the server may write nowhere else. It may hold no more than what [`FILES`] says:
//! `runtimes` is left out, since what its owner may write must not open trees of the host to functions.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use flint_base::Timestamp;
use flint_store::backup;
pub use flint_store::backup::Summary;
use flint_store::{Blobs, Extent, LogStore};

use crate::data::DataDir;
use crate::error::Error;

/// What a server at work stages in, inside the data directory. One at a time.
pub(crate) const STAGING: &str = "backup.staging";
/// What a data directory needs beside its store and its blobs.
const FILES: &[&str] = &["credentials.json", flint_iam::vault::FILE_NAME];

/// Makes the backup `out` of a data directory that no server runs on.
///
/// Errors: [`Error::InUse`]; what [`backup::take`] says.
pub fn of_stopped(data: &Path, out: &Path, now: Timestamp) -> Result<Summary, Error> {
    // Opening would make it.
    fs::metadata(data.join("format")).map_err(|source| Error::Data { path: data.to_owned(), source })?;
    let held = DataDir::open(data)?;
    Ok(backup::take(&held.path, FILES, out, now)?)
}

/// Makes the backup `out` of what the server of `data` has staged (`CreateBackup`), and clears that away.
///
/// Errors: what [`backup::take`] says.
pub fn of_staged(data: &Path, out: &Path, now: Timestamp) -> Result<Summary, Error> {
    let staging = data.join(STAGING);
    let taken = backup::take(&staging, FILES, out, now);
    // The server clears it at its next start at the latest.
    let _ = fs::remove_dir_all(staging);
    Ok(taken?)
}

/// Reads a backup from end to end; what it holds.
pub fn verify(from: &Path) -> Result<Summary, Error> {
    Ok(backup::verify(from)?)
}

/// Restores a backup into `data`, which must be new or empty. The next `flint up` gives it to its service user.
pub fn restore(from: &Path, data: &Path) -> Result<Summary, Error> {
    Ok(backup::restore(from, data)?)
}

/// The running server's part.
#[derive(Debug)]
pub(crate) struct Stage {
    store: Arc<LogStore>,
    blobs: Blobs,
    busy: Mutex<()>,
}

impl Stage {
    /// Clears what an earlier life staged. The data directory is the current one.
    pub fn open(store: Arc<LogStore>, blobs: Blobs) -> io::Result<Self> {
        clear()?;
        Ok(Self { store, blobs, busy: Mutex::default() })
    }

    /// Stages the state as of now, in place of what was staged before. Blocks.
    pub fn make(&self) -> Result<Extent, Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        clear()?;
        let made = self.make_in(Path::new(STAGING));
        if made.is_err() {
            // The first error is the one that counts.
            let _ = clear();
        }
        made
    }

    fn make_in(&self, staging: &Path) -> Result<Extent, Error> {
        DirBuilder::new().mode(0o700).create(staging)?;
        // From before the commit that the export ends with: what it refers to is there until it is linked.
        let _hold = self.blobs.hold();
        let extent = self.store.export(staging)?;
        for hash in self.blobs.list()? {
            let path = self.blobs.path(&hash);
            let name = path.strip_prefix(".").unwrap_or(&path);
            let link = staging.join(name);
            fs::create_dir_all(link.parent().unwrap_or(staging))?;
            fs::hard_link(&path, link)?;
        }
        for name in FILES {
            match fs::hard_link(name, staging.join(name)) {
                // A master key may lie elsewhere.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(extent)
    }
}

fn clear() -> io::Result<()> {
    match fs::remove_dir_all(STAGING) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
