//! A role's life: made, read, given policies and tags, and only then deletable when nothing hangs on it.

use flint_kit::{Doc, Principal};

use crate::support::{GRANT, TRUST, World, account, map, names, refusal};

const BASIC: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";

#[tokio::test]
async fn a_role_is_made_read_and_deleted() {
    let world = World::new();
    let made = world.role("Worker").await;
    let role = made.get("Role").expect("a role");
    assert_eq!(role.text_of("Arn"), Some("arn:aws:iam::111111111111:role/Worker"));
    assert_eq!((role.text_of("Path"), role.int_of("MaxSessionDuration")), (Some("/"), Some(3600)));
    let id = role.text_of("RoleId").expect("an id");
    assert!(id.starts_with("AROA") && id.len() == 21, "{id}");
    let document = role.text_of("AssumeRolePolicyDocument").expect("a document");
    assert!(document.starts_with("%7B%22Version%22%3A%222012-10-17%22"), "{document}");
    let read = world.iam("GetRole", &[("RoleName", "Worker")]).await.expect("reads");
    assert_eq!(read.get("Role").and_then(|r| r.text_of("RoleId")), Some(id));
    let again = world.iam("CreateRole", &[("RoleName", "WORKER"), ("AssumeRolePolicyDocument", TRUST)]).await;
    assert_eq!(refusal(again), (409, "EntityAlreadyExists".into(), "Role with name WORKER already exists.".into()));
    world.iam("DeleteRole", &[("RoleName", "Worker")]).await.expect("deletes");
    let missing = (404, "NoSuchEntity".into(), "The role with name Worker cannot be found.".into());
    assert_eq!(refusal(world.iam("GetRole", &[("RoleName", "Worker")]).await), missing);
    assert_eq!(refusal(world.iam("DeleteRole", &[("RoleName", "Worker")]).await), missing);
}

#[tokio::test]
async fn policies_hold_a_role_and_are_answered_as_given() {
    let world = World::new();
    world.role("r").await;
    let put = [("RoleName", "r"), ("PolicyName", "p"), ("PolicyDocument", GRANT)];
    world.iam("PutRolePolicy", &put).await.expect("puts");
    world.iam("AttachRolePolicy", &[("RoleName", "r"), ("PolicyArn", BASIC)]).await.expect("attaches");
    world.iam("AttachRolePolicy", &[("RoleName", "r"), ("PolicyArn", BASIC)]).await.expect("attaches again");
    let read = world.iam("GetRolePolicy", &[("RoleName", "r"), ("PolicyName", "p")]).await.expect("reads");
    let document = read.text_of("PolicyDocument").expect("a document");
    let plain = percent_encoding::percent_decode_str(document).decode_utf8().expect("text");
    assert_eq!(plain, GRANT);
    let listed = world.iam("ListRolePolicies", &[("RoleName", "r")]).await.expect("lists");
    assert_eq!(names(&listed, "PolicyNames", ""), ["p"]);
    let attached = world.iam("ListAttachedRolePolicies", &[("RoleName", "r")]).await.expect("lists");
    assert_eq!(names(&attached, "AttachedPolicies", "PolicyName"), ["AWSLambdaBasicExecutionRole"]);
    let elsewhere = [("RoleName", "r"), ("PathPrefix", "/job-function/")];
    let none = world.iam("ListAttachedRolePolicies", &elsewhere).await.expect("lists");
    assert!(names(&none, "AttachedPolicies", "PolicyName").is_empty());

    let code = |result| refusal(result).1;
    assert_eq!(
        refusal(world.iam("DeleteRole", &[("RoleName", "r")]).await),
        (409, "DeleteConflict".into(), "Cannot delete entity, must detach all policies first.".into())
    );
    world.iam("DetachRolePolicy", &[("RoleName", "r"), ("PolicyArn", BASIC)]).await.expect("detaches");
    assert_eq!(code(world.iam("DetachRolePolicy", &[("RoleName", "r"), ("PolicyArn", BASIC)]).await), "NoSuchEntity");
    assert_eq!(code(world.iam("DeleteRole", &[("RoleName", "r")]).await), "DeleteConflict");
    world.iam("DeleteRolePolicy", &[("RoleName", "r"), ("PolicyName", "p")]).await.expect("deletes");
    assert_eq!(
        refusal(world.iam("DeleteRolePolicy", &[("RoleName", "r"), ("PolicyName", "p")]).await).2,
        "The role policy with name p cannot be found."
    );
    world.iam("DeleteRole", &[("RoleName", "r")]).await.expect("deletes");
}

