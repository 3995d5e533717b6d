//! Who may do what: the account's keys, roles, sessions, the first authorizer, IAM and STS.
//!
//! What it promises: an account's root keys, the sessions made with them and Flint itself may do everything in that
//! account, anyone else nothing; under `flint up` a session of a role may do what the role's policies allow, as far as they are
//! understood, and nothing else. A secret never reaches a log or a debug print.
//!
//! Reading order: [`keys`], [`vault`] (secrets at rest), [`sessions`], [`residents`] (sessions of
//! environments), [`owner`], `roles`, `policy` (their form),
//! `evaluate` (their meaning), `managed`, [`authorizer`], `ops`, [`iam`], [`sts`].

mod api;
pub mod authorizer;
mod error;
mod evaluate;
pub mod iam;
pub mod keys;
mod managed;
mod ops;
pub mod owner;
mod policy;
pub mod residents;
mod roles;
pub mod sessions;
pub mod sts;
pub mod vault;

pub use authorizer::PolicyAuthorizer;
pub use keys::{Error, KeyRing, RootKey, SecretKey};
pub use owner::OwnerAuthorizer;
pub use residents::Residents;
pub use sessions::Sessions;
pub use vault::{KeyVault, MasterKey};
