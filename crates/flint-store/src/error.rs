//! What can go wrong: at open, at a read, at a commit.

use std::io;
use std::path::PathBuf;

use crate::key::{Key, Keyspace};

/// Opening a store or handling its files failed. Each message is one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data directory {} is in use by another process; stop that one or choose another directory", .0.display())]
    Locked(PathBuf),
    #[error("the data directory {} has format {found}, this binary knows {known}; start the newer binary", dir.display())]
    Newer { dir: PathBuf, found: u32, known: u32 },
    #[error("{}: not a store's format file: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    #[error("the store in {} is damaged: {reason}; restore a backup, nothing was changed", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} is no backup that can be restored: {reason}; nothing was restored", path.display())]
    Backup { path: PathBuf, reason: String },
    #[error("{} exists already: a backup is written to a new name", .0.display())]
    Exists(PathBuf),
    #[error("{} is not empty: a backup is restored into a new or an empty directory", .0.display())]
    NotEmpty(PathBuf),
    #[error("no space left for {}", .0.display())]
    Full(PathBuf),
    #[error("no blob {0}")]
    NoBlob(crate::blobs::BlobHash),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    /// Wraps an error of the system; running out of space becomes [`Error::Full`].
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| if is_no_space(&source) { Self::Full(path) } else { Self::Io { what, path, source } }
    }
}

/// Out of space or quota, or a file system that went read-only: things that can heal without a restart.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// A read could not be answered: the index behind the memory is unreadable. Never means "no such key".
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

/// A batch was not committed. Except for [`CommitError::Stopped`], nothing of it was or will be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition failed.
    #[error("precondition failed for a key in {keyspace}: found {}", found.map_or("nothing".to_owned(), |v| format!("version {v}")))]
    Conflict {
        /// Which of the batch's expectations.
        index: usize,
        keyspace: Keyspace,
        key: Key,
        /// The version that is there; `None` if the key is absent.
        found: Option<u64>,
    },
    /// No space on the disk. Reads go on; heals by itself when space returns. Callers see 503.
    #[error("no space left in the data directory; writes are refused until there is")]
    Full,
    /// More commits wait than the writer may hold. Callers see 503 and may try again.
    #[error("too many commits are waiting for the disk")]
    Busy,
    /// The log failed or the store is closed. The outcome of this batch is unknown; no later one will be acknowledged.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// Over a limit of [`crate::batch`].
    #[error("{what} is too large: {found}, at most {limit}")]
    TooLarge { what: &'static str, found: usize, limit: usize },
}
