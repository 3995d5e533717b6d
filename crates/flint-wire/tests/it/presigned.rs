//! Presigned URLs, sessions, and signed addresses of blobs.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use flint_base::Timestamp;
use flint_kit::{Links, Principal};
use flint_wire::shape::Protocol;
use flint_wire::sigv4::{Claim, Expected, Refusal, Verified, canonical, key};
use flint_wire::{Keys, Owner, SecretKey, Session, SignedLinks};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use crate::support::{ACCOUNT, KEY, LINK_KEY, OneKey, SECRET, World, empty, now};

const TOKEN: &str = "a/token+of=ours";

/// The root's key, and one session that ends in an hour.
#[derive(Debug)]
struct WithSession;

impl Keys for WithSession {
    fn owner(&self, access_key: &str) -> Option<Owner> {
        OneKey.owner(access_key)
    }

    fn session(&self, access_key: &str, token: &str) -> Option<Session> {
        let principal = Principal::AssumedRole {
            account: ACCOUNT.parse().expect("account"),
            access_key: access_key.to_owned(),
            role: "r".into(),
            role_id: "AROAX".into(),
            session: "me".into(),
        };
        let owner = Owner { principal, secret: SecretKey::new(SECRET) };
        (access_key == "ASIASESSION" && token == TOKEN).then_some(Session { owner, expires: later(3600) })
    }
}

fn later(seconds: u64) -> Timestamp {
    now().saturating_add(Duration::from_secs(seconds))
}

/// Signs with the reference's own crate, in the query if `expires` says so.
fn foreign(uri: &str, service: &str, identity: (&str, Option<&str>), expires: Option<u64>) -> Parts {
    let mut request = Request::get(uri).header("host", "h").body(()).expect("a request");
    let identity = Credentials::new(identity.0, SECRET, identity.1.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    if let Some(seconds) = expires {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(seconds));
    }
    let time = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(now().as_millis()).expect("after 1970"));
    let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name(service).time(time);
    let params = params.settings(settings).build().expect("parameters");
    let headers = [("host", "h")];
    let signable = SignableRequest::new("GET", uri, headers.into_iter(), SignableBody::Bytes(b"")).expect("signable");
    sign(signable, &params.into()).expect("signs").into_parts().0.apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn verify(request: &Parts, service: &str, at: Timestamp) -> Result<Verified, Refusal> {
    let parts = canonical::Parts {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        headers: &request.headers,
        authority: None,
    };
    let claim = Claim::read(&parts, &Expected { service: Some(service), regions: &[], now: at })?;
    claim.verify(&parts, &key::payload_hash(b""), &WithSession)
}

const LIST: &str = "http://h/2015-03-31/functions/?MaxItems=5";
const WHO: &str = "http://h/?Action=GetCallerIdentity&Version=2011-06-15";

#[test]
fn presigned_urls_hold_as_long_as_they_say() {
    for (uri, service) in [(LIST, "lambda"), (WHO, "sts"), ("http://h/a%20b/c?x=%2F", "lambda")] {
        let request = foreign(uri, service, (KEY, None), Some(3600));
        assert!(request.headers.get("authorization").is_none());
        for seconds in [0, 901, 3600] {
            assert!(verify(&request, service, later(seconds)).is_ok(), "{uri} {seconds}");
        }
        let over = verify(&request, service, later(3601)).expect_err("too old");
        assert_eq!(over.to_string(), "Signature expired: 20261121T100000Z is now earlier than 20261121T100001Z");
        let early = Timestamp::from_millis(now().as_millis() - 901_000);
        assert!(matches!(verify(&request, service, early), Err(Refusal::Invalid(_))), "from the future");
    }
    assert!(verify(&foreign(LIST, "lambda", (KEY, None), Some(604_800)), "lambda", later(604_800)).is_ok());
}

