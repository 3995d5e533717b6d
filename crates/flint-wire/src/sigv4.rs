//! Signature Version 4, in a header or in the query: the canonical request, the signing key, and a verifier whose result is a type.
//!
//! Verification has two steps because the body is read between them: [`Claim::read`] checks everything that needs
//! neither a secret nor the body (form, scope, date, which headers are signed); [`Claim::verify`] checks the payload
//! hash and the signature. Only the second, and `dev`'s gate, make a [`Verified`]; handlers are reached with one only.
//! An unknown access key takes the same steps as a known one, so that neither time nor order tells them apart.
//!
//! Reference: IAM User Guide, "Create a signed AWS API request"; reading order: [`canonical`], [`key`], [`claim`],
//! [`presigned`].

pub mod canonical;
pub mod claim;
pub mod key;
pub mod presigned;
pub mod refusal;
pub mod time;

pub use claim::{Claim, Expected, Verified};
pub use key::{Keys, Owner, SecretKey, Session};
pub use refusal::Refusal;

/// The one algorithm that we verify.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The last part of a credential scope.
pub const TERMINATOR: &str = "aws4_request";
