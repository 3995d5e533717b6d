//! Sealing what must not lie readable at rest.

use std::fmt;

/// Seals small secrets: each owner has a data key of its own, and that is kept under a master key (an envelope).
///
/// Everything sealed is bound to its owner and its place: it opens nowhere else, and not when a bit of it has changed. A
/// service stores what it gets; the master key stays in the vault.
pub trait Vault: fmt::Debug + Send + Sync {
    /// A fresh data key for `owner`, wrapped: to be stored, and handed back to the other two.
    fn data_key(&self, owner: &str) -> Vec<u8>;

    /// Seals `plain`, which lies at `place`, with the data key of `owner`.
    ///
    /// Errors: the data key is not this owner's or is damaged.
    fn seal(&self, data_key: &[u8], owner: &str, place: &str, plain: &[u8]) -> Result<Vec<u8>, Unopened>;

    /// Opens what [`Vault::seal`] gave for the same key, owner and place.
    ///
    /// Errors: one of them is another one, or something is damaged. Which of it is not said.
    fn open(&self, data_key: &[u8], owner: &str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unopened>;
}

/// Something sealed does not open here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed for another place, with another key, or damaged")]
pub struct Unopened;
