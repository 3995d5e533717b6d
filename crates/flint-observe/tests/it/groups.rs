//! Groups and streams: made, listed, deleted.

use flint_kit::Doc;

use crate::harness::{Logs, NOW, items, texts};

fn refusal(code: &str, message: &str) -> (String, u16, String) {
    (code.to_owned(), 400, message.to_owned())
}

#[tokio::test]
async fn a_group_is_made_described_and_deleted() {
    let logs = Logs::new();
    let name = [("logGroupName", Doc::from("/aws/lambda/f"))];
    logs.call("CreateLogGroup", &name).await;
    assert_eq!(
        logs.refused("CreateLogGroup", &name).await,
        refusal("ResourceAlreadyExistsException", "The specified log group already exists")
    );
    let described = logs.call("DescribeLogGroups", &[]).await;
    let group = &items(&described, "logGroups")[0];
    assert_eq!(group.text_of("logGroupName"), Some("/aws/lambda/f"));
    assert_eq!(group.int_of("creationTime"), Some(NOW));
    assert_eq!(group.int_of("storedBytes"), Some(0));
    assert_eq!(group.int_of("metricFilterCount"), Some(0));
    assert_eq!(group.int_of("retentionInDays"), None);
    assert_eq!(group.text_of("arn"), Some("arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f:*"));
    assert_eq!(group.text_of("logGroupArn"), Some("arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"));
    logs.call("DeleteLogGroup", &name).await;
    assert_eq!(
        logs.refused("DeleteLogGroup", &name).await,
        refusal("ResourceNotFoundException", "The specified log group does not exist.")
    );
    assert!(items(&logs.call("DescribeLogGroups", &[]).await, "logGroups").is_empty());
}

