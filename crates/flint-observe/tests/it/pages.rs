//! Pages against a naive model, over many segments and times out of order.

use flint_kit::Doc;
use proptest::prelude::*;

use crate::harness::{Logs, NOW, texts};

/// `(stream, how long before now, kind)`; the message is the index, the kind, and padding.
type Event = (u8, i64, u8);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn message(index: usize, kind: u8, pad: usize) -> String {
    format!("{index} kind{kind} {}", "x".repeat(pad))
}

async fn all_pages(logs: &Logs, limit: i64, back: bool) -> Vec<String> {
    let name = if back { "nextBackwardToken" } else { "nextForwardToken" };
    let base = vec![
        ("logGroupName", Doc::from("g")),
        ("logStreamName", Doc::from("s0")),
        ("limit", Doc::Int(limit)),
        ("startFromHead", Doc::Bool(!back)),
    ];
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut input = base.clone();
        input.extend(token.iter().map(|t| ("nextToken", Doc::from(t.as_str()))));
        let page = logs.call("GetLogEvents", &input).await;
        let mut messages = texts(&page, "events", "message");
        if back {
            messages.append(&mut found);
            found = messages;
        } else {
            found.append(&mut messages);
        }
        let next = page.text_of(name).expect("a token").to_owned();
        if token.as_ref() == Some(&next) {
            return found;
        }
        token = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_what_the_model_says(
        events in prop::collection::vec((0..3u8, 0..40i64, 0..3u8), 0..60),
        pad in 0..700usize,
        limit in 1..20i64,
        window in (0..40i64, 0..40i64),
    ) {
        let rt = runtime();
        rt.block_on(async {
            let logs = Logs::new();
            logs.create("g", &["s0", "s1", "s2"]).await;
            for (i, (stream, ago, kind)) in events.iter().enumerate() {
                logs.append("g", &format!("s{stream}"), &[(NOW - ago, &message(i, *kind, pad))]);
            }
            // The order of time, and of arrival within it.
            let mut sorted: Vec<(usize, Event)> = events.iter().copied().enumerate().collect();
            sorted.sort_by_key(|(i, (_, ago, _))| (-ago, *i));
            let pick = |wanted: &dyn Fn(&Event) -> bool| -> Vec<String> {
                sorted.iter().filter(|(_, e)| wanted(e)).map(|(i, (_, _, kind))| message(*i, *kind, pad)).collect()
            };
            let (from, to) = (window.0.max(window.1), window.0.min(window.1));
            let found = logs.messages("g", &[
                ("limit", Doc::Int(limit)),
                ("startTime", Doc::Int(NOW - from)),
                ("endTime", Doc::Int(NOW - to)),
                ("filterPattern", "kind1".into()),
            ]).await;
            assert_eq!(found, pick(&|(_, ago, kind)| (to..=from).contains(ago) && *kind == 1));
            let two = Doc::List(vec!["s0".into(), "s2".into()]);
            let found = logs.messages("g", &[("limit", Doc::Int(limit)), ("logStreamNames", two)]).await;
            assert_eq!(found, pick(&|(stream, ..)| *stream != 1));
            let one = pick(&|(stream, ..)| *stream == 0);
            assert_eq!(all_pages(&logs, limit, false).await, one);
            assert_eq!(all_pages(&logs, limit, true).await, one);
            // The same from the files of an earlier life.
            let logs = logs.reopen();
            assert_eq!(logs.messages("g", &[]).await, pick(&|_| true));
            assert_eq!(all_pages(&logs, limit, true).await, one);
        });
    }
}

#[tokio::test]
async fn a_page_has_at_most_a_mebibyte() {
    let logs = Logs::with(flint_observe::Options::default());
    let big = "x".repeat(300_000);
    let lines: Vec<(i64, &str)> = (0..10).map(|i| (NOW + i, big.as_str())).collect();
    logs.append("g", "s", &lines);
    let page = logs.call("FilterLogEvents", &[("logGroupName", "g".into())]).await;
    assert_eq!(texts(&page, "events", "message").len(), 3);
    assert!(page.text_of("nextToken").is_some());
    assert_eq!(logs.messages("g", &[]).await.len(), 10);
    // An event as large as a page gets one of its own.
    let huge = "y".repeat(1 << 20);
    logs.append("h", "s", &[(NOW, &huge), (NOW, "z"), (NOW, &huge)]);
    assert_eq!(logs.messages("h", &[]).await.iter().map(String::len).collect::<Vec<_>>(), [1 << 20, 1, 1 << 20]);
}
