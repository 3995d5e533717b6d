//! The front over real sockets: routing, limits, codings, panics, draining.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use flint_kit::{Body, Doc, Fault, Output};
use flint_wire::{Gate, Limits};
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{OneKey, World, credentials, echo, empty, now, read_reply, wire_bytes};

const CREATE: &[u8] = br#"{"FunctionName":"f","Role":"arn:aws:iam::000000000000:role/r","Code":{"ZipFile":"UEs="}}"#;
const FUNCTIONS: &str = "/2015-03-31/functions";
const INVOKE: &str = "/2015-03-31/functions/f/invocations";

fn signed() -> Gate {
    Gate::Signed { keys: std::sync::Arc::new(OneKey), regions: Vec::new() }
}

#[tokio::test]
async fn every_protocol_reaches_its_service() {
    let world = World::signed(|ctx, operation, input| match operation {
        "Invoke" => echo(ctx, operation, input),
        "GetCallerIdentity" => {
            let arn = Doc::from(ctx.principal.arn());
            Ok(Output::from_doc(Doc::Map(vec![
                ("Arn".into(), arn),
                ("UserId".into(), Doc::from(ctx.base_url.as_ref())),
            ])))
        }
        _ => empty(ctx, operation, input),
    })
    .await;
    let reply = world.call("lambda", "POST", FUNCTIONS, &[], CREATE).await;
    assert_eq!((reply.status, reply.text()), (201, "{}"), "{reply:?}");
    assert_eq!(reply.header("x-amzn-requestid").map(str::len), Some(36));

    let target = [("x-amz-target", "Logs_20140328.CreateLogGroup"), ("content-type", "application/x-amz-json-1.1")];
    let reply = world.call("logs", "POST", "/", &target, br#"{"logGroupName":"/g"}"#).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-amz-json-1.1")), "{reply:?}");

    let reply = world.call("flint", "POST", "/", &[("x-amz-target", "Flint.Status")], b"{}").await;
    assert_eq!((reply.status, reply.text()), (200, "{}"));

    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let reply = world.call("sts", "POST", "/", &form, b"Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("<Arn>arn:aws:iam::000000000000:root</Arn>"), "{}", reply.text());
    assert!(reply.text().contains(&format!("<UserId>http://{}</UserId>", world.address)), "{}", reply.text());

    let reply = world.call("lambda", "POST", INVOKE, &[("x-amz-log-type", "None")], b"{\"a\":[1]}").await;
    assert_eq!((reply.status, reply.text()), (200, "{\"a\":[1]}"));
    assert_eq!(reply.header("x-amz-executed-version"), Some("$LATEST"));

    let asked: Vec<String> = world.asked().into_iter().map(|(name, _)| name).collect();
    let want =
        ["lambda.CreateFunction", "logs.CreateLogGroup", "flint.Status", "sts.GetCallerIdentity", "lambda.Invoke"];
    assert_eq!(asked, want);
    world.stop().await;
}

#[tokio::test]
async fn nobody_gets_in_unsigned() {
    let world = World::signed(empty).await;
    for (method, uri) in
        [("POST", FUNCTIONS), ("POST", INVOKE), ("GET", "/"), ("GET", "/nothing"), ("OPTIONS", FUNCTIONS)]
    {
        let reply = world.send(world.request(method, uri, &[]), b"").await;
        let want = ("MissingAuthenticationTokenException".to_owned(), "Missing Authentication Token".to_owned());
        assert_eq!((reply.status, reply.error()), (403, want), "{method} {uri}");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reply = world.send(world.request("POST", "/", &form), b"Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("<Code>MissingAuthenticationToken</Code>"), "{}", reply.text());

    let mut request = world.request("POST", INVOKE, &[]);
    flint_wire::sign(&mut request, b"{}", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    let reply = world.send(request, b"[]").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (403, "InvalidSignatureException"));
    let mut request = world.request("POST", "/", &form);
    flint_wire::sign(&mut request, b"", &credentials(), "us-east-1", "sts", now()).expect("signs");
    let reply = world.send(request, b"Action=GetCallerIdentity").await;
    assert!(reply.text().contains("<Code>SignatureDoesNotMatch</Code>"), "{}", reply.text());

    let scope = |text: &str| format!("Credential should be scoped to {text}");
    for (service, region, message) in [
        ("logs", "us-east-1", scope("correct service: 'lambda'.")),
        ("sqs", "us-east-1", scope("correct service: 'lambda'.")),
        ("lambda", "eu-west-1", scope("a valid region.")),
    ] {
        let mut request = world.request("POST", INVOKE, &[]);
        flint_wire::sign(&mut request, b"", &credentials(), region, service, now()).expect("signs");
        let reply = world.send(request, b"").await;
        let want = ("InvalidSignatureException".to_owned(), message);
        assert_eq!((reply.status, reply.error()), (403, want), "{service} {region}");
    }
    let mut stranger = credentials();
    stranger.access_key = "AKIAIOSFODNN7STRANGE".into();
    let mut request = world.request("POST", INVOKE, &[]);
    flint_wire::sign(&mut request, b"", &stranger, "us-east-1", "lambda", now()).expect("signs");
    let reply = world.send(request, b"").await;
    let want = ("UnrecognizedClientException", "The security token included in the request is invalid.");
    assert_eq!((reply.status, reply.error()), (403, (want.0.to_owned(), want.1.to_owned())));
    assert!(world.asked().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let world = World::signed(empty).await;
    let check = async |service: &str,
                       method: &str,
                       uri: &str,
                       headers: &[(&str, &str)],
                       body: &[u8],
                       status: u16,
                       text: &str| {
        let reply = world.call(service, method, uri, headers, body).await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.text().contains(text), "{reply:?}");
    };
    check("lambda", "GET", "/2015-03-31/functions/f/aliases", &[], b"", 501, "not served: lambda.ListAliases").await;
    check(
        "lambda",
        "POST",
        "/2021-11-15/functions/f/response-streaming-invocations",
        &[],
        b"{}",
        501,
        "not served: lambda.InvokeWithResponseStream",
    )
    .await;
    check(
        "logs",
        "POST",
        "/",
        &[("x-amz-target", "Logs_20140328.StartQuery")],
        b"{}",
        501,
        "not served: logs.StartQuery",
    )
    .await;
    check(
        "logs",
        "POST",
        "/",
        &[("x-amz-target", "Logs_20140328.DeleteLogGroup")],
        b"{}",
        501,
        "not served: logs.DeleteLogGroup",
    )
    .await;
    check("sqs", "POST", "/", &[("x-amz-target", "AmazonSQS.SendMessage")], b"{}", 501, "not served: sqs.SendMessage")
        .await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    check("sns", "POST", "/", &form, b"Action=Publish&Version=2010-03-31", 501, "not served: sns.Publish").await;
    check("sts", "POST", "/", &form, b"Action=AssumeRole&Version=2011-06-15", 501, "not served: sts.AssumeRole").await;
    check("sts", "POST", "/", &form, b"Action=Fly&Version=2011-06-15", 400, "InvalidAction").await;
    check("s3", "PUT", "/bucket/key", &[], b"x", 501, "not served: s3").await;
    check("lambda", "GET", "/2015-03-31/nothing", &[], b"", 404, "is no operation of lambda").await;
    check("logs", "POST", "/", &[], b"{}", 400, "no X-Amz-Target").await;
    check("logs", "POST", "/", &[("x-amz-target", "Logs_20140328.Fly")], b"{}", 400, "UnknownOperationException").await;
    assert!(world.asked().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn bodies_come_in_every_form() {
    let world = World::signed(echo).await;
    let sign = |headers: &[(&str, &str)], body: &[u8]| {
        let mut request = world.request("POST", INVOKE, headers);
        flint_wire::sign(&mut request, body, &credentials(), "us-east-1", "lambda", now()).expect("signs");
        request
    };
    // Chunked.
    let request = sign(&[("transfer-encoding", "chunked")], b"{\"a\":1}");
    let mut bytes = wire_bytes(&request, b"");
    bytes.extend_from_slice(b"3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
    let reply = world.raw(&bytes).await;
    assert_eq!((reply.status, reply.text()), (200, "{\"a\":1}"));
    // Gzip: the signature covers what is sent.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"{\"zipped\":true}").expect("writes");
    let zipped = encoder.finish().expect("finishes");
    let reply = world.send(sign(&[("content-encoding", "gzip")], &zipped), &zipped).await;
    assert_eq!((reply.status, reply.text()), (200, "{\"zipped\":true}"));
    let reply = world.send(sign(&[("content-encoding", "br")], b"x"), b"x").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (415, "UnsupportedMediaTypeException"));
    // Expect: 100-continue, and the body only after the 100.
    let request = sign(&[("expect", "100-continue")], b"{\"late\":1}");
    let all = wire_bytes(&request, b"{\"late\":1}");
    let (head, body) = all.split_at(all.len() - 10);
    let mut stream = TcpStream::connect(&world.address).await.expect("connects");
    stream.write_all(head).await.expect("writes");
    let mut seen = [0; 25];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut seen)).await.expect("in time").expect("reads");
    assert_eq!(&seen, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body).await.expect("writes");
    assert_eq!(read_reply(&mut stream).await.text(), "{\"late\":1}");
    world.stop().await;
}

#[tokio::test]
async fn too_much_is_refused_and_told() {
    let world = World::signed(echo).await;
    let body = vec![b'1'; 6_291_457];
    let reply = world.call("lambda", "POST", INVOKE, &[], &body).await;
    let message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation";
    assert_eq!(reply.status, 413);
    assert_eq!(reply.error(), ("RequestEntityTooLargeException".to_owned(), message.to_owned()));
    let reply = world.call("lambda", "POST", INVOKE, &[], &body[1..]).await;
    assert_eq!((reply.status, reply.body.len()), (200, 6_291_456));
    // Announced too large with Expect: refused before a byte of it is sent.
    let mut request = world.request("POST", INVOKE, &[("expect", "100-continue"), ("content-length", "99999999")]);
    flint_wire::sign(&mut request, b"", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    assert_eq!(world.send(request, b"").await.status, 413);
    // Heads.
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let reply = world.raw(format!("GET /_flint/health HTTP/1.1\r\nhost: h\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(reply.status, 431);
    let long = "x".repeat(70_000);
    let reply = world.raw(format!("GET /_flint/health HTTP/1.1\r\nhost: h\r\nx: {long}\r\n\r\n").as_bytes()).await;
    assert_eq!(reply.status, 431);
    world.stop().await;
}

#[tokio::test]
async fn a_broken_message_is_a_client_error() {
    let world = World::signed(echo).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n"[..],
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"GET /\xff HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: h\r\n\r\n",
    ] {
        let reply = world.raw(bytes).await;
        assert!((400..500).contains(&reply.status), "{bytes:?} {reply:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_panic_or_a_fault_ends_one_request() {
    let world = World::signed(|_, operation, input| match operation {
        "GetFunction" => panic!("a bug"),
        "ListFunctions" => Err(Fault::unavailable("no space left for the log").because("secret detail")),
        "Invoke" => {
            let pieces: Vec<Result<Bytes, Fault>> =
                vec![Ok(Bytes::from_static(b"one ")), Ok(Bytes::from_static(b"two"))];
            let body = Some(Body::Stream(Box::pin(stream::iter(pieces))));
            Ok(Output { doc: input.doc.clone(), body, status: Some(200) })
        }
        _ => Ok(Output::empty()),
    })
    .await;
    let reply = world.call("lambda", "GET", "/2015-03-31/functions/f", &[], b"").await;
    assert_eq!((reply.status, reply.error()), (500, ("InternalFailure".into(), "internal error".into())));
    let reply = world.call("lambda", "GET", FUNCTIONS, &[], b"").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "ServiceUnavailableException"));
    assert!(!reply.text().contains("secret"));
    let reply = world.call("lambda", "POST", INVOKE, &[], b"").await;
    assert_eq!((reply.status, reply.text()), (200, "4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"));
    world.stop().await;
}

#[tokio::test]
async fn health_needs_no_key() {
    let world = World::signed(empty).await;
    let reply = world.send(world.request("GET", "/_flint/health", &[]), b"").await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"status":"ready"}"#));
    world.stop().await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_works() {
    let world = World::signed(echo).await;
    let stream = TcpStream::connect(&world.address).await.expect("connects");
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("shakes hands");
    let driver = tokio::spawn(connection);
    let uri = format!("http://{}{INVOKE}", world.address);
    let mut head = http::Request::post(&uri).body(()).expect("a request").into_parts().0;
    flint_wire::sign(&mut head, b"{}", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    // HTTP/2 has the host in its own field.
    head.headers.remove("host");
    let reply = client.send_request(http::Request::from_parts(head, Full::new(Bytes::from_static(b"{}")))).await;
    let reply = reply.expect("answers");
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.into_body().collect().await.expect("a body").to_bytes(), "{}");
    drop(client);
    driver.await.expect("no panic").expect("ends well");
    world.stop().await;
}

#[tokio::test]
async fn calls_under_way_are_answered_before_the_end() {
    let (entered, inside) = std::sync::mpsc::sync_channel(1);
    let world = World::signed(move |ctx, operation, input| {
        entered.send(()).expect("the test listens");
        std::thread::sleep(Duration::from_millis(100));
        echo(ctx, operation, input)
    })
    .await;
    let mut request = world.request("POST", INVOKE, &[]);
    flint_wire::sign(&mut request, b"{}", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    let mut stream = TcpStream::connect(&world.address).await.expect("connects");
    let mut idle = TcpStream::connect(&world.address).await.expect("connects");
    stream.write_all(&wire_bytes(&request, b"{}")).await.expect("writes");
    tokio::task::spawn_blocking(move || inside.recv()).await.expect("no panic").expect("entered");
    let address = world.address.clone();
    let (stopped, reply) = tokio::join!(world.stop(), read_reply(&mut stream));
    let () = stopped;
    assert_eq!((reply.status, reply.text()), (200, "{}"));
    assert!(TcpStream::connect(&address).await.is_err());
    assert_eq!(idle.read(&mut [0; 1]).await.expect("a clean end"), 0);
}

#[tokio::test]
async fn a_slow_body_and_too_many_bytes_are_bounded() {
    let limits = Limits { body_wait: Duration::from_millis(50), buffered_bytes: 10, ..Limits::default() };
    let world = World::start(signed(), limits, echo).await;
    let mut request = world.request("POST", INVOKE, &[("content-length", "5")]);
    flint_wire::sign(&mut request, b"{}", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    let reply = world.send(request, b"{}").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (408, "RequestTimeoutException"));
    let reply = world.call("lambda", "POST", INVOKE, &[], b"more than ten bytes").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "ServiceUnavailableException"));
    world.stop().await;
}
