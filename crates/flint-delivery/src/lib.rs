//! Events in motion: asynchronous invocations, retries, dead letters, destinations, event source mappings.
//!
//! What it promises: an event that was accepted ends in success, at its destination, in its dead-letter queue, or as a
//! `Discarded` entry of the journal, whatever dies in between; what a function was asked, it is asked again at most once
//! for each time that the server dies. It knows other rooms by their ports only. Reading order:
//!
//! 1. [`delivery`]: the parts, how they are put together, the ports.
//! 2. `due`: the timer structure. `policy`: when an event is tried again and when it is given up. Both pure.
//! 3. `lanes`: the events of each function; `attempt`: one try; `governor`: how many at once.
//! 4. `outbox`: what goes to a target; `documents`: what it says.
//! 5. `mapping`: event source mappings.
//! 6. `settings`, `ops`, `api`, `service`: the operations. `keys`: records at rest. `core`: what the parts share.

mod api;
mod attempt;
mod core;
pub mod delivery;
mod documents;
mod due;
mod error;
mod governor;
mod keys;
mod lanes;
mod mapping;
mod ops;
mod outbox;
mod policy;
mod service;
mod settings;

pub use delivery::{Delivery, Options, Parts};
pub use error::Error;
pub use governor::{Bounds, LoadProbe};
