//! Execution environments: a sandbox that has become a place where a function runs.
//!
//! Knows the Runtime API, the bootstraps of the languages, the environment variables, the log lines and the error
//! documents of the reference; knows nothing of versions, aliases, concurrency or pools (`flint-engine` does).
//!
//! Reading order: [`catalog`] (which interpreters the host has), [`spec`] (what an environment is made from),
//! [`environment`] (its life: create, init, invoke, close), [`call`] (what goes in and what comes out), [`stream`]
//! (an answer that leaves before its end). Inside: `life`
//! (one process in one sandbox), `api` (its Runtime API), `invoke` (one call), `output` and `splitter` (its log), `events`,
//! `lines` and `documents` (what the platform writes), `bootstrap` and `variables` (what the process finds),
//! `extensions` (who else is told), `telemetry` (and by which of their ports).

pub mod call;
pub mod catalog;
pub mod environment;
pub mod error;
pub mod spec;
pub mod stream;

mod api;
mod bootstrap;
mod documents;
mod events;
mod extensions;
mod invoke;
mod life;
mod lines;
mod output;
mod splitter;
mod telemetry;
mod variables;

pub use call::{Answer, Call, ColdStart, End, InitEnd};
pub use catalog::{Catalog, Kind, Match, Resolved, Search, Unavailable};
pub use environment::{Environment, Environments, Options};
pub use error::Error;
pub use spec::{EnvironmentSpec, LogFormat, LogLevel, Logging};
pub use stream::{ResponseStream, StreamHead, StreamSender, response_stream};
