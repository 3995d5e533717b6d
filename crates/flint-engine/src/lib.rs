//! Functions: what they are, and who may run when.
//!
//! The engine keeps every function's configuration in an in-memory snapshot that the store feeds; the path of
//! an invocation reads nothing else. Reading order:
//!
//! 1. [`engine`]: the parts and how they are put together.
//! 2. `invoke`: one invocation from name to answer.
//! 3. `pool`: the execution environments of one version; `room`: what the host can give.
//! 4. `function`, `rules`: what a function is and which settings are legal; `registry`: the snapshot.
//! 5. `ops`: the control plane, one file per group of operations; `api`: its documents.
//! 6. `code`: packages at rest, unpacked; `layers`: layer versions; `keys`: records at rest; `variables`: what of them is sealed; `record`: the journal's writer; `stats`: counters.

mod api;
mod code;
mod engine;
mod error;
mod function;
mod invoke;
mod keys;
mod layers;
mod ops;
mod pool;
mod record;
mod registry;
mod room;
mod rules;
mod service;
mod stats;
mod variables;

pub use engine::{Engine, Options, Parts};
pub use error::Error;
pub use pool::EnvironmentView;
pub use rules::Ceilings;
pub use stats::StatsView;
