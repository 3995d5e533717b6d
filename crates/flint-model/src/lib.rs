//! The nouns of Flint: accounts, regions, ARNs, function names, sizes the lineage of an event, and the
//! language of event patterns.
//!
//! Pure: no clock, no I/O, no async. Reading order: [`place`], [`arn`], [`function`], [`lineage`], [`trace`], [`size`],
//! [`pattern`].

pub mod arn;
pub mod function;
pub mod lineage;
pub mod pattern;
pub mod place;
pub mod size;
pub mod trace;

pub use arn::Arn;
pub use function::{FunctionName, FunctionRef, Qualifier};
pub use lineage::Lineage;
pub use pattern::Pattern;
pub use place::{AccountId, Place, Region};
pub use size::ByteCount;
pub use trace::Trace;

#[cfg(test)]
mod properties;
