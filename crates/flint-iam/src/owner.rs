//! The authorizer of `flint dev`: an account's owner and its sessions may do all in the account, anyone else nothing.

use flint_kit::{Authorizer, Ctx, Fault, Principal, Question};
use flint_model::Arn;

/// Lets the root keys, sessions (of the root and of roles, whose policies it does not look at) and Flint itself do everything in
/// their own account.
///
/// Both the account that the call is about and the account of the resource's ARN (if it names one) must be the
/// principal's own. `sts:GetCallerIdentity` needs no permission.
///
/// Reference: IAM User Guide, "AWS account root user"; STS API Reference, "GetCallerIdentity".
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerAuthorizer;

impl Authorizer for OwnerAuthorizer {
    fn authorize(&self, ctx: &Ctx, question: &Question<'_>) -> Result<(), Fault> {
        if question.action == "sts:GetCallerIdentity" {
            return Ok(());
        }
        let owner = ctx.principal.account();
        let in_place = *owner == ctx.place.account;
        if !question.action.is_empty() && in_place && resource_is_of(question.resource, owner.as_str()) {
            return Ok(());
        }
        Err(denied(&ctx.principal, question))
    }
}

/// Whether `resource` is the account's own, or names no account. Empty text is missing input: not own.
fn resource_is_of(resource: &str, account: &str) -> bool {
    match resource {
        "" => false,
        "*" => true,
        _ => Arn::account_of(resource).is_ok_and(|named| named.is_empty() || named == account),
    }
}

pub(crate) fn denied(principal: &Principal, question: &Question<'_>) -> Fault {
    let Question { action, resource } = question;
    let message = format!("User: {} is not authorized to perform: {action} on resource: {resource}", principal.arn());
    Fault::client(403, "AccessDeniedException", message)
}

#[cfg(test)]
mod tests {
    use flint_base::{RequestId, Timestamp};
    use flint_model::{AccountId, Place};

    use super::*;

    const MINE: &str = "111111111111";
    const OTHER: &str = "222222222222";

    fn account(id: &str) -> AccountId {
        id.parse().expect("twelve digits")
    }

    fn ctx(principal: Principal) -> Ctx {
        Ctx {
            request_id: RequestId::random(),
            place: Place { account: account(MINE), region: "us-east-1".parse().expect("a region") },
            principal,
            received: Timestamp::from_millis(0),
            base_url: "http://127.0.0.1:1".into(),
            lineage: None,
            trace: None,
        }
    }

    fn root(id: &str) -> Principal {
        Principal::Root { account: account(id), access_key: "AKIAEXAMPLE".to_owned() }
    }

    fn check(principal: Principal, action: &str, resource: &str, allowed: bool) {
        let answer = OwnerAuthorizer.authorize(&ctx(principal.clone()), &Question { action, resource });
        assert_eq!(answer.is_ok(), allowed, "{principal:?} {action} {resource}");
    }

    #[test]
    fn the_owner_may_do_all_and_others_nothing() {
        let mine = "arn:aws:lambda:us-east-1:111111111111:function:f";
        let theirs = "arn:aws:lambda:us-east-1:222222222222:function:f";
        check(root(MINE), "lambda:InvokeFunction", mine, true);
        check(root(MINE), "lambda:ListFunctions", "*", true);
        check(root(MINE), "s3:GetObject", "arn:aws:s3:::bucket/key", true);
        check(Principal::Platform { account: account(MINE) }, "lambda:InvokeFunction", mine, true);
        check(root(MINE), "lambda:InvokeFunction", theirs, false);
        check(root(OTHER), "lambda:InvokeFunction", mine, false);
        check(root(OTHER), "lambda:InvokeFunction", theirs, false);
        check(Principal::Platform { account: account(OTHER) }, "lambda:ListFunctions", "*", false);
        check(root(OTHER), "sts:GetCallerIdentity", "*", true);
    }

    #[test]
    fn missing_input_is_a_denial() {
        check(root(MINE), "", "*", false);
        check(root(MINE), "lambda:InvokeFunction", "", false);
        check(root(MINE), "lambda:InvokeFunction", "f", false);
    }

    #[test]
    fn a_denial_has_the_reference_wording() {
        let question =
            Question { action: "lambda:InvokeFunction", resource: "arn:aws:lambda:r:111111111111:function:f" };
        let fault = OwnerAuthorizer.authorize(&ctx(root(OTHER)), &question).expect_err("denied");
        assert_eq!((fault.code.as_ref(), fault.status), ("AccessDeniedException", 403));
        assert_eq!(
            fault.message,
            "User: arn:aws:iam::222222222222:root is not authorized to perform: lambda:InvokeFunction on resource: \
             arn:aws:lambda:r:111111111111:function:f"
        );
    }
}
