//! Inits that fail, in the init phase and again inside the call.

use std::sync::Arc;
use std::time::Duration;

use flint_runtime::{End, InitEnd, Match};
use serde_json::json;

use crate::{Function, World, call, golden, json as document, normal};

crate::tests![
    import_error,
    init_exit,
    init_timeout,
    second_init_succeeds,
    no_bootstrap,
    a_bootstrap,
    init_unasked,
    init_out_of_memory
];

async fn import_error(world: Arc<World>) {
    let function = Function::python(&world, "import nowhere\n");
    let mut environment = function.create(&world).await;
    let error_type = "Runtime.ImportModuleError".to_owned();
    assert_eq!(environment.init().await, InitEnd::Failed { error_type: error_type.clone() });
    let call = call("{}");
    let id = call.request_id;
    let answer = environment.invoke(call).await;
    assert_eq!((answer.end, answer.reusable, answer.function_error), (End::InitError, false, Some("Unhandled")));
    let message = "Unable to import module 'app': No module named 'nowhere'";
    assert_eq!(
        document(&answer),
        json!({"errorMessage": message, "errorType": error_type, "requestId": "", "stackTrace": []})
    );
    assert_eq!(normal(&world.log(&environment)[1..], id), golden("import error"));
    environment.close().await;
}

async fn init_exit(world: Arc<World>) {
    let function = Function::python(&world, "import os\nprint('starting')\nos._exit(7)\n");
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Failed { error_type: "Runtime.ExitError".to_owned() });
    let call = call("{}");
    let id = call.request_id;
    let answer = environment.invoke(call).await;
    assert_eq!(answer.end, End::InitError);
    let message = format!("RequestId: {id} Error: Runtime exited with error: exit status 7");
    assert_eq!(document(&answer), json!({"errorType": "Runtime.ExitError", "errorMessage": message}));
    assert_eq!(normal(&world.log(&environment)[1..], id), golden("init exit"));
    environment.close().await;
}

async fn init_timeout(world: Arc<World>) {
    let mut function = Function::python(&world, "import time\ntime.sleep(60)\n");
    function.spec.init_limit = Duration::from_millis(500);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::TimedOut);
    let mut call = call("{}");
    call.timeout = Duration::from_secs(1);
    let id = call.request_id;
    let answer = environment.invoke(call).await;
    assert_eq!((answer.end, answer.duration, answer.billed_ms), (End::InitTimeout, Duration::from_secs(1), 1000));
    let message = format!("RequestId: {id} Error: Task timed out after 1.00 seconds");
    assert_eq!(document(&answer), json!({"errorType": "Sandbox.Timedout", "errorMessage": message}));
    assert_eq!(normal(&world.log(&environment)[1..], id), golden("init timeout"));
    environment.close().await;
}

/// The reference gives a slow init a second try under the function's own time-out.
async fn second_init_succeeds(world: Arc<World>) {
    let mut function = Function::python(&world, "import time\ntime.sleep(0.7)\ndef handler(e, c): return 'late'\n");
    function.spec.init_limit = Duration::from_millis(300);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::TimedOut);
    let answer = environment.invoke(call("{}")).await;
    assert_eq!((answer.end, crate::text(&answer)), (End::Ok, "\"late\""), "{:?}", world.log(&environment));
    assert!(answer.duration >= Duration::from_millis(700) && answer.init_duration.is_none(), "{answer:?}");
    assert_eq!(environment.invoke(call("{}")).await.end, End::Ok);
    environment.close().await;
}

async fn no_bootstrap(world: Arc<World>) {
    let provided = world.catalog.resolve("provided.al2023", Match::Exact).expect("always");
    for (name, mode, content, expected) in [
        ("other", 0o644, "", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ("bootstrap", 0o644, "#!/bin/sh\n", "fork/exec /var/task/bootstrap: permission denied"),
        ("bootstrap", 0o755, "neither", "fork/exec /var/task/bootstrap: exec format error"),
    ] {
        let function = Function::new(provided.clone());
        function.file(name, content, mode);
        let mut environment = function.create(&world).await;
        assert_eq!(environment.init().await, InitEnd::Failed { error_type: "Runtime.InvalidEntrypoint".to_owned() });
        let call = call("{}");
        let message = format!("RequestId: {} Error: {expected}", call.request_id);
        let answer = environment.invoke(call).await;
        assert_eq!(document(&answer), json!({"errorType": "Runtime.InvalidEntrypoint", "errorMessage": message}));
        assert_eq!(answer.end, End::InitError);
        environment.close().await;
    }
}

const BOOTSTRAP: &str = r#"#!/usr/bin/python3 -S
import os, urllib.request as u
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with u.urlopen(base + "next") as event:
        id = event.headers["Lambda-Runtime-Aws-Request-Id"]
        body = event.read()
    u.urlopen(base + id + "/response", data=b'{"own": ' + body + b"}").close()
"#;

async fn a_bootstrap(world: Arc<World>) {
    let function = Function::new(world.catalog.resolve("provided.al2023", Match::Exact).expect("always"));
    function.file("bootstrap", BOOTSTRAP, 0o755);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    for n in 0..3 {
        let answer = environment.invoke(call(&n.to_string())).await;
        assert_eq!(crate::text(&answer), format!("{{\"own\": {n}}}"), "{:?}", world.log(&environment));
    }
    assert_eq!(world.log(&environment)[0], "INIT_START Runtime Version: provided:al2023");
    environment.close().await;
}

/// A call may come without anyone having waited for the init.
async fn init_unasked(world: Arc<World>) {
    let function = Function::python(&world, "def handler(e, c): return 1\n");
    let mut environment = function.create(&world).await;
    let answer = environment.invoke(call("{}")).await;
    assert_eq!((answer.end, answer.init_duration.is_some()), (End::Ok, true));
    environment.close().await;
}

async fn init_out_of_memory(world: Arc<World>) {
    let function = Function::python(&world, "x = b'x' * (1 << 30)\n");
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Failed { error_type: "Runtime.OutOfMemory".to_owned() });
    let answer = environment.invoke(call("{}")).await;
    assert_eq!((answer.end, answer.memory_used.mib_ceil()), (End::InitError, 128));
    assert_eq!(document(&answer)["errorType"], "Runtime.OutOfMemory");
    environment.close().await;
}
