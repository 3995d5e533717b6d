//! What a pool relies on: freezing, ends between calls, closing, and the environment that the function sees.

use std::sync::Arc;
use std::time::Duration;

use flint_runtime::{End, InitEnd, Kind, Match};
use serde_json::json;

use crate::{Function, World, call, json as document};

crate::tests![
    freeze_stops_time,
    an_end_between_calls,
    closing_leaves_nothing,
    surroundings,
    every_interpreter,
    many_endings_leave_no_descriptor,
    a_wrapper_starts_the_runtime,
    who_ends_over_a_refusal_gets_no_further_call,
];

async fn freeze_stops_time(world: Arc<World>) {
    let source = "import threading, time\nn = 0\ndef tick():\n    global n\n    while True:\n        n += 1\n        time.sleep(0.001)\nthreading.Thread(target=tick, daemon=True).start()\ndef handler(e, c): return n\n";
    let function = Function::python(&world, source);
    let count = async |environment: &mut flint_runtime::Environment| -> u64 {
        crate::text(&environment.invoke(call("{}")).await).parse().expect("a number")
    };
    let mut frozen = function.create(&world).await;
    let mut running = function.create(&world).await;
    frozen.init().await;
    running.init().await;
    let before = count(&mut frozen).await;
    frozen.freeze();
    // A twin that is not frozen tells when long enough has passed; the test's own time-out bounds the wait.
    let start = count(&mut running).await;
    while count(&mut running).await < start + 300 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The call thaws.
    let after = count(&mut frozen).await;
    assert!(after - before < 100, "{before} {after}: the thread stood still");
    frozen.close().await;
    running.close().await;
}

/// A process that ends after its answer costs the next call an init, not its result.
async fn an_end_between_calls(world: Arc<World>) {
    let source = "import os, threading\ndef handler(e, c):\n    threading.Timer(0.05, lambda: os._exit(1)).start()\n    return os.getpid()\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    assert_eq!(environment.invoke(call("{}")).await.end, End::Ok);
    tokio::time::timeout(Duration::from_secs(20), environment.exited()).await.expect("it ends by itself");
    let answer = environment.invoke(call("{}")).await;
    assert_eq!((answer.end, answer.reusable), (End::Ok, true), "{:?}", world.log(&environment));
    environment.close().await;
}

async fn closing_leaves_nothing(world: Arc<World>) {
    let source = "import os, time\ndef handler(e, c):\n    for _ in range(3):\n        if os.fork() == 0:\n            os.setsid()\n            time.sleep(600)\n    return 1\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    let answer = environment.invoke(call("{}")).await;
    assert_eq!(answer.end, End::Ok);
    assert!(environment.memory_used().bytes() > 0 && answer.memory_used.bytes() > 1 << 20, "{answer:?}");
    let pid = environment.pid();
    let live = world.sandboxes.census().live;
    environment.close().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(world.sandboxes.census().live < live);
}

async fn surroundings(world: Arc<World>) {
    let source = r#"
import os, sys
def handler(e, c):
    names = ["AWS_LAMBDA_RUNTIME_API", "_HANDLER", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "TZ", "GREETING"]
    stream = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
    return {"vars": {n: os.environ[n] for n in names}, "same": stream == c.log_stream_name, "stream": stream,
        "cwd": os.getcwd(), "path": sys.path[0], "utf8": sys.stdout.encoding, "execution": os.environ["AWS_EXECUTION_ENV"]}
"#;
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    let answer = environment.invoke(call("{}")).await;
    let seen = document(&answer);
    assert_eq!(
        seen["vars"],
        json!({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "_HANDLER": "app.handler", "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC", "GREETING": "hello"})
    );
    assert_eq!(
        (&seen["same"], &seen["cwd"], &seen["path"], &seen["utf8"]),
        (&json!(true), &json!("/var/task"), &json!("/var/task"), &json!("utf-8"))
    );
    assert_eq!(seen["execution"], format!("AWS_Lambda_{}", world.python.identifier));
    let stream = environment.log_stream();
    assert!(stream.ends_with(&format!("[$LATEST]{}", environment.id())) && stream.len() == 11 + 9 + 32, "{stream}");
    environment.close().await;
}

