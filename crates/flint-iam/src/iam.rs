//! The `iam` service: roles. What their policies mean for calls is [`crate::authorizer`]'s.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};
use flint_store::Store;

use crate::ops::{policies, roles as role_ops, tags};
use crate::roles::Roles;

/// The `iam` service over the roles of `store`.
pub fn service(store: Arc<dyn Store>) -> Arc<dyn Service> {
    Arc::new(Iam { roles: Roles::new(store) })
}

#[derive(Debug)]
struct Iam {
    roles: Roles,
}

macro_rules! operations {
    ($($name:literal)*) => {
        const OPERATIONS: &[OperationSpec] =
            &[$(OperationSpec { name: $name, action: concat!("iam:", $name), resource: role_arn }),*];
    };
}
operations! {
    "AttachRolePolicy" "CreateRole" "DeleteRole" "DeleteRolePolicy" "DetachRolePolicy" "GetRole" "GetRolePolicy"
    "ListAttachedRolePolicies" "ListInstanceProfilesForRole" "ListRolePolicies" "ListRoleTags" "ListRoles"
    "PutRolePolicy" "TagRole" "UntagRole" "UpdateAssumeRolePolicy" "UpdateRole"
}

/// The role that a call names, without its path; `*` for a list.
fn role_arn(ctx: &Ctx, doc: &Doc) -> String {
    match doc.text_of("RoleName") {
        Some(name) => format!("arn:aws:iam::{}:role/{name}", ctx.principal.account()),
        None => "*".to_owned(),
    }
}

#[async_trait]
impl Service for Iam {
    fn name(&self) -> &'static str {
        "iam"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let roles = &self.roles;
        let done = |()| Output::empty();
        match operation {
            "CreateRole" => Output::render(&role_ops::create_role(roles, ctx, input.parse()?).await?),
            "GetRole" => Output::render(&role_ops::get_role(roles, ctx, &input.parse()?)?),
            "ListRoles" => Output::render(&role_ops::list_roles(roles, ctx, &input.parse()?)?),
            "UpdateRole" => Ok(role_ops::update_role(roles, ctx, input.parse()?).await.map(done)?),
            "UpdateAssumeRolePolicy" => {
                Ok(role_ops::update_assume_role_policy(roles, ctx, input.parse()?).await.map(done)?)
            }
            "DeleteRole" => Ok(role_ops::delete_role(roles, ctx, &input.parse()?).await.map(done)?),
            "ListInstanceProfilesForRole" => {
                Output::render(&role_ops::list_instance_profiles_for_role(roles, ctx, &input.parse()?)?)
            }
            "PutRolePolicy" => Ok(policies::put_role_policy(roles, ctx, input.parse()?).await.map(done)?),
            "GetRolePolicy" => Output::render(&policies::get_role_policy(roles, ctx, input.parse()?)?),
            "ListRolePolicies" => Output::render(&policies::list_role_policies(roles, ctx, &input.parse()?)?),
            "DeleteRolePolicy" => Ok(policies::delete_role_policy(roles, ctx, input.parse()?).await.map(done)?),
            "AttachRolePolicy" => Ok(policies::attach_role_policy(roles, ctx, input.parse()?).await.map(done)?),
            "ListAttachedRolePolicies" => {
                Output::render(&policies::list_attached_role_policies(roles, ctx, &input.parse()?)?)
            }
            "DetachRolePolicy" => Ok(policies::detach_role_policy(roles, ctx, input.parse()?).await.map(done)?),
            "TagRole" => Ok(tags::tag_role(roles, ctx, input.parse()?).await.map(done)?),
            "UntagRole" => Ok(tags::untag_role(roles, ctx, input.parse()?).await.map(done)?),
            "ListRoleTags" => Output::render(&tags::list_role_tags(roles, ctx, &input.parse()?)?),
            other => Err(Fault::not_served(format_args!("iam.{other}"))),
        }
    }
}
