//! The client and `deploy` against a scripted server on loopback.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{SystemClock, Timestamp};
use flint_dev::client::lambda::LogTail;
use flint_dev::client::logs::{LogFollower, LogQuery};
use flint_dev::deploy::Action;
use flint_dev::python::Search;
use flint_dev::{App, Client, Credentials, Deployer, Error, Progress, Source, Target};
use serde_json::json;
use server::{Reply, Server};

fn client(server: &Server) -> Client {
    let credentials = Credentials { access_key: "AKIATEST".into(), secret_key: "secret".into() };
    let target = Target {
        endpoint: server.url().parse().unwrap(),
        region: "us-east-1".into(),
        credentials,
        source: Source::Said,
    };
    Client::new(target, Arc::new(SystemClock::new()))
}

struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
}

fn app(dir: &Path, toml: &str) -> App {
    fs::write(dir.join("app.py"), "def handler(e, c): return e\n").unwrap();
    fs::write(dir.join("flint.toml"), toml).unwrap();
    App::read(dir, Some("f")).unwrap()
}

fn configuration(state: &str, sha: &str) -> serde_json::Value {
    json!({
        "FunctionName": "f", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "Runtime": "python3.12",
        "Handler": "app.handler", "MemorySize": 128, "Timeout": 3, "CodeSize": 1, "CodeSha256": sha,
        "State": state, "LastUpdateStatus": "Successful", "RevisionId": "r",
    })
}

fn not_found() -> Reply {
    Reply::error(404, "ResourceNotFoundException", "Function not found: f")
}

#[tokio::test]
async fn requests_are_signed_and_use_one_connection() {
    let server = Server::start(vec![Reply::json(json!({ "Account": "1" })), Reply::json(json!({}))]).await;
    let client = client(&server);
    assert_eq!(client.status().await.unwrap().account, "1");
    client.environments(None).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("x-amz-target"), "Flint.Status");
    let authorization = seen[0].header("authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIATEST/"), "{authorization}");
    assert!(authorization.contains("/us-east-1/flint/aws4_request"), "{authorization}");
    assert!(authorization.contains("x-amz-target"), "{authorization}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_made_anew() {
    let server = Server::start(vec![Reply::json(json!({})).and_close(), Reply::json(json!({}))]).await;
    let client = client(&server);
    client.status().await.unwrap();
    client.status().await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let credentials = Credentials { access_key: "a".into(), secret_key: "s".into() };
    let target = Target { endpoint, region: "us-east-1".into(), credentials, source: Source::Said };
    let error = Client::new(target, Arc::new(SystemClock::new())).status().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().ends_with("connection refused"), "{error}");
    assert!(error.hint().unwrap().contains("flint up"));
}

#[tokio::test]
async fn refusals_keep_the_services_words() {
    let denied =
        Reply::error(403, "UnrecognizedClientException", "The security token included in the request is invalid.");
    let server = Server::start(vec![denied, Reply::raw(200, "not json")]).await;
    let client = client(&server);
    let error = client.status().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Status: UnrecognizedClientException: The security token included in the request is invalid."
    );
    assert!(error.hint().unwrap().contains("flint env"));
    assert!(matches!(client.status().await.unwrap_err(), Error::Answer { .. }));
}

#[tokio::test]
async fn an_invocation_gives_payload_error_and_log() {
    let reply = Reply::raw(200, r#"{"errorType":"E"}"#)
        .with_header("x-amz-function-error", "Unhandled")
        .with_header("x-amz-executed-version", "$LATEST")
        .with_header("x-amz-log-result", "aGVsbG8=")
        .with_header("x-amzn-requestid", "id");
    let server = Server::start(vec![reply]).await;
    let invoked = client(&server).invoke("a:b", Bytes::from_static(b"[1]"), LogTail::Tail).await.unwrap();
    assert_eq!(invoked.function_error.as_deref(), Some("Unhandled"));
    assert_eq!(invoked.log_tail.as_deref(), Some("hello"));
    assert_eq!(invoked.payload, r#"{"errorType":"E"}"#);
    let seen = server.seen();
    assert_eq!(seen[0].path, "/2015-03-31/functions/a%3Ab/invocations");
    assert_eq!((seen[0].header("x-amz-log-type"), seen[0].body.as_ref()), ("Tail".into(), &b"[1]"[..]));
}

#[tokio::test]
async fn a_new_function_is_created_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path(), "runtime = 'python3.12'\nmemory = 256\n[environment]\nA = 'b'\n");
    let server = Server::start(vec![
        not_found(),
        Reply::json(json!({ "Account": "123456789012" })),
        Reply::raw(201, &configuration("Pending", "x").to_string()),
        Reply::json(configuration("Pending", "x")),
        Reply::json(configuration("Active", "x")),
    ])
    .await;
    let done = flint_dev::deploy(&client(&server), &app, &Search::default(), &Silent).await.unwrap();
    assert_eq!((done.action, done.memory_mb, done.files), (Action::Created, 256, 1));
    let create = &server.seen()[2];
    assert_eq!((create.method.as_str(), create.path.as_str()), ("POST", "/2015-03-31/functions"));
    let body: serde_json::Value = serde_json::from_slice(&create.body).unwrap();
    assert_eq!(body["Role"], "arn:aws:iam::123456789012:role/flint-default");
    assert_eq!(body["Environment"]["Variables"]["A"], "b");
    assert_eq!(
        (&body["MemorySize"], &body["Timeout"], &body["Handler"]),
        (&json!(256), &json!(3), &json!("app.handler"))
    );
    assert!(body["Code"]["ZipFile"].as_str().unwrap().starts_with("UEsDB"));
}

