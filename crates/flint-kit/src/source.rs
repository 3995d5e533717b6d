//! The port through which records are polled from what an ARN names: a queue, later a stream.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_model::{Arn, Lineage};

use crate::Fault;

/// What a mapping must know of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// `aws:sqs`
    pub event_source: &'static str,
    /// Records of one group come in order, and a group waits while one of its records is out.
    pub fifo: bool,
    /// How long a polled record stays hidden from others unless it is settled or given back.
    pub visibility_timeout: Duration,
}

/// A record that was handed out.
#[derive(Clone, Debug)]
pub struct SourceRecord {
    /// With it the record is settled or given back.
    pub handle: String,
    /// `itemIdentifier` in a function's partial answer: a queue's `messageId`.
    pub id: String,
    /// The record as functions get it: one JSON object of the event's `Records`.
    pub document: Bytes,
    /// `MessageGroupId`.
    pub group: Option<String>,
    /// How often it was handed out, this time included.
    pub receive_count: u32,
    /// Where it stands in its chain.
    pub lineage: Lineage,
    /// The `AWSTraceHeader` that it was sent with.
    pub trace: Option<Arc<str>>,
}

/// What a source is told of a record that it handed out.
#[derive(Clone, Debug)]
pub struct Told {
    pub handle: String,
    /// What the journal is to say of it, as `flint_store::journal::Entry::encode` writes it: part of the commit that
    /// changes the record's state. Without one the source says what it knows.
    pub note: Option<Bytes>,
}

impl Told {
    /// Of a record of which the teller knows nothing more.
    pub fn plain(handle: String) -> Self {
        Self { handle, note: None }
    }
}

/// Hands out the records of one service's ARNs, and takes them back.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// Errors: the service's fault for what does not exist.
    fn describe(&self, arn: &Arn) -> Result<SourceInfo, Fault>;

    /// Up to `max` records; none after `wait` without one. A record that arrives while this waits wakes it at once.
    ///
    /// Handing out is durable where the source counts it (receive counts). Dropping the future loses no record.
    async fn poll(&self, arn: &Arn, max: usize, wait: Duration) -> Result<Vec<SourceRecord>, Fault>;

    /// These are done: they never come again. Durable when it resolves. Unknown and expired handles are no error.
    async fn settle(&self, arn: &Arn, records: Vec<Told>) -> Result<(), Fault>;

    /// These are not done: they come again after `after` (at once if zero). With `uncounted` this hand-out does not count
    /// towards the limit of receives: the function was never asked (a throttle).
    async fn give_back(&self, arn: &Arn, records: Vec<Told>, after: Duration, uncounted: bool) -> Result<(), Fault>;

    /// About how many records wait to be handed out.
    fn backlog(&self, arn: &Arn) -> u64;
}