#[tokio::test]
async fn a_group_made_again_is_empty_and_has_other_event_ids() {
    let logs = Logs::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        logs.create("g", &["s"]).await;
        logs.put("g", "s", &[(NOW, "hello")]).await;
        let page = logs.call("FilterLogEvents", &[("logGroupName", "g".into())]).await;
        assert_eq!(texts(&page, "events", "message"), ["hello"]);
        ids.extend(texts(&page, "events", "eventId"));
        logs.call("DeleteLogGroup", &[("logGroupName", "g".into())]).await;
    }
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.len() == 56));
    // The files go after the answer.
    logs.observe.close();
    assert_eq!(crate::harness::files(&logs.dir, ".seg"), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn names_and_members_are_checked() {
    let logs = Logs::new();
    for bad in ["", "a b", "a:b", &"x".repeat(513)] {
        let (code, status, _) = logs.refused("CreateLogGroup", &[("logGroupName", bad.into())]).await;
        assert_eq!((code.as_str(), status), ("InvalidParameterException", 400), "{bad}");
    }
    let reserved = logs.refused("CreateLogGroup", &[("logGroupName", "aws/x".into())]).await;
    assert_eq!(reserved, refusal("InvalidParameterException", "Log groups starting with AWS/ are reserved for AWS."));
    for (member, value) in [("kmsKeyId", Doc::from("k")), ("logGroupClass", Doc::from("DELIVERY"))] {
        let (code, status, message) =
            logs.refused("CreateLogGroup", &[("logGroupName", "g".into()), (member, value)]).await;
        assert_eq!((code.as_str(), status), ("NotImplemented", 501));
        assert_eq!(message, format!("not served: logs.CreateLogGroup: {member}"));
    }
    logs.create("g", &["s"]).await;
    for bad in ["", "a:b", "a*"] {
        let input = [("logGroupName", "g".into()), ("logStreamName", bad.into())];
        assert_eq!(logs.refused("CreateLogStream", &input).await.0, "InvalidParameterException");
    }
    let missing = |operation| {
        let input = [("logGroupName", Doc::from("none")), ("logStreamName", Doc::from("s"))];
        let logs = &logs;
        async move { logs.refused(operation, &input).await }
    };
    for operation in ["CreateLogStream", "DeleteLogStream", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"] {
        assert_eq!(
            missing(operation).await,
            refusal("ResourceNotFoundException", "The specified log group does not exist."),
            "{operation}"
        );
    }
    let input = [("logGroupName", "g".into()), ("logStreamName", "none".into())];
    for operation in ["DeleteLogStream", "GetLogEvents"] {
        let expected = refusal("ResourceNotFoundException", "The specified log stream does not exist.");
        assert_eq!(logs.refused(operation, &input).await, expected, "{operation}");
    }
}

#[tokio::test]
async fn groups_are_listed_in_order_and_in_pages() {
    let logs = Logs::new();
    for i in [3, 1, 4, 0, 2] {
        logs.create(&format!("app/{i}"), &[]).await;
    }
    logs.create("Zebra", &[]).await;
    let mut input = vec![("limit", Doc::Int(2)), ("logGroupNamePrefix", "app/".into())];
    let mut found = Vec::new();
    loop {
        let page = logs.call("DescribeLogGroups", &input).await;
        let names = texts(&page, "logGroups", "logGroupName");
        assert!(names.len() <= 2);
        found.extend(names);
        let Some(token) = page.text_of("nextToken") else { break };
        input.retain(|(name, _)| *name != "nextToken");
        input.push(("nextToken", token.into()));
    }
    assert_eq!(found, ["app/0", "app/1", "app/2", "app/3", "app/4"]);
    let all = logs.call("DescribeLogGroups", &[]).await;
    assert_eq!(texts(&all, "logGroups", "logGroupName")[0], "Zebra");
    let by_part = logs.call("DescribeLogGroups", &[("logGroupNamePattern", "p/3".into())]).await;
    assert_eq!(texts(&by_part, "logGroups", "logGroupName"), ["app/3"]);
    assert_eq!(items(&by_part, "logGroups")[0].get("storedBytes"), None);
    let both = [("logGroupNamePattern", "a".into()), ("logGroupNamePrefix", "a".into())];
    assert_eq!(logs.refused("DescribeLogGroups", &both).await.0, "InvalidParameterException");
    for limit in [0, 51, -1] {
        let (code, _, message) = logs.refused("DescribeLogGroups", &[("limit", Doc::Int(limit))]).await;
        assert_eq!(code, "InvalidParameterException");
        assert!(message.contains("at 'limit' failed to satisfy constraint"), "{message}");
    }
    let stranger = logs.refused("DescribeLogGroups", &[("nextToken", "deadbeef00".into())]).await;
    assert_eq!(stranger, refusal("InvalidParameterException", "The specified nextToken is invalid."));
}

#[tokio::test]
async fn streams_are_listed_by_name_or_by_their_last_event() {
    let logs = Logs::new();
    logs.create("g", &["b", "a", "c", "empty"]).await;
    logs.put("g", "a", &[(NOW - 5, "x"), (NOW - 1, "y")]).await;
    logs.put("g", "b", &[(NOW - 2, "x")]).await;
    logs.put("g", "c", &[(NOW - 3, "x")]).await;
    let list = |more: Vec<(&'static str, Doc)>| {
        let logs = &logs;
        async move {
            let mut input = vec![("logGroupName", Doc::from("g")), ("limit", Doc::Int(3))];
            input.extend(more);
            let mut found = Vec::new();
            loop {
                let page = logs.call("DescribeLogStreams", &input).await;
                found.extend(texts(&page, "logStreams", "logStreamName"));
                let Some(token) = page.text_of("nextToken") else { return found };
                input.retain(|(name, _)| *name != "nextToken");
                input.push(("nextToken", token.into()));
            }
        }
    };
    let descending = || ("descending", Doc::Bool(true));
    let by_time = || ("orderBy", Doc::from("LastEventTime"));
    assert_eq!(list(vec![]).await, ["a", "b", "c", "empty"]);
    assert_eq!(list(vec![descending()]).await, ["empty", "c", "b", "a"]);
    assert_eq!(list(vec![by_time()]).await, ["empty", "c", "b", "a"]);
    assert_eq!(list(vec![by_time(), descending()]).await, ["a", "b", "c", "empty"]);
    assert_eq!(list(vec![("logStreamNamePrefix", "e".into())]).await, ["empty"]);
    assert_eq!(list(vec![("logStreamNamePrefix", "b".into()), descending()]).await, ["b"]);
    let input = [("logGroupName", "g".into()), by_time(), ("logStreamNamePrefix", "a".into())];
    assert_eq!(logs.refused("DescribeLogStreams", &input).await.0, "InvalidParameterException");

    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g";
    let page = logs.call("DescribeLogStreams", &[("logGroupIdentifier", arn.into())]).await;
    let a = &items(&page, "logStreams")[0];
    assert_eq!(a.int_of("firstEventTimestamp"), Some(NOW - 5));
    assert_eq!(a.int_of("lastEventTimestamp"), Some(NOW - 1));
    assert_eq!(a.int_of("lastIngestionTime"), Some(NOW));
    assert_eq!(a.int_of("storedBytes"), Some(0));
    assert_eq!(a.text_of("arn"), Some(format!("{arn}:log-stream:a").as_str()));
    assert_eq!(items(&page, "logStreams")[3].get("lastEventTimestamp"), None);

    logs.call("DeleteLogStream", &[("logGroupName", "g".into()), ("logStreamName", "a".into())]).await;
    assert_eq!(list(vec![]).await, ["b", "c", "empty"]);
    assert_eq!(logs.messages("g", &[]).await, ["x", "x"]);
    let logs = logs.reopen();
    assert_eq!(logs.messages("g", &[]).await, ["x", "x"]);
    logs.call("CreateLogStream", &[("logGroupName", "g".into()), ("logStreamName", "a".into())]).await;
    assert_eq!(logs.messages("g", &[]).await, ["x", "x"]);
}
