//! CloudWatch Logs: where functions' output goes and how it is found again.
//!
//! What it promises: appending output never waits; a line that was taken survives the process, and a power cut a second
//! later; what a caller was told is on stable storage; damage is stepped over and never served; lines that had to be
//! dropped are counted in the log itself. One thread changes the files (see [`observe`] and `writer`), any number read
//! them within bounded work and memory.
//!
//! Groups and streams live in files beside their events, not in the store: a function's first line makes both without
//! waiting for a commit, a group of a million streams costs the store nothing, and deleting is unlinking.
//!
//! Reading order: [`observe`], `service` and `api` and `ops` (the operations), [`filter`] (patterns), `read` (finding a
//! page), `queue` and `writer` and `append` (writing), `registry` and `group` and `segment` and `record` (the files),
//! [`hub`] (watching).

pub mod error;
pub mod filter;
pub mod hub;
pub mod observe;

mod api;
mod append;
mod files;
mod group;
mod names;
mod ops;
mod queue;
mod read;
mod record;
mod registry;
mod segment;
mod service;
mod streams;
mod token;
mod writer;

pub use error::Error;
pub use hub::{LogHub, TailEvent};
pub use observe::{Observe, Options};
