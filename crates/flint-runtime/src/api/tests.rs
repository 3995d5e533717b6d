use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flint_base::SystemClock;

use super::*;

const BASE: &str = "/2018-06-01/runtime/";

/// The Runtime API on a plain listener, and a client that speaks for a runtime.
struct Rig {
    api: Arc<Api>,
    address: std::net::SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn rig() -> Rig {
    let api = Arc::new(Api::new(Arc::new(SystemClock::new()), Extensions::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(serve(api.clone(), listener));
    Rig { api, address, server }
}

impl Rig {
    fn event(&self, id: &str, limit: usize) -> Event {
        Event {
            id: id.to_owned(),
            deadline: Timestamp::from_millis(1_795_251_600_123),
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            trace: Some("Root=1-2-3".into()),
            client_context: Some("{\n\"custom\":{\"k\":\"ü\"}}".to_owned()),
            payload: Bytes::from_static(b"{\"a\":1}"),
            limit,
            stream: None,
        }
    }

    /// One request on a connection of its own; gives status, head and body.
    async fn ask(&self, request: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut bytes = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.raw(bytes).await
    }

    async fn raw(&self, bytes: Vec<u8>) -> (u16, String, Vec<u8>) {
        let address = self.address;
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("option");
            stream.write_all(&bytes).expect("write");
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("head") > 0, "closed after {head:?}");
            }
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                .map_or(0, |l| l.parse().expect("a length"));
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("body");
            (status, head.to_ascii_lowercase(), body)
        })
        .await
        .expect("the client")
    }
}

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";

fn post(rest: &str) -> String {
    format!("POST /2018-06-01/runtime/{rest}")
}

#[tokio::test]
async fn an_event_goes_out_and_its_answer_comes_back() {
    let rig = rig().await;
    rig.api.offer(rig.event("id-1", 100));
    let (status, head, body) = rig.ask(NEXT, b"").await;
    assert_eq!((status, body.as_slice()), (200, b"{\"a\":1}".as_slice()));
    for line in [
        "lambda-runtime-aws-request-id: id-1",
        "lambda-runtime-deadline-ms: 1795251600123",
        "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:f",
        "lambda-runtime-trace-id: root=1-2-3",
        "lambda-runtime-client-context: { \"custom\":{\"k\":\"ü\"}}",
    ] {
        assert!(head.contains(line), "{line} is missing in {head}");
    }
    let (status, _, body) = rig.ask(&post("invocation/id-1/response"), b"\"done\"").await;
    assert_eq!((status, body.as_slice()), (202, b"{\"status\":\"OK\"}".as_slice()));
    assert_eq!(rig.api.reported().await, Reported::Response(Bytes::from_static(b"\"done\"")));
    assert!(rig.api.contact().is_some());
    assert!(rig.api.ready().await.is_ok());
}

#[tokio::test]
async fn only_the_id_in_flight_may_answer_and_only_once() {
    let rig = rig().await;
    assert_eq!(rig.ask(&post("invocation/id-1/response"), b"1").await.0, 400);
    rig.api.offer(rig.event("id-1", 100));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200);
    assert_eq!(rig.ask(NEXT, b"").await.0, 403, "asking again before answering");
    let (status, _, body) = rig.ask(&post("invocation/id-2/response"), b"1").await;
    assert_eq!(status, 400);
    assert_eq!(body, br#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#);
    assert_eq!(rig.ask(&post("invocation/id-1/response"), b"1").await.0, 202);
    assert_eq!(rig.ask(&post("invocation/id-1/response"), b"2").await.0, 403);
    assert_eq!(rig.ask(&post("invocation/id-1/error"), b"{}").await.0, 403);
    assert_eq!(rig.api.reported().await, Reported::Response(Bytes::from_static(b"1")));
    // The late answer of an earlier event can't end the next one.
    rig.api.offer(rig.event("id-2", 100));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200);
    assert_eq!(rig.ask(&post("invocation/id-1/response"), b"late").await.0, 400);
    assert_eq!(rig.api.take_reported(), None);
}

