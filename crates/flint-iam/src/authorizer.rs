//! The authorizer of `flint up`: sessions of roles may do what their roles' policies allow, and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use flint_kit::{Authorizer, Ctx, Fault, Principal, Question};
use flint_model::AccountId;
use flint_store::Store;

use crate::error::Error;
use crate::evaluate::{Rights, Verdict, trusts};
use crate::managed;
use crate::owner::{OwnerAuthorizer, denied};
use crate::roles::{Role, Roles};

/// Roles whose policies are kept read.
const KEPT: usize = 1024;

/// A role's policies, and the version of the record that they were read from.
type Kept = (u64, Arc<Rights>);

/// As [`OwnerAuthorizer`] for the account's root and Flint itself. A session of a role needs, besides, that a policy of the role
/// allows the call and none denies it; to assume another role, that role has to trust it as well.
///
/// A role that is gone, or that another one of its name has replaced, allows nothing.
#[derive(Debug)]
pub struct PolicyAuthorizer {
    roles: Roles,
    /// By account and name; of use as long as the record has that version.
    kept: Mutex<HashMap<(AccountId, String), Kept>>,
}

impl PolicyAuthorizer {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { roles: Roles::new(store), kept: Mutex::default() }
    }

    fn rights(&self, account: &AccountId, name: &str, id: &str) -> Result<Arc<Rights>, Error> {
        let (version, role) = self.roles.read(account, name)?;
        if role.id != id {
            return Err(Error::NoSuchEntity(format!("The role with name {name} cannot be found.")));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.clone(), role.name.clone());
        if let Some((_, rights)) = kept.get(&key).filter(|(known, _)| *known == version) {
            return Ok(rights.clone());
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let rights = Arc::new(read(&role));
        kept.insert(key, (version, rights.clone()));
        Ok(rights)
    }

    /// Whether the role that is to be assumed wants the caller's role.
    fn is_trusted(&self, ctx: &Ctx, caller: &str, wanted: &str) -> bool {
        let account = ctx.principal.account();
        let named = |arn: &str| arn.rsplit('/').next().map(str::to_owned).unwrap_or_default();
        let (own, other) = (self.roles.get(account, caller), self.roles.get(account, &named(wanted)));
        match (own, other) {
            (Ok(own), Ok(other)) if other.arn() == wanted => {
                trusts(&other.trust, account.as_str(), &own.arn(), &ctx.principal.arn())
            }
            _ => false,
        }
    }
}

impl Authorizer for PolicyAuthorizer {
    fn authorize(&self, ctx: &Ctx, question: &Question<'_>) -> Result<(), Fault> {
        OwnerAuthorizer.authorize(ctx, question)?;
        let Principal::AssumedRole { account, role, role_id, .. } = &ctx.principal else { return Ok(()) };
        // It needs no permission.
        if question.action == "sts:GetCallerIdentity" {
            return Ok(());
        }
        let verdict = match self.rights(account, role, role_id) {
            Ok(rights) => rights.judge(question),
            Err(Error::NoSuchEntity(_)) => Verdict::Unmentioned,
            Err(error) => {
                tracing::error!(role, %error, "a role's policies can't be read: its sessions may do nothing");
                Verdict::Unmentioned
            }
        };
        let refused = |why: String| {
            let mut fault = denied(&ctx.principal, question);
            fault.message.push_str(&why);
            Err(fault)
        };
        match verdict {
            Verdict::Denied => refused(" with an explicit deny in an identity-based policy".to_owned()),
            Verdict::Unmentioned => {
                refused(format!(" because no identity-based policy allows the {} action", question.action))
            }
            Verdict::Allowed
                if question.action == "sts:AssumeRole" && !self.is_trusted(ctx, role, question.resource) =>
            {
                refused(" because no role trust policy allows the sts:AssumeRole action".to_owned())
            }
            Verdict::Allowed => Ok(()),
        }
    }
}

fn read(role: &Role) -> Rights {
    let mut rights = Rights::default();
    role.inline.values().for_each(|document| rights.add(document));
    role.attached.iter().filter_map(|arn| managed::actions(arn)).for_each(|actions| rights.grant(&actions));
    rights
}
