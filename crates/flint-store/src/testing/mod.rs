//! What tests of stores share: a disk that can fail and lose power, and the suite that every engine passes.

mod disk;
mod suite;

pub use disk::{Call, Fault, Keep, SimDisk};
pub use suite::{Rng, World, suite};
