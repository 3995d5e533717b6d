//! How a call ends: answers, errors, time-outs, exits, memory, size.

use std::sync::Arc;
use std::time::Duration;

use flint_runtime::{End, InitEnd};
use serde_json::json;

use crate::{Function, World, call, golden, normal};

crate::tests![ok, error, timeout, exit, crash, out_of_memory, oversize, warm];

/// One call of a fresh environment: its answer's end and document, and its log after INIT_START, against the goldens.
async fn check(world: &World, function: &Function, golden_log: &str, end: End, document: serde_json::Value) {
    let mut environment = function.create(world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    let call = call(r#"{"n": 1}"#);
    let id = call.request_id;
    let answer = environment.invoke(call).await;
    let log = world.log(&environment);
    assert_eq!(answer.end, end, "{log:?}");
    let shown = crate::text(&answer).replace(&id.to_string(), "ID");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), document);
    assert_eq!(normal(&log[1..], id), golden(golden_log));
    assert_eq!(answer.function_error, (end != End::Ok).then_some("Unhandled"));
    assert_eq!(answer.reusable, matches!(end, End::Ok | End::FunctionError | End::TooLarge));
    let tail = String::from_utf8(answer.tail.to_vec()).expect("UTF-8");
    assert_eq!(tail, log[1..].iter().map(|l| format!("{l}\n")).collect::<String>());
    let cold = environment.cold_start();
    assert!(
        cold.sandbox > Duration::ZERO && cold.runtime > Duration::ZERO && cold.first_invoke > Duration::ZERO,
        "{cold:?}"
    );
    environment.close().await;
}

async fn ok(world: Arc<World>) {
    let source = "import os\nprint('loading')\ndef handler(e, c):\n    print('running')\n    return [e, os.environ['GREETING']]\n";
    let function = Function::python(&world, source);
    check(&world, &function, "ok", End::Ok, json!([{"n": 1}, "hello"])).await;
}

async fn error(world: Arc<World>) {
    let function = Function::python(&world, "def handler(e, c):\n    raise ValueError('no way')\n");
    let document = json!({
        "errorMessage": "no way", "errorType": "ValueError", "requestId": "ID",
        "stackTrace": ["  File \"/var/task/app.py\", line 2, in handler\n    raise ValueError('no way')\n"]
    });
    check(&world, &function, "error", End::FunctionError, document).await;
}

async fn timeout(world: Arc<World>) {
    let source = "import time\ndef handler(e, c):\n    print('sleeping', end='')\n    time.sleep(60)\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready);
    let mut call = call("{}");
    call.timeout = Duration::from_secs(1);
    let id = call.request_id;
    let answer = environment.invoke(call).await;
    assert_eq!((answer.end, answer.reusable, answer.duration), (End::Timeout, false, Duration::from_secs(1)));
    assert_eq!(
        crate::text(&answer),
        format!(
            r#"{{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: {id} Error: Task timed out after 1.00 seconds"}}"#
        )
    );
    let log = world.log(&environment);
    assert_eq!(normal(&log[1..], id), golden("timeout"));
    assert!(log.last().expect("a line").contains("\tDuration: 1000.00 ms\t"), "{log:?}");
    environment.close().await;
}

async fn exit(world: Arc<World>) {
    let function = Function::python(&world, "import sys\ndef handler(e, c):\n    print('leaving')\n    sys.exit(3)\n");
    let message = "RequestId: ID Error: Runtime exited with error: exit status 3";
    check(&world, &function, "exit", End::Exit, json!({"errorType": "Runtime.ExitError", "errorMessage": message}))
        .await;
    let function = Function::python(&world, "import os\ndef handler(e, c):\n    os._exit(0)\n");
    let message = "RequestId: ID Error: Runtime exited without providing a reason";
    check(&world, &function, "exit 0", End::Exit, json!({"errorType": "Runtime.ExitError", "errorMessage": message}))
        .await;
}

async fn crash(world: Arc<World>) {
    let source =
        "import os, signal\ndef handler(e, c):\n    os.kill(os.getpid(), signal.SIGSEGV)\n    while True: pass\n";
    let function = Function::python(&world, source);
    let message = "RequestId: ID Error: Runtime exited with error: signal: segmentation fault";
    check(&world, &function, "crash", End::Exit, json!({"errorType": "Runtime.ExitError", "errorMessage": message}))
        .await;
}

async fn out_of_memory(world: Arc<World>) {
    let source = "def handler(e, c):\n    x = []\n    while True:\n        x.append(bytearray(1 << 20))\n";
    let function = Function::python(&world, source);
    let message = "RequestId: ID Error: Runtime exited with error: signal: killed";
    let document = json!({"errorType": "Runtime.OutOfMemory", "errorMessage": message});
    check(&world, &function, "out of memory", End::OutOfMemory, document).await;
}

async fn oversize(world: Arc<World>) {
    let source = "def handler(e, c):\n    return 'x' * (6291556 - 2 + e['n'])\n";
    let function = Function::python(&world, source);
    let message = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
    let document = json!({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message});
    check(&world, &function, "oversize", End::TooLarge, document).await;

    // The very limit passes, and the environment goes on after one that was too large.
    let mut environment = function.create(&world).await;
    environment.init().await;
    assert_eq!(environment.invoke(call(r#"{"n": 1}"#)).await.end, End::TooLarge);
    let answer = environment.invoke(call(r#"{"n": 0}"#)).await;
    assert_eq!((answer.end, answer.payload.len()), (End::Ok, 6_291_556));
    environment.close().await;
}

async fn warm(world: Arc<World>) {
    let source = "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    print('call', n)\n    return n\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    for n in 1..=50 {
        let call = call("{}");
        let id = call.request_id;
        let answer = environment.invoke(call).await;
        assert_eq!((crate::text(&answer), answer.end), (n.to_string().as_str(), End::Ok));
        assert_eq!(answer.init_duration.is_some(), n == 1);
        let tail = String::from_utf8_lossy(&answer.tail).into_owned();
        let lines: Vec<&str> = tail.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[1], format!("call {n}"), "what a call wrote lies between its START and its END");
        assert_eq!(lines[0], format!("START RequestId: {id} Version: $LATEST"));
        environment.freeze();
    }
    environment.close().await;
}
