//! Log events as they come in, for those who watch.

use std::sync::Arc;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_model::Place;
use tokio::sync::broadcast;

/// One event, just after it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailEvent {
    pub place: Place,
    pub group: Arc<str>,
    pub stream: Arc<str>,
    pub at: Timestamp,
    pub message: Bytes,
}

/// Hands out events to any number of watchers.
///
/// A watcher who falls more than the bound behind loses the oldest events and is told how many
/// ([`broadcast::error::RecvError::Lagged`]); nobody waits for a watcher.
#[derive(Clone, Debug)]
pub struct LogHub {
    sender: broadcast::Sender<Arc<TailEvent>>,
}

impl LogHub {
    /// `events` is how many a watcher may be behind.
    pub(crate) fn new(events: usize) -> Self {
        Self { sender: broadcast::Sender::new(events.max(1)) }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<TailEvent>> {
        self.sender.subscribe()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn publish(&self, event: TailEvent) {
        // Nobody watching is no failure.
        let _ = self.sender.send(Arc::new(event));
    }
}
