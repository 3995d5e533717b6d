//! Who calls, where, and under which request.

use std::sync::Arc;

use flint_base::{RequestId, Timestamp};
use flint_model::{AccountId, Lineage, Place};

/// The identity behind a call. It exists only after the wire verified a signature (or, in `dev`, accepted one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The account's own root keys.
    Root { account: AccountId, access_key: String },
    /// Flint itself, on behalf of the account (a delivery, a template, a schedule).
    Platform { account: AccountId },
    /// A session of a role, with the temporary credentials that `sts:AssumeRole` gave.
    AssumedRole {
        account: AccountId,
        /// `ASIA..`
        access_key: String,
        /// The role's name, without its path.
        role: String,
        /// `AROA..`
        role_id: String,
        /// `RoleSessionName`
        session: String,
    },
}

impl Principal {
    pub fn account(&self) -> &AccountId {
        match self {
            Principal::Root { account, .. }
            | Principal::Platform { account }
            | Principal::AssumedRole { account, .. } => account,
        }
    }

    /// The ARN that `sts:GetCallerIdentity` answers.
    pub fn arn(&self) -> String {
        match self {
            Principal::Root { account, .. } | Principal::Platform { account } => {
                format!("arn:aws:iam::{account}:root")
            }
            Principal::AssumedRole { account, role, session, .. } => {
                format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
            }
        }
    }

    /// The user id that `sts:GetCallerIdentity` answers: of an account's root, the account.
    pub fn user_id(&self) -> String {
        match self {
            Principal::Root { account, .. } | Principal::Platform { account } => account.to_string(),
            Principal::AssumedRole { role_id, session, .. } => format!("{role_id}:{session}"),
        }
    }
}

/// The context of one call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub request_id: RequestId,
    /// The account and region that the call is about.
    pub place: Place,
    pub principal: Principal,
    /// When the request arrived.
    pub received: Timestamp,
    /// Scheme and authority that the caller used, such as `http://127.0.0.1:4566`: addresses in answers are built from it.
    pub base_url: Arc<str>,
    /// Where the caller stands in the chain that this call belongs to, if it said so: the event that the calling function
    /// is handling, or the root that the caller chose. What the call brings about is a [`Lineage::child`] of it.
    pub lineage: Option<Lineage>,
    /// The caller's `X-Amzn-Trace-Id` header, if it sent one; see [`flint_model::trace`]. It travels with an event until
    /// [`flint_model::trace::next_pass`] turns it into a function's own.
    pub trace: Option<Arc<str>>,
}
