//! The data directory's keys as the wire's verifier asks for them.

use flint_iam::KeyRing;
use flint_kit::Principal;
use flint_wire::sigv4::{Keys, Owner, SecretKey};

/// Root keys only, until there are others.
#[derive(Debug)]
pub(crate) struct RootKeys(pub KeyRing);

impl Keys for RootKeys {
    fn owner(&self, access_key: &str) -> Option<Owner> {
        let key = self.0.find(access_key)?;
        let principal = Principal::Root { account: key.account.clone(), access_key: key.access_key_id.clone() };
        Some(Owner { principal, secret: SecretKey::new(key.secret_access_key.expose()) })
    }
}
