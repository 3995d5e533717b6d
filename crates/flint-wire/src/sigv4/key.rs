//! Secrets, and the keys that are derived from them.

use std::fmt;

use flint_base::Timestamp;
use flint_kit::Principal;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, TERMINATOR};

/// A secret access key. Its text never shows in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

/// Whom an access key belongs to.
#[derive(Clone, Debug)]
pub struct Owner {
    pub principal: Principal,
    pub secret: SecretKey,
}

/// Whom temporary credentials belong to, and how long.
#[derive(Clone, Debug)]
pub struct Session {
    pub owner: Owner,
    pub expires: Timestamp,
}

/// Finds the owner of an access key.
pub trait Keys: Send + Sync + fmt::Debug {
    /// The owner of a long-lived key; `None` for a key that does not exist or is not active.
    fn owner(&self, access_key: &str) -> Option<Owner>;

    /// The session that a key and a security token name together, expired or not; `None` unless we gave out both.
    fn session(&self, access_key: &str, token: &str) -> Option<Session> {
        let _ = (access_key, token);
        None
    }
}

impl SecretKey {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The text itself, for whoever must store or print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The signature of a canonical request as lower-case hex.
///
/// `date` is `YYYYMMDD'T'HHMMSS'Z'`; its first eight characters are the scope's day.
pub(crate) fn signature(secret: &SecretKey, date: &str, region: &str, service: &str, canonical: &str) -> String {
    let day = date.get(..8).unwrap_or(date);
    let request = hex::encode(Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("{ALGORITHM}\n{date}\n{day}/{region}/{service}/{TERMINATOR}\n{request}");
    let key = hmac(format!("AWS4{}", secret.0).as_bytes(), day.as_bytes());
    let key = hmac(&key, region.as_bytes());
    let key = hmac(&key, service.as_bytes());
    let key = hmac(&key, TERMINATOR.as_bytes());
    hex::encode(hmac(&key, to_sign.as_bytes()))
}

/// The SHA-256 of a payload as lower-case hex.
pub fn payload_hash(payload: &[u8]) -> String {
    hex::encode(Sha256::digest(payload))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
