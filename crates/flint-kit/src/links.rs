//! Addresses under which a blob can be fetched without credentials, for a while.

use std::fmt::Debug;

use flint_base::Timestamp;

/// Makes such addresses: `GetFunction`'s `Code.Location`, a layer version's `Content.Location`. The wire implements it
/// and answers at those addresses; who may have one is the caller's decision.
pub trait Links: Send + Sync + Debug {
    /// The address of the blob with this SHA-256 (lower-case hex) below `base_url` (see [`crate::Ctx::base_url`]),
    /// good for ten minutes from `now`.
    fn link(&self, base_url: &str, sha256: &str, now: Timestamp) -> String;
}
