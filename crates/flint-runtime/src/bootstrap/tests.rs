//! The bootstraps, run without a sandbox by every interpreter of this host, against the real Runtime API.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, SystemClock};
use serde_json::{Value, json};

use super::*;

mod logs;
mod streams;

use crate::api::{self, Api, Event, Failure, Outlet, Reported, StreamFault};
use crate::catalog::{Catalog, Search};

/// What became of a runtime that was given one event.
#[derive(Debug)]
enum Outcome {
    Response(Bytes),
    Error(String, Value),
    InitError(String, Value),
    /// With the error in the trailers.
    Streamed(Option<Value>),
    Exit(Option<i32>),
}

#[derive(Default)]
struct Surroundings<'a> {
    context: Option<&'a str>,
    variables: &'a [(&'a str, &'a str)],
    stream: Option<crate::stream::StreamSender>,
}

struct Rig {
    kind: Kind,
    binary: PathBuf,
    version: (u32, u32, u32),
}

struct Ran {
    outcome: Outcome,
    log: String,
}

fn rigs(kind: Kind) -> Vec<Rig> {
    let catalog = Catalog::discover(&Search::host(std::env::home_dir().into_iter().collect()));
    let of_kind = catalog.interpreters().iter().filter(|i| i.kind == kind && i.version >= (3, 6, 0));
    let rigs: Vec<Rig> = of_kind.map(|i| Rig { kind, binary: i.binary.clone(), version: i.version }).collect();
    assert!(kind != Kind::Python || !rigs.is_empty(), "these tests need a Python of 3.6 or later");
    rigs
}

impl Rig {
    async fn run(&self, files: &[(&str, &str)], handler: &str, payload: &str) -> Ran {
        self.run_with(files, handler, payload, None).await
    }

    async fn run_with(&self, files: &[(&str, &str)], handler: &str, payload: &str, context: Option<&str>) -> Ran {
        self.run_in(files, handler, payload, Surroundings { context, ..Surroundings::default() }).await
    }

