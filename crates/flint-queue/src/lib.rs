//! SQS: queues that keep what they took.
//!
//! What it promises: a message that was acknowledged is on stable storage; it is handed out until it is deleted, outlives
//! its retention, or lies in the dead-letter queue; a FIFO queue keeps the order of each group and drops what was sent
//! twice, across restarts too. Receive counts and the move to a dead-letter queue are part of commits.
//!
//! Reading order: [`settings`], [`address`], [`message`] (the nouns), [`queue`] (which message may go; pure), [`keys`]
//! (records at rest), [`queues`] and [`open`] (all queues), [`ops`] (decide, commit, act), [`api`] and [`service`],
//! [`ports`], [`moves`], `dead_letters`, [`worker`], [`error`].

pub mod address;
pub mod api;
mod dead_letters;
pub mod error;
pub mod keys;
pub mod message;
pub mod moves;
mod open;
pub mod ops;
mod ports;
pub mod queue;
pub mod queues;
mod service;
pub mod settings;
mod worker;

pub use error::Error;
pub use queues::{Options, Queues};
