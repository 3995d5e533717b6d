//! What makes everything above testable: time that can be virtual, and identifiers from one place.
//!
//! Reading order: [`time`], [`id`].

pub mod id;
pub mod time;

pub use id::{EventId, RequestId};
pub use time::{Clock, SystemClock, Timestamp, VirtualClock};
