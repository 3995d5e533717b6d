//! Event patterns: the language in which rules and filters say which events they want.
//!
//! Pure: a pattern is parsed once and asked often. The bus's rules, `TestEventPattern` and the filters of event source
//! mappings share this one implementation. Reading order: [`json`] (values as patterns see them, numbers by value),
//! [`tokens`] (JSON with the places that error messages name), [`parse`], [`matcher`] (one condition), [`matching`].
//!
//! Reference: EventBridge User Guide, "Creating Amazon EventBridge event patterns" and "Comparison operators for use in
//! event patterns"; the wording of errors and what arrays mean: the library that the reference published for it (Event
//! Ruler).

mod json;
mod matcher;
mod matching;
mod number;
mod parse;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod tokens;

pub use json::{Json, NotJson};
pub use matching::Pattern;
pub use number::Decimal;

/// Why a text is no event pattern, in the reference's words: what stands behind "Event pattern is not valid. Reason: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(crate) String);
