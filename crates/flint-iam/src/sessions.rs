//! Temporary credentials: an access key, a secret and a token that only this data directory makes and knows.
//!
//! Nothing of a session is stored. The token says whose it is and until when, under an HMAC; the secret is a second HMAC
//! of the same words. Both keys are derived from the data directory's root secret, so sessions outlive a restart and
//! end with the key pair. Only of a session that is lent ([`Sessions::lend`]) is something kept, in memory: whether it still is.
//! A token shows its holder's account, role and session name to who reads it, and no secret.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flint_base::Timestamp;
use flint_kit::Principal;
use flint_model::AccountId;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::keys::{KeyRing, SecretKey, text};

/// The length of the HMAC in front of a token's words.
const TAG: usize = 32;

/// Tokens are far shorter; what is longer is not looked at.
const LONGEST: usize = 2048;

/// Makes sessions and knows them again.
#[derive(Clone)]
pub struct Sessions {
    token_key: [u8; 32],
    secret_key: [u8; 32],
    /// The access keys of the sessions that are lent at the moment. None survives the server: nor do the environments.
    lent: Arc<Mutex<HashSet<String>>>,
}

/// Keeps a lent session alive; dropped, it ends.
#[derive(Debug)]
pub struct Loan {
    lent: Arc<Mutex<HashSet<String>>>,
    access_key: String,
}

impl Drop for Loan {
    fn drop(&mut self) {
        lock(&self.lent).remove(&self.access_key);
    }
}

/// Credentials as they are handed out.
#[derive(Debug)]
pub struct Issued {
    /// `ASIA` and sixteen characters.
    pub access_key_id: String,
    /// Forty characters.
    pub secret_access_key: SecretKey,
    pub session_token: String,
    pub expires: Timestamp,
}

/// A session that a token named.
#[derive(Debug)]
pub struct Session {
    pub principal: Principal,
    pub secret_access_key: SecretKey,
    pub expires: Timestamp,
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The account's root (`sts:GetSessionToken`).
    Root,
    /// A role (`sts:AssumeRole`).
    Role { name: String, id: String, session: String },
}

/// The words of a token. Short names: a token travels with every request.
#[derive(Serialize, Deserialize)]
struct Words {
    #[serde(rename = "v")]
    version: u8,
    #[serde(rename = "k")]
    access_key: String,
    #[serde(rename = "a")]
    account: AccountId,
    /// Milliseconds since the epoch.
    #[serde(rename = "e")]
    expires: i64,
    /// Name, id and session of a role; the account's root without them.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    role: Option<(String, String, String)>,
    /// It ends with its [`Loan`].
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    lent: bool,
}

impl Sessions {
    pub fn new(keys: &KeyRing) -> Self {
        Self {
            token_key: keys.derive("session token"),
            secret_key: keys.derive("session secret"),
            lent: Arc::default(),
        }
    }

    /// Makes a session of `account` that ends at `expires`.
    pub fn issue(&self, account: &AccountId, holder: Holder, expires: Timestamp) -> Issued {
        self.make(account, holder, expires, false)
    }

    /// Makes a session that ends with the [`Loan`], at `expires` at the latest.
    pub fn lend(&self, account: &AccountId, holder: Holder, expires: Timestamp) -> (Issued, Loan) {
        let issued = self.make(account, holder, expires, true);
        lock(&self.lent).insert(issued.access_key_id.clone());
        let loan = Loan { lent: self.lent.clone(), access_key: issued.access_key_id.clone() };
        (issued, loan)
    }

