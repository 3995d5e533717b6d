//! The port through which a function's output reaches its log group.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_model::Place;

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    pub at: Timestamp,
    /// The line without its line feed. Foreign bytes: not necessarily UTF-8.
    pub message: Bytes,
}

/// Takes lines. Never waits: what can't be taken is dropped and counted by the sink.
pub trait LogSink: Send + Sync + Debug {
    /// Appends `events`, in order, to `stream` of `group`, creating both if they don't exist.
    fn append(&self, place: &Place, group: &Arc<str>, stream: &Arc<str>, events: Vec<LogEvent>);
}