/// Each interpreter that discovery found runs in the sandbox, wherever on the host it lives.
async fn every_interpreter(world: Arc<World>) {
    for identifier in world.catalog.available() {
        let runtime = world.catalog.resolve(&identifier, Match::Exact).expect("it is available");
        if runtime.kind == Kind::Provided {
            continue;
        }
        let mut function = Function::new(runtime.clone());
        function.spec.memory_mb = 256;
        function.file(
            "app.py",
            "import ssl, hashlib, ctypes, sys\ndef handler(e, c): return '%d.%d.%d' % sys.version_info[:3]\n",
            0o644,
        );
        function.file("app.js", "exports.handler = async () => process.versions.node;\n", 0o644);
        let mut environment = function.create(&world).await;
        assert_eq!(environment.init().await, InitEnd::Ready, "{identifier} {:?}", world.log(&environment));
        let answer = environment.invoke(call("{}")).await;
        assert_eq!(document(&answer), json!(runtime.version), "{identifier}");
        environment.close().await;
    }
}

/// Environments that end in every way, several at a time, some dropped and not closed: nothing of them stays.
async fn many_endings_leave_no_descriptor(world: Arc<World>) {
    let source = "import os, sys, time\ndef handler(e, c):\n    if e == 'exit': sys.exit(1)\n    if e == 'hang': time.sleep(60)\n    if e == 'fail': raise ValueError\n    if e == 'eat': x = b'x' * (1 << 30)\n    return e\n";
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let round = async |count: usize| {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..count {
            let world = world.clone();
            running.spawn(async move {
                let (event, end) = [
                    ("exit", End::Exit),
                    ("hang", End::Timeout),
                    ("fail", End::FunctionError),
                    ("eat", End::OutOfMemory),
                    ("ok", End::Ok),
                ][n % 5];
                let function = Function::python(&world, source);
                let mut environment = function.create(&world).await;
                assert_eq!(environment.init().await, InitEnd::Ready);
                let mut call = call(&format!("\"{event}\""));
                call.timeout = Duration::from_secs(if event == "hang" { 1 } else { 20 });
                let answer = environment.invoke(call).await;
                assert_eq!(answer.end, end, "{:?}", world.log(&environment));
                if n % 2 == 0 {
                    environment.close().await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("no panic");
        }
        while world.sandboxes.census().live > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // The first round fills what is kept for good: idle slots, roots, the files of the test itself.
    round(10).await;
    let before = descriptors();
    for _ in 0..3 {
        round(10).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while descriptors() > before + 40 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Idle slots hold a few each and their number swings; thirty environments that leaked would hold hundreds.
    assert!(descriptors() <= before + 40, "{before} {}", descriptors());
}

async fn a_wrapper_starts_the_runtime(world: Arc<World>) {
    for path in ["/var/task/wrap.sh", "wrap.sh"] {
        let mut function =
            Function::python(&world, "import os\ndef handler(e, c):\n    return os.environ['WRAPPED']\n");
        function.file("wrap.sh", "#!/bin/sh\nexport WRAPPED=\"$# $1\"\nexec \"$@\"\n", 0o755);
        function.spec.variables.push(("AWS_LAMBDA_EXEC_WRAPPER".to_owned(), path.to_owned()));
        let mut environment = function.create(&world).await;
        assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
        let answer = environment.invoke(call("{}")).await;
        let expected = format!("\"3 {}\"", world.python.binary.display());
        assert_eq!(crate::text(&answer), expected);
        environment.close().await;
    }
}

async fn who_ends_over_a_refusal_gets_no_further_call(world: Arc<World>) {
    let source = "import sys\nclient = sys.modules['__main__'].Client\nold = client.post\n\
                  def post(self, *rest):\n    if old(self, *rest) == 413: sys.exit(1)\nclient.post = post\n\
                  def handler(e, c):\n    return 'x' * 7000000\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    let answer = environment.invoke(call("{}")).await;
    assert_eq!((answer.end, answer.reusable), (End::TooLarge, false), "{answer:?}");
    environment.close().await;
}
