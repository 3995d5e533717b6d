//! The credentials of execution environments: sessions of their functions' roles.
//!
//! Reference: Lambda Developer Guide, "Defining Lambda function permissions with an execution role" (Lambda assumes the role; the
//! session has the function's name).

use std::sync::Arc;

use flint_base::{Clock, Timestamp};
use flint_kit::Credentials;
use flint_kit::endpoint::CREDENTIALS_LIFE;
use flint_model::{FunctionName, Place};
use flint_store::Store;

use crate::roles::Roles;
use crate::sessions::{Holder, Sessions};

/// The id of a role that is not there: no role ever has it, so that such a session may do nothing where roles are looked at.
const NO_ROLE: &str = "AROA00000000000000000";

/// Makes credentials for environments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Residents {
    roles: Roles,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
}

impl Residents {
    pub fn new(store: Arc<dyn Store>, sessions: Sessions, clock: Arc<dyn Clock>) -> Self {
        Self { roles: Roles::new(store), sessions, clock }
    }

    /// A session of the role, in the function's own account, that ends with the credentials.
    pub fn admit(&self, place: &Place, function: &FunctionName, role: &str) -> Credentials {
        let name = role.rsplit('/').next().unwrap_or_default().to_owned();
        let id = self.id_of(place, &name, role).unwrap_or_else(|| NO_ROLE.to_owned());
        let holder = Holder::Role { name, id, session: function.to_string() };
        let expires: Timestamp = self.clock.now().saturating_add(CREDENTIALS_LIFE);
        let (issued, loan) = self.sessions.lend(&place.account, holder, expires);
        Credentials {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key.expose().to_owned(),
            session_token: issued.session_token,
            loan: Box::new(loan),
        }
    }

    fn id_of(&self, place: &Place, name: &str, arn: &str) -> Option<String> {
        let role = self.roles.get(&place.account, name).ok()?;
        (role.arn() == arn).then_some(role.id)
    }
}
