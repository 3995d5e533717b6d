//! The HTTP front: a request's way in and out.
//!
//! One request goes: limits, gate's first look, route, claim, body (bounded, hashed as it comes), signature, decode,
//! Switchboard, encode. Each step is a file or a function of its own; [`request`] reads like this sentence.

mod body;
mod enduring;
mod frames;
mod guarded;
mod heads;
mod health;
mod inside;
mod options;
mod request;
mod roll;
mod serve;
mod target;

pub use options::{FrontOptions, Limits};
pub use serve::Front;