#[test]
fn a_bent_presigned_url_is_refused() {
    let good = foreign(LIST, "lambda", (KEY, None), Some(60)).uri.to_string();
    let code = |uri: &str, headers: &[(&'static str, &str)]| {
        let mut request = Request::get(uri).header("host", "h").body(()).expect("a request").into_parts().0;
        for (name, value) in headers {
            request.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        let refusal = verify(&request, "lambda", now()).map(drop);
        refusal.map_or_else(|r| r.fault(Protocol::RestJson).code.into_owned(), |()| "accepted".to_owned())
    };
    assert_eq!(code(&good, &[]), "accepted");
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replacen(from, to, 1)
    };
    const INVALID: &str = "InvalidSignatureException";
    const INCOMPLETE: &str = "IncompleteSignatureException";
    for (bent, expected) in [
        (swap("MaxItems=5", "MaxItems=6"), INVALID),
        (swap("functions/?", "functions/f?"), INVALID),
        (swap("X-Amz-Expires=60", "X-Amz-Expires=61"), INVALID),
        (swap("X-Amz-Expires=60", "X-Amz-Expires=0"), INCOMPLETE),
        (swap("X-Amz-Expires=60", "X-Amz-Expires=604801"), INCOMPLETE),
        (swap("&X-Amz-Expires=60", ""), INCOMPLETE),
        (swap("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=60"), INCOMPLETE),
        (swap("20261121T090000Z", "20261121T090001Z"), INVALID),
        (swap("20261121T090000Z", "today"), INCOMPLETE),
        (swap("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), INCOMPLETE),
        (swap("%2Flambda%2F", "%2Flogs%2F"), INVALID),
        (swap("%2F20261121%2F", "%2F20261120%2F"), INVALID),
        (swap(KEY, "AKIAIOSFODNN7EXAMPLF"), "UnrecognizedClientException"),
        (swap("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date"), INVALID),
        (swap("X-Amz-Signature=", "X-Amz-Signature=0"), INVALID),
        (swap("X-Amz-Signature=", "x-amz-signature="), INCOMPLETE),
        (format!("{good}&MaxItems=5"), INVALID),
        (format!("{good}&X-Amz-Signature=00"), INCOMPLETE),
        (format!("{good}&X-Amz-Security-Token=x"), "UnrecognizedClientException"),
    ] {
        assert_eq!(code(&bent, &[]), expected, "{bent}");
    }
    let header =
        "AWS4-HMAC-SHA256 Credential=A/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0";
    assert_eq!(code(&good, &[("authorization", header)]), INCOMPLETE);
    assert_eq!(code(&good, &[("x-amz-invocation-type", "DryRun")]), INVALID);
    assert_eq!(code(&good, &[("x-amz-security-token", "x")]), INCOMPLETE);
    assert_eq!(code(&good, &[("host", "other")]), INVALID);
}

#[test]
fn a_session_signs_in_either_form_until_it_ends() {
    let session = ("ASIASESSION", Some(TOKEN));
    for expires in [None, Some(604_800)] {
        let request = foreign(LIST, "lambda", session, expires);
        let who = verify(&request, "lambda", now()).expect("verified");
        assert_eq!(who.principal().arn(), "arn:aws:sts::000000000000:assumed-role/r/me");
        for other in
            [("ASIASESSION", Some("another")), ("ASIAOTHER", Some(TOKEN)), (KEY, Some(TOKEN)), ("ASIASESSION", None)]
        {
            let request = foreign(LIST, "lambda", other, expires);
            assert_eq!(verify(&request, "lambda", now()).expect_err("refused"), Refusal::Unrecognized, "{other:?}");
        }
    }
    let over = verify(&foreign(LIST, "lambda", session, Some(604_800)), "lambda", later(3600)).expect_err("over");
    assert_eq!(over.fault(Protocol::RestJson).code, "ExpiredTokenException");
    assert_eq!((over.fault(Protocol::Query).code.as_ref(), over.fault(Protocol::Query).status), ("ExpiredToken", 403));
}

#[tokio::test]
async fn a_presigned_url_reaches_its_operation() {
    let world = World::signed(empty).await;
    for (path, service, asked) in [
        ("/2015-03-31/functions/?MaxItems=5", "lambda", "lambda.ListFunctions"),
        ("/?Action=GetCallerIdentity&Version=2011-06-15", "sts", "sts.GetCallerIdentity"),
    ] {
        let signed = foreign(&format!("http://h{path}"), service, (KEY, None), Some(60));
        let target = signed.uri.path_and_query().expect("a target").to_string();
        let reply = world.send(world.request("GET", &target, &[("host", "h")]), b"").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(world.asked().last().expect("asked").0, asked);
        let bent = target.replace("X-Amz-Expires=60", "X-Amz-Expires=59");
        assert_eq!(world.send(world.request("GET", &bent, &[("host", "h")]), b"").await.status, 403);
    }
    world.stop().await;
    let dev = World::dev(empty).await;
    let signed = foreign(LIST, "lambda", (KEY, None), Some(60));
    let target = signed.uri.path_and_query().expect("a target").to_string();
    assert_eq!(dev.send(dev.request("GET", &target, &[]), b"").await.status, 501);
    dev.stop().await;
}

#[tokio::test]
async fn blobs_are_answered_at_signed_addresses() {
    let world = World::signed(empty).await;
    let links = SignedLinks::new(LINK_KEY);
    let get = async |target: &str, method: &str| world.send(world.request(method, target, &[]), b"").await;
    let reply = get(&links.link("", "ab12", now()), "GET").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/zip")));
    assert!(reply.text().contains("blobs are answered at signed addresses") || reply.text().contains("LINK_KEY"));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    let gone = get(&links.link("", "ff00", now()), "GET").await;
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("<Code>NoSuchKey</Code>"), "{gone:?}");
    let old = get(&links.link("", "ab12", Timestamp::from_millis(now().as_millis() - 601_000)), "GET").await;
    assert_eq!(old.status, 403);
    assert!(old.text().contains("<Message>Request has expired</Message>"), "{old:?}");
    for bent in ["/_flint/code/ab12", "/_flint/code/ab12?X-Flint-Expires=9999999999&X-Flint-Signature=00"] {
        assert_eq!(get(bent, "GET").await.status, 403, "{bent}");
    }
    assert_eq!(get(&links.link("", "ab12", now()), "POST").await.status, 403);
    world.stop().await;
}

#[tokio::test]
async fn wrappers_find_their_health() {
    let world = World::signed(empty).await;
    let health = world.send(world.request("GET", "/_localstack/health", &[]), b"").await;
    assert_eq!(health.status, 200);
    assert!(health.json()["services"].is_object() && health.json()["edition"].is_string(), "{health:?}");
    let info = world.send(world.request("GET", "/_localstack/info", &[]), b"").await;
    assert!(info.json()["version"].is_string(), "{info:?}");
    assert_eq!(world.send(world.request("POST", "/_localstack/health", &[]), b"").await.status, 403);
    world.stop().await;
}

proptest! {
    /// Query strings that look like signatures never verify and never panic.
    #[test]
    fn arbitrary_query_forms_are_refused(
        parts in prop::collection::vec((
            prop::sample::select(vec![
                "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
                "X-Amz-Signature", "X-Amz-Security-Token", "x%2Damz-signature", "a",
            ]),
            prop_oneof![
                Just("AWS4-HMAC-SHA256".to_owned()),
                Just(format!("{KEY}/20261121/us-east-1/lambda/aws4_request").replace('/', "%2F")),
                Just("20261121T090000Z".to_owned()),
                Just("host".to_owned()),
                Just("60".to_owned()),
                Just("0".repeat(64)),
                "[a-zA-Z0-9%/;-]{0,20}",
            ],
        ), 0..9),
    ) {
        let query: Vec<String> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = format!("http://h/f?{}", query.join("&"));
        let request = Request::get(uri).header("host", "h").body(()).expect("a request").into_parts().0;
        prop_assert!(verify(&request, "lambda", now()).is_err());
    }
}
