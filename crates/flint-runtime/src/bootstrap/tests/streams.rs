//! Streaming handlers of Node.

use super::*;
use crate::stream::response_stream;

const APP: &str = r#"
const { pipeline } = require("stream/promises");
const { Readable } = require("stream");
const s = awslambda.streamifyResponse;
exports.plain = s(async (event, stream, context) => {
  stream.write("hello ");
  stream.write({ json: [1] });
  stream.write(new Uint8Array([33]));
  stream.end();
});
exports.http = s(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: "b" } });
  stream.write("body");
  stream.end();
});
exports.headOnly = s(async (event, stream) => {
  awslambda.HttpResponseStream.from(stream, { statusCode: 204 }).end();
});
exports.typed = s(async (event, stream) => { stream.setContentType("text/html"); stream.end("<p>"); });
exports.late = s(async (event, stream) => { stream.write("x"); stream.setContentType("text/html"); });
exports.piped = s(async (event, stream) => {
  await pipeline(Readable.from((function* () { for (let i = 0; i < 2000; i++) yield "0123456789".repeat(10); })()), stream);
});
exports.nothing = s(async (event, stream) => { stream.end(); });
exports.before = s(async () => { throw new TypeError("early"); });
exports.middle = s(async (event, stream) => { stream.write("half"); throw new TypeError("no way"); });
exports.later = s(async (event, stream) => {
  stream.write("half");
  setTimeout(() => { throw new RangeError("outside"); }, 5);
  await new Promise((r) => setTimeout(r, 5000));
});
exports.open = s(async (event, stream) => { stream.write("half"); });
exports.destroyed = s(async (event, stream) => { stream.write("half"); stream.destroy(new RangeError("gone")); });
exports.sync = s((event, stream) => { stream.end("x"); });
exports.returns = s(async (event, stream) => { setTimeout(() => stream.end("x"), 30); return 1; });
exports.context = s(async (event, stream, c) => {
  stream.end(JSON.stringify([event, c.functionName, c.awsRequestId, typeof c.getRemainingTimeInMillis, typeof c.done]));
});
exports.odd = async () => {};
exports.odd[Symbol.for("aws.lambda.runtime.handler.streaming")] = "request";
"#;

async fn run(rig: &Rig, handler: &str) -> (Option<String>, String, Ran) {
    let (to, mut stream) = response_stream();
    let around = Surroundings { stream: Some(to), ..Surroundings::default() };
    let read = async {
        let head = stream.head().await.map(|h| h.content_type);
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk);
        }
        (head, String::from_utf8(body).expect("UTF-8"))
    };
    let app = [("app.js", APP)];
    let handler = format!("app.{handler}");
    let (ran, (head, body)) = tokio::join!(rig.run_in(&app, &handler, r#"{"n":1}"#, around), read);
    (head, body, ran)
}

#[tokio::test]
async fn node_streams_as_the_official_client() {
    const BYTES: &str = "application/octet-stream";
    const HTTP: &str = crate::stream::HTTP_INTEGRATION;
    let piped = "0123456789".repeat(20_000);
    let told = r#"[{"n":1},"f","8476a536-e9f4-11e8-9739-2dfe598c3fcd","function","undefined"]"#;
    let cases = [
        ("plain", BYTES, "hello {\"json\":[1]}!"),
        ("http", HTTP, "{\"statusCode\":201,\"headers\":{\"a\":\"b\"}}\0\0\0\0\0\0\0\0body"),
        ("headOnly", HTTP, "{\"statusCode\":204}\0\0\0\0\0\0\0\0"),
        ("typed", "text/html", "<p>"),
        ("piped", BYTES, &piped),
        ("nothing", BYTES, ""),
        ("returns", BYTES, "x"),
        ("context", BYTES, told),
    ];
    for rig in rigs(Kind::Node) {
        for (handler, content_type, expected) in cases {
            let (head, body, ran) = run(&rig, handler).await;
            assert_eq!((head.as_deref(), body.as_str()), (Some(content_type), expected), "{handler} {}", ran.log);
            assert!(matches!(ran.outcome, Outcome::Streamed(None)), "{handler} {:?} {}", ran.outcome, ran.log);
            assert_eq!(ran.log.contains("Streaming handlers ignore return values."), handler == "returns");
        }
    }
}

#[tokio::test]
async fn node_tells_of_a_stream_that_failed() {
    let cases = [
        ("before", "", "TypeError", "early"),
        ("middle", "half", "TypeError", "no way"),
        ("later", "half", "RangeError", "outside"),
        ("open", "half", "string", "Response stream is not finished."),
        ("destroyed", "half", "RangeError", "gone"),
        ("late", "x", "Runtime.InvalidStreamingOperation", "Cannot set content-type, too late."),
        ("sync", "x", "string", "Streaming does not support non-async handlers."),
    ];
    for rig in rigs(Kind::Node) {
        for (handler, expected, error_type, message) in cases {
            let (_, body, ran) = run(&rig, handler).await;
            assert_eq!(body, expected, "{handler} {}", ran.log);
            match &ran.outcome {
                Outcome::Streamed(Some(document)) => {
                    assert_eq!(document["errorType"], error_type, "{handler}");
                    assert_eq!(document["errorMessage"], message, "{handler}");
                }
                // The handler had sent it all before it turned out to be no streaming handler.
                Outcome::Streamed(None) if handler == "sync" => {}
                other => panic!("{handler} {other:?} {}", ran.log),
            }
        }
        let (_, _, ran) = run(&rig, "odd").await;
        ran.error("Runtime.MalformedStreamingHandler", "Only response streaming is supported.");
    }
}

#[tokio::test]
async fn node_streams_to_a_caller_who_takes_one_piece() {
    for rig in rigs(Kind::Node) {
        let app = [("app.js", APP)];
        assert_eq!(rig.run(&app, "app.plain", "1").await.response(), "hello {\"json\":[1]}!");
        rig.run(&app, "app.middle", "1").await.error("TypeError", "no way");
    }
}
