//! The command line as whoever starts it sees it: streams, exit codes, processes.
//!
//! The stories in [`serving`] start real servers: they need root, as the sandboxes do.

mod process;
mod serving;

use std::fs;
use std::process::Output;

use process::{flint, text};

fn lines(bytes: &[u8]) -> Vec<String> {
    text(bytes).lines().map(str::to_owned).collect()
}

/// A failure is told in a line of cause and a line of advice, and nothing is on standard output.
fn fails_in_two_lines(output: &Output, cause: &str) {
    let said = lines(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said:?}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("error: ") && said[0].contains(cause), "{said:?}");
    assert!(said[1].starts_with("try: "), "{said:?}");
}

#[test]
fn help_teaches_and_mistakes_are_usage() {
    let help = flint(&["--help"]).output().unwrap();
    assert!(help.status.success() && text(&help.stdout).contains("flint deploy"));
    let wrong = flint(&["fly"]).output().unwrap();
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0));
}

#[test]
fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for command in ["ps", "runtime list", "invoke f", "logs f", "remove f"] {
        let words: Vec<&str> = command.split(' ').chain(["--endpoint", &url]).collect();
        fails_in_two_lines(&flint(&words).output().unwrap(), "no Flint server answers");
    }
}

#[test]
fn a_folder_without_a_function() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fails_in_two_lines(&flint(&["deploy", path]).output().unwrap(), "no function found");
    fails_in_two_lines(&flint(&["dev", path]).output().unwrap(), "no function found");
    fails_in_two_lines(&flint(&["deploy", "/nonexistent"]).output().unwrap(), "/nonexistent");
}

#[test]
fn an_event_that_is_not_json_is_not_sent() {
    fails_in_two_lines(&flint(&["invoke", "f", "-p", "{a: 1}"]).output().unwrap(), "not JSON");
}

#[test]
fn env_is_read_by_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let keys = r#"{"version":1,"keys":[{"account":"000000000000","accessKeyId":"AKIAX","secretAccessKey":"a/b+c"}]}"#;
    fs::write(dir.path().join("credentials.json"), keys).unwrap();
    fs::write(dir.path().join("endpoint"), "http://127.0.0.1:4999\n").unwrap();
    let data = dir.path().to_str().unwrap();

    let exports = flint(&["env", "--data", data]).output().unwrap();
    assert!(exports.status.success());
    // Without quotes around it, too: the lines become one.
    for eval in ["eval \"$1\"", "eval $1"] {
        let script = format!(
            "{eval}; echo $AWS_ENDPOINT_URL $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_REGION $AWS_DEFAULT_REGION"
        );
        let shell =
            std::process::Command::new("sh").args(["-c", &script, "sh", &text(&exports.stdout)]).output().unwrap();
        assert_eq!(text(&shell.stdout).trim(), "http://127.0.0.1:4999 AKIAX a/b+c us-east-1 us-east-1");
    }
    assert!(text(&exports.stderr).contains("no Flint server answers at http://127.0.0.1:4999"));

    let object = flint(&["env", "--json", "--region", "eu-west-1", "--data", data]).output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&object.stdout).unwrap();
    assert_eq!(object["AWS_REGION"], "eu-west-1");
    assert_eq!(object.as_object().unwrap().len(), 5);
}

#[test]
fn an_open_address_is_refused_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let up = flint(&["up", "--listen", "0.0.0.0:0", "--data", data.to_str().unwrap()]).output().unwrap();
    assert!(!up.status.success() && up.stdout.is_empty());
    let said = lines(&up.stderr);
    assert_eq!(said.len(), 1, "{}", text(&up.stderr));
    assert!(said[0].starts_with("error: 0.0.0.0") && said[0].contains("--plain-http"), "{said:?}");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = flint(&["completions", shell]).output().unwrap();
        assert!(script.status.success() && text(&script.stdout).contains("invoke"), "{shell}");
    }
}

#[test]
fn doctor_is_a_list_with_a_verdict() {
    let list = flint(&["doctor", "--json"]).output().unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list.stdout).unwrap();
    assert!(list.len() > 8);
    for check in list {
        assert_eq!(check["state"] == "ok", check.get("todo").is_none(), "{check}");
    }
}
