use flint_base::SystemClock;

use super::*;

fn request(family: Family, change: impl FnOnce(&mut Value)) -> Result<Request, String> {
    let mut body = json!({
        "schemaVersion": if family == Family::Logs { "2021-03-18" } else { "2022-12-13" },
        "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/in"},
    });
    change(&mut body);
    Request::parse(family, body.to_string().as_bytes())
}

#[test]
fn what_is_wrong_with_a_subscription_is_said() {
    let telemetry = Family::Telemetry;
    assert!(request(telemetry, |_| {}).is_ok());
    assert!(request(telemetry, |b| b["destination"]["URI"] = "http://sandbox:1".into()).is_ok());
    type Change = fn(&mut Value);
    let wrong: [(Change, &str); 11] = [
        (|b| b["schemaVersion"] = "2020-08-15".into(), "schemaVersion should be"),
        (|b| b["types"] = json!([]), "types should not be empty"),
        (|b| b["types"] = json!(["all"]), "types should be"),
        (|b| b["types"] = "function".into(), "types should not be empty"),
        (|b| b["buffering"]["maxItems"] = 999.into(), "buffering.maxItems should be between 1000 and 10000"),
        (|b| b["buffering"]["maxBytes"] = 1_048_577.into(), "buffering.maxBytes"),
        (|b| b["buffering"]["timeoutMs"] = (-1).into(), "buffering.timeoutMs"),
        (|b| b["destination"]["protocol"] = "TCP".into(), "destination.protocol should be HTTP"),
        (|b| b["destination"]["URI"] = "http://sandbox.localdomain".into(), "URI port is not provided"),
        (|b| b["destination"]["URI"] = "http://sandbox.localdomain:9001".into(), "URI port is reserved"),
        (|b| b["destination"]["URI"] = "http://10.0.0.1:80".into(), "URI should begin"),
    ];
    for (change, expected) in wrong {
        let problem = request(telemetry, change).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }
    assert!(Request::parse(telemetry, b"[").is_err());
    assert!(Request::parse(telemetry, b"[]").is_err());
    assert!(request(Family::Logs, |b| b["schemaVersion"] = Value::Null).is_ok());
}

fn line(text: &str) -> Record {
    let text = Bytes::copy_from_slice(text.as_bytes());
    Record { at: Timestamp::from_millis(0), source: Source::Function, content: Content::Line { text, json: true } }
}

fn parsed(batch: &Bytes) -> Vec<Value> {
    serde_json::from_slice(batch).expect("a JSON array")
}

#[tokio::test]
async fn records_come_in_the_shape_of_the_schema() {
    let platform = |kind| Record {
        at: Timestamp::from_millis(0),
        source: Source::Platform,
        content: Content::Platform(kind, "{}".into()),
    };
    let shown = async |family, version: &str| {
        let wanted = request(family, |b| b["schemaVersion"] = version.into()).expect("a request");
        let subscription = Subscription::new("x", wanted);
        subscription.push(&line(r#"{"a":1}"#));
        subscription.push(&line("plain"));
        ["initStart", "runtimeDone", "end"].iter().for_each(|kind| subscription.push(&platform(kind)));
        subscription.push(&Record { source: Source::Extension, ..line("not wanted") });
        let batch = parsed(&subscription.batch().await);
        assert!(batch.iter().all(|r| r["time"] == "1970-01-01T00:00:00.000Z"));
        batch.iter().map(|r| format!("{} {}", r["type"].as_str().unwrap(), r["record"])).collect::<Vec<_>>()
    };
    let text = r#"function "{\"a\":1}""#;
    let plain = r#"function "plain""#;
    let (start, done, end) = ("platform.initStart {}", "platform.runtimeDone {}", "platform.end {}");
    assert_eq!(shown(Family::Telemetry, "2022-07-01").await, [text, plain, start, done]);
    assert_eq!(shown(Family::Telemetry, "2022-12-13").await, [r#"function {"a":1}"#, plain, start, done]);
    assert_eq!(shown(Family::Logs, "2020-08-15").await, [text, plain, end]);
    assert_eq!(shown(Family::Logs, "2021-03-18").await, [text, plain, done, end]);
}

#[tokio::test]
async fn a_slow_subscriber_loses_records_and_is_told() {
    let subscription = Subscription::new("x", request(Family::Telemetry, |_| {}).expect("a request"));
    (0..4321).for_each(|n| subscription.push(&line(&n.to_string())));
    let mut all = Vec::new();
    while subscription.is_due() {
        let batch = parsed(&subscription.batch().await);
        assert!(batch.len() <= 1000);
        all.extend(batch);
        subscription.sent();
    }
    let last = all.pop().expect("records");
    assert!(all.iter().enumerate().all(|(n, r)| r["record"] == n.to_string().as_str()), "in order");
    assert_eq!((all.len(), &last["type"]), (4000, &"platform.logsDropped".into()));
    assert_eq!(last["record"]["droppedRecords"], 321);
}

#[test]
fn nothing_is_kept_once_nobody_may_subscribe() {
    let telemetry = Telemetry::new(Arc::new(SystemClock::new()));
    assert!(telemetry.is_active());
    telemetry.line("x".into(), Source::Function, false, Timestamp::from_millis(0));
    assert_eq!(telemetry.lock().backlog.len(), 1);
    telemetry.close();
    assert!(!telemetry.is_active() && !telemetry.is_due() && telemetry.lock().backlog.is_empty());
    let wanted = request(Family::Telemetry, |_| {}).expect("a request");
    assert_eq!(telemetry.subscribe("x", wanted), Err(Refused::Closed));
}

proptest::proptest! {
    #[test]
    fn any_subscription_is_taken_within_bounds_or_refused(
        garbage in "\\PC{0,60}",
        items in 0u64..20_000,
        port in 0u32..100_000,
        host in proptest::sample::select(vec!["sandbox.localdomain", "sandbox", "127.0.0.1", "evil.example", "sandbox@evil.example", ""]),
        path in "[ -~]{0,20}",
    ) {
        let body = format!(
            r#"{{"schemaVersion":"2022-12-13","types":["platform"],"buffering":{{"maxItems":{items}}},"destination":{{"protocol":"HTTP","URI":{}}}}}"#,
            serde_json::Value::from(format!("http://{host}:{port}/{path}"))
        );
        for family in [Family::Logs, Family::Telemetry] {
            let _ = Request::parse(family, garbage.as_bytes());
            if let Ok(request) = Request::parse(family, body.as_bytes()) {
                proptest::prop_assert!(host != "evil.example" && host != "sandbox@evil.example" && (1000..=10_000).contains(&items));
                proptest::prop_assert_eq!(u32::from(request.port), port);
                proptest::prop_assert!(request.path.bytes().all(|b| b.is_ascii_graphic()), "{:?}", request.path);
            }
        }
    }
}
