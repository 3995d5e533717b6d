//! The data directory's keys as the wire's verifier asks for them.

use flint_iam::{KeyRing, Sessions};
use flint_kit::Principal;
use flint_wire::sigv4::{Keys, Owner, SecretKey, Session};

/// Root keys, and the sessions that STS gave out.
#[derive(Debug)]
pub(crate) struct AllKeys {
    pub ring: KeyRing,
    pub sessions: Sessions,
}

impl Keys for AllKeys {
    fn owner(&self, access_key: &str) -> Option<Owner> {
        let key = self.ring.find(access_key)?;
        let principal = Principal::Root { account: key.account.clone(), access_key: key.access_key_id.clone() };
        Some(Owner { principal, secret: SecretKey::new(key.secret_access_key.expose()) })
    }

    fn session(&self, access_key: &str, token: &str) -> Option<Session> {
        let found = self.sessions.open(access_key, token)?;
        let secret = SecretKey::new(found.secret_access_key.expose());
        Some(Session { owner: Owner { principal: found.principal, secret }, expires: found.expires })
    }
}
