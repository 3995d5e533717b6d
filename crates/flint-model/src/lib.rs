//! The nouns of Flint: accounts, regions, ARNs, function names, sizes the lineage of an event, and the
//! language of event patterns.
//!
//! Pure: no clock, no I/O, no async. Reading order: [`place`], [`arn`], [`function`], [`lineage`], [`size`],
//! [`pattern`].

pub mod arn;
pub mod function;
pub mod lineage;
pub mod pattern;
pub mod place;
pub mod size;

pub use arn::Arn;
pub use function::{FunctionName, FunctionRef, Qualifier};
pub use lineage::Lineage;
pub use pattern::Pattern;
pub use place::{AccountId, Place, Region};
pub use size::ByteCount;

#[cfg(test)]
mod properties;