    fn make(&self, account: &AccountId, holder: Holder, expires: Timestamp, lent: bool) -> Issued {
        let access_key_id = format!("ASIA{}", text::<16>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
        let role = match holder {
            Holder::Root => None,
            Holder::Role { name, id, session } => Some((name, id, session)),
        };
        let words = Words {
            version: 1,
            access_key: access_key_id.clone(),
            account: account.clone(),
            expires: expires.as_millis(),
            role,
            lent,
        };
        let words = serde_json::to_vec(&words).expect("plain texts and numbers always render");
        let mut token = mac(&self.token_key, &words).finalize().into_bytes().to_vec();
        token.extend_from_slice(&words);
        Issued {
            access_key_id,
            secret_access_key: self.secret(&words),
            session_token: BASE64_STANDARD.encode(token),
            expires,
        }
    }

    /// The session of a token that we made for `access_key`, over or not; `None` for anything else.
    pub fn open(&self, access_key: &str, token: &str) -> Option<Session> {
        if token.len() > LONGEST {
            return None;
        }
        let token = BASE64_STANDARD.decode(token).ok()?;
        let (tag, words) = token.split_at_checked(TAG)?;
        mac(&self.token_key, words).verify_slice(tag).ok()?;
        let secret_access_key = self.secret(words);
        let words: Words = serde_json::from_slice(words).ok()?;
        if words.access_key != access_key || words.version != 1 {
            return None;
        }
        let over = words.lent && !lock(&self.lent).contains(access_key);
        let expires = if over { Timestamp::from_millis(0) } else { Timestamp::from_millis(words.expires) };
        let (account, access_key) = (words.account, words.access_key);
        let principal = match words.role {
            None => Principal::Root { account, access_key },
            Some((role, role_id, session)) => Principal::AssumedRole { account, access_key, role, role_id, session },
        };
        Some(Session { principal, secret_access_key, expires })
    }

    fn secret(&self, words: &[u8]) -> SecretKey {
        let mut text = BASE64_STANDARD.encode(mac(&self.secret_key, words).finalize().into_bytes());
        text.truncate(40);
        SecretKey::new(text)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(..)")
    }
}

fn lock(lent: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions { token_key: [1; 32], secret_key: [2; 32], lent: Arc::default() }
    }

    fn account() -> AccountId {
        "111111111111".parse().expect("twelve digits")
    }

    #[test]
    fn a_session_is_known_again_by_its_key_and_token_together() {
        let sessions = sessions();
        let holder = Holder::Role { name: "r".into(), id: "AROAX".into(), session: "me".into() };
        let made = sessions.issue(&account(), holder, Timestamp::from_millis(5));
        assert!(made.access_key_id.starts_with("ASIA") && made.access_key_id.len() == 20);
        assert_eq!(made.secret_access_key.expose().len(), 40);
        let found = sessions.open(&made.access_key_id, &made.session_token).expect("known");
        assert_eq!(found.secret_access_key, made.secret_access_key);
        assert_eq!(found.expires, made.expires);
        assert_eq!(found.principal.arn(), "arn:aws:sts::111111111111:assumed-role/r/me");
        assert_eq!(found.principal.user_id(), "AROAX:me");
        let root = sessions.issue(&account(), Holder::Root, Timestamp::from_millis(5));
        assert!(sessions.open(&made.access_key_id, &root.session_token).is_none());
        assert_ne!(root.secret_access_key, made.secret_access_key);
        let other = Sessions { token_key: [3; 32], ..sessions.clone() };
        assert!(other.open(&made.access_key_id, &made.session_token).is_none());
    }

    #[test]
    fn a_lent_session_ends_with_its_loan_and_with_the_server() {
        let sessions = sessions();
        let holder = Holder::Role { name: "r".into(), id: "AROAX".into(), session: "f".into() };
        let (made, loan) = sessions.lend(&account(), holder, Timestamp::from_millis(5));
        let expires = |sessions: &Sessions| {
            sessions.open(&made.access_key_id, &made.session_token).expect("known").expires.as_millis()
        };
        assert_eq!(expires(&sessions.clone()), 5);
        let restarted = Sessions { lent: Arc::default(), ..sessions.clone() };
        assert_eq!(expires(&restarted), 0);
        drop(loan);
        assert_eq!(expires(&sessions), 0);
        assert!(!format!("{made:?}").contains(made.secret_access_key.expose()));
    }

    #[test]
    fn a_changed_token_is_nobodys() {
        let sessions = sessions();
        let made = sessions.issue(&account(), Holder::Root, Timestamp::from_millis(5));
        for at in 0..made.session_token.len() {
            let mut token = made.session_token.clone().into_bytes();
            token[at] = if token[at] == b'A' { b'B' } else { b'A' };
            let token = String::from_utf8(token).expect("ASCII");
            // The last character of base64 may carry bits that decode to nothing.
            let same = BASE64_STANDARD.decode(&token) == BASE64_STANDARD.decode(&made.session_token);
            assert!(same || sessions.open(&made.access_key_id, &token).is_none(), "{at}");
        }
        for token in ["", "A", "AAAA", &"A".repeat(4096)] {
            assert!(sessions.open(&made.access_key_id, token).is_none(), "{token}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_token_is_nobodys(token in "[A-Za-z0-9+/=]{0,200}", text in "\\PC{0,80}") {
            let sessions = sessions();
            for token in [&token, &text, &BASE64_STANDARD.encode(&text)] {
                proptest::prop_assert!(sessions.open("ASIAANY", token).is_none());
            }
        }
    }
}
