//! The `sts` service: who calls, and temporary credentials.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Principal, Service};
use flint_model::Arn;
use flint_store::Store;

use crate::api::{AssumeRoleInput, AssumedRoleUser, CallerIdentity, Credentials, SessionOutput, SessionTokenInput};
use crate::error::Error;
use crate::roles::{Role, Roles};
use crate::sessions::{Holder, Issued, Sessions};

/// How long a session lasts if the caller does not say, and the most for an account's root and for a role assumed by a
/// role, in seconds (STS API reference, "AssumeRole" and "GetSessionToken").
const HOUR: u32 = 3600;

/// The `sts` service. Roles are looked up in `store`.
pub fn service(store: Arc<dyn Store>, sessions: Sessions) -> Arc<dyn Service> {
    Arc::new(Sts { roles: Roles::new(store), sessions })
}

#[derive(Debug)]
struct Sts {
    roles: Roles,
    sessions: Sessions,
}

static OPERATIONS: &[OperationSpec] = &[
    OperationSpec { name: "AssumeRole", action: "sts:AssumeRole", resource: role_arn },
    OperationSpec { name: "GetCallerIdentity", action: "sts:GetCallerIdentity", resource: |_, _| "*".to_owned() },
    OperationSpec { name: "GetSessionToken", action: "sts:GetSessionToken", resource: |_, _| "*".to_owned() },
];

fn role_arn(_: &Ctx, doc: &Doc) -> String {
    doc.text_of("RoleArn").unwrap_or("").to_owned()
}

#[async_trait]
impl Service for Sts {
    fn name(&self) -> &'static str {
        "sts"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        match operation {
            "AssumeRole" => Output::render(&self.assume_role(ctx, &input.parse()?)?),
            "GetCallerIdentity" => Output::render(&get_caller_identity(ctx)),
            "GetSessionToken" => Output::render(&self.get_session_token(ctx, &input.parse()?)?),
            other => Err(Fault::not_served(format_args!("sts.{other}"))),
        }
    }
}

impl Sts {
    /// Differs: an account's root may assume its roles, because it is the only user there is. Whether a role may assume another
    /// one is the authorizer's to say.
    fn assume_role(&self, ctx: &Ctx, input: &AssumeRoleInput) -> Result<SessionOutput, Error> {
        let role = self.role(ctx, &input.role_arn)?;
        let seconds = input.duration_seconds.unwrap_or(HOUR.min(role.max_session_s));
        if seconds > role.max_session_s {
            let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(Error::Validation(message.to_owned()));
        }
        if matches!(ctx.principal, Principal::AssumedRole { .. }) && seconds > HOUR {
            let message =
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
            return Err(Error::Validation(message.to_owned()));
        }
        let session = input.role_session_name.clone();
        let user = AssumedRoleUser {
            assumed_role_id: format!("{}:{session}", role.id),
            arn: format!("arn:aws:sts::{}:assumed-role/{}/{session}", role.account, role.name),
        };
        let holder = Holder::Role { name: role.name, id: role.id, session };
        let credentials = self.issue(ctx, holder, seconds);
        Ok(SessionOutput { credentials, assumed_role_user: Some(user) })
    }

    /// A role that is not there is a denial: who may not know of a role must not learn of it.
    fn role(&self, ctx: &Ctx, text: &str) -> Result<Role, Error> {
        let arn: Arn = text.parse().map_err(|_| Error::Validation(format!("{text} is invalid")))?;
        let denied = || {
            let who = ctx.principal.arn();
            Error::AccessDenied(format!("User: {who} is not authorized to perform: sts:AssumeRole on resource: {text}"))
        };
        let name = arn.resource.rsplit('/').next().filter(|_| arn.service == "iam").ok_or_else(denied)?;
        match self.roles.get(ctx.principal.account(), name) {
            Ok(role) if role.arn() == text => Ok(role),
            Ok(_) | Err(Error::NoSuchEntity(_)) => Err(denied()),
            Err(other) => Err(other),
        }
    }

    /// Longer sessions of an account's root are cut to an hour, as the reference does.
    fn get_session_token(&self, ctx: &Ctx, input: &SessionTokenInput) -> Result<SessionOutput, Error> {
        let temporary = match &ctx.principal {
            Principal::Root { access_key, .. } => access_key.starts_with("ASIA"),
            Principal::AssumedRole { .. } => true,
            Principal::Platform { .. } => false,
        };
        if temporary {
            return Err(Error::AccessDenied("Cannot call GetSessionToken with session credentials".to_owned()));
        }
        let seconds = input.duration_seconds.unwrap_or(HOUR).min(HOUR);
        Ok(SessionOutput { credentials: self.issue(ctx, Holder::Root, seconds), assumed_role_user: None })
    }

    fn issue(&self, ctx: &Ctx, holder: Holder, seconds: u32) -> Credentials {
        // Whole seconds: the wire shows no more, and a session must not end before what it shows.
        let start = flint_base::Timestamp::from_millis(ctx.received.as_millis().div_euclid(1000) * 1000);
        let expires = start.saturating_add(Duration::from_secs(seconds.into()));
        let Issued { access_key_id, secret_access_key, session_token, expires } =
            self.sessions.issue(ctx.principal.account(), holder, expires);
        let secret_access_key = secret_access_key.expose().to_owned();
        Credentials { access_key_id, secret_access_key, session_token, expiration: expires }
    }
}

/// For an account's root the user id is the account id.
///
/// Reference: STS API Reference, "GetCallerIdentity"; IAM User Guide, "Policy variables" (`aws:userid`).
fn get_caller_identity(ctx: &Ctx) -> CallerIdentity {
    CallerIdentity {
        user_id: ctx.principal.user_id(),
        account: ctx.principal.account().to_string(),
        arn: ctx.principal.arn(),
    }
}
