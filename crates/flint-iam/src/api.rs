//! The documents of the operations, with names as in the IAM and STS API references.

use flint_base::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tag {
    pub key: String,
    pub value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateRoleInput {
    pub role_name: String,
    pub assume_role_policy_document: String,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub max_session_duration: Option<u32>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// Every operation that names a role and what it changes or shows of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RoleInput {
    pub role_name: String,
    #[serde(default)]
    pub policy_name: Option<String>,
    #[serde(default)]
    pub policy_document: Option<String>,
    #[serde(default)]
    pub policy_arn: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub max_session_duration: Option<u32>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    #[serde(default)]
    pub tag_keys: Vec<String>,
    #[serde(flatten)]
    pub page: PageInput,
}

/// What every list takes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PageInput {
    pub path_prefix: Option<String>,
    pub marker: Option<String>,
    pub max_items: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RoleView {
    pub path: String,
    pub role_name: String,
    pub role_id: String,
    pub arn: String,
    pub create_date: Timestamp,
    /// Percent-encoded.
    pub assume_role_policy_document: String,
    pub description: Option<String>,
    pub max_session_duration: Option<u32>,
    pub tags: Option<Vec<Tag>>,
    pub role_last_used: Option<Nothing>,
}

/// A structure without members: a role that was never used.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RoleOutput {
    pub role: RoleView,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RolePolicyOutput {
    pub role_name: String,
    pub policy_name: String,
    /// Percent-encoded.
    pub policy_document: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AttachedPolicy {
    pub policy_name: String,
    pub policy_arn: String,
}

/// One page of whichever list the operation answers.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListOutput {
    pub roles: Option<Vec<RoleView>>,
    pub policy_names: Option<Vec<String>>,
    pub attached_policies: Option<Vec<AttachedPolicy>>,
    pub tags: Option<Vec<Tag>>,
    pub instance_profiles: Option<Vec<Nothing>>,
    pub is_truncated: bool,
    pub marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AssumeRoleInput {
    pub role_arn: String,
    pub role_session_name: String,
    #[serde(default)]
    pub duration_seconds: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SessionTokenInput {
    #[serde(default)]
    pub duration_seconds: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    pub expiration: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AssumedRoleUser {
    pub assumed_role_id: String,
    pub arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SessionOutput {
    pub credentials: Credentials,
    pub assumed_role_user: Option<AssumedRoleUser>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CallerIdentity {
    pub user_id: String,
    pub account: String,
    pub arn: String,
}
