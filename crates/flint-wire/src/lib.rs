//! The wire: bytes to documents and back, faults to each protocol's errors, signatures, and the HTTP front.
//!
//! No service parses a request or renders an answer; no other room knows a protocol. Reading order: [`shape`] and
//! [`tables`] (what the services look like), [`front`] (a request's way in and out), then its stations: [`gate`] and
//! [`sigv4`] (who calls), [`route`] (what is called), [`codec`] with [`served`], [`validate`] and [`pattern`] (with
//! what). [`links`] hands out blobs at signed addresses; [`signer`] is for those who call.

pub mod codec;
pub mod front;
pub mod gate;
pub mod links;
pub mod pattern;
pub mod route;
pub mod served;
pub mod shape;
pub mod signer;
pub mod sigv4;
pub mod tables;
pub mod validate;

pub use front::{Front, FrontOptions, Limits};
pub use gate::{DevGate, Gate};
pub use links::{Downloads, SignedLinks};
pub use signer::{Credentials, sign};
pub use sigv4::{Keys, Owner, SecretKey, Session, Verified};
