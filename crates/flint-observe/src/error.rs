//! What can go wrong, and how a caller of the `logs` service sees it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flint_kit::Fault;

/// An error of this room. Cheap to clone: one failed write answers every request that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("the specified log group already exists")]
    GroupExists,
    #[error("the specified log group does not exist")]
    GroupMissing,
    #[error("the specified log stream already exists")]
    StreamExists,
    #[error("the specified log stream does not exist")]
    StreamMissing,
    /// A parameter breaks a rule of the reference; the text is for the caller.
    #[error("{0}")]
    Invalid(String),
    /// A member that we know of and do not honour, as `Operation: member`.
    #[error("not served: logs.{0}")]
    NotServed(String),
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} has version {found}, this program reads up to {known}: start a newer one")]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("too many log writes wait")]
    Busy,
    #[error("the log writer has stopped")]
    Stopped,
}

impl Error {
    /// Names what was tried on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source: Arc::new(source) }
    }

    /// Whether the same may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Error::Io { .. } | Error::Busy)
    }

    /// Whether the disk had no room: it may have room again.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let client = |code: &'static str, message: &str| Fault::client(400, code, message);
        match error {
            Error::GroupExists => client("ResourceAlreadyExistsException", "The specified log group already exists"),
            Error::StreamExists => client("ResourceAlreadyExistsException", "The specified log stream already exists"),
            Error::GroupMissing => client("ResourceNotFoundException", "The specified log group does not exist."),
            Error::StreamMissing => client("ResourceNotFoundException", "The specified log stream does not exist."),
            Error::Invalid(message) => client("InvalidParameterException", &message),
            Error::NotServed(what) => Fault::not_served(format_args!("logs.{what}")),
            full @ Error::Io { .. } if full.is_full() => {
                Fault::unavailable("the disk has no room for logs; try again when space was made").because(full)
            }
            other => Fault::unavailable("the logs cannot be reached now").because(other),
        }
    }
}
