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

/// The signature of a canonical request.
///
/// `date` is `YYYYMMDD'T'HHMMSS'Z'`; its first eight characters are the scope's day.
pub(crate) fn signature(secret: &SecretKey, date: &str, region: &str, service: &str, canonical: &str) -> [u8; 32] {
    let day = date.get(..8).unwrap_or(date);
    let request = hex(&Sha256::digest(canonical.as_bytes()).into());
    let mut mac = signing_key(secret, day, region, service);
    for part in [ALGORITHM, "\n", date, "\n", day, "/", region, "/", service, "/", TERMINATOR, "\n"] {
        mac.update(part.as_bytes());
    }
    mac.update(&request);
    mac.finalize().into_bytes().into()
}

/// A digest as lower-case hex.
fn hex(digest: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 64];
    for (pair, byte) in out.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// A digest as lower-case hex, as text.
pub(crate) fn hex_text(digest: &[u8; 32]) -> String {
    String::from_utf8(hex(digest).to_vec()).expect("hex digits are ASCII")
}

/// A secret's key for a day, a region and a service: four of the five HMACs of a signature, and the same for a day.
struct SigningKey {
    secret: SecretKey,
    day: String,
    region: String,
    service: String,
    /// That has taken the key, so that it is not mixed in anew for every signature.
    mac: Hmac<Sha256>,
}

/// How many are kept. The one that stands for keys that nobody has is kept like all others, so that an unknown key
/// takes no longer than a bad signature.
const KEPT: usize = 32;

fn signing_key(secret: &SecretKey, day: &str, region: &str, service: &str) -> Hmac<Sha256> {
    static RECENT: RwLock<VecDeque<SigningKey>> = RwLock::new(VecDeque::new());
    let fits = |kept: &&SigningKey| {
        let same = kept.secret.0.as_bytes().ct_eq(secret.0.as_bytes());
        bool::from(same) && kept.day == day && kept.region == region && kept.service == service
    };
    if let Some(kept) = RECENT.read().unwrap_or_else(PoisonError::into_inner).iter().find(fits) {
        return kept.mac.clone();
    }
    let key = hmac(format!("AWS4{}", secret.0).as_bytes(), day.as_bytes());
    let key = hmac(&key, region.as_bytes());
    let key = hmac(&key, service.as_bytes());
    let mac = keyed(&hmac(&key, TERMINATOR.as_bytes()));
    let (day, region, service) = (day.to_owned(), region.to_owned(), service.to_owned());
    let mut recent = RECENT.write().unwrap_or_else(PoisonError::into_inner);
    recent.truncate(KEPT - 1);
    recent.push_front(SigningKey { secret: secret.clone(), day, region, service, mac: mac.clone() });
    mac
}

/// The SHA-256 of a payload as lower-case hex.
pub fn payload_hash(payload: &[u8]) -> String {
    hex_text(&Sha256::digest(payload).into())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}
