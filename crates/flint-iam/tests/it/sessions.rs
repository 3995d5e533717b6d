//! Temporary credentials: who gets which, for how long.

use flint_kit::{Doc, Principal};

use crate::support::{World, account, map, refusal, root};

const ARN: &str = "arn:aws:iam::111111111111:role/worker";

fn assume(seconds: Option<i64>) -> Doc {
    let mut doc = map(&[("RoleArn", ARN), ("RoleSessionName", "me")]);
    if let Doc::Map(members) = &mut doc {
        members.extend(seconds.map(|n| ("DurationSeconds".into(), Doc::Int(n))));
    }
    doc
}

/// The principal of credentials as they were answered.
fn holder(world: &World, answer: &Doc) -> (Principal, i64) {
    let credentials = answer.get("Credentials").expect("credentials");
    let text = |name: &str| credentials.text_of(name).expect("a text");
    let found = world.sessions.open(text("AccessKeyId"), text("SessionToken")).expect("known");
    assert_eq!(found.secret_access_key.expose(), text("SecretAccessKey"));
    assert_eq!(credentials.get("Expiration"), Some(&Doc::Time(found.expires)));
    (found.principal, found.expires.as_millis() - 1_795_251_600_000)
}

#[tokio::test]
async fn a_role_is_assumed() {
    let world = World::new();
    world.role("worker").await;
    let answer = world.call_as(root(), "sts", "AssumeRole", assume(None)).await.expect("assumes");
    let user = answer.get("AssumedRoleUser").expect("a user");
    assert_eq!(user.text_of("Arn"), Some("arn:aws:sts::111111111111:assumed-role/worker/me"));
    let (who, lasts) = holder(&world, &answer);
    assert_eq!(lasts, 3_600_000);
    assert_eq!(user.text_of("AssumedRoleId"), Some(who.user_id().as_str()));
    let seen = world.call_as(who.clone(), "sts", "GetCallerIdentity", map(&[])).await.expect("answers");
    assert_eq!(seen.text_of("Arn"), user.text_of("Arn"));
    assert_eq!(
        (seen.text_of("UserId"), seen.text_of("Account")),
        (user.text_of("AssumedRoleId"), Some("111111111111"))
    );
    world.call_as(who.clone(), "iam", "ListRoles", map(&[])).await.expect("a session may do all in its account");
    let chained = world.call_as(who.clone(), "sts", "AssumeRole", assume(Some(900))).await.expect("chains");
    assert_eq!(holder(&world, &chained).1, 900_000);
    let refused = world.call_as(who, "sts", "GetSessionToken", map(&[])).await;
    assert_eq!(refusal(refused).1, "AccessDenied");
}

#[tokio::test]
async fn what_can_not_be_assumed_is_refused() {
    let world = World::new();
    let denied = refusal(world.call_as(root(), "sts", "AssumeRole", assume(None)).await);
    assert_eq!((denied.0, denied.1.as_str()), (403, "AccessDenied"));
    assert_eq!(
        denied.2,
        format!("User: arn:aws:iam::111111111111:root is not authorized to perform: sts:AssumeRole on resource: {ARN}")
    );
    world.role("worker").await;
    let long = refusal(world.call_as(root(), "sts", "AssumeRole", assume(Some(3601))).await);
    assert_eq!((long.0, long.1.as_str()), (400, "ValidationError"));
    assert_eq!(long.2, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.");
    for arn in [
        "arn:aws:iam::111111111111:role/other/worker",
        "arn:aws:iam::222222222222:role/worker",
        "arn:aws:iam::111111111111:user/worker",
        "arn:aws:s3:::worker",
    ] {
        let asked = world.sts("AssumeRole", &[("RoleArn", arn), ("RoleSessionName", "me")]).await;
        assert_eq!(refusal(asked).0, 403, "{arn}");
    }
}

#[tokio::test]
async fn a_root_gets_a_session_of_an_hour_at_most() {
    let world = World::new();
    for (asked, lasts) in [(None, 3600), (Some(900), 900), (Some(129_600), 3600)] {
        let doc = Doc::Map(asked.map(|n| ("DurationSeconds".into(), Doc::Int(n))).into_iter().collect());
        let answer = world.call_as(root(), "sts", "GetSessionToken", doc).await.expect("answers");
        let (who, seconds) = holder(&world, &answer);
        assert_eq!(seconds, lasts * 1000);
        assert_eq!(who.arn(), "arn:aws:iam::111111111111:root");
        assert_eq!(who.account(), &account('1'));
        let again = world.call_as(who, "sts", "GetSessionToken", map(&[])).await;
        assert_eq!(refusal(again).2, "Cannot call GetSessionToken with session credentials");
    }
}

#[tokio::test]
async fn the_caller_is_told_who_they_are() {
    let world = World::new();
    let answer = world.sts("GetCallerIdentity", &[]).await.expect("answers");
    assert_eq!(answer.text_of("UserId"), Some("111111111111"));
    assert_eq!(answer.text_of("Arn"), Some("arn:aws:iam::111111111111:root"));
    let refused = refusal(world.sts("DecodeAuthorizationMessage", &[]).await);
    assert_eq!((refused.0, refused.2.as_str()), (501, "not served: sts.DecodeAuthorizationMessage"));
}
