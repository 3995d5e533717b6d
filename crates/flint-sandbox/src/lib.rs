//! Sandboxes: isolate, limit, freeze and kill a workload. Knows processes, mounts and cgroups; has never heard of functions.
//!
//! Two halves live here. The [`spawner`] is a tiny single-threaded process with privilege; it is made by
//! [`spawner::start`] while the server is still root and has one thread. [`Sandboxes`] is the server's asynchronous
//! handle to it: define a root, launch, unpack. What comes back holds open descriptors (pidfd, pipes, listener, cgroup
//! files), so that freezing, thawing and killing never go through the spawner.
//!
//! Reading order: [`api`] (the nouns), [`sandboxes`] and [`sandbox`] (the server's side), `message` and `codec` (what
//! crosses), [`spawner`] (the privileged side), `cgroup`, `unpack`, `measure` and `watchdog` (memory where no cgroup limits
//! it), `sys`.

pub mod api;
pub mod error;
pub mod probe;
pub mod sandbox;
pub mod sandboxes;
pub mod spawner;
pub mod walls;

mod cgroup;
mod codec;
mod measure;
mod message;
mod sys;
mod unpack;
mod watchdog;

pub use api::{
    Bind, CODE_DIR, Census, Exit, How, INSIDE_ID, LAYER_DIR, Launch, Options, Phases, RUNTIME_API, RootFile, RootId,
    RootSpec, RuntimeListener, UnpackLimits, Unpacked,
};
pub use error::{Error, Refusal, Stage, UnpackError};
pub use probe::{Capabilities, CgroupMode, Exception, probe};
pub use sandbox::{Reach, Sandbox};
pub use sandboxes::Sandboxes;
pub use spawner::SpawnerChannel;
pub use walls::{Wall, Walls};
