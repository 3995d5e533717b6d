//! Secrets, and the keys that are derived from them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use flint_base::Timestamp;
use flint_kit::Principal;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

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
    hex::encode(hmac(&signing_key(secret, day, region, service), to_sign.as_bytes()))
}

/// A secret's key for a day, a region and a service: four of the five HMACs of a signature, and the same for a day.
struct SigningKey {
    secret: SecretKey,
    day: String,
    region: String,
    service: String,
    key: [u8; 32],
}

/// How many are kept. The one that stands for keys that nobody has is kept like all others, so that an unknown key
/// takes no longer than a bad signature.
const KEPT: usize = 32;

fn signing_key(secret: &SecretKey, day: &str, region: &str, service: &str) -> [u8; 32] {
    static RECENT: RwLock<VecDeque<SigningKey>> = RwLock::new(VecDeque::new());
    let fits = |kept: &&SigningKey| {
        let same = kept.secret.0.as_bytes().ct_eq(secret.0.as_bytes());
        bool::from(same) && kept.day == day && kept.region == region && kept.service == service
    };
    if let Some(kept) = RECENT.read().unwrap_or_else(PoisonError::into_inner).iter().find(fits) {
        return kept.key;
    }
    let key = hmac(format!("AWS4{}", secret.0).as_bytes(), day.as_bytes());
    let key = hmac(&key, region.as_bytes());
    let key = hmac(&key, service.as_bytes());
    let key = hmac(&key, TERMINATOR.as_bytes());
    let (day, region, service) = (day.to_owned(), region.to_owned(), service.to_owned());
    let mut recent = RECENT.write().unwrap_or_else(PoisonError::into_inner);
    recent.truncate(KEPT - 1);
    recent.push_front(SigningKey { secret: secret.clone(), day, region, service, key });
    key
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
