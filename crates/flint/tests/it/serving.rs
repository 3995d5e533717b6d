//! `up` and `dev` with real servers and real functions.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Running, flint, text, until};

const HELLO: &str = r#"
def handler(event, context):
    print("hello", event.get("name"))
    if event.get("fail"):
        raise ValueError("as asked")
    return {"hello": event.get("name")}
"#;

/// A scratch folder with a function in `hello`, and room for a data directory.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("hello")).unwrap();
        fs::write(dir.path().join("hello/app.py"), HELLO).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A client's command against the server with its data here: exit code, standard output, standard error.
    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let output = flint(words).arg("--data").arg(self.data()).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("data.log")).unwrap_or_default()
    }
}

fn is_listening(url: &str) -> bool {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok()
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn deploy_invoke_logs_ps_remove() {
    let scratch = Scratch::new();
    let server = Running::start(&["up"], &scratch.data());
    let url = server.ready();
    let folder = scratch.path("hello");

    let (code, out, err) = scratch.run(&["deploy", word(&folder)]);
    assert_eq!(code, Some(0), "{err}\n{}", scratch.log());
    assert!(out.starts_with("created hello: python3."), "{out}");
    let (_, out, _) = scratch.run(&["deploy", word(&folder), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["action"], "unchanged");

    let (code, out, err) = scratch.run(&["invoke", "hello", "-p", r#"{"name":"you"}"#, "--tail"]);
    assert_eq!((code, out.as_str()), (Some(0), "{\"hello\": \"you\"}\n"), "{err}");
    assert!(
        err.contains("START RequestId: ") && err.contains("hello you") && err.contains("REPORT RequestId: "),
        "{err}"
    );

    let (code, out, err) = scratch.run(&["invoke", "hello", "-p", r#"{"fail":true}"#]);
    assert_eq!(code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["errorType"], "ValueError", "{out}");
    assert!(err.contains("ValueError: as asked") && err.contains("try: flint logs hello"), "{err}");

    let file = scratch.path("answer");
    let (code, out, _) = scratch.run(&["invoke", "hello", "-o", word(&file)]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(file).unwrap(), "{\"hello\": null}");

    until("the log shows the line", || {
        scratch.run(&["logs", "hello", "--filter", "hello you"]).1.contains("hello you")
    });
    let (_, out, _) = scratch.run(&["logs", "hello", "--json"]);
    assert!(out.lines().all(|l| serde_json::from_str::<Value>(l).unwrap()["eventId"].is_string()), "{out}");

    let (_, out, _) = scratch.run(&["ps", "--json"]);
    let environments: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(environments[0]["FunctionName"], "hello");
    assert!(scratch.run(&["runtime", "list"]).1.contains("provided.al2023"));

    fs::write(folder.join("app.py"), HELLO.replace("hello\"", "bye\"")).unwrap();
    assert!(scratch.run(&["deploy", word(&folder)]).1.starts_with("updated hello: "));
    assert_eq!(scratch.run(&["invoke", "hello", "-p", r#"{"name":1}"#]).1, "{\"bye\": 1}\n");

    assert_eq!(scratch.run(&["remove", word(&folder), "--logs"]).1, "removed hello and its log group\n");
    let (code, _, err) = scratch.run(&["invoke", "hello"]);
    assert!(code == Some(1) && err.contains("ResourceNotFoundException") && err.contains("try: "), "{err}");

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", scratch.log());
    assert!(!is_listening(&url));
}

#[test]
fn a_second_server_on_the_data_is_refused_in_a_line() {
    let scratch = Scratch::new();
    let server = Running::start(&["up"], &scratch.data());
    server.ready();
    let (code, out, err) = scratch.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains("in use") && err.contains("; try: ") && err.contains("flint stop --data"), "{err}");
}

#[test]
fn dev_says_ready_first_then_the_log_and_ends_with_sigterm() {
    let scratch = Scratch::new();
    let dev = Running::start(&["dev", word(&scratch.path("hello"))], &scratch.data());
    let url = dev.ready();
    until("the function answers", || scratch.run(&["invoke", "hello", "-p", r#"{"name":"dev"}"#]).0 == Some(0));
    assert!(dev.line_with("START RequestId").contains("START"));
    assert!(dev.line_with("hello dev").ends_with("hello dev"));
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait().code(), Some(0), "{}", scratch.log());
    assert!(!is_listening(&url));
}

#[test]
fn dev_takes_its_server_along_however_it_ends() {
    let scratch = Scratch::new();
    let dev = Running::start(&["dev", "--quiet", word(&scratch.path("hello"))], &scratch.data());
    let url = dev.ready();
    dev.signal(Signal::KILL);
    dev.wait();
    until("the server is gone", || !is_listening(&url));
}

#[test]
fn dev_fails_with_its_server() {
    let scratch = Scratch::new();
    let first = Running::start(&["dev", word(&scratch.path("hello"))], &scratch.data());
    first.ready();
    let (code, out, err) = scratch.run(&["dev", word(&scratch.path("hello")), "--listen", "127.0.0.1:0"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
}

#[test]
fn dev_without_a_function_serves() {
    let scratch = Scratch::new();
    let dev = Running::start(&["dev"], &scratch.data());
    let url = dev.ready();
    assert!(is_listening(&url));
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0));
}
