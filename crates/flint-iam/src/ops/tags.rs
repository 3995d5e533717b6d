//! `TagRole`, `UntagRole`, `ListRoleTags`.

use std::collections::BTreeMap;

use flint_kit::Ctx;

use crate::api::{ListOutput, RoleInput, Tag};
use crate::error::Error;
use crate::ops::page::Window;
use crate::roles::{Role, Roles};

/// Tags on a role (IAM User Guide, "IAM and STS quotas").
const MOST: usize = 50;

pub(crate) async fn tag_role(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let tags = collect(input.tags)?;
    let change = |role: &mut Role| {
        for (key, value) in &tags {
            // A key that differs in case alone is the same key.
            role.tags.retain(|known, _| !known.eq_ignore_ascii_case(key));
            role.tags.insert(key.clone(), value.clone());
        }
        if role.tags.len() > MOST {
            return Err(Error::LimitExceeded(format!("The number of tags has reached the maximum limit: {MOST}.")));
        }
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) async fn untag_role(roles: &Roles, ctx: &Ctx, input: RoleInput) -> Result<(), Error> {
    let change = |role: &mut Role| {
        role.tags.retain(|known, _| !input.tag_keys.iter().any(|key| known.eq_ignore_ascii_case(key)));
        Ok(())
    };
    roles.change(ctx.principal.account(), &input.role_name, change).await.map(drop)
}

pub(crate) fn list_role_tags(roles: &Roles, ctx: &Ctx, input: &RoleInput) -> Result<ListOutput, Error> {
    let window = Window::new(&input.page)?;
    let role = roles.get(ctx.principal.account(), &input.role_name)?;
    let (tags, marker) = window.cut(list(&role).into_iter(), |tag| &tag.key);
    Ok(ListOutput { tags: Some(tags), is_truncated: marker.is_some(), marker, ..ListOutput::default() })
}

/// The tags of a request by key.
pub(crate) fn collect(tags: Vec<Tag>) -> Result<BTreeMap<String, String>, Error> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for Tag { key, value } in tags {
        if found.keys().any(|known| known.eq_ignore_ascii_case(&key)) {
            let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            return Err(Error::InvalidInput(message.to_owned()));
        }
        found.insert(key, value);
    }
    Ok(found)
}

pub(crate) fn list(role: &Role) -> Vec<Tag> {
    role.tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}
