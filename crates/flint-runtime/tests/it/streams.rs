//! Answers that leave while the function runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, SystemClock};
use flint_runtime::{Answer, Call, End, Environment, InitEnd, Match, ResponseStream, response_stream};

use crate::{Function, World, call, json};

crate::tests![
    parts_arrive_as_they_are_written,
    a_stream_ends_with_its_process,
    a_stream_runs_out_of_time,
    a_stream_may_be_too_large,
    a_large_stream_to_a_slow_caller_costs_little,
    a_caller_who_leaves_is_not_missed,
    what_is_no_stream_comes_in_one_piece,
];

const APP: &str = r#"
const s = awslambda.streamifyResponse;
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
exports.parts = s(async (event, stream) => {
  await wait(20);
  stream.write(String(Date.now()));
  await wait(300);
  stream.end("end");
});
exports.leaves = s(async (event, stream) => { stream.write("half"); await wait(50); process.exit(3); });
exports.slow = s(async (event, stream) => { stream.write("half"); await wait(60000); });
exports.large = s(async (event, stream) => {
  const block = Buffer.alloc(65536, "x");
  for (let i = 0; i < event.blocks; i++) {
    if (!stream.write(block)) await new Promise((r) => stream.once("drain", r));
  }
  stream.end();
});
exports.plain = async (event) => event;
"#;

async fn node(world: &World, handler: &str) -> Environment {
    let catalog = &world.catalog;
    let runtime = catalog.resolve("nodejs22.x", Match::Nearest).expect("these tests need Node");
    let mut function = Function::new(runtime);
    function.file("app.js", APP, 0o644);
    function.spec.handler = format!("app.{handler}");
    let mut environment = function.create(world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    environment
}

async fn all(stream: &mut ResponseStream) -> Bytes {
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk);
    }
    body.into()
}

async fn run(environment: &mut Environment, call: Call) -> (Bytes, Answer) {
    let (to, mut stream) = response_stream();
    let (answer, body) = tokio::join!(environment.invoke_stream(call, to), all(&mut stream));
    (body, answer)
}

async fn parts_arrive_as_they_are_written(world: Arc<World>) {
    let mut environment = node(&world, "parts").await;
    // The function's clock is the host's, in whole milliseconds; the best of a few is what the way costs.
    let clock = SystemClock::new();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (to, mut stream) = response_stream();
        let arrive = async {
            assert_eq!(stream.head().await.expect("a head").content_type, "application/octet-stream");
            let first = stream.next().await.expect("a part");
            let now = Duration::from_millis(clock.now().as_millis().try_into().expect("after 1970"));
            let at = clock.monotonic();
            let written: u64 = std::str::from_utf8(&first).expect("digits").parse().expect("a number");
            assert_eq!(all(&mut stream).await, "end");
            assert!(clock.monotonic() - at >= Duration::from_millis(200), "the first part waited for the last");
            now.saturating_sub(Duration::from_millis(written))
        };
        let (answer, took) = tokio::join!(environment.invoke_stream(call("{}"), to), arrive);
        assert_eq!((answer.end, answer.streamed, answer.payload.len()), (End::Ok, true, 0));
        assert!(answer.reusable && answer.duration >= Duration::from_millis(320), "{answer:?}");
        best = best.min(took);
    }
    println!("first part after at most {best:?}");
    assert!(best <= Duration::from_millis(5), "{best:?}");
    environment.close().await;
}

async fn a_stream_ends_with_its_process(world: Arc<World>) {
    let mut environment = node(&world, "leaves").await;
    let (body, answer) = run(&mut environment, call("{}")).await;
    assert_eq!((body.as_ref(), answer.end, answer.streamed), (&b"half"[..], End::Exit, true), "{answer:?}");
    assert_eq!(answer.error_type.as_deref(), Some("Runtime.ExitError"));
    assert!(json(&answer)["errorMessage"].as_str().is_some_and(|m| m.ends_with("exit status 3")), "{answer:?}");
    assert!(!answer.reusable && answer.function_error.is_some());
    environment.close().await;
}

