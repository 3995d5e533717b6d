//! Who may do what: the account's keys, roles, sessions, the first authorizer, IAM and STS.
//!
//! What it promises: an account's root keys, the sessions made with them and Flint itself may do everything in that
//! account, anyone else nothing; a secret never reaches a log or a debug print. Roles and their policies are durable,
//! checked for form, and answered; no call is decided by them yet.
//!
//! Reading order: [`keys`], [`vault`] (secrets at rest), [`sessions`], [`owner`], `roles`, `policy`, `ops`, [`iam`], [`sts`].

mod api;
mod error;
pub mod iam;
pub mod keys;
mod ops;
pub mod owner;
mod policy;
mod roles;
pub mod sessions;
pub mod sts;
pub mod vault;

pub use keys::{Error, KeyRing, RootKey, SecretKey};
pub use owner::OwnerAuthorizer;
pub use sessions::Sessions;
pub use vault::{KeyVault, MasterKey};
