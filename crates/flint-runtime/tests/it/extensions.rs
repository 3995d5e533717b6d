//! Processes beside the runtime: told of every invocation, and of the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flint_base::{Clock, SystemClock};
use flint_runtime::{Call, End, InitEnd};

use crate::{Function, World, call};

crate::tests![
    every_invocation_and_the_end_are_told,
    an_invocation_waits_for_the_extensions,
    an_extension_that_hangs_is_a_timeout,
    an_extension_that_fails_fails_the_init,
    one_that_never_registers_runs_out_of_time,
    one_that_does_not_end_is_ended,
    an_internal_extension_is_told,
    layers_are_there,
];

const HANDLER: &str = "def handler(e, c):\n    return e\n";

/// An extension: registers, then does as `body` says with each `event`.
pub fn source(world: &World, body: &str) -> String {
    format!(
        r#"#!{python} -S
import http.client, json, os, sys, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2020-01-01/extension/"
def ask(method, path, body=None, **headers):
    api.request(method, base + path, body and json.dumps(body), {{k.replace("_", "-"): v for k, v in headers.items()}})
    answer = api.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(text)
    return answer, json.loads(text)
def say(*parts):
    os.write(1, (" ".join(map(str, parts)) + "\n").encode())
answer, facts = ask("POST", "register", {{"events": ["INVOKE", "SHUTDOWN"]}},
    Lambda_Extension_Name=os.path.basename(sys.argv[0]), Lambda_Extension_Accept_Feature="accountId")
me = answer.headers["Lambda-Extension-Identifier"]
say("registered", facts["functionName"], facts["functionVersion"], facts["handler"], facts["accountId"])
while True:
    _, event = ask("GET", "event/next", Lambda_Extension_Identifier=me)
{body}
"#,
        python = world.python.binary.display()
    )
}

pub fn function(world: &World, handler: &str, extension: Option<&str>) -> (Function, tempfile::TempDir) {
    let mut function = Function::python(world, handler);
    function.spec.memory_mb = 256;
    let layer = Function::new(world.python.clone());
    if let Some(text) = extension {
        layer.file("extensions/watcher", text, 0o755);
    }
    layer.file("python/layered.py", "value = 'from a layer'\n", 0o644);
    layer.file("data.txt", "data", 0o644);
    let dir = layer.into_dir();
    function.spec.layers = Some(Arc::from(dir.path() as &Path));
    (function, dir)
}

const TELLS: &str = r#"    if event["eventType"] == "INVOKE":
        say("told", event["requestId"], event["invokedFunctionArn"], event["deadlineMs"] > time.time() * 1000)
    else:
        say("bye", event["shutdownReason"], 0 < event["deadlineMs"] - time.time() * 1000 <= 2000)
        time.sleep(0.1)
        say("gone")
        sys.exit(0)
"#;

async fn every_invocation_and_the_end_are_told(world: Arc<World>) {
    let (function, _layer) = function(&world, HANDLER, Some(&source(&world, TELLS)));
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    let mut expected = Vec::new();
    for n in 0..1000 {
        let call = call(&n.to_string());
        expected.push(format!("told {} {} True", call.request_id, call.arn));
        let answer = environment.invoke(call).await;
        assert_eq!((answer.end, crate::text(&answer)), (End::Ok, n.to_string().as_str()));
        if n % 100 == 0 {
            environment.freeze();
        }
    }
    let told = |log: &[String]| log.iter().filter(|l| l.starts_with("told ")).cloned().collect::<Vec<_>>();
    let stream = environment.log_stream().clone();
    environment.freeze();
    let clock = SystemClock::new();
    let began = clock.monotonic();
    environment.close().await;
    let took = clock.monotonic() - began;
    let log = world.log_of(&stream);
    assert!(told(&log) == expected, "each invocation once and in order");
    assert!(log.iter().any(|l| l == "registered f $LATEST app.handler 000000000000"));
    assert_eq!(log[log.len() - 2..], ["bye spindown True", "gone"]);
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(1), "{took:?}");
}

