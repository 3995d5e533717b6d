//! What goes wrong, as the caller of an operation sees it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::doc::{Doc, Key};

/// Whose fault it is; SDKs decide by it whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Client,
    Server,
    Throttle,
}

/// An error of an operation, free of any protocol. `flint-wire` renders it.
#[derive(Debug)]
pub struct Fault {
    /// The code as in the service's API reference: `ResourceNotFoundException`.
    pub code: Cow<'static, str>,
    pub kind: FaultKind,
    /// The HTTP status.
    pub status: u16,
    /// For the caller.
    pub message: String,
    /// Further members of the error shape (`Type`, `Reason`, `retryAfterSeconds`, ...).
    pub fields: Vec<(Key, Doc)>,
    /// For the log only.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Fault {
    /// The caller's mistake.
    pub fn client(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Client, status, code.into(), message.into())
    }

    /// Ours.
    pub fn server(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Server, status, code.into(), message.into())
    }

    /// Too much, too fast: 429.
    pub fn throttle(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Throttle, 429, code.into(), message.into())
    }

    /// What we know of and do not serve. SDKs do not retry a 501.
    ///
    /// `what` is `SERVICE.OPERATION` or `SERVICE.OPERATION: Member.Path`.
    pub fn not_served(what: impl fmt::Display) -> Self {
        Self::new(FaultKind::Client, 501, "NotImplemented".into(), format!("not served: {what}"))
    }

    /// The disk or the log cannot take a write now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Server, 503, "ServiceUnavailableException".into(), message.into())
    }

    fn new(kind: FaultKind, status: u16, code: Cow<'static, str>, message: String) -> Self {
        Self { code, kind, status, message, fields: Vec::new(), source: None }
    }

    #[must_use]
    pub fn with_field(mut self, name: impl Into<Key>, value: impl Into<Doc>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}
