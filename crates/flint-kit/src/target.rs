//! The port through which an event is brought to what an ARN names: a queue, a function, later a topic or a bus.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flint_model::{Arn, Lineage};

use crate::{Ctx, Fault};

/// An event on its way to a target.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// JSON for a function, text for a queue.
    pub payload: Bytes,
    /// Where this event stands in its chain.
    pub lineage: Lineage,
    /// The chain's `X-Amzn-Trace-Id`, as the target hands it on.
    pub trace: Option<Arc<str>>,
    /// ARN of where it comes from.
    pub source: String,
    /// What travels beside the body where the target has room for it (a queue's message attributes).
    pub attributes: Vec<Attribute>,
    /// `MessageGroupId`, where the target has groups.
    pub group: Option<String>,
    /// `MessageDeduplicationId`, where the target knows it: bringing the same event twice then adds one.
    pub deduplication: Option<String>,
}

/// A named value beside a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: AttributeValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    String(String),
    /// A decimal number as text.
    Number(String),
    Binary(Bytes),
}

/// What the target calls the event that it took: a queue's message id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: String,
}

/// Takes events for the ARNs of one service.
#[async_trait]
pub trait Target: Send + Sync + Debug {
    /// Whether `arn` names something that could take an event now.
    ///
    /// Errors: the service's fault for what does not exist or is of the wrong kind.
    fn check(&self, arn: &Arn) -> Result<(), Fault>;

    /// Brings `envelope` to `arn`. The event is on stable storage when this resolves with `Ok`.
    ///
    /// Errors: the service's faults; those of the kinds throttle and server may pass when tried again.
    async fn deliver(&self, ctx: &Ctx, arn: &Arn, envelope: Envelope) -> Result<Receipt, Fault>;
}
