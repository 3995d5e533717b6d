//! The composition root: options in, a serving process out.
//!
//! Only this room binds the host's sockets, drops privileges and puts the other rooms together. Reading order:
//! [`options`], [`run`] (the life of the process), `data` (the data directory), `privilege`, `services` (the one list
//! of services), `operator` and `events` (Flint's own API), `inside` (calls from environments), `load` (how busy the processors are), [`backup`].

pub mod backup;
mod data;
mod error;
mod events;
pub mod holder;
pub mod host;
mod inside;
mod keys;
mod load;
mod operator;
pub mod options;
mod privilege;
mod run;
pub mod runtimes;
mod services;

pub use error::Error;
pub use options::{Ceilings, Limits, Mode, Options, Secret};
pub use run::run;
