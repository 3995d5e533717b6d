//! Events put by callers and read back.

use flint_kit::Doc;

use crate::harness::{Logs, NOW, items, texts};

async fn get(logs: &Logs, more: &[(&'static str, Doc)]) -> Doc {
    let mut input = vec![("logGroupName", Doc::from("g")), ("logStreamName", Doc::from("s"))];
    input.extend_from_slice(more);
    logs.call("GetLogEvents", &input).await
}

fn token(page: &Doc, name: &str) -> Doc {
    Doc::from(page.text_of(name).expect("a token"))
}

/// `m0` .. `m9` at `NOW - 10` .. `NOW - 1`.
async fn ten() -> Logs {
    let logs = Logs::new();
    logs.create("g", &["s", "other"]).await;
    for i in 0..10 {
        logs.put("g", "s", &[(NOW - 10 + i, &format!("m{i}"))]).await;
        logs.put("g", "other", &[(NOW - 10 + i, &format!("o{i}"))]).await;
    }
    logs
}

#[tokio::test]
async fn pages_go_forward_and_the_end_gives_the_token_back() {
    let logs = ten().await;
    let head = ("startFromHead", Doc::Bool(true));
    let mut page = get(&logs, &[head.clone(), ("limit", Doc::Int(4))]).await;
    assert_eq!(texts(&page, "events", "message"), ["m0", "m1", "m2", "m3"]);
    let event = &items(&page, "events")[0];
    assert_eq!((event.int_of("timestamp"), event.int_of("ingestionTime")), (Some(NOW - 10), Some(NOW)));
    for expected in [vec!["m4", "m5", "m6", "m7"], vec!["m8", "m9"], vec![]] {
        let next = token(&page, "nextForwardToken");
        page = get(&logs, &[head.clone(), ("limit", Doc::Int(4)), ("nextToken", next)]).await;
        assert_eq!(texts(&page, "events", "message"), expected);
    }
    let end = token(&page, "nextForwardToken");
    let again = get(&logs, &[head.clone(), ("nextToken", end.clone())]).await;
    assert_eq!(token(&again, "nextForwardToken"), end);
    // What comes later is found from there.
    logs.put("g", "s", &[(NOW, "late")]).await;
    let page = get(&logs, &[head, ("nextToken", end)]).await;
    assert_eq!(texts(&page, "events", "message"), ["late"]);
}

#[tokio::test]
async fn pages_go_backward_from_the_latest() {
    let logs = ten().await;
    let mut page = get(&logs, &[("limit", Doc::Int(4))]).await;
    assert_eq!(texts(&page, "events", "message"), ["m6", "m7", "m8", "m9"]);
    let follow = token(&page, "nextForwardToken");
    for expected in [vec!["m2", "m3", "m4", "m5"], vec!["m0", "m1"], vec![]] {
        let next = token(&page, "nextBackwardToken");
        page = get(&logs, &[("limit", Doc::Int(4)), ("nextToken", next)]).await;
        assert_eq!(texts(&page, "events", "message"), expected);
    }
    let end = token(&page, "nextBackwardToken");
    page = get(&logs, &[("nextToken", end.clone())]).await;
    assert_eq!(token(&page, "nextBackwardToken"), end);
    // There and back again.
    page = get(&logs, &[("limit", Doc::Int(3)), ("nextToken", token(&page, "nextForwardToken"))]).await;
    assert_eq!(texts(&page, "events", "message"), ["m0", "m1", "m2"]);
    logs.put("g", "s", &[(NOW, "late")]).await;
    assert_eq!(texts(&get(&logs, &[("nextToken", follow)]).await, "events", "message"), ["late"]);
}

#[tokio::test]
async fn an_empty_stream_can_be_followed() {
    let logs = Logs::new();
    logs.create("g", &["s"]).await;
    let page = get(&logs, &[]).await;
    assert!(items(&page, "events").is_empty());
    logs.put("g", "s", &[(NOW, "first")]).await;
    let page = get(&logs, &[("nextToken", token(&page, "nextForwardToken"))]).await;
    assert_eq!(texts(&page, "events", "message"), ["first"]);
}

#[tokio::test]
async fn times_and_tokens_are_honoured() {
    let logs = ten().await;
    let range = [("startTime", Doc::Int(NOW - 8)), ("endTime", Doc::Int(NOW - 5))];
    // The end is left out by one operation and belongs to the range of the other.
    assert_eq!(texts(&get(&logs, &range).await, "events", "message"), ["m2", "m3", "m4"]);
    let mut filter = vec![("logStreamNames", Doc::List(vec!["s".into()]))];
    filter.extend_from_slice(&range);
    assert_eq!(logs.messages("g", &filter).await, ["m2", "m3", "m4", "m5"]);
    let page = get(&logs, &[]).await;
    let foreign = [
        ("logGroupName", "g".into()),
        ("logStreamName", "other".into()),
        ("nextToken", token(&page, "nextForwardToken")),
    ];
    let (code, _, message) = logs.refused("GetLogEvents", &foreign).await;
    assert_eq!((code.as_str(), message.as_str()), ("InvalidParameterException", "The specified nextToken is invalid."));
}

#[tokio::test]
async fn filters_choose_streams_and_messages() {
    let logs = ten().await;
    let names = |names: &[&str]| ("logStreamNames", Doc::List(names.iter().map(|n| Doc::from(*n)).collect()));
    assert_eq!(logs.messages("g", &[]).await.len(), 20);
    assert_eq!(logs.messages("g", &[names(&["other"])]).await.len(), 10);
    assert_eq!(logs.messages("g", &[("logStreamNamePrefix", "ot".into())]).await.len(), 10);
    assert_eq!(logs.messages("g", &[("logStreamNamePrefix", "x".into())]).await.len(), 0);
    assert_eq!(logs.messages("g", &[("filterPattern", "?m3 ?o4".into())]).await, ["m3", "o4"]);
    assert_eq!(logs.messages("g", &[("filterPattern", "3".into()), ("limit", Doc::Int(1))]).await, ["m3", "o3"]);
    let with = |more: (&'static str, Doc)| vec![("logGroupName", Doc::from("g")), more];
    let (code, status, message) = logs.refused("FilterLogEvents", &with(("filterPattern", "a-b".into()))).await;
    assert_eq!((code.as_str(), status), ("InvalidParameterException", 400));
    assert_eq!(message, "Invalid filter pattern");
    let unknown = logs.refused("FilterLogEvents", &with(names(&["s", "none"]))).await;
    assert_eq!(unknown.2, "The specified log stream does not exist.");
    let mut both = with(names(&["s"]));
    both.push(("logStreamNamePrefix", "s".into()));
    assert_eq!(logs.refused("FilterLogEvents", &both).await.0, "InvalidParameterException");
    let neither = logs.refused("FilterLogEvents", &[("filterPattern", "".into())]).await;
    assert_eq!(neither.0, "InvalidParameterException");
}

#[tokio::test]
async fn event_ids_are_unique_and_stable() {
    let logs = ten().await;
    logs.put("g", "s", &[(NOW, "same"), (NOW, "same"), (NOW, "same")]).await;
    let ids = |page: &Doc| texts(page, "events", "eventId");
    let input = [("logGroupName", Doc::from("g"))];
    let first = ids(&logs.call("FilterLogEvents", &input).await);
    let mut unique = first.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 23);
    assert_eq!(unique, first, "ids sort as events do");
    let logs = logs.reopen();
    assert_eq!(ids(&logs.call("FilterLogEvents", &input).await), first);
}

#[tokio::test]
async fn a_batch_follows_the_rules() {
    let logs = Logs::new();
    logs.create("g", &["s"]).await;
    let day = 24 * 60 * 60 * 1000;
    let answer = logs.put("g", "s", &[(NOW - 15 * day, "old"), (NOW, "now"), (NOW + day, "new")]).await;
    let rejected = answer.get("rejectedLogEventsInfo").expect("some are rejected");
    assert_eq!(rejected.int_of("tooOldLogEventEndIndex"), Some(1));
    assert_eq!(rejected.int_of("tooNewLogEventStartIndex"), Some(2));
    assert!(answer.text_of("nextSequenceToken").is_some());
    assert_eq!(logs.messages("g", &[]).await, ["now"]);
    let event = |at: i64, message: &str| {
        Doc::Map(vec![("timestamp".into(), Doc::Int(at)), ("message".into(), Doc::from(message))])
    };
    let put = |stream: &'static str, events: Vec<Doc>| {
        [("logGroupName", Doc::from("g")), ("logStreamName", stream.into()), ("logEvents", Doc::List(events))]
    };
    for bad in [vec![], vec![event(NOW, "b"), event(NOW - 1, "a")], vec![event(NOW, "")]] {
        assert_eq!(logs.refused("PutLogEvents", &put("s", bad)).await.0, "InvalidParameterException");
    }
    let missing = logs.refused("PutLogEvents", &put("none", vec![event(NOW, "a")])).await;
    assert_eq!(missing.2, "The specified log stream does not exist.");
    assert_eq!(logs.messages("g", &[]).await, ["now"]);
}
