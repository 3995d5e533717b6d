//! Modelled event streams: what an operation answers bit by bit, such as `InvokeWithResponseStream`.
//!
//! A service answers `Output { body: Some(Body::Events(stream)), .. }`; the wire frames each event by the shapes of the
//! operation's payload member. For `InvokeWithResponseStream`:
//!
//! ```
//! use bytes::Bytes;
//! use flint_kit::{Body, Doc, Event};
//! use futures_util::stream;
//!
//! let chunk = Event::bytes("PayloadChunk", "Payload", Bytes::from_static(b"first words"));
//! let end = Event::new("InvokeComplete", Doc::Map(vec![("LogResult".into(), Doc::from("UkVQT1JU"))]));
//! let body = Body::Events(Box::pin(stream::iter([Ok(chunk), Ok(end)])));
//! # drop(body);
//! ```
//!
//! A function that fails after its first byte ends with an `InvokeComplete` that has `ErrorCode` and `ErrorDetails`; an
//! `Err` in the stream is for faults of the service: it reaches the caller as an error event and ends the stream. The
//! stream is dropped when the caller hangs up, so its drop is what stops the work behind it.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use crate::{Doc, Fault, Key};

/// A stream of events; a [`Fault`] ends it.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, Fault>> + Send>>;

/// One event.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// The member of the stream's shape: `PayloadChunk`.
    pub name: &'static str,
    /// The members of the event's own shape.
    pub doc: Doc,
}

impl Event {
    pub fn new(name: &'static str, doc: Doc) -> Self {
        Self { name, doc }
    }

    /// An event whose one member is bytes. They are not copied.
    pub fn bytes(name: &'static str, member: &'static str, bytes: Bytes) -> Self {
        Self { name, doc: Doc::Map(vec![(Key::Borrowed(member), Doc::Blob(bytes))]) }
    }
}

impl fmt::Debug for Event {
    /// Payloads are the tenant's: only the name is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({})", self.name)
    }
}
