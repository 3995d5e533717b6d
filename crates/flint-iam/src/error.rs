//! What the IAM and STS operations refuse, and its single mapping to faults.
//!
//! Reference: IAM API Reference and STS API Reference, "Errors" of each operation.

use flint_kit::Fault;
use flint_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    NoSuchEntity(String),
    #[error("{0}")]
    EntityAlreadyExists(String),
    #[error("{0}")]
    DeleteConflict(&'static str),
    #[error("{0}")]
    MalformedPolicy(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("{0}")]
    InvalidInput(String),
    #[error("{0}")]
    Validation(String),
    #[error("{0}")]
    AccessDenied(String),
    #[error("Request was rejected because another request changed the role at the same moment: try again")]
    ConcurrentModification,
    #[error("{0}")]
    Store(#[from] CommitError),
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A stored record that can't be read: ours, never the caller's.
    #[error("the record of role {name} is damaged: {why}")]
    Record { name: String, why: String },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let message = error.to_string();
        let client = |status, code: &'static str| Fault::client(status, code, message.clone());
        match error {
            Error::NoSuchEntity(_) => client(404, "NoSuchEntity"),
            Error::EntityAlreadyExists(_) => client(409, "EntityAlreadyExists"),
            Error::DeleteConflict(_) => client(409, "DeleteConflict"),
            Error::MalformedPolicy(_) => client(400, "MalformedPolicyDocument"),
            Error::LimitExceeded(_) => client(409, "LimitExceeded"),
            Error::InvalidInput(_) => client(400, "InvalidInput"),
            Error::Validation(_) => client(400, "ValidationError"),
            Error::AccessDenied(_) => client(403, "AccessDenied"),
            Error::ConcurrentModification => client(409, "ConcurrentModification"),
            Error::Store(_) => Fault::unavailable(message),
            other @ (Error::Read(_) | Error::Record { .. }) => {
                Fault::server(500, "ServiceFailure", "internal error").because(other)
            }
        }
    }
}
