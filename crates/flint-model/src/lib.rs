//! The nouns of Flint: accounts, regions, ARNs, function names, sizes and the lineage of an event.
//!
//! Pure: no clock, no I/O, no async. Reading order: [`place`], [`arn`], [`function`], [`lineage`], [`size`].

pub mod arn;
pub mod function;
pub mod lineage;
pub mod place;
pub mod size;

pub use arn::Arn;
pub use function::{FunctionName, FunctionRef, Qualifier};
pub use lineage::Lineage;
pub use place::{AccountId, Place, Region};
pub use size::ByteCount;

#[cfg(test)]
mod properties;
