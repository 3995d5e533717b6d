//! Signatures: what a foreign signer makes is accepted, what is bent in any way is not.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use flint_base::Timestamp;
use flint_model::Region;
use flint_wire::sigv4::{Claim, Expected, Refusal, Verified, canonical, key};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use crate::support::{KEY, OneKey, SECRET, now};

const BODY: &[u8] = br#"{"a":1}"#;

/// Signs with the reference's own crate.
fn foreign(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8], at: Timestamp, checksum: bool) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).expect("a request");
    let identity = Credentials::new(KEY, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    if checksum {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let time =
        std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(at.as_millis()).expect("after 1970"));
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("lambda")
        .time(time)
        .settings(settings)
        .build()
        .expect("parameters");
    let pairs = request.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().expect("text")));
    let signable =
        SignableRequest::new(method, request.uri().to_string(), pairs, SignableBody::Bytes(body)).expect("signable");
    let (instructions, _) = sign(signable, &params.into()).expect("signs").into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn good() -> Parts {
    let headers = [
        ("host", "127.0.0.1:4566"),
        ("content-type", "application/json"),
        ("x-amz-invocation-type", "RequestResponse"),
    ];
    foreign(
        "POST",
        "http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=1",
        &headers,
        BODY,
        now(),
        false,
    )
}

fn verify(request: &Parts, body: &[u8], at: Timestamp) -> Result<Verified, Refusal> {
    let parts = canonical::Parts {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        headers: &request.headers,
        authority: None,
    };
    let regions: [Region; 1] = ["us-east-1".parse().expect("region")];
    let claim = Claim::read(&parts, &Expected { service: Some("lambda"), regions: &regions, now: at })?;
    claim.verify(&parts, &key::payload_hash(body), &OneKey)
}

#[test]
fn a_foreign_signature_is_accepted() {
    let caller = verify(&good(), BODY, now()).expect("verified");
    assert_eq!(caller.region().as_str(), "us-east-1");
    assert_eq!(caller.principal().account().as_str(), "000000000000");
    for uri in [
        "http://h/",
        "http://h/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af",
        "http://h/a//b/../c/./d/",
        "http://h/2017-03-31/tags/x?tagKeys=b&tagKeys=a",
        "http://h/f?b=2&a=1&a=0&empty=&none",
        "http://h/f?q=a%20b%2Bc%2F%C3%A4",
        "http://h/f~_-.?x~_-.=~_-.",
    ] {
        for checksum in [false, true] {
            let request = foreign("GET", uri, &[("host", "h")], b"", now(), checksum);
            assert!(verify(&request, b"", now()).is_ok(), "{uri} {:?}", request.headers);
        }
    }
    let spaced = foreign("GET", "http://h/", &[("host", "h"), ("x-amz-meta", "  a   b  ")], b"", now(), false);
    assert!(verify(&spaced, b"", now()).is_ok());
}

#[test]
fn our_own_signer_agrees_with_the_foreign_one() {
    let mut request = Request::post("http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=1")
        .header("content-type", "application/json")
        .body(())
        .expect("a request")
        .into_parts()
        .0;
    flint_wire::sign(&mut request, BODY, &crate::support::credentials(), "us-east-1", "lambda", now()).expect("signs");
    assert!(verify(&request, BODY, now()).is_ok());
    let headers = [("host", "127.0.0.1:4566"), ("content-type", "application/json")];
    let theirs = foreign("POST", &request.uri.to_string(), &headers, BODY, now(), true);
    assert_eq!(request.headers["authorization"], theirs.headers["authorization"]);
}

/// Changes the value of a header.
fn edit(request: &mut Parts, name: &str, change: impl Fn(&str) -> String) {
    let name: HeaderName = name.parse().expect("a name");
    let text = request.headers[&name].to_str().expect("text").to_owned();
    request.headers.insert(name, HeaderValue::from_str(&change(&text)).expect("a value"));
}

