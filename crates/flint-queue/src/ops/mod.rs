//! The operations, by what they are about. Each decides, commits, acts.

pub mod batch;
pub mod delete;
pub mod dispose;
pub mod policy;
pub mod purge;
pub mod queues;
pub mod receive;
pub mod send;
pub mod tags;
pub mod visibility;
