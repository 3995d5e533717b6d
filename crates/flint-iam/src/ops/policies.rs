//! Inline policies (`PutRolePolicy`, `GetRolePolicy`, `ListRolePolicies`, `DeleteRolePolicy`) and managed ones
//! (`AttachRolePolicy`, `ListAttachedRolePolicies`, `DetachRolePolicy`).

use flint_kit::Ctx;
use flint_model::Arn;

use crate::api::{AttachedPolicy, ListOutput, RoleInput, RolePolicyOutput};
use crate::error::Error;
use crate::ops::page::Window;
use crate::ops::roles::encoded;
use crate::policy::{self, Use};
use crate::roles::{Role, Roles};

/// Characters of all inline policies of a role, blanks aside; and managed policies on a role (IAM User Guide, "IAM and
/// STS quotas").
const INLINE: usize = 10_240;
const ATTACHED: usize = 10;

pub(crate) async fn put_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let (name, document) = (input.policy_name.unwrap_or_default(), input.policy_document.unwrap_or_default());
    let change = |role: &mut Role| {
        policy::check(&document, Use::Identity)?;
        role.inline.insert(name.clone(), document.clone());
        let total: usize = role.inline.values().map(|d| d.chars().filter(|c| !c.is_whitespace()).count()).sum();
        if total > INLINE {
            let message = format!("Maximum policy size of {INLINE} bytes exceeded for role {}", role.name);
            return Err(Error::LimitExceeded(message));
        }
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) fn get_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<RolePolicyOutput, Error> {
    let role = roles.get(ctx.principal.account(), &input.role_name)?;
    let policy_name = input.policy_name.unwrap_or_default();
    let document = role.inline.get(&policy_name).ok_or_else(|| no_policy(&policy_name))?;
    Ok(RolePolicyOutput { policy_document: encoded(document), role_name: role.name, policy_name })
}

pub(crate) fn list_role_policies(roles: &Roles, ctx: &Ctx, input: &RoleInput) -> Result<ListOutput, Error> {
    let window = Window::new(&input.page)?;
    let role = roles.get(ctx.principal.account(), &input.role_name)?;
    let (names, marker) = window.cut(role.inline.into_keys(), |name| name);
    Ok(ListOutput { policy_names: Some(names), is_truncated: marker.is_some(), marker, ..ListOutput::default() })
}

pub(crate) async fn delete_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let name = input.policy_name.unwrap_or_default();
    let change = |role: &mut Role| role.inline.remove(&name).map(drop).ok_or_else(|| no_policy(&name));
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

/// Differs: the managed policies of the reference are taken by the form of their ARN alone, and those that are not known here allow
/// nothing; policies of an account do not exist here.
pub(crate) async fn attach_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let arn = input.policy_arn.unwrap_or_default();
    let parsed = parse(&arn)?;
    if parsed.account != "aws" {
        return Err(Error::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable.")));
    }
    let change = |role: &mut Role| {
        role.attached.insert(arn.clone());
        if role.attached.len() > ATTACHED {
            return Err(Error::LimitExceeded(format!("Cannot exceed quota for PoliciesPerRole: {ATTACHED}")));
        }
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) fn list_attached_role_policies(roles: &Roles, ctx: &Ctx, input: &RoleInput) -> Result<ListOutput, Error> {
    let window = Window::new(&input.page)?;
    let role = roles.get(ctx.principal.account(), &input.role_name)?;
    let prefix = input.page.path_prefix.as_deref().unwrap_or("/");
    let below = role.attached.into_iter().filter(|arn| path_of(arn).starts_with(prefix));
    let (arns, marker) = window.cut(below, |arn| arn);
    let attached = arns
        .into_iter()
        .map(|arn| AttachedPolicy { policy_name: arn.rsplit('/').next().unwrap_or("").to_owned(), policy_arn: arn });
    let attached_policies = Some(attached.collect());
    Ok(ListOutput { attached_policies, is_truncated: marker.is_some(), marker, ..ListOutput::default() })
}

pub(crate) async fn detach_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let arn = input.policy_arn.unwrap_or_default();
    parse(&arn)?;
    let change = |role: &mut Role| {
        let missing = || Error::NoSuchEntity(format!("Policy {arn} was not found."));
        if role.attached.remove(&arn) { Ok(()) } else { Err(missing()) }
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

fn no_policy(name: &str) -> Error {
    Error::NoSuchEntity(format!("The role policy with name {name} cannot be found."))
}

/// The ARN of a managed policy.
fn parse(arn: &str) -> Result<Arn, Error> {
    let invalid = || Error::InvalidInput(format!("ARN {arn} is not valid."));
    let parsed: Arn = arn.parse().map_err(|_| invalid())?;
    let name = parsed.resource.strip_prefix("policy/").and_then(|rest| rest.rsplit('/').next()).unwrap_or("");
    let legal = parsed.service == "iam" && parsed.region.is_empty() && !name.is_empty();
    if legal { Ok(parsed) } else { Err(invalid()) }
}

/// `/service-role/` of `arn:aws:iam::aws:policy/service-role/X`.
fn path_of(arn: &str) -> &str {
    let resource = arn.split_once(":policy").map_or("/", |(_, resource)| resource);
    resource.rfind('/').map_or("/", |at| &resource[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_managed_policies() {
        let basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
        assert!(parse(basic).is_ok());
        assert_eq!(path_of(basic), "/service-role/");
        assert_eq!(path_of("arn:aws:iam::aws:policy/ReadOnlyAccess"), "/");
        for bad in [
            "x",
            "arn:aws:s3::aws:policy/x",
            "arn:aws:iam::aws:role/x",
            "arn:aws:iam::aws:policy/",
            "arn:aws:iam:r:aws:policy/x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
