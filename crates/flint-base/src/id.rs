//! Identifiers that Flint mints: requests and events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies one request on the wire and, for an invocation, the invocation (a version 4 UUID, as the
/// reference uses for `x-amzn-RequestId` and `awsRequestId`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Uuid);

/// Identifies one event in the journal (a version 7 UUID, so that ids sort by time of acceptance).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl RequestId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with these bytes, as [`RequestId::as_bytes`] gave them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl EventId {
    /// A fresh id that sorts after every id made earlier by this process.
    pub fn next() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that [`EventId::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl From<RequestId> for EventId {
    /// A synchronous invocation is its own event: both carry the same number.
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<EventId> for RequestId {
    /// An event that is brought to a function runs under its own number.
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}
as_text!(RequestId);
as_text!(EventId);