#[tokio::test]
async fn what_is_malformed_or_too_much_is_refused() {
    let world = World::new();
    let bad = [("RoleName", "r"), ("AssumeRolePolicyDocument", GRANT)];
    assert_eq!(refusal(world.iam("CreateRole", &bad).await).1, "MalformedPolicyDocument");
    world.role("r").await;
    let put = [("RoleName", "r"), ("PolicyName", "p"), ("PolicyDocument", TRUST)];
    assert_eq!(
        refusal(world.iam("PutRolePolicy", &put).await),
        (400, "MalformedPolicyDocument".into(), "Policy document should not specify a principal.".into())
    );
    let large = GRANT.replace("s3:GetObject", &"s3:G".repeat(2600));
    let put = [("RoleName", "r"), ("PolicyName", "p"), ("PolicyDocument", large.as_str())];
    assert_eq!(refusal(world.iam("PutRolePolicy", &put).await).1, "LimitExceeded");
    let blanks = format!("{GRANT}{}", " ".repeat(100_000));
    let put = [("RoleName", "r"), ("PolicyName", "p"), ("PolicyDocument", blanks.as_str())];
    assert_eq!(refusal(world.iam("PutRolePolicy", &put).await).1, "LimitExceeded");
    for n in 0..10 {
        let arn = format!("arn:aws:iam::aws:policy/P{n}");
        world.iam("AttachRolePolicy", &[("RoleName", "r"), ("PolicyArn", &arn)]).await.expect("attaches");
    }
    let eleventh = [("RoleName", "r"), ("PolicyArn", BASIC)];
    assert_eq!(
        refusal(world.iam("AttachRolePolicy", &eleventh).await),
        (409, "LimitExceeded".into(), "Cannot exceed quota for PoliciesPerRole: 10".into())
    );
    let own = [("RoleName", "r"), ("PolicyArn", "arn:aws:iam::111111111111:policy/mine")];
    assert_eq!(refusal(world.iam("AttachRolePolicy", &own).await).1, "NoSuchEntity");
    let bent = [("RoleName", "r"), ("PolicyArn", "arn:aws:s3:::bucket-of-mine")];
    assert_eq!(refusal(world.iam("AttachRolePolicy", &bent).await).1, "InvalidInput");
}

#[tokio::test]
async fn changes_and_tags_are_kept() {
    let world = World::new();
    world.role("r").await;
    let mut update = map(&[("RoleName", "r"), ("Description", "does")]);
    if let Doc::Map(members) = &mut update {
        members.push(("MaxSessionDuration".into(), Doc::Int(7200)));
    }
    world.call_as(crate::support::root(), "iam", "UpdateRole", update).await.expect("updates");
    let trust = TRUST.replace("lambda", "scheduler");
    world.iam("UpdateAssumeRolePolicy", &[("RoleName", "r"), ("PolicyDocument", &trust)]).await.expect("updates");
    let tag = |key: &'static str, value: &str| map(&[("Key", key), ("Value", value)]);
    let tags = |tags: Vec<Doc>| Doc::Map(vec![("RoleName".into(), Doc::from("r")), ("Tags".into(), Doc::List(tags))]);
    let root = crate::support::root;
    world.call_as(root(), "iam", "TagRole", tags(vec![tag("team", "a"), tag("cost", "1")])).await.expect("tags");
    world.call_as(root(), "iam", "TagRole", tags(vec![tag("Team", "b")])).await.expect("tags");
    let twice = world.call_as(root(), "iam", "TagRole", tags(vec![tag("x", "a"), tag("X", "b")])).await;
    assert_eq!(refusal(twice).1, "InvalidInput");
    let untag = Doc::Map(vec![
        ("RoleName".into(), Doc::from("r")),
        ("TagKeys".into(), Doc::List(vec![Doc::from("COST"), Doc::from("gone")])),
    ]);
    world.call_as(root(), "iam", "UntagRole", untag).await.expect("untags");
    let listed = world.iam("ListRoleTags", &[("RoleName", "r")]).await.expect("lists");
    assert_eq!(
        (names(&listed, "Tags", "Key"), names(&listed, "Tags", "Value")),
        (vec!["Team".to_owned()], vec!["b".to_owned()])
    );
    let read = world.iam("GetRole", &[("RoleName", "r")]).await.expect("reads");
    let role = read.get("Role").expect("a role");
    assert_eq!((role.text_of("Description"), role.int_of("MaxSessionDuration")), (Some("does"), Some(7200)));
    assert!(role.text_of("AssumeRolePolicyDocument").is_some_and(|d| d.contains("scheduler")));
    let profiles = world.iam("ListInstanceProfilesForRole", &[("RoleName", "r")]).await.expect("lists");
    assert!(names(&profiles, "InstanceProfiles", "").is_empty());
}

#[tokio::test]
async fn lists_are_paged_and_an_account_sees_its_own() {
    let world = World::new();
    for n in 0..25 {
        world.role(&format!("role-{n:02}")).await;
    }
    let (mut marker, mut seen) = (None::<String>, Vec::new());
    loop {
        let mut page = map(&[("PathPrefix", "/")]);
        if let Doc::Map(members) = &mut page {
            members.push(("MaxItems".into(), Doc::Int(10)));
            members.extend(marker.take().map(|m| ("Marker".into(), Doc::from(m))));
        }
        let listed = world.call_as(crate::support::root(), "iam", "ListRoles", page).await.expect("lists");
        seen.extend(names(&listed, "Roles", "RoleName"));
        marker = listed.text_of("Marker").map(str::to_owned);
        assert_eq!(listed.get("IsTruncated"), Some(&Doc::Bool(marker.is_some())));
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|n| format!("role-{n:02}")).collect::<Vec<_>>());
    let bad = world.iam("ListRoles", &[("Marker", "?")]).await;
    assert_eq!(refusal(bad), (400, "ValidationError".into(), "Invalid Marker.".into()));
    let stranger = Principal::Root { account: account('2'), access_key: "AKIAOTHER".to_owned() };
    let denied = world.call_as(stranger, "iam", "ListRoles", map(&[])).await;
    assert_eq!(refusal(denied).0, 403);
}
