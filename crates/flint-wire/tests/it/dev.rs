//! `flint dev`'s gate over real sockets.

use crate::support::{World, empty};

const FUNCTIONS: &str = "/2015-03-31/functions";
const ANY: (&str, &str) = (
    "authorization",
    "AWS4-HMAC-SHA256 Credential=111122223333/20200101/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0",
);

#[tokio::test]
async fn any_credentials_select_account_and_region() {
    let world = World::dev(|ctx, operation, input| {
        assert_eq!(format!("{:?}", ctx.place), "111122223333/eu-west-1");
        empty(ctx, operation, input)
    })
    .await;
    let reply = world.send(world.request("GET", FUNCTIONS, &[ANY]), b"").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_web_page_gets_nothing() {
    let world = World::dev(empty).await;
    let check = async |method: &str, uri: &str, headers: &[(&str, &str)], code: &str| {
        let reply = world.send(world.request(method, uri, headers), b"").await;
        assert_eq!((reply.status, reply.error().0.as_str()), (403, code), "{headers:?}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    };
    let missing = "MissingAuthenticationTokenException";
    let denied = "AccessDeniedException";
    check("POST", FUNCTIONS, &[], missing).await;
    check("POST", FUNCTIONS, &[("content-type", "text/plain")], missing).await;
    check("POST", FUNCTIONS, &[ANY, ("origin", "https://evil.example")], denied).await;
    check("POST", FUNCTIONS, &[ANY, ("origin", "null")], denied).await;
    check("POST", FUNCTIONS, &[ANY, ("sec-fetch-site", "cross-site")], denied).await;
    check("OPTIONS", FUNCTIONS, &[("origin", "https://evil.example")], denied).await;
    let rebound = format!("evil.example:{}", world.port);
    check("POST", FUNCTIONS, &[ANY, ("host", &rebound)], denied).await;
    check("GET", "/_flint/health", &[("host", &rebound)], denied).await;
    check("GET", FUNCTIONS, &[ANY, ("host", "localhost:1")], denied).await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let reply = world
        .send(world.request("POST", "/", &[form, ("origin", "https://evil.example")]), b"Action=GetCallerIdentity")
        .await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("<Code>AccessDenied</Code>"));
    assert!(world.asked().is_empty());
    let local = format!("app.localhost:{}", world.port);
    assert_eq!(world.send(world.request("GET", "/_flint/health", &[("host", &local)]), b"").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn an_unknown_scope_is_no_obstacle() {
    let world = World::dev(empty).await;
    let bearer = ("authorization", "Bearer x");
    let reply = world.send(world.request("GET", FUNCTIONS, &[bearer]), b"").await;
    assert_eq!(reply.status, 200);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = b"Action=GetCallerIdentity&Version=2011-06-15";
    let reply = world.send(world.request("POST", "/", &[bearer, form]), body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.asked().len(), 2);
    world.stop().await;
}