async fn a_stream_runs_out_of_time(world: Arc<World>) {
    let mut environment = node(&world, "slow").await;
    let call = Call { timeout: Duration::from_secs(1), ..call("{}") };
    let (body, answer) = run(&mut environment, call).await;
    assert_eq!((body.as_ref(), answer.end, answer.streamed), (&b"half"[..], End::Timeout, true));
    assert_eq!(answer.error_type.as_deref(), Some("Sandbox.Timedout"));
    environment.close().await;
}

async fn a_stream_may_be_too_large(world: Arc<World>) {
    let mut environment = node(&world, "large").await;
    let limited = |blocks: u32| Call { max_response: 3 * 65536, ..call(&format!(r#"{{"blocks":{blocks}}}"#)) };
    let (body, answer) = run(&mut environment, limited(4)).await;
    assert_eq!((answer.end, answer.streamed), (End::TooLarge, true));
    assert!(body.len() <= 3 * 65536);
    // The connection was left in the middle of a request; the next call gets a fresh one.
    let (body, answer) = run(&mut environment, limited(3)).await;
    assert_eq!((answer.end, body.len()), (End::Ok, 3 * 65536), "{answer:?}");
    environment.close().await;
}

/// What this process holds in memory now.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

async fn a_large_stream_to_a_slow_caller_costs_little(world: Arc<World>) {
    let mut environment = node(&world, "large").await;
    let (to, mut stream) = response_stream();
    let call = Call {
        timeout: Duration::from_secs(50),
        max_response: flint_runtime::call::MAX_STREAMED,
        ..call(r#"{"blocks":1600}"#)
    };
    let before = resident();
    let read = async {
        let (mut total, mut peak) = (0, 0);
        // What the function could have sent by now waits in its own process.
        tokio::time::sleep(Duration::from_millis(500)).await;
        while let Some(chunk) = stream.next().await {
            let mib = total >> 20;
            total += chunk.len();
            if total >> 20 > mib {
                peak = peak.max(resident());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        (total, peak)
    };
    let (answer, (total, peak)) = tokio::join!(environment.invoke_stream(call, to), read);
    assert_eq!((answer.end, total), (End::Ok, 1600 * 65536), "{answer:?}");
    let grown = peak.saturating_sub(before);
    println!("100 MiB streamed in {:?}: {} KiB more memory", answer.duration, grown >> 10);
    assert!(grown <= 16 << 20, "{grown} bytes more");
    environment.close().await;
}

async fn a_caller_who_leaves_is_not_missed(world: Arc<World>) {
    let mut environment = node(&world, "large").await;
    let (to, mut stream) = response_stream();
    let leave = async {
        stream.next().await.expect("a part");
        drop(stream);
    };
    let call = Call { timeout: Duration::from_secs(20), ..call(r#"{"blocks":64}"#) };
    let (answer, ()) = tokio::join!(environment.invoke_stream(call, to), leave);
    assert_eq!((answer.end, answer.reusable), (End::Ok, true), "{answer:?}");
    environment.close().await;
}

async fn what_is_no_stream_comes_in_one_piece(world: Arc<World>) {
    let mut environment = node(&world, "plain").await;
    let (to, mut stream) = response_stream();
    let (answer, head) = tokio::join!(environment.invoke_stream(call("[1]"), to), stream.head());
    assert!(head.is_none() && !answer.streamed);
    assert_eq!((answer.end, crate::text(&answer)), (End::Ok, "[1]"));
    // And the other way round.
    let mut environment = node(&world, "large").await;
    let answer = environment.invoke(crate::call(r#"{"blocks":2}"#)).await;
    assert_eq!((answer.end, answer.streamed, answer.payload.len()), (End::Ok, false, 131_072));
    environment.close().await;
}
