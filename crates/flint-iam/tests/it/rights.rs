//! What sessions of roles may do where policies are looked at.

use flint_kit::Principal;

use crate::support::{World, account, map, refusal};

async fn session(world: &World, role: &str) -> Principal {
    let arn = format!("arn:aws:iam::111111111111:role/{role}");
    let answer = world.sts("AssumeRole", &[("RoleArn", &arn), ("RoleSessionName", "me")]).await.expect("assumes");
    let credentials = answer.get("Credentials").expect("credentials");
    let text = |name: &str| credentials.text_of(name).expect("a text");
    world.sessions.open(text("AccessKeyId"), text("SessionToken")).expect("known").principal
}

async fn lists(world: &World, who: &Principal) -> Result<(), (u16, String, String)> {
    world.call_as(who.clone(), "iam", "ListRoles", map(&[])).await.map(drop).map_err(|f| refusal(Err(f)))
}

async fn put(world: &World, name: &str, statement: &str) {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
    let members = [("RoleName", "worker"), ("PolicyName", name), ("PolicyDocument", document.as_str())];
    world.iam("PutRolePolicy", &members).await.expect("puts");
}

#[tokio::test]
async fn rights_follow_the_policies() {
    let world = World::with_policies();
    world.role("worker").await;
    let who = session(&world, "worker").await;
    let (status, code, message) = lists(&world, &who).await.expect_err("nothing is allowed");
    assert_eq!((status, code.as_str()), (403, "AccessDeniedException"));
    assert_eq!(
        message,
        "User: arn:aws:sts::111111111111:assumed-role/worker/me is not authorized to perform: iam:ListRoles on resource: * \
         because no identity-based policy allows the iam:ListRoles action"
    );
    world.call_as(who.clone(), "sts", "GetCallerIdentity", map(&[])).await.expect("needs no permission");
    put(&world, "list", r#"{"Effect":"Allow","Action":"iam:List*","Resource":"*"}"#).await;
    assert_eq!(lists(&world, &who).await, Ok(()));
    put(&world, "not", r#"{"Effect":"Deny","Action":"iam:*","Resource":"*"}"#).await;
    let (_, _, message) = lists(&world, &who).await.expect_err("denied");
    assert!(message.ends_with(" with an explicit deny in an identity-based policy"), "{message}");
}

#[tokio::test]
async fn a_role_that_is_gone_or_another_allows_nothing() {
    let world = World::with_policies();
    world.role("worker").await;
    put(&world, "all", r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#).await;
    let who = session(&world, "worker").await;
    assert_eq!(lists(&world, &who).await, Ok(()));
    world.iam("DeleteRolePolicy", &[("RoleName", "worker"), ("PolicyName", "all")]).await.expect("deletes");
    world.iam("DeleteRole", &[("RoleName", "worker")]).await.expect("deletes");
    assert!(lists(&world, &who).await.is_err());
    world.role("worker").await;
    put(&world, "all", r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#).await;
    assert!(lists(&world, &who).await.is_err(), "another role of that name");
    assert_eq!(lists(&world, &session(&world, "worker").await).await, Ok(()));
}

#[tokio::test]
async fn managed_policies_allow_what_is_known_of_them() {
    let world = World::with_policies();
    world.role("worker").await;
    let who = session(&world, "worker").await;
    let attach = async |name: &str| {
        let arn = format!("arn:aws:iam::aws:policy/{name}");
        let members = [("RoleName", "worker"), ("PolicyArn", arn.as_str())];
        world.iam("AttachRolePolicy", &members).await.expect("attaches");
    };
    attach("ReadOnlyAccess").await;
    assert!(lists(&world, &who).await.is_err(), "not known here");
    attach("AdministratorAccess").await;
    assert_eq!(lists(&world, &who).await, Ok(()));
    let elsewhere = Principal::AssumedRole {
        account: account('2'),
        access_key: "ASIAX".to_owned(),
        role: "worker".to_owned(),
        role_id: "AROAX".to_owned(),
        session: "me".to_owned(),
    };
    assert!(lists(&world, &elsewhere).await.is_err(), "another account's");
}
