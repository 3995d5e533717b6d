//! The `sts` service.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Fault, Input, OperationSpec, Output, Service};
use serde::Serialize;

/// The `sts` service: `GetCallerIdentity`.
pub fn service() -> Arc<dyn Service> {
    Arc::new(Sts)
}

#[derive(Debug)]
struct Sts;

static OPERATIONS: &[OperationSpec] =
    &[OperationSpec { name: "GetCallerIdentity", action: "sts:GetCallerIdentity", resource: |_, _| "*".to_owned() }];

#[async_trait]
impl Service for Sts {
    fn name(&self) -> &'static str {
        "sts"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, _input: Input) -> Result<Output, Fault> {
        match operation {
            "GetCallerIdentity" => Output::render(&get_caller_identity(ctx)),
            other => Err(Fault::not_served(format_args!("sts.{other}"))),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallerIdentity {
    user_id: String,
    account: String,
    arn: String,
}

/// For an account's root the user id is the account id.
///
/// Reference: STS API Reference, "GetCallerIdentity"; IAM User Guide, "Policy variables" (`aws:userid`).
fn get_caller_identity(ctx: &Ctx) -> CallerIdentity {
    let account = ctx.principal.account().to_string();
    CallerIdentity { user_id: account.clone(), account, arn: ctx.principal.arn() }
}

#[cfg(test)]
mod tests {
    use flint_base::{RequestId, Timestamp};
    use flint_kit::{Principal, Switchboard};
    use flint_model::{AccountId, Place};

    use super::*;
    use crate::OwnerAuthorizer;

    #[tokio::test]
    async fn tells_the_caller_who_they_are() {
        let account: AccountId = "111111111111".parse().expect("twelve digits");
        let ctx = Ctx {
            request_id: RequestId::random(),
            place: Place { account: account.clone(), region: "us-east-1".parse().expect("a region") },
            principal: Principal::Root { account, access_key: "AKIAEXAMPLE".to_owned() },
            received: Timestamp::from_millis(0),
            base_url: "http://127.0.0.1:1".into(),
            lineage: None,
            trace: None,
        };
        let board = Switchboard::new(Arc::new(OwnerAuthorizer), vec![service()]);
        let out = board.call(&ctx, "sts", "GetCallerIdentity", Input::default()).await.expect("answers");
        assert_eq!(out.doc.text_of("UserId"), Some("111111111111"));
        assert_eq!(out.doc.text_of("Account"), Some("111111111111"));
        assert_eq!(out.doc.text_of("Arn"), Some("arn:aws:iam::111111111111:root"));
        let refused = board.call(&ctx, "sts", "AssumeRole", Input::default()).await.expect_err("not served");
        assert_eq!((refused.status, refused.message.as_str()), (501, "not served: sts.AssumeRole"));
    }
}