    async fn run_in(&self, files: &[(&str, &str)], handler: &str, payload: &str, around: Surroundings<'_>) -> Ran {
        let dir = tempfile::tempdir().expect("a directory");
        let (runtime, task) = (dir.path().join("runtime"), dir.path().join("task"));
        fs::create_dir(&runtime).expect("directory");
        for (name, text) in super::files(self.kind) {
            fs::write(runtime.join(name), text).expect("write");
        }
        for (name, text) in files {
            let path = task.join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            fs::write(path, text).expect("write");
        }
        let clock = Arc::new(SystemClock::new());
        let api = Arc::new(Api::new(clock.clone(), Default::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(api::serve(api.clone(), listener));
        api.offer(Event {
            id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
            deadline: clock.now().saturating_add(Duration::from_secs(3)),
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f:prod".into(),
            trace: Some("Root=1-5759e988-bd862e3fe1be46a994272793".into()),
            client_context: around.context.map(str::to_owned),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            limit: 1000,
            stream: around.stream.map(|to| Outlet { to, limit: 1_000_000 }),
        });
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Python => command.arg("-S").arg(runtime.join("bootstrap.py")),
            _ => command.arg(runtime.join("bootstrap.cjs")),
        };
        let mut child = command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("_HANDLER", handler)
            .env("LAMBDA_TASK_ROOT", &task)
            .env("AWS_LAMBDA_FUNCTION_NAME", "f")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "s")
            .env("PYTHONUTF8", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(around.variables.iter().copied())
            .current_dir(&task)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone"))
            .stderr(log)
            .spawn()
            .expect("an interpreter that starts");
        let (exits, exit) = tokio::sync::oneshot::channel();
        let pid = rustix::process::Pid::from_child(&child);
        let waiting = tokio::task::spawn_blocking(move || exits.send(child.wait().expect("our child").code()));
        let document = |f: Failure| {
            let value = serde_json::from_slice(&f.document).expect("a document is JSON");
            (f.error_type, value)
        };
        let settled = async {
            tokio::select! {
                biased;
                reported = api.reported() => match reported {
                    Reported::Response(bytes) => Outcome::Response(bytes),
                    Reported::Error(failure) => { let (t, d) = document(failure); Outcome::Error(t, d) }
                    Reported::Streamed(Ok(())) => Outcome::Streamed(None),
                    Reported::Streamed(Err(StreamFault::Function(failure))) => {
                        let (t, d) = document(failure);
                        assert_eq!(Some(t.as_str()), d["errorType"].as_str());
                        Outcome::Streamed(Some(d))
                    }
                    other => panic!("{other:?}"),
                },
                Err(failure) = api.ready() => { let (t, d) = document(failure); Outcome::InitError(t, d) }
                code = exit => Outcome::Exit(code.expect("sent")),
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(60), settled).await.expect("in time");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = waiting.await;
        server.abort();
        let log = fs::read_to_string(dir.path().join("log")).expect("a log");
        Ran { outcome, log: log.replace(task.to_str().expect("text"), "/var/task") }
    }
}

impl Ran {
    fn response(self) -> String {
        match self.outcome {
            Outcome::Response(bytes) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
            other => panic!("{other:?}\n{}", self.log),
        }
    }

    fn document(self) -> Value {
        match self.outcome {
            Outcome::Error(_, document) | Outcome::InitError(_, document) => document,
            other => panic!("{other:?}\n{}", self.log),
        }
    }

    fn error(self, error_type: &str, message: &str) -> Value {
        match self.outcome {
            Outcome::Error(t, d) | Outcome::InitError(t, d) => {
                assert_eq!(
                    (t.as_str(), d["errorType"].as_str(), d["errorMessage"].as_str()),
                    (error_type, Some(error_type), Some(message)),
                    "{d}\n{}",
                    self.log
                );
                d
            }
            other => panic!("{other:?}\n{}", self.log),
        }
    }
}

const APP: &str = r#"
import os, sys, time
def echo(event, context):
    return event
def fails(event, context):
    raise ValueError("no " + event["what"])
def deep(event, context):
    def inner():
        return 1 / 0
    return inner()
def a_set(event, context):
    return {1, 2}
def raw(event, context):
    return b"\x00\x01raw"
def leaves(event, context):
    print("going", end="")
    sys.exit(3)
def quits(event, context):
    exit(4)
def decimals(event, context):
    from decimal import Decimal
    return {"n": Decimal("1.10"), "big": Decimal("12345678901234567890.5"), "list": [Decimal(3)], "s": "x"}
def logs(event, context):
    import logging
    print("printed\nlines")
    logging.warning("careful\nsecond line")
    logging.info("not shown")
    sys.stderr.write("to stderr\n")
    return os.environ.get("_X_AMZN_TRACE_ID")
def tells(event, context):
    c = context
    left = c.get_remaining_time_in_millis()
    assert 0 < left <= 3000, left
    return [c.function_name, c.function_version, c.invoked_function_arn, c.memory_limit_in_mb, c.aws_request_id,
        c.log_group_name, c.log_stream_name, c.identity.cognito_identity_id,
        c.client_context and [c.client_context.custom, c.client_context.env, c.client_context.client.app_title],
        sys.path[0] == os.environ["LAMBDA_TASK_ROOT"], "requests" in sys.modules, "json" in sys.modules]
"#;

#[tokio::test]
async fn python_answers_as_the_official_client() {
    for rig in rigs(Kind::Python) {
        let app = [("app.py", APP), ("pkg/mod.py", "def f(e, c): return 'nested'"), ("pkg/__init__.py", "")];
        let run = async |handler: &str, payload: &str| rig.run(&app, handler, payload).await;
        let text = r#" {"a": [1, 2.5, -0.0, null, true], "ü": "\ud83d\ude00 \"q\" \u0007"} "#;
        let escaped = r#"{"a": [1, 2.5, -0.0, null, true], "\u00fc": "\ud83d\ude00 \"q\" \u0007"}"#;
        let plain = "{\"a\": [1, 2.5, -0.0, null, true], \"ü\": \"😀 \\\"q\\\" \\u0007\"}";
        let expected = if rig.version < (3, 12, 0) { escaped } else { plain };
        assert_eq!(run("app.echo", text).await.response(), expected, "{:?}", rig.version);
        for payload in ["null", "0", "\"x\"", "[]", "1e3", "12345678901234567890"] {
            let expected = payload.replace("1e3", "1000.0");
            assert_eq!(run("app.echo", payload).await.response(), expected);
        }
        assert_eq!(run("app.raw", "1").await.response(), "\0\u{1}raw");
        assert_eq!(run("pkg/mod.f", "1").await.response(), "\"nested\"");
        assert_eq!(run("pkg.mod.f", "1").await.response(), "\"nested\"");
        let decimals = r#"{"n": 1.10, "big": 12345678901234567890.5, "list": [3], "s": "x"}"#;
        assert_eq!(run("app.decimals", "1").await.response(), decimals);
        let context = r#"{"custom":{"k":"v"},"env":{"e":1},"client":{"app_title":"t"}}"#;
        let told: Value =
            serde_json::from_str(&rig.run_with(&app, "app.tells", "{}", Some(context)).await.response()).expect("JSON");
        assert_eq!(
            told,
            json!(["f", "$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:f:prod", "128",
                "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "/aws/lambda/f", "s", null,
                [{"k": "v"}, {"e": 1}, "t"], true, false, false])
        );
    }
}

#[tokio::test]
async fn python_fails_as_the_official_client() {
    for rig in rigs(Kind::Python) {
        let app = [
            ("app.py", APP),
            ("broken.py", "def f(:\n"),
            ("needs.py", "import nowhere\n"),
            ("raises.py", "raise KeyError('at import')\n"),
            ("leaves.py", "import sys\nsys.exit(5)\n"),
        ];
        let run = async |handler: &str, payload: &str| rig.run(&app, handler, payload).await;

        let ran = run("app.fails", r#"{"what":"way"}"#).await;
        let mut lines = ran.log.clone();
        lines.retain(|c| c != '\u{a0}');
        assert_eq!(
            lines.trim_end(),
            "[ERROR] ValueError: no way\rTraceback (most recent call last):\r\
             File \"/var/task/app.py\", line 6, in fails\rraise ValueError(\"no \" + event[\"what\"])"
        );
        let document = ran.error("ValueError", "no way");
        assert_eq!(document["requestId"], "8476a536-e9f4-11e8-9739-2dfe598c3fcd");
        let frames = document["stackTrace"].as_array().expect("frames");
        assert_eq!(frames.len(), 1, "{document}");
        let frame = frames[0].as_str().expect("text");
        assert!(
            frame.starts_with("  File \"")
                && frame.ends_with("app.py\", line 6, in fails\n    raise ValueError(\"no \" + event[\"what\"])\n"),
            "{frame:?}"
        );
        let deep = run("app.deep", "{}").await.error("ZeroDivisionError", "division by zero");
        assert_eq!(deep["stackTrace"].as_array().map(Vec::len), Some(2));

        let set = "Unable to marshal response: Object of type set is not JSON serializable";
        let none = run("app.a_set", "{}").await.error("Runtime.MarshalError", set);
        assert_eq!(none["stackTrace"], json!([]));
        let bad = "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)";
        run("app.echo", "nonsense").await.error("Runtime.UnmarshalError", bad);
        run("app.echo", "").await.error("Runtime.UnmarshalError", bad);

        let missing = run("needs.f", "{}").await;
        assert!(matches!(missing.outcome, Outcome::InitError(..)));
        let missing =
            missing.error("Runtime.ImportModuleError", "Unable to import module 'needs': No module named 'nowhere'");
        assert_eq!((&missing["requestId"], &missing["stackTrace"]), (&json!(""), &json!([])));
        run("none.f", "{}")
            .await
            .error("Runtime.ImportModuleError", "Unable to import module 'none': No module named 'none'");
        run("app.nope", "{}").await.error("Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'");
        run("app", "{}").await.error(
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        );
        let syntax = run("broken.f", "{}").await;
        assert!(
            syntax.log.contains("[ERROR] Runtime.UserCodeSyntaxError: Syntax error in module 'broken': "),
            "{}",
            syntax.log
        );
        run("raises.f", "{}").await.error("KeyError", "'at import'");
        run("sys.f", "{}")
            .await
            .error("Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module");

        for (handler, code) in [("app.leaves", 3), ("app.quits", 4), ("leaves.f", 5)] {
            let ran = run(handler, "{}").await;
            assert!(matches!(ran.outcome, Outcome::Exit(Some(c)) if c == code), "{handler} {:?}", ran.outcome);
        }
        assert!(run("app.leaves", "{}").await.log.contains("going"), "what was written before the end is there");
    }
}

#[tokio::test]
async fn python_logs_as_the_official_client() {
    for rig in rigs(Kind::Python) {
        let ran = rig.run(&[("app.py", APP)], "app.logs", "{}").await;
        let lines: Vec<&str> = ran.log.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!((lines[0], lines[1], lines[3]), ("printed", "lines", "to stderr"));
        let fields: Vec<&str> = lines[2].split('\t').collect();
        assert_eq!(fields[0], "[WARNING]");
        assert!(fields[1].len() == 24 && fields[1].ends_with('Z'), "{fields:?}");
        assert_eq!(&fields[2..], ["8476a536-e9f4-11e8-9739-2dfe598c3fcd", "careful\rsecond line"]);
        assert_eq!(ran.response(), "\"Root=1-5759e988-bd862e3fe1be46a994272793\"");
    }
}

const NODE_APP: &str = r#"
exports.echo = async (event) => event;
exports.callback = (event, context, callback) => { setTimeout(() => callback(null, { late: event }), 5); };
exports.quick = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  setInterval(() => {}, 1000);
  callback(null, "now");
};
exports.nothing = () => {};
exports.fails = async () => { console.log("one\ntwo"); throw new TypeError("no way"); };
exports.callbackFails = (event, context, callback) => callback(new RangeError("far"));
exports.rejects = () => { Promise.reject(new Error("lost")); return new Promise(() => setTimeout(() => {}, 5000)); };
exports.leaves = async () => process.exit(3);
exports.tells = async (event, c) => [c.functionName, c.awsRequestId, c.memoryLimitInMB, c.clientContext.custom,
  c.getRemainingTimeInMillis() > 0];
exports.inner = { deep: async () => "deep" };
"#;

#[tokio::test]
async fn node_answers_and_fails_as_the_official_client() {
    for rig in rigs(Kind::Node) {
        let app = [
            ("app.js", NODE_APP),
            ("esm.mjs", "export const handler = async (e) => ({ esm: e });"),
            ("typed/package.json", r#"{"type":"module"}"#),
            ("typed/index.js", "export const handler = async () => 'typed';"),
            ("broken.js", "exports.f = ("),
            ("brokenesm.mjs", "export const f = async () => {\n  return {{ ;\n};\n"),
        ];
        let run = async |handler: &str, payload: &str| rig.run(&app, handler, payload).await;
        assert_eq!(run("app.echo", r#"{"ü":1}"#).await.response(), r#"{"ü":1}"#);
        assert_eq!(run("app.callback", "1").await.response(), r#"{"late":1}"#);
        assert_eq!(run("app.quick", "1").await.response(), "\"now\"");
        assert_eq!(run("app.nothing", "1").await.response(), "null");
        assert_eq!(run("app.inner.deep", "1").await.response(), "\"deep\"");
        assert_eq!(run("esm.handler", "1").await.response(), r#"{"esm":1}"#);
        assert_eq!(run("typed/index.handler", "1").await.response(), "\"typed\"");
        let told = rig.run_with(&app, "app.tells", "{}", Some(r#"{"custom":{"k":"v"}}"#)).await.response();
        assert_eq!(told, r#"["f","8476a536-e9f4-11e8-9739-2dfe598c3fcd","128",{"k":"v"},true]"#);

        let ran = run("app.fails", "1").await;
        let first: Vec<&str> = ran.log.lines().next().expect("a line").split('\t').collect();
        assert_eq!(&first[1..], ["8476a536-e9f4-11e8-9739-2dfe598c3fcd", "INFO", "one\rtwo"]);
        let document = ran.error("TypeError", "no way");
        assert_eq!(document["trace"][0], "TypeError: no way");
        run("app.callbackFails", "1").await.error("RangeError", "far");
        run("app.rejects", "1").await.error("Runtime.UnhandledPromiseRejection", "Error: lost");
        run("app.zip", "1").await.error("Runtime.HandlerNotFound", "app.zip is undefined or not exported");
        run("app", "1").await.error("Runtime.MalformedHandlerName", "Bad handler");
        let broken = run("broken.f", "1").await;
        assert!(
            matches!(&broken.outcome, Outcome::InitError(t, _) if t == "Runtime.UserCodeSyntaxError"),
            "{}",
            broken.log
        );
        // Node tells the place of a CommonJS module's error, and has to be asked for an ES module's.
        for (handler, place) in [("broken.f", "broken.js:1"), ("brokenesm.f", "brokenesm.mjs:2")] {
            let document = run(handler, "1").await.document();
            assert!(document["trace"][0].as_str().is_some_and(|line| line.ends_with(place)), "{document}");
        }
        let none = run("none.f", "1").await;
        assert!(matches!(&none.outcome, Outcome::InitError(t, _) if t == "Runtime.ImportModuleError"), "{}", none.log);
        let left = run("app.leaves", "1").await;
        assert!(matches!(left.outcome, Outcome::Exit(Some(3))), "{:?}", left.outcome);
    }
}
