//! Output of functions: through the sink, seen by callers and watchers.

use std::time::Duration;

use flint_model::ByteCount;
use flint_observe::Options;

use crate::harness::{Logs, NOW, items, place, texts};

#[tokio::test]
async fn the_first_line_makes_group_and_stream_and_is_read_at_once() {
    let logs = Logs::new();
    logs.append("/aws/lambda/f", "2026/11/21/[$LATEST]0123", &[(NOW, "START"), (NOW, ""), (NOW, "END")]);
    let input = [("logGroupName", "/aws/lambda/f".into()), ("logStreamName", "2026/11/21/[$LATEST]0123".into())];
    let page = logs.call("GetLogEvents", &input).await;
    assert_eq!(texts(&page, "events", "message"), ["START", "", "END"]);
    let group = &logs.call("DescribeLogGroups", &[]).await;
    assert_eq!(items(group, "logGroups")[0].int_of("storedBytes"), Some(8 + 3 * 26));
    // A group that a caller deletes comes back with the next line.
    logs.call("DeleteLogGroup", &input[..1]).await;
    logs.append("/aws/lambda/f", "2026/11/21/[$LATEST]0123", &[(NOW, "again")]);
    assert_eq!(logs.messages("/aws/lambda/f", &[]).await, ["again"]);
}

#[tokio::test]
async fn foreign_bytes_are_kept_and_shown_as_text() {
    let logs = Logs::new();
    let message = bytes::Bytes::from_static(b"caf\xe9 \xf0\x9f\x98\x80\0");
    let event = flint_kit::LogEvent { at: flint_base::Timestamp::from_millis(NOW), message };
    logs.observe.sink().append(&place(), &"g".into(), &"s".into(), vec![event]);
    assert_eq!(logs.messages("g", &[]).await, ["caf\u{fffd} 😀\0"]);
}

#[tokio::test]
async fn output_with_a_name_that_no_stream_has_harms_nobody() {
    let logs = Logs::new();
    logs.append("g", "a:b", &[(NOW, "x")]);
    logs.append("no such group!", "s", &[(NOW, "x")]);
    logs.append("g", "s", &[(NOW, "y")]);
    assert_eq!(logs.messages("g", &[]).await, ["y"]);
    assert_eq!(texts(&logs.call("DescribeLogGroups", &[]).await, "logGroups", "logGroupName"), ["g"]);
}

#[tokio::test]
async fn lines_over_the_bound_are_dropped_and_counted_in_the_log() {
    let logs = Logs::with(Options { queue_per_group: ByteCount(2000), ..crate::harness::options() });
    let line = "x".repeat(100);
    let many: Vec<(i64, &str)> = (0..100).map(|_| (NOW, line.as_str())).collect();
    logs.append("g", "s", &many);
    let found = logs.messages("g", &[]).await;
    let (notice, kept) = found.split_last().expect("lines");
    assert_eq!(kept.len(), 2000 / (100 + 64));
    let dropped = 100 - kept.len();
    assert!(
        notice.starts_with(&format!("[flint] {dropped} log lines ({} bytes) were dropped here", dropped * 100)),
        "{notice}"
    );
}

#[tokio::test]
async fn appending_does_not_wait_for_the_writer() {
    // The writer holds nobody up: a burst far over the bound returns at once and all of it is accounted for.
    let logs = Logs::with(Options { queue: ByteCount::from_mib(1), ..Options::default() });
    let line = "x".repeat(1000);
    let many: Vec<(i64, &str)> = (0..1000).map(|_| (NOW, line.as_str())).collect();
    for i in 0..20 {
        logs.append(&format!("g{}", i % 2), "s", &many);
    }
    let (mut kept, mut dropped) = (0, 0);
    for group in ["g0", "g1"] {
        for message in logs.messages(group, &[]).await {
            match message.strip_prefix("[flint] ") {
                Some(notice) => {
                    dropped += notice.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a count")
                }
                None => kept += 1,
            }
        }
    }
    assert_eq!(kept + dropped, 20_000);
}

#[tokio::test]
async fn watchers_see_events_as_they_come() {
    let logs = Logs::with(Options { tail_events: 4, ..crate::harness::options() });
    let mut watcher = logs.observe.hub().subscribe();
    logs.append("g", "s", &[(NOW, "one"), (NOW + 1, "two")]);
    for expected in ["one", "two"] {
        let event = tokio::time::timeout(Duration::from_secs(5), watcher.recv()).await.expect("in time").expect("one");
        assert_eq!((&*event.group, &*event.stream, &event.message[..]), ("g", "s", expected.as_bytes()));
        assert_eq!(event.place, place());
    }
    // Who is too slow is told, and nobody waits.
    let many: Vec<(i64, &str)> = (0..10).map(|_| (NOW, "x")).collect();
    logs.append("g", "s", &many);
    logs.observe.flush().await.expect("flushes");
    assert!(matches!(watcher.recv().await, Err(tokio::sync::broadcast::error::RecvError::Lagged(6))));
}

#[tokio::test]
async fn after_the_end_requests_are_refused_and_output_is_ignored() {
    let logs = Logs::new();
    logs.append("g", "s", &[(NOW, "x")]);
    logs.observe.close();
    logs.observe.close();
    logs.append("g", "s", &[(NOW, "y")]);
    let (code, status, _) = logs.refused("CreateLogGroup", &[("logGroupName", "h".into())]).await;
    assert_eq!((code.as_str(), status), ("ServiceUnavailableException", 503));
    assert_eq!(logs.messages("g", &[]).await, ["x"]);
}