async fn an_invocation_waits_for_the_extensions(world: Arc<World>) {
    let slow = "    time.sleep(0.3)\n    if event['eventType'] == 'SHUTDOWN': sys.exit(0)\n";
    let (function, _layer) = function(&world, HANDLER, Some(&source(&world, slow)));
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready);
    let answer = environment.invoke(call("1")).await;
    assert_eq!((answer.end, crate::text(&answer)), (End::Ok, "1"));
    assert!(answer.duration >= Duration::from_millis(300), "{answer:?}");
    environment.close().await;
}

async fn an_extension_that_hangs_is_a_timeout(world: Arc<World>) {
    let (function, _layer) = function(&world, HANDLER, Some(&source(&world, "    time.sleep(60)\n")));
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready);
    let answer = environment.invoke(Call { timeout: Duration::from_secs(1), ..call("1") }).await;
    assert_eq!((answer.end, answer.reusable), (End::Timeout, false));
    environment.close().await;
}

async fn an_extension_that_fails_fails_the_init(world: Arc<World>) {
    let text = source(&world, "    pass\n").replace(
        "while True:",
        "ask('POST', 'init/error', {}, Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type='Mine.Bad')\nwhile True:",
    );
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Failed { error_type: "Extension.InitError".to_owned() });
    let answer = environment.invoke(call("1")).await;
    assert_eq!((answer.end, answer.error_type.as_deref()), (End::InitError, Some("Extension.InitError")));
    assert_eq!(crate::json(&answer)["errorMessage"], "extension watcher failed: Mine.Bad");
    environment.close().await;
}

async fn one_that_never_registers_runs_out_of_time(world: Arc<World>) {
    let (mut function, _layer) = function(&world, HANDLER, Some("#!/bin/sh\nexec sleep 60\n"));
    function.spec.init_limit = Duration::from_millis(700);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::TimedOut);
    environment.close().await;
}

async fn one_that_does_not_end_is_ended(world: Arc<World>) {
    let stays = "    if event['eventType'] == 'SHUTDOWN': time.sleep(60)\n";
    let (function, _layer) = function(&world, HANDLER, Some(&source(&world, stays)));
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready);
    environment.invoke(call("1")).await;
    let clock = SystemClock::new();
    let began = clock.monotonic();
    environment.close().await;
    let took = clock.monotonic() - began;
    assert!((2000..3500).contains(&took.as_millis()), "{took:?}");
}

async fn an_internal_extension_is_told(world: Arc<World>) {
    let body = "    if event['eventType'] == 'INVOKE': told.append(event['requestId'])\n";
    let text = source(&world, body).replace(r#", "SHUTDOWN""#, "").replace("os.path.basename(sys.argv[0])", "'inner'");
    let text = text.replace("while True:", "ready.set()\nwhile True:");
    let mut threaded = String::from("import threading, time\ntold = []\nready = threading.Event()\ndef run():\n");
    for line in text.lines().skip(1) {
        threaded.push_str(&format!("    {line}\n"));
    }
    threaded.push_str("threading.Thread(target=run, daemon=True).start()\n");
    // Its registration must come before the init is over, and its event before the answer.
    threaded.push_str("ready.wait(5)\ndef handler(e, c):\n    end = time.time() + 2\n");
    threaded
        .push_str("    while c.aws_request_id not in told and time.time() < end: time.sleep(0.005)\n    return told\n");
    let function = Function::python(&world, &threaded);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    for n in 1..=3 {
        let call = call("1");
        let id = call.request_id.to_string();
        let answer = environment.invoke(call).await;
        let told = crate::json(&answer);
        assert_eq!((told.as_array().map(Vec::len), &told[n - 1]), (Some(n), &id.into()), "{answer:?}");
    }
    environment.close().await;
}

async fn layers_are_there(world: Arc<World>) {
    let handler = "import layered\ndef handler(e, c):\n    return [layered.value, layered.__file__, open('/opt/data.txt').read()]\n";
    let (function, _layer) = function(&world, handler, None);
    let mut environment = function.create(&world).await;
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(&environment));
    let answer = environment.invoke(call("1")).await;
    assert_eq!(crate::text(&answer), r#"["from a layer", "/opt/python/layered.py", "data"]"#);
    environment.close().await;
}