#[tokio::test]
async fn errors_carry_their_type() {
    let rig = rig().await;
    for (extra, document, expected) in [
        ("Lambda-Runtime-Function-Error-Type: Runtime.Custom\r\n", "{}", "Runtime.Custom"),
        ("", r#"{"errorType":"ValueError","errorMessage":"x"}"#, "ValueError"),
        ("", "not json", "Runtime.Unknown"),
        ("Lambda-Runtime-Function-Error-Type: a b\tc\r\n", "{}", "Runtime.Unknown"),
    ] {
        rig.api.offer(rig.event("id", 100));
        assert_eq!(rig.ask(NEXT, b"").await.0, 200);
        let request = format!(
            "{} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {}\r\n\r\n{document}",
            post("invocation/id/error"),
            document.len()
        );
        assert_eq!(rig.raw(request.into_bytes()).await.0, 202);
        match rig.api.reported().await {
            Reported::Error(failure) => {
                assert_eq!((failure.error_type.as_str(), &failure.document[..]), (expected, document.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_and_told() {
    let rig = rig().await;
    rig.api.offer(rig.event("id", 10));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200);
    let (status, _, body) = rig.ask(&post("invocation/id/response"), &vec![b'x'; 3_000_000]).await;
    assert_eq!(status, 413);
    assert!(String::from_utf8_lossy(&body).contains("RequestEntityTooLarge"));
    assert_eq!(rig.api.reported().await, Reported::TooLarge);

    rig.api.offer(rig.event("id2", 10));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200, "the runtime goes on");
    assert_eq!(rig.ask(&post("invocation/id2/response"), b"0123456789").await.0, 202, "the very limit");
}

#[tokio::test]
async fn chunked_answers_are_taken() {
    let rig = rig().await;
    rig.api.offer(rig.event("id", 10));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200);
    let request = format!(
        "{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        post("invocation/id/response")
    );
    assert_eq!(rig.raw(request.into_bytes()).await.0, 202);
    assert_eq!(rig.api.reported().await, Reported::Response(Bytes::from_static(b"abcde")));
}

#[tokio::test]
async fn init_may_fail_once_and_only_before_the_first_next() {
    let rig = rig().await;
    assert_eq!(rig.ask(&post("init/error"), br#"{"errorType":"Runtime.ImportModuleError"}"#).await.0, 202);
    assert_eq!(rig.api.ready().await.expect_err("it failed").error_type, "Runtime.ImportModuleError");
    assert_eq!(rig.ask(&post("init/error"), b"{}").await.0, 403);
    assert_eq!(rig.ask(NEXT, b"").await.0, 403);

    let rig = self::rig().await;
    rig.api.offer(rig.event("id", 10));
    assert_eq!(rig.ask(NEXT, b"").await.0, 200);
    assert_eq!(rig.ask(&post("init/error"), b"{}").await.0, 403);
    assert!(rig.api.init_failure().is_none());
}

#[tokio::test]
async fn bad_requests_get_an_answer() {
    let rig = rig().await;
    assert_eq!(rig.ask("GET /2018-06-01/ping", b"").await.0, 200);
    for (request, status) in [
        ("GET /", 404),
        ("GET /2018-06-01/runtime/", 404),
        ("GET /2020-01-01/extension/register", 405),
        ("GET /2020-01-01/extension/nothing", 404),
        ("POST /2018-06-01/runtime/invocation/next", 405),
        ("GET /2018-06-01/runtime/init/error", 405),
        ("GET /2018-06-01/runtime/invocation/id/response", 405),
        ("POST /2018-06-01/runtime/invocation//response", 400),
        ("POST /2018-06-01/runtime/invocation/a/b/response", 404),
        ("POST /2018-06-01/runtime/invocation/%00/error", 400),
    ] {
        assert_eq!(rig.ask(request, b"").await.0, status, "{request}");
    }
    let garbage = rig.raw(b"\x16\x03\x01 not http\r\n\r\n".to_vec()).await;
    assert_eq!(garbage.0, 400);
}

#[tokio::test]
async fn a_runtime_that_reconnects_gets_the_event() {
    let rig = rig().await;
    // A first connection asks and goes away.
    let address = rig.address;
    let first = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.write_all(format!("{NEXT} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("write");
        stream
    })
    .await
    .expect("client");
    rig.api.ready().await.expect("ready");
    drop(first);
    let offer = async {
        // The event comes once the second connection waits; a moment earlier is fine as well.
        tokio::task::yield_now().await;
        rig.api.offer(rig.event("id", 10));
    };
    let deadline = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(rig.ask(NEXT, b""), offer) });
    let ((status, ..), ()) = deadline.await.expect("in time");
    assert_eq!(status, 200);
}

/// A streamed answer: the request's head, then these chunks, the trailers, and the end.
fn streamed(id: &str, chunks: &[&[u8]], trailers: &str, whole: bool) -> Vec<u8> {
    let mut bytes = format!(
        "POST {BASE}invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Type: text/html\r\n\
         Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\
         Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
    )
    .into_bytes();
    for chunk in chunks {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    if whole {
        bytes.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    }
    bytes
}

/// base64 of `{"errorType":"E","errorMessage":"m"}`
const TRAILERS: &str = "Lambda-Runtime-Function-Error-Type: E\r\n\
                        Lambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJFIiwiZXJyb3JNZXNzYWdlIjoibSJ9\r\n";

fn stream_failure() -> Failure {
    Failure { error_type: "E".into(), document: Bytes::from_static(br#"{"errorType":"E","errorMessage":"m"}"#) }
}

#[tokio::test]
async fn a_stream_goes_through_and_ends_as_it_says() {
    let cases = [
        ("good", vec![&b"one"[..], b"two"], "", 202, Ok(())),
        ("nothing", vec![], "", 202, Ok(())),
        ("failed", vec![&b"one"[..]], TRAILERS, 202, Err(StreamFault::Function(stream_failure()))),
        ("large", vec![&b"0123456789"[..], b"x"], "", 413, Err(StreamFault::TooLarge)),
    ];
    for (name, chunks, trailers, status, end) in cases {
        let rig = rig().await;
        let (to, mut stream) = crate::stream::response_stream();
        rig.api.offer(Event { stream: Some(Outlet { to, limit: 10 }), ..rig.event("a", 5) });
        assert_eq!(rig.ask(&format!("GET {BASE}invocation/next"), b"").await.0, 200);
        let (answer, body) = tokio::join!(rig.raw(streamed("a", &chunks, trailers, true)), async {
            let head = stream.head().await.expect("a head");
            assert_eq!(head.content_type, "text/html");
            let mut body = Vec::new();
            while let Some(chunk) = stream.next().await {
                body.extend_from_slice(&chunk);
            }
            body
        });
        assert_eq!(answer.0, status, "{name}");
        let all = chunks.concat();
        assert!(all.starts_with(&body) && (status == 413 || body == all), "{name}");
        assert_eq!(rig.api.reported().await, Reported::Streamed(end), "{name}");
        assert!(rig.api.has_streamed());
        let again = rig.ask(&format!("POST {BASE}invocation/a/response"), b"1").await;
        assert_eq!(again.0, 403, "{name}: an answer counts once");
    }
}

#[tokio::test]
async fn a_stream_for_a_caller_who_takes_none_is_gathered() {
    for (chunks, trailers, expected) in [
        (&[&b"on"[..], b"e"][..], "", Reported::Response(Bytes::from_static(b"one"))),
        (&[&b"on"[..], b"e"][..], TRAILERS, Reported::Error(stream_failure())),
        (&[&b"12345"[..], b"6"][..], "", Reported::TooLarge),
    ] {
        let rig = rig().await;
        rig.api.offer(rig.event("a", 5));
        assert_eq!(rig.ask(&format!("GET {BASE}invocation/next"), b"").await.0, 200);
        rig.raw(streamed("a", chunks, trailers, true)).await;
        assert_eq!(rig.api.reported().await, expected);
        assert!(!rig.api.has_streamed());
    }
}

#[tokio::test]
async fn while_a_stream_runs_nothing_else_is_taken_and_a_broken_one_is_told() {
    let rig = rig().await;
    let (to, mut stream) = crate::stream::response_stream();
    rig.api.offer(Event { stream: Some(Outlet { to, limit: 100 }), ..rig.event("a", 5) });
    assert_eq!(rig.ask(&format!("GET {BASE}invocation/next"), b"").await.0, 200);
    let mut runtime = TcpStream::connect(rig.address).expect("connect");
    runtime.write_all(&streamed("a", &[b"one"], "", false)).expect("write");
    assert_eq!(stream.next().await.expect("a chunk"), "one");
    assert_eq!(rig.ask(&format!("GET {BASE}invocation/next"), b"").await.0, 403);
    assert_eq!(rig.ask(&format!("POST {BASE}invocation/a/error"), b"{}").await.0, 403);
    drop(runtime);
    assert_eq!(stream.next().await, None);
    assert_eq!(rig.api.reported().await, Reported::Streamed(Err(StreamFault::Truncated)));
}

#[tokio::test]
async fn a_response_mode_that_does_not_exist_is_refused() {
    let rig = rig().await;
    rig.api.offer(rig.event("a", 5));
    assert_eq!(rig.ask(&format!("GET {BASE}invocation/next"), b"").await.0, 200);
    let mode = "Lambda-Runtime-Function-Response-Mode: sideways";
    let request =
        format!("POST {BASE}invocation/a/response HTTP/1.1\r\nHost: x\r\n{mode}\r\nContent-Length: 1\r\n\r\n1");
    assert_eq!(rig.raw(request.into_bytes()).await.0, 400);
    assert_eq!(rig.ask(&format!("POST {BASE}invocation/a/response"), b"1").await.0, 202);
}
