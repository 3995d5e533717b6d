//! What delivery refuses, and the one mapping to the faults of the Lambda API.

use flint_kit::Fault;
use flint_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the reference refuses, in its words or ours.
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    InUse(String),
    #[error("not served: {0}")]
    NotServed(String),
    #[error("the store refused the write: {0}")]
    Commit(#[from] CommitError),
    #[error("the store cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A stored record that can't be read: ours, never the caller's.
    #[error("record of {key} is damaged: {why}")]
    Record { key: String, why: String },
    /// Another room's answer, passed on.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Fault(fault)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let message = error.to_string();
        let user = |status, code: &'static str| Fault::client(status, code, message.clone()).with_field("Type", "User");
        match error {
            Error::InvalidParameter(_) => user(400, "InvalidParameterValueException"),
            Error::NotFound(_) => user(404, "ResourceNotFoundException"),
            Error::Conflict(_) => user(409, "ResourceConflictException"),
            Error::InUse(_) => user(400, "ResourceInUseException"),
            Error::NotServed(what) => Fault::not_served(what),
            Error::Commit(CommitError::Conflict { .. }) => {
                let message = "another request changed this at the same moment: try again";
                Fault::client(409, "ResourceConflictException", message).with_field("Type", "User")
            }
            Error::Commit(_) => Fault::unavailable(message),
            Error::Fault(fault) => fault,
            other @ (Error::Read(_) | Error::Record { .. }) => {
                Fault::server(500, "ServiceException", "internal error").with_field("Type", "Service").because(other)
            }
        }
    }
}
