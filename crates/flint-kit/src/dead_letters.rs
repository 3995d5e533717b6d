//! The port through which a person's decision reaches events that lie in a dead-letter queue.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::EventId;
use flint_model::Arn;

use crate::Fault;

/// Buried events, by the queue that they lie in. `flint-queue` implements it.
///
/// An event is named together with its place in the queue, which [`DeadLetters::places`] tells.
#[async_trait]
pub trait DeadLetters: Send + Sync + Debug {
    /// Where in the queue each event lies. Reads all of it.
    ///
    /// Errors: the service's fault where the queue does not exist.
    fn places(&self, queue: &Arn) -> Result<BTreeMap<EventId, u64>, Fault>;

    /// Brings events back to where they came from, in this order, behind what waits there. Durable, with their journal
    /// entries (`Redriven`), when it resolves. Answers how many: those that lie there no more, or are out with somebody
    /// now, stay as they are.
    ///
    /// Errors: the service's fault where the queue, or the one that an event came from, does not exist.
    async fn redrive(&self, queue: &Arn, events: &[(EventId, u64)]) -> Result<usize, Fault>;

    /// Deletes events for good, with their journal entries (`Settled`, recovered); answers as [`DeadLetters::redrive`].
    ///
    /// Errors: the service's fault where the queue does not exist.
    async fn discard(&self, queue: &Arn, events: &[(EventId, u64)]) -> Result<usize, Fault>;

    /// The record of the event as functions get it: one JSON object of `Records`, of the queue that it came from.
    ///
    /// Errors: the service's fault where the queue does not exist.
    fn peek(&self, queue: &Arn, event: EventId, place: u64) -> Result<Option<Bytes>, Fault>;
}
