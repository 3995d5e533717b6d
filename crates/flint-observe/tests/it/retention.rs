//! Retention: settings, what is no longer served, and what leaves the disk.

use flint_kit::Doc;

use crate::harness::{DAY, Logs, NOW, files, items, texts};

async fn retain(logs: &Logs, days: i64) {
    logs.call("PutRetentionPolicy", &[("logGroupName", "g".into()), ("retentionInDays", Doc::Int(days))]).await;
}

#[tokio::test]
async fn only_the_reference_values_are_taken() {
    let logs = Logs::new();
    logs.create("g", &[]).await;
    for bad in [0, 2, -1, 730, i64::from(u32::MAX) + 2] {
        let input = [("logGroupName", "g".into()), ("retentionInDays", Doc::Int(bad))];
        let (code, _, message) = logs.refused("PutRetentionPolicy", &input).await;
        assert_eq!(code, "InvalidParameterException");
        assert!(message.starts_with("Invalid retention value. Valid values are: [1, 3, 5, 7, 14,"), "{message}");
    }
    let days =
        async |logs: &Logs| items(&logs.call("DescribeLogGroups", &[]).await, "logGroups")[0].int_of("retentionInDays");
    retain(&logs, 30).await;
    assert_eq!(days(&logs).await, Some(30));
    let logs = logs.reopen();
    assert_eq!(days(&logs).await, Some(30));
    logs.call("DeleteRetentionPolicy", &[("logGroupName", "g".into())]).await;
    assert_eq!(days(&logs).await, None);
    let missing = logs.refused("DeleteRetentionPolicy", &[("logGroupName", "none".into())]).await;
    assert_eq!(missing.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn expired_events_are_not_served_and_their_files_go() {
    let logs = Logs::new();
    let pad = "x".repeat(500);
    logs.create("g", &["kept"]).await;
    for i in 0..40 {
        logs.append("g", &format!("env{}", i % 4), &[(NOW, &format!("old{i} {pad}"))]);
    }
    logs.put("g", "kept", &[(NOW, "old too")]).await;
    logs.clock.advance(2 * DAY);
    logs.append("g", "env9", &[(NOW + 1000 * 2 * 86_400, "young")]);
    assert_eq!(logs.messages("g", &[]).await.len(), 42);
    let before = files(&logs.dir, ".seg").len();
    assert!(before > 3, "{before} segments");
    retain(&logs, 1).await;
    assert_eq!(logs.messages("g", &[]).await, ["young"]);
    logs.observe.sweep().await.expect("sweeps");
    assert_eq!(files(&logs.dir, ".seg").len(), 1);
    assert!(files(&logs.dir, ".idx").is_empty());
    let streams = async |logs: &Logs| {
        texts(&logs.call("DescribeLogStreams", &[("logGroupName", "g".into())]).await, "logStreams", "logStreamName")
    };
    // What output had made goes with its events; what a caller had made stays.
    assert_eq!(streams(&logs).await, ["env9", "kept"]);
    // The newest segment goes too when all of it has expired, and numbers go on.
    let id = async |logs: &Logs| {
        let page = logs.call("FilterLogEvents", &[("logGroupName", "g".into())]).await;
        texts(&page, "events", "eventId")
    };
    let young = id(&logs).await;
    logs.clock.advance(2 * DAY);
    logs.observe.sweep().await.expect("sweeps");
    assert_eq!(streams(&logs).await, ["kept"]);
    let logs = logs.reopen();
    assert_eq!(streams(&logs).await, ["kept"]);
    logs.append("g", "env9", &[(NOW + 1000 * 2 * 86_400, "again")]);
    retain(&logs, 30).await;
    assert_eq!(logs.messages("g", &[]).await, ["again"]);
    assert_ne!(id(&logs).await, young);
}
