//! What can go wrong, and how a caller of SQS sees it.
//!
//! Codes and words follow the SQS API Reference and what its service answers; `flint-wire` knows how each protocol
//! spells a code.

use flint_kit::Fault;
use flint_store::{CommitError, ReadError};

/// An error of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the specified queue does not exist")]
    QueueMissing,
    #[error("a queue with this name exists and differs: {0}")]
    QueueExists(String),
    #[error("access to the resource {0} is denied")]
    Foreign(String),
    #[error("the address {0} is not valid for this endpoint")]
    Address(String),
    /// A parameter breaks a rule of the reference; the text is for the caller.
    #[error("{0}")]
    Invalid(String),
    #[error("the request must contain the parameter {0}")]
    Missing(&'static str),
    #[error("unknown attribute {0}")]
    AttributeName(String),
    #[error("invalid value for the parameter {0}")]
    AttributeValue(String),
    #[error("{0}")]
    Contents(String),
    #[error("the input receipt handle is invalid")]
    Handle,
    #[error("the message is not in flight")]
    NotInFlight,
    #[error("{0}")]
    OverLimit(&'static str),
    #[error("a purge of {0} is less than 60 seconds old")]
    Purging(String),
    #[error("an empty batch")]
    EmptyBatch,
    #[error("a batch of {0} entries")]
    LongBatch(usize),
    #[error("the entry id {0} is there twice")]
    SameIds(String),
    #[error("an entry id that breaks the rules")]
    EntryId,
    #[error("a batch of {0} bytes")]
    LargeBatch(usize),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    ResourceMissing(String),
    /// A setting that we know of and do not honour.
    #[error("not served: sqs.{0}")]
    NotServed(String),
    #[error("no room on the disk")]
    Full,
    #[error("cannot be stored now")]
    Commit(#[source] CommitError),
    #[error("cannot be read")]
    Read(#[from] ReadError),
    /// What lies in the store is not what was put there.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full => Error::Full,
            other => Error::Commit(other),
        }
    }
}

impl Error {
    /// `Value V for parameter P is invalid. Reason: R`
    pub(crate) fn value(value: impl std::fmt::Display, parameter: &str, reason: &str) -> Self {
        Error::Invalid(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
    }

    /// The same for another part of a call that failed as one.
    pub(crate) fn again(&self) -> Self {
        match self {
            Error::Commit(error) => Error::Commit(error.clone()),
            Error::Full => Error::Full,
            Error::QueueMissing => Error::QueueMissing,
            other => Error::Damaged(other.to_string()),
        }
    }

    /// The code and the words of one failed entry of a batch, and whether the sender is to blame.
    pub(crate) fn into_entry(self) -> (String, String, bool) {
        let fault = Fault::from(self);
        let sender = fault.kind != flint_kit::FaultKind::Server;
        let code = match fault.code.as_ref() {
            // Entries carry the code of the Query protocol in both.
            "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight".to_owned(),
            other => other.to_owned(),
        };
        (code, fault.message, sender)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let client = |code: &'static str, message: String| Fault::client(400, code, message);
        match error {
            Error::QueueMissing => client("QueueDoesNotExist", "The specified queue does not exist.".into()),
            Error::QueueExists(attribute) => client(
                "QueueNameExists",
                format!("A queue already exists with the same name and a different value for attribute {attribute}"),
            ),
            Error::Foreign(url) => {
                Fault::client(403, "AccessDeniedException", format!("Access to the resource {url} is denied."))
            }
            Error::Address(url) => {
                client("InvalidAddress", format!("The address {url} is not valid for this endpoint."))
            }
            Error::Invalid(message) => client("InvalidParameterValue", message),
            Error::Missing(name) => {
                client("MissingParameter", format!("The request must contain the parameter {name}."))
            }
            Error::AttributeName(name) => client("InvalidAttributeName", format!("Unknown Attribute {name}.")),
            Error::AttributeValue(name) => {
                client("InvalidAttributeValue", format!("Invalid value for the parameter {name}."))
            }
            Error::Contents(message) => client("InvalidMessageContents", message),
            Error::Handle => {
                Fault::client(404, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
            }
            Error::NotInFlight => client("MessageNotInflight", "The specified message isn't in flight.".into()),
            Error::OverLimit(message) => Fault::client(403, "OverLimit", message),
            Error::Purging(name) => Fault::client(
                403,
                "PurgeQueueInProgress",
                format!("Only one PurgeQueue operation on {name} is allowed every 60 seconds."),
            ),
            Error::EmptyBatch => {
                client("EmptyBatchRequest", "There should be at least one entry in the request.".into())
            }
            Error::LongBatch(found) => client(
                "TooManyEntriesInBatchRequest",
                format!("Maximum number of entries per request are 10. You have sent {found}."),
            ),
            Error::SameIds(id) => client("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")),
            Error::EntryId => client(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most \
                 80 letters long."
                    .into(),
            ),
            Error::LargeBatch(found) => client(
                "BatchRequestTooLong",
                format!("Batch requests cannot be longer than 1048576 bytes. You have sent {found} bytes."),
            ),
            Error::Unsupported(message) => client("UnsupportedOperation", message),
            Error::ResourceMissing(message) => Fault::client(404, "ResourceNotFoundException", message),
            Error::NotServed(what) => Fault::not_served(format_args!("sqs.{what}")),
            Error::Full => Fault::unavailable("no space left for messages; try again when there is"),
            other => Fault::unavailable("the queue cannot be reached now; try again").because(other),
        }
    }
}
