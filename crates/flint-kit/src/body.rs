//! Bodies that are held whole or arrive in pieces.

use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::{EventStream, Fault};

/// A stream of chunks that ends early with a [`Fault`].
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A payload: in memory, or a stream.
pub enum Body {
    Whole(Bytes),
    Stream(ByteStream),
    /// Only as an answer, and only where the model says so; see [`crate::events`].
    Events(EventStream),
}

impl Body {
    pub fn empty() -> Self {
        Body::Whole(Bytes::new())
    }

    /// Collects the body, refusing to hold more than `limit` bytes: `too_large` makes the fault.
    pub async fn collect(self, limit: usize, too_large: impl FnOnce() -> Fault) -> Result<Bytes, Fault> {
        let mut stream = match self {
            Body::Whole(bytes) if bytes.len() > limit => return Err(too_large()),
            Body::Whole(bytes) => return Ok(bytes),
            Body::Stream(stream) => stream,
            Body::Events(_) => return Err(Fault::not_served("collecting a stream of events")),
        };
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Whole(bytes)
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Body::Stream(_) => f.write_str("Body(stream)"),
            Body::Events(_) => f.write_str("Body(events)"),
        }
    }
}
