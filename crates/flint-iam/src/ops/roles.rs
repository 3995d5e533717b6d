//! `CreateRole`, `GetRole`, `ListRoles`, `UpdateRole`, `UpdateAssumeRolePolicy`, `DeleteRole`,
//! `ListInstanceProfilesForRole`.

use flint_kit::Ctx;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::{CreateRoleInput, ListOutput, Nothing, PageInput, RoleInput, RoleOutput, RoleView};
use crate::error::Error;
use crate::keys::text;
use crate::ops::page::Window;
use crate::ops::tags;
use crate::policy::{self, Use};
use crate::roles::{Role, Roles};

/// `MaxSessionDuration` of a role that names none (API reference).
const SESSION_S: u32 = 3600;

/// Characters of a trust policy, blanks aside (IAM User Guide, "IAM and STS quotas").
const TRUST: usize = 2048;

/// What RFC 3986 reserves; policy documents travel like this in answers.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(crate) async fn create_role(roles: &Roles, ctx: &Ctx, input: CreateRoleInput) -> Result<RoleOutput, Error> {
    check_trust(&input.assume_role_policy_document)?;
    let role = Role {
        account: ctx.principal.account().clone(),
        name: input.role_name,
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        id: format!("AROA{}", text::<17>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")),
        created_ms: ctx.received.as_millis(),
        trust: input.assume_role_policy_document,
        description: input.description,
        max_session_s: input.max_session_duration.unwrap_or(SESSION_S),
        tags: tags::collect(input.tags)?,
        attached: Default::default(),
        inline: Default::default(),
    };
    roles.create(&role).await?;
    Ok(RoleOutput { role: view(role, true) })
}

pub(crate) fn get_role(roles: &Roles, ctx: &Ctx, input: &RoleInput) -> Result<RoleOutput, Error> {
    let role = roles.get(ctx.principal.account(), &input.role_name)?;
    let role = RoleView { role_last_used: Some(Nothing {}), ..view(role, true) };
    Ok(RoleOutput { role })
}

pub(crate) fn list_roles(roles: &Roles, ctx: &Ctx, page: &PageInput) -> Result<ListOutput, Error> {
    let window = Window::new(page)?;
    let path = page.path_prefix.as_deref().unwrap_or("/");
    let found = roles.list(ctx.principal.account(), path, window.after.as_deref(), window.limit + 1)?;
    let (found, marker) = window.close(found, |role| &role.name);
    let roles = found.into_iter().map(|role| view(role, false)).collect();
    Ok(ListOutput { roles: Some(roles), is_truncated: marker.is_some(), marker, ..ListOutput::default() })
}

pub(crate) async fn update_role(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let change = |role: &mut Role| {
        if let Some(description) = &input.description {
            role.description = Some(description.clone());
        }
        if let Some(seconds) = input.max_session_duration {
            role.max_session_s = seconds;
        }
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) async fn update_assume_role_policy(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let document = input.policy_document.unwrap_or_default();
    let change = |role: &mut Role| {
        check_trust(&document)?;
        role.trust.clone_from(&document);
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) async fn delete_role(roles: &Roles, ctx: &Ctx, input: &RoleInput) -> Result<(), Error> {
    let removable = |role: &Role| {
        if !role.attached.is_empty() {
            return Err(Error::DeleteConflict("Cannot delete entity, must detach all policies first."));
        }
        if !role.inline.is_empty() {
            return Err(Error::DeleteConflict("Cannot delete entity, must delete policies first."));
        }
        Ok(())
    };
    roles.delete(ctx.principal.account(), &input.role_name, removable).await
}

/// There are no instance profiles here; tools ask before they delete a role.
pub(crate) fn list_instance_profiles_for_role(
    roles: &Roles,
    ctx: &Ctx,
    input: &RoleInput,
) -> Result<ListOutput, Error> {
    Window::new(&input.page)?;
    roles.get(ctx.principal.account(), &input.role_name)?;
    Ok(ListOutput { instance_profiles: Some(Vec::new()), ..ListOutput::default() })
}

/// A document as answers carry it.
pub(crate) fn encoded(document: &str) -> String {
    utf8_percent_encode(document, RESERVED).to_string()
}

fn check_trust(document: &str) -> Result<(), Error> {
    policy::check(document, Use::Trust)?;
    if document.chars().filter(|c| !c.is_whitespace()).count() > TRUST {
        return Err(Error::LimitExceeded(format!("Cannot exceed quota for ACLSizePerRole: {TRUST}")));
    }
    Ok(())
}

fn view(role: Role, with_tags: bool) -> RoleView {
    let tags = tags::list(&role);
    RoleView {
        arn: role.arn(),
        create_date: role.created(),
        assume_role_policy_document: encoded(&role.trust),
        path: role.path,
        role_name: role.name,
        role_id: role.id,
        description: role.description,
        max_session_duration: Some(role.max_session_s),
        tags: (with_tags && !tags.is_empty()).then_some(tags),
        role_last_used: None,
    }
}
