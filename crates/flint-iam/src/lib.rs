//! Who may do what: the account's keys, the first authorizer, and STS.
//!
//! What it promises: an account's root keys and Flint itself may do everything in that account, anyone else nothing;
//! a secret never reaches a log or a debug print.
//!
//! Reading order: [`keys`], [`owner`], [`sts`].

pub mod keys;
pub mod owner;
pub mod sts;

pub use keys::{Error, KeyRing, RootKey, SecretKey};
pub use owner::OwnerAuthorizer;
pub use sts::service;