#[tokio::test]
async fn what_did_not_change_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path(), "runtime = 'python3.12'\n");
    let sha = flint_dev::package::build(&app, &Default::default()).unwrap().sha256_base64;
    let server = Server::start(vec![Reply::json(configuration("Active", &sha))]).await;
    let done = flint_dev::deploy(&client(&server), &app, &Search::default(), &Silent).await.unwrap();
    assert_eq!((done.action, server.seen().len()), (Action::Unchanged, 1));
}

#[tokio::test]
async fn changed_code_and_changed_settings_are_updated() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path(), "runtime = 'python3.12'\ntimeout = 9\n");
    let active = || Reply::json(configuration("Active", "old"));
    let server = Server::start(vec![active(), active(), active()]).await;
    let done = flint_dev::deploy(&client(&server), &app, &Search::default(), &Silent).await.unwrap();
    assert_eq!(done.action, Action::Updated);
    let asked: Vec<_> =
        server.seen().iter().map(|r| format!("{} {}", r.method, r.path.rsplit('/').next().unwrap())).collect();
    assert_eq!(asked, ["GET configuration", "PUT configuration", "PUT code"]);
}

#[tokio::test]
async fn a_change_of_code_alone_is_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path(), "runtime = 'python3.12'\n");
    let sha = |app: &App| flint_dev::package::build(app, &Default::default()).unwrap().sha256_base64;
    let first = sha(&app);
    fs::write(dir.path().join("app.py"), "def handler(e, c): return 2\n").unwrap();
    let second = sha(&app);
    fs::write(dir.path().join("app.py"), "def handler(e, c): return e\n").unwrap();
    let updated = Reply::json(configuration("Active", &second));
    let server = Server::start(vec![Reply::json(configuration("Active", &first)), updated]).await;
    let (client, deployer) = (client(&server), Deployer::new(Search::default()));
    let mut actions = Vec::new();
    for text in ["return e", "return e", "return 2", "return 2"] {
        fs::write(dir.path().join("app.py"), format!("def handler(e, c): {text}\n")).unwrap();
        actions.push(deployer.deploy(&client, &app, &Silent).await.unwrap().action);
    }
    assert_eq!(actions, [Action::Unchanged, Action::Unchanged, Action::Updated, Action::Unchanged]);
    let asked: Vec<_> = server.seen().iter().map(|r| r.method.to_string()).collect();
    assert_eq!(asked, ["GET", "PUT"]);
}

#[tokio::test]
async fn a_function_that_fails_to_start_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path(), "runtime = 'python3.12'\n");
    let mut failed = configuration("Failed", "x");
    failed["StateReason"] = "the archive is damaged".into();
    let status = Reply::json(json!({ "Account": "000000000000" }));
    let server =
        Server::start(vec![not_found(), status, Reply::json(configuration("Pending", "x")), Reply::json(failed)]).await;
    let error = flint_dev::deploy(&client(&server), &app, &Search::default(), &Silent).await.unwrap_err();
    assert_eq!(error.to_string(), "function f did not become ready: the archive is damaged");
}

#[tokio::test]
async fn the_newest_runtime_with_an_interpreter_here_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("requirements.txt"), "# none\n").unwrap();
    let app = app(dir.path(), "");
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let python = bin.join("python3.11");
    fs::write(&python, "#!/bin/sh\necho 11; echo tag\n").unwrap();
    fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let runtimes = json!({ "Runtimes": [{ "Identifier": "python3.13" }, { "Identifier": "python3.11" }, { "Identifier": "provided.al2023" }] });
    let active = Reply::json(configuration("Active", "x"));
    let status = Reply::json(json!({ "Account": "000000000000" }));
    let script = vec![Reply::json(runtimes.clone()), not_found(), status, active];
    let server = Server::start(script).await;
    let search = Search { path: vec![bin], versions: vec![PathBuf::from("/nonexistent")] };
    let done = flint_dev::deploy(&client(&server), &app, &search, &Silent).await.unwrap();
    assert_eq!(done.runtime, "python3.11");

    let server = Server::start(vec![Reply::json(runtimes)]).await;
    let error = flint_dev::deploy(&client(&server), &app, &Search::default(), &Silent).await.unwrap_err();
    assert!(matches!(error, Error::NoInterpreter { .. }), "{error}");
}

#[tokio::test]
async fn following_pages_and_gives_each_event_once() {
    let event = |id: &str, at: i64| json!({ "eventId": id, "logStreamName": "s", "timestamp": at, "message": id });
    let server = Server::start(vec![
        Reply::error(400, "ResourceNotFoundException", "The specified log group does not exist."),
        Reply::json(json!({ "events": [event("a", 20_000)], "nextToken": "t" })),
        Reply::json(json!({ "events": [event("b", 30_000)] })),
        Reply::json(json!({ "events": [event("b", 30_000), event("late", 25_000)] })),
    ])
    .await;
    let client = client(&server);
    let query = LogQuery { group: "/g".into(), since: Some(Timestamp::from_millis(1)), pattern: Some("x".into()) };
    let mut follower = LogFollower::new(query);
    let mut got = Vec::new();
    for _ in 0..3 {
        follower.poll(&client, |e| got.push(e.event_id)).await.unwrap();
    }
    assert_eq!(got, ["a", "b", "late"]);
    let last: serde_json::Value = serde_json::from_slice(&server.seen()[3].body).unwrap();
    assert_eq!((&last["startTime"], &last["filterPattern"]), (&json!(20_000), &json!("x")));
}

#[tokio::test]
async fn a_server_that_breaks_off_is_not_asked_twice() {
    let server = Server::start(vec![Reply::cut()]).await;
    let client = client(&server);
    let error = tokio::time::timeout(Duration::from_secs(10), client.delete_function("f")).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}
