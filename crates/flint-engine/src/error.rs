//! What the engine refuses, and the one mapping to the faults of the Lambda API.

use std::io;

use flint_kit::{Doc, Fault};
use flint_store::CommitError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Function not found: {0}")]
    FunctionNotFound(String),
    #[error("Cannot find alias arn: {0}")]
    AliasNotFound(String),
    #[error("The resource you requested does not exist.")]
    LayerNotFound,
    #[error("Alias already exists: {0}")]
    AliasExists(String),
    /// Something else still refers to it.
    #[error("{0}")]
    InUse(String),
    #[error("Function already exist: {0}")]
    FunctionExists(String),
    /// A value that the reference refuses, in its words or ours.
    #[error("{0}")]
    InvalidParameter(String),
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )]
    StaleRevision,
    #[error("The operation cannot be performed at this time. An update is in progress for resource: {0}")]
    UpdateInProgress(String),
    #[error("not served: {0}")]
    NotServed(String),
    #[error("Could not parse request body into json: {0}")]
    BadPayload(String),
    #[error("Request must be smaller than {limit} bytes for the InvokeFunction operation")]
    PayloadTooLarge { limit: usize },
    #[error("{found} byte payload is too large for the Event invocation type (limit {limit} bytes)")]
    EventTooLarge { found: usize, limit: usize },
    #[error("Rate Exceeded.")]
    TooManyRequests { reason: &'static str },
    /// In the reference's words.
    #[error(
        "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's invocation."
    )]
    Recursive,
    #[error("the store refused the write: {0}")]
    Store(#[from] CommitError),
    #[error("no space left for packages in the data directory: free some and try again")]
    DiskFull,
    #[error("package storage: {0}")]
    Io(#[from] io::Error),
    #[error("sandbox: {0}")]
    Sandbox(String),
    #[error(
        "Lambda was unable to decrypt the environment variables of {0}: they were sealed for another function, with another key, or are damaged. Set them anew."
    )]
    Sealed(String),
    /// A stored record that can't be read: ours, never the caller's.
    #[error("record of {key} is damaged: {why}")]
    Record { key: String, why: String },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let message = error.to_string();
        let user = |fault: Fault| fault.with_field("Type", "User");
        let service = |fault: Fault| fault.with_field("Type", "Service");
        match error {
            Error::FunctionNotFound(_) | Error::AliasNotFound(_) | Error::LayerNotFound => {
                user(Fault::client(404, "ResourceNotFoundException", message))
            }
            Error::FunctionExists(_) | Error::AliasExists(_) | Error::InUse(_) | Error::UpdateInProgress(_) => {
                user(Fault::client(409, "ResourceConflictException", message))
            }
            Error::InvalidParameter(_) => user(Fault::client(400, "InvalidParameterValueException", message)),
            Error::StaleRevision => user(Fault::client(412, "PreconditionFailedException", message)),
            Error::NotServed(what) => Fault::not_served(what),
            Error::BadPayload(_) => user(Fault::client(400, "InvalidRequestContentException", message)),
            Error::PayloadTooLarge { .. } | Error::EventTooLarge { .. } => {
                user(Fault::client(413, "RequestTooLargeException", message))
            }
            Error::TooManyRequests { reason } => {
                user(Fault::throttle("TooManyRequestsException", message)).with_field("Reason", Doc::from(reason))
            }
            Error::Recursive => user(Fault::client(400, "RecursiveInvocationException", message)),
            Error::Store(CommitError::Conflict { .. }) => {
                let message = "another request changed the function at the same moment: try again";
                user(Fault::client(409, "ResourceConflictException", message))
            }
            Error::Sealed(_) => service(Fault::server(502, "KMSInvalidStateException", message)),
            Error::DiskFull | Error::Store(_) => Fault::unavailable(message),
            other @ (Error::Io(_) | Error::Sandbox(_) | Error::Record { .. }) => {
                service(Fault::server(500, "ServiceException", "internal error")).because(other)
            }
        }
    }
}
