//! Kills, torn tails, flipped bits, full disks.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use flint_kit::Doc;

use crate::harness::{Logs, NOW, files, items, options, texts};

/// Tells this program, started again by a test, what to do. Without it the two tests below do nothing.
const ROLE: &str = "FLINT_OBSERVE_TEST_DIR";

fn role() -> Option<std::ffi::OsString> {
    #[expect(clippy::disallowed_methods, reason = "the only way to speak to a test that is started again")]
    std::env::var_os(ROLE)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Starts this program again with one test and a directory.
fn again(program: &[&str], test: &str, dir: &Path) -> io::Result<Child> {
    let this = std::env::current_exe().expect("this program");
    let mut words = program.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
    words.push(this.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

/// Appends without end and prints what it was told is safe.
#[test]
fn child_that_writes() {
    let Some(dir) = role() else { return };
    runtime().block_on(async {
        let logs = Logs::open(Path::new(&dir), options());
        logs.create("put", &["s"]).await;
        for i in 0u64.. {
            logs.append("sink", &format!("s{}", i % 7), &[(NOW + i.cast_signed(), &format!("line {i}"))]);
            logs.observe.flush().await.expect("flushes");
            logs.put("put", "s", &[(NOW, &format!("event {i}"))]).await;
            println!("\nsafe {i}");
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = again(&[], "crash::child_that_writes", dir.path()).expect("starts");
    let mut safe = None;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("reads");
        safe = line.strip_prefix("safe ").map(|n| n.parse::<usize>().expect("a number")).or(safe);
        if safe >= Some(150) {
            break;
        }
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    let safe = safe.expect("something was written");
    runtime().block_on(async {
        let logs = Logs::open(dir.path(), options());
        let lines = logs.messages("sink", &[]).await;
        let events = logs.messages("put", &[]).await;
        for (found, word) in [(&lines, "line"), (&events, "event")] {
            assert!(found.len() > safe, "{} of {safe} {word}s", found.len());
            assert!(found.iter().enumerate().all(|(i, text)| *text == format!("{word} {i}")));
        }
        // And it goes on as if nothing had been.
        logs.append("sink", "s0", &[(NOW + 1_000_000, "next")]);
        assert_eq!(logs.messages("sink", &[]).await.len(), lines.len() + 1);
    });
}

#[tokio::test]
async fn a_tail_torn_anywhere_is_cut_off() {
    let logs = Logs::new();
    logs.append("g", "s", &[(NOW, "one"), (NOW + 1, "two"), (NOW + 2, "three")]);
    logs.observe.flush().await.expect("flushes");
    let segment = files(&logs.dir, ".seg").pop().expect("a segment");
    let whole = fs::read(&segment).expect("reads");
    let mut logs = logs;
    for cut in (40 + 3)..whole.len() {
        logs = logs.reopen_after(|_| fs::write(&segment, &whole[..cut]).expect("writes"));
        let kept = if cut < 2 * 43 { 1 } else { 2 };
        logs.append("g", "s", &[(NOW + 3, "after")]);
        let mut expected = ["one", "two"][..kept].to_vec();
        expected.push("after");
        assert_eq!(logs.messages("g", &[]).await, expected, "cut at {cut}");
        // What was torn is gone for good.
        logs = logs.reopen();
        assert_eq!(logs.messages("g", &[]).await, expected, "cut at {cut}, once more");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_never_served() {
    let logs = Logs::new();
    for i in 0..20 {
        logs.append("g", "s", &[(NOW + i, &format!("message {i} {}", "x".repeat(300)))]);
    }
    let all = logs.messages("g", &[]).await;
    let segments = files(&logs.dir, ".seg");
    let mut logs = logs;
    for (n, segment) in segments.iter().enumerate() {
        let whole = fs::read(segment).expect("reads");
        for byte in (0..whole.len()).step_by(97) {
            let bent = |_: &Path| {
                let mut bytes = whole.clone();
                bytes[byte] ^= 1 << (byte % 8);
                fs::write(segment, bytes).expect("writes");
            };
            logs = logs.reopen_after(bent);
            let found = logs.messages("g", &[]).await;
            assert!(found.len() + 1 >= all.len(), "segment {n}, byte {byte}: {} of {}", found.len(), all.len());
            assert!(found.iter().all(|m| all.contains(m)));
            logs.append("g", "s", &[(NOW + 100, "after")]);
            assert_eq!(logs.messages("g", &[]).await.len(), found.len() + 1);
            logs = logs.reopen_after(|dir| {
                // Back to what it was, without what this round has added.
                for path in files(dir, ".seg") {
                    if !segments.contains(&path) {
                        fs::remove_file(path).expect("removes");
                    }
                }
                fs::write(segment, &whole).expect("writes");
                let last = segments.last().expect("a segment");
                let bytes = fs::read(last).expect("reads");
                let end = bytes.windows(5).rposition(|w| w == b"after").filter(|at| at + 5 == bytes.len());
                if let Some(at) = end {
                    fs::write(last, &bytes[..at - 40]).expect("writes");
                }
            });
            assert_eq!(logs.messages("g", &[]).await, all, "segment {n}, byte {byte}");
        }
    }
}

#[tokio::test]
async fn what_an_interrupted_request_left_is_cleaned_up_and_damage_is_named() {
    let logs = Logs::new();
    logs.create("g", &["s"]).await;
    logs.put("g", "s", &[(NOW, "x")]).await;
    let logs = logs.reopen_after(|dir| {
        let region = dir.join("logs/000000000000/us-east-1");
        fs::create_dir(region.join(".draft")).expect("makes");
        fs::create_dir_all(region.join(".gone-1/x")).expect("makes");
        fs::write(region.join("stray"), b"").expect("writes");
    });
    assert!(!logs.dir.join("logs/000000000000/us-east-1/.draft").exists());
    assert!(!logs.dir.join("logs/000000000000/us-east-1/.gone-1").exists());
    assert_eq!(logs.messages("g", &[]).await, ["x"]);
    logs.observe.close();
    let meta = files(&logs.dir, "group.json").pop().expect("the settings");
    let text = fs::read_to_string(&meta).expect("reads");
    for (bent, expected) in [
        (text.replace("\"version\": 1", "\"version\": 2"), "start a newer one"),
        (text.replace("\"name\": \"g\"", "\"name\": \"h\""), "lives elsewhere"),
        ("{".to_owned(), "is damaged"),
    ] {
        fs::write(&meta, bent).expect("writes");
        let clock = logs.clock.clone();
        let error = flint_observe::Observe::open(&logs.dir, clock, options()).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Fills a small disk, sees writes refused, makes room, sees writes taken. Started in a mount namespace of its own.
#[test]
fn child_on_a_small_disk() {
    let Some(dir) = role() else { return };
    let dir = Path::new(&dir);
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("\nno small disk here");
        return;
    }
    runtime().block_on(async {
        let logs = Logs::open(dir, options());
        logs.create("g", &["s"]).await;
        fs::write(dir.join("ballast"), vec![0; 300_000]).expect("fits");
        let line = "x".repeat(10_000);
        for i in 0..100 {
            logs.append("g", "out", &[(NOW + i, &line)]);
            logs.observe.flush().await.expect("flushes");
        }
        let event = Doc::Map(vec![("timestamp".into(), Doc::Int(NOW)), ("message".into(), line.as_str().into())]);
        let put =
            [("logGroupName", Doc::from("g")), ("logStreamName", "s".into()), ("logEvents", Doc::List(vec![event]))];
        let (code, status, message) = logs.refused("PutLogEvents", &put).await;
        assert_eq!((code.as_str(), status), ("ServiceUnavailableException", 503), "{message}");
        let (_, status, _) = logs.refused("CreateLogGroup", &[("logGroupName", "h".into())]).await;
        assert_eq!(status, 503);
        // Reading goes on.
        let kept = logs.messages("g", &[]).await.len();
        assert!((30..100).contains(&kept), "{kept}");
        fs::remove_file(dir.join("ballast")).expect("removes");
        logs.call("PutLogEvents", &put).await;
        logs.append("g", "out", &[(NOW + 1000, "healed")]);
        let found = logs.messages("g", &[]).await;
        assert_eq!(found.last().map(String::as_str), Some("healed"));
        let notices: usize =
            found.iter().filter_map(|m| m.strip_prefix("[flint] ")?.split(' ').next()?.parse::<usize>().ok()).sum();
        let lines = found.iter().filter(|m| m.starts_with('x')).count();
        assert_eq!(lines - 1 + notices, 100);
        logs.call("CreateLogGroup", &[("logGroupName", "h".into())]).await;
        let logs = logs.reopen();
        assert_eq!(logs.messages("g", &[]).await, found);
        let groups = logs.call("DescribeLogGroups", &[]).await;
        assert_eq!(texts(&groups, "logGroups", "logGroupName"), ["g", "h"]);
        assert_eq!(items(&groups, "logGroups").len(), 2);
        println!("\nhealed");
    });
}

#[test]
fn a_full_disk_refuses_writes_and_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
    let started = again(&unshare, "crash::child_on_a_small_disk", dir.path());
    let ended = started.and_then(Child::wait_with_output);
    let said = ended.as_ref().map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    // Where a process may not have namespaces of its own there is no small disk to be had.
    if said.contains("no small disk here") || !said.contains("running 1 test") {
        let _ = writeln!(io::stderr(), "not run: this host allows no mount namespace");
        return;
    }
    assert!(ended.is_ok_and(|out| out.status.success()) && said.contains("healed"), "{said}");
}
