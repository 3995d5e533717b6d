//! Where an event comes from: itself, its cause, its root, and how far it has travelled.

use flint_base::EventId;
use serde::{Deserialize, Serialize};

/// The causal position of one event. Present in every invocation from the first day, so that tracing,
/// replay and the stop of recursive loops are views of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// This event.
    pub event: EventId,
    /// The event whose handling produced this one; `None` at the edge.
    pub cause: Option<EventId>,
    /// The first event of the chain.
    pub root: EventId,
    /// Events between the root and this one.
    pub depth: u32,
}

impl Lineage {
    /// An event that came in from outside.
    pub fn root(event: EventId) -> Self {
        Self { event, cause: None, root: event, depth: 0 }
    }

    /// An event that `self` brought about.
    pub fn child(&self, event: EventId) -> Self {
        Self { event, cause: Some(self.event), root: self.root, depth: self.depth.saturating_add(1) }
    }
}
