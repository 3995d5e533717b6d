//! What the front is built from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flint_base::Clock;
use flint_kit::{Doc, Switchboard};
use flint_model::Region;

use crate::gate::Gate;
use crate::links::Downloads;

/// Everything that the front needs from the roof.
#[derive(Clone)]
pub struct FrontOptions {
    pub switchboard: Arc<Switchboard>,
    pub gate: Gate,
    /// The region of callers that name none (`dev` only; a signature always names one).
    pub region: Region,
    pub clock: Arc<dyn Clock>,
    /// The document that `GET /_flint/health` answers.
    pub health: Arc<dyn Fn() -> Doc + Send + Sync>,
    /// The blobs that `GET /_flint/code/..` answers; `None` answers none.
    pub downloads: Option<Downloads>,
    pub limits: Limits,
}

/// Bounds on what callers may use. The limits on bodies are per operation, in the tables.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. For one more, one that no call runs on makes room; if there is none, it waits.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    pub header_fields: usize,
    /// From the connection to its first byte.
    pub first_wait: Duration,
    /// From the first byte of a request's head to its end.
    pub head_wait: Duration,
    /// Without a request, or without the client taking anything of an answer.
    pub idle_wait: Duration,
    /// For the next piece of a request's body, and the grace that the rate below starts from.
    pub body_wait: Duration,
    /// The slowest body, in bytes a second, once `body_wait` is over.
    pub body_rate: u64,
    /// Bytes of request bodies held at a time, over all connections.
    pub buffered_bytes: usize,
    /// For calls under way when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head_bytes: 64 * 1024,
            header_fields: 100,
            first_wait: Duration::from_secs(10),
            head_wait: Duration::from_secs(10),
            idle_wait: Duration::from_secs(60),
            body_wait: Duration::from_secs(20),
            body_rate: 16 * 1024,
            buffered_bytes: 1 << 30,
            drain: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for FrontOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontOptions")
            .field("gate", &self.gate)
            .field("region", &self.region)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