fn swap(from: &'static str, to: &'static str) -> impl Fn(&mut Parts) {
    move |request| {
        let before = request.headers["authorization"].clone();
        edit(request, "authorization", |text| text.replace(from, to));
        assert_ne!(request.headers["authorization"], before, "{from} is in the header");
    }
}

fn signature(change: impl Fn(&str) -> String) -> impl Fn(&mut Parts) {
    move |request| {
        edit(request, "authorization", |text| {
            let (head, signature) = text.rsplit_once("Signature=").expect("signed");
            format!("{head}Signature={}", change(signature))
        });
    }
}

fn add(name: &'static str, value: &'static str) -> impl Fn(&mut Parts) {
    move |request| {
        request.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

fn set(name: &'static str, value: &'static str) -> impl Fn(&mut Parts) {
    move |request| {
        request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

fn remove(name: &'static str) -> impl Fn(&mut Parts) {
    move |request| {
        request.headers.remove(name).expect("it was there");
    }
}

fn uri(uri: &'static str) -> impl Fn(&mut Parts) {
    move |request| request.uri = uri.parse().expect("a uri")
}

type Bend = Box<dyn Fn(&mut Parts)>;

/// Every way to bend a good request that we could think of, and the code that it gets.
fn bent() -> Vec<(&'static str, Bend, &'static str)> {
    fn row(
        name: &'static str,
        bend: impl Fn(&mut Parts) + 'static,
        code: &'static str,
    ) -> (&'static str, Bend, &'static str) {
        (name, Box::new(bend), code)
    }
    const INVALID: &str = "InvalidSignatureException";
    const INCOMPLETE: &str = "IncompleteSignatureException";
    const UNKNOWN: &str = "UnrecognizedClientException";
    const MISSING: &str = "MissingAuthenticationTokenException";
    let flip = |s: &str| format!("{}{}", if s.starts_with('0') { '1' } else { '0' }, &s[1..]);
    vec![
        row("no header", remove("authorization"), MISSING),
        row("two headers", add("authorization", "AWS4-HMAC-SHA256 x"), INCOMPLETE),
        row("empty header", set("authorization", ""), INCOMPLETE),
        row("another scheme", set("authorization", "Bearer abc"), INCOMPLETE),
        row("another algorithm", swap("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), INCOMPLETE),
        row("asymmetric", swap("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), INCOMPLETE),
        row("lower-case algorithm", swap("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), INCOMPLETE),
        row("algorithm alone", set("authorization", "AWS4-HMAC-SHA256"), INCOMPLETE),
        row("no credential", swap("Credential=", "Credentia1="), INCOMPLETE),
        row("no signed headers", swap("SignedHeaders=", "SignedHeader="), INCOMPLETE),
        row("no signature", swap(", Signature=", ", Signatur="), INCOMPLETE),
        row("credential twice", swap("SignedHeaders=", "Credential=x, SignedHeaders="), INCOMPLETE),
        row("signature twice", swap(", Signature=", ", Signature=0, Signature="), INCOMPLETE),
        row("empty signature", signature(|_| String::new()), INCOMPLETE),
        row("one bit", signature(flip), INVALID),
        row("upper case", signature(str::to_uppercase), INVALID),
        row("truncated", signature(|s| s[..63].to_owned()), INVALID),
        row("too long", signature(|s| format!("{s}0")), INVALID),
        row("no hex", signature(|_| "g".repeat(64)), INVALID),
        row("zeros", signature(|_| "0".repeat(64)), INVALID),
        row("another key", swap(KEY, "AKIAIOSFODNN7EXAMPLF"), UNKNOWN),
        row("empty key", swap(KEY, ""), UNKNOWN),
        row("key in lower case", swap(KEY, "akiaiosfodnn7example"), UNKNOWN),
        row("illegal key", swap(KEY, "AKIA*"), UNKNOWN),
        row("another day", swap("/20261121/", "/20261120/"), INVALID),
        row("no day", swap("/20261121/", "//"), INVALID),
        row("another region", swap("/us-east-1/", "/eu-west-1/"), INVALID),
        row("illegal region", swap("/us-east-1/", "/US-EAST-1/"), INVALID),
        row("another service", swap("/lambda/", "/logs/"), INVALID),
        row("service in upper case", swap("/lambda/", "/LAMBDA/"), INVALID),
        row("another terminator", swap("/aws4_request", "/aws5_request"), INVALID),
        row("no terminator", swap("/aws4_request", ""), INCOMPLETE),
        row("a part too many", swap("/aws4_request", "/x/aws4_request"), INCOMPLETE),
        row("host unsigned", swap("content-type;host;", "content-type;"), INVALID),
        row("date unsigned", swap("x-amz-date;", ""), INVALID),
        row("header unsigned", swap(";x-amz-invocation-type", ""), INVALID),
        row("unsorted", swap("content-type;host", "host;content-type"), INVALID),
        row("header named twice", swap("content-type;host", "content-type;host;host"), INVALID),
        row("upper-case name", swap(";host;", ";Host;"), INVALID),
        row("empty name", swap("content-type;host", ";content-type;host"), INVALID),
        row("signed header gone", remove("content-type"), INVALID),
        row("signed header changed", set("content-type", "text/plain"), INVALID),
        row("another host", set("host", "127.0.0.1:4567"), INVALID),
        row("host twice", add("host", "127.0.0.1:4566"), INVALID),
        row("new x-amz header", add("x-amz-log-type", "Tail"), INVALID),
        row("x-amz header changed", set("x-amz-invocation-type", "DryRun"), INVALID),
        row("x-amz header twice", add("x-amz-invocation-type", "DryRun"), INVALID),
        row("no date", remove("x-amz-date"), INCOMPLETE),
        row("two dates", add("x-amz-date", "20261121T090000Z"), INCOMPLETE),
        row("bent date", set("x-amz-date", "2026-11-21T09:00:00Z"), INCOMPLETE),
        row("another second", set("x-amz-date", "20261121T090001Z"), INVALID),
        row("expired", set("x-amz-date", "20261121T084459Z"), INVALID),
        row("from tomorrow", set("x-amz-date", "20261122T090000Z"), INVALID),
        row("not yet", set("x-amz-date", "20261121T091501Z"), INVALID),
        row("a session token", add("x-amz-security-token", "token"), INVALID),
        row("unsigned payload", add("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), INVALID),
        row("another path", uri("http://127.0.0.1:4566/2015-03-31/functions/g/invocations?Qualifier=1"), INVALID),
        row("another query", uri("http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=2"), INVALID),
        row("no query", uri("http://127.0.0.1:4566/2015-03-31/functions/f/invocations"), INVALID),
        row(
            "one more parameter",
            uri("http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=1&a"),
            INVALID,
        ),
        row(
            "parameter twice",
            uri("http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=1&Qualifier=1"),
            INVALID,
        ),
        row(
            "bent percent sign",
            uri("http://127.0.0.1:4566/2015-03-31/functions/f/invocations?Qualifier=1&a=%"),
            INVALID,
        ),
        row("encoded twice", uri("http://127.0.0.1:4566/2015-03-31/functions/%66/invocations?Qualifier=1"), INVALID),
        row("header and query", uri("http://127.0.0.1:4566/f?X-Amz-Signature=0"), INCOMPLETE),
        row("credential in query", uri("http://127.0.0.1:4566/f?x-amz-credential=0"), INCOMPLETE),
        row("hidden in query", uri("http://127.0.0.1:4566/f?X%2DAmz-Signature=0"), INCOMPLETE),
        row("old query form", uri("http://127.0.0.1:4566/f?AWSAccessKeyId=x&Signature=y"), INCOMPLETE),
        row("another method", |request| request.method = http::Method::PUT, INVALID),
    ]
}

#[test]
fn every_bent_signature_is_refused() {
    use flint_wire::shape::Protocol;
    let table = bent();
    assert!(table.len() >= 40, "{}", table.len());
    for (name, bend, code) in table {
        let mut request = good();
        bend(&mut request);
        let refusal = verify(&request, BODY, now()).expect_err(name);
        assert_eq!(refusal.fault(Protocol::RestJson).code, code, "{name}: {refusal}");
    }
}

#[test]
fn bodies_are_covered() {
    let body = |body: &[u8]| verify(&good(), body, now());
    assert!(body(BODY).is_ok());
    for bad in [&b""[..], b"{}", br#"{"a":2}"#, br#"{"a":1} "#] {
        assert_eq!(body(bad).expect_err("refused"), Refusal::Mismatch);
    }
    let announced = foreign("POST", "http://h/f", &[("host", "h")], BODY, now(), true);
    assert!(verify(&announced, BODY, now()).is_ok());
    assert_eq!(verify(&announced, b"{}", now()).expect_err("refused"), Refusal::Mismatch);
    for form in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""] {
        let headers = [("host", "h"), ("x-amz-content-sha256", form)];
        let request = foreign("POST", "http://h/f", &headers, BODY, now(), false);
        assert!(matches!(verify(&request, BODY, now()), Err(Refusal::Invalid(_))), "{form}");
    }
}

#[test]
fn dates_hold_for_a_quarter_of_an_hour_either_way() {
    let at = |seconds: i64| Timestamp::from_millis(now().as_millis() + seconds * 1000);
    for seconds in [-900, -1, 0, 1, 900] {
        assert!(verify(&good(), BODY, at(seconds)).is_ok(), "{seconds}");
    }
    let text = |seconds: i64| verify(&good(), BODY, at(seconds)).expect_err("refused").to_string();
    assert_eq!(
        text(901),
        "Signature expired: 20261121T090000Z is now earlier than 20261121T090001Z (20261121T091501Z - 15 min.)"
    );
    assert_eq!(
        text(-901),
        "Signature not yet current: 20261121T090000Z is still later than 20261121T085959Z (20261121T084459Z + 15 min.)"
    );
    let midnight = Timestamp::parse_iso8601("2026-11-22T00:05:00Z").expect("a time");
    let before = Timestamp::parse_iso8601("2026-11-21T23:55:00Z").expect("a time");
    let request = foreign("GET", "http://h/", &[("host", "h")], b"", before, false);
    assert!(verify(&request, b"", midnight).is_ok(), "the scope's day is the request's, not ours");
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?}", flint_wire::SecretKey::new(SECRET));
    assert!(!shown.contains(SECRET), "{shown}");
}

proptest! {
    /// Whatever path, query and body: the two signers agree, and one more byte of body is noticed.
    #[test]
    fn any_request_of_the_foreign_signer_verifies(
        path in "(/[a-zA-Z0-9._~:$-]{1,8}|/%[2-6][0-9A-F]|/){0,6}",
        query in "([a-zA-Z0-9._~-]{1,5}=([a-zA-Z0-9._~-]|%[2-6][0-9A-F]){0,5}&){0,5}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let uri = format!("http://h{}?{}", if path.is_empty() { "/" } else { &path }, query.trim_end_matches('&'));
        let request = foreign("POST", &uri, &[("host", "h")], &body, now(), false);
        prop_assert!(verify(&request, &body, now()).is_ok(), "{}", uri);
        let more: Vec<u8> = body.iter().copied().chain([0]).collect();
        prop_assert!(verify(&request, &more, now()).is_err());
    }

    /// Arbitrary Authorization headers never verify and never panic.
    #[test]
    fn arbitrary_headers_are_refused(text in "(AWS4-HMAC-SHA256 )?[ -~]{0,120}") {
        let mut request = good();
        request.headers.insert("authorization", HeaderValue::from_str(&text).expect("printable"));
        prop_assert!(verify(&request, BODY, now()).is_err());
    }
}
