//! From a source to a function: batches, windows, filters, answers, order, throttles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flint_store::journal::{Kind, Outcome};
use serde_json::{Value, json};

use crate::fakes::{Call, Does, World, pass, place};
use crate::sources::{ARN, FIFO, event_of};

/// Maps the queue (or `more`'s) to `f`; answers the UUID.
async fn map(world: &World, more: Value) -> String {
    let mut doc = json!({ "FunctionName": "f", "EventSourceArn": ARN });
    doc.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = world.call("CreateEventSourceMapping", doc).await.expect("made");
    made.text_of("UUID").expect("a UUID").to_owned()
}

fn batches(world: &World) -> Vec<Vec<String>> {
    let calls = world.engine.calls.lock().unwrap();
    calls.iter().filter(|call| call.function == "f").map(Call::ids).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_wakes_the_mapping_at_once() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    map(&world, json!({})).await;
    pass(3600).await;
    assert!(world.records.polls() < 400, "{} polls in an idle hour", world.records.polls());
    let before = world.clock_ms();
    world.records.send("m", "hello", None);
    pass(1).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].at_ms <= before + 1, "{} after {before}", calls[0].at_ms);
    let event: Value = serde_json::from_slice(&calls[0].payload).unwrap();
    assert_eq!(event, json!({ "Records": [{ "messageId": "m", "body": "hello" }] }));
    assert_eq!(calls[0].lineage.event, event_of("m"), "one message is its own event");
    assert_eq!(world.records.settled(), ["m"]);
}

#[tokio::test(start_paused = true)]
async fn batches_and_windows() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    for n in 0..25 {
        world.records.send(&format!("m{n:02}"), "x", None);
    }
    let uuid = map(&world, json!({})).await;
    pass(1).await;
    let sizes: Vec<usize> = batches(&world).iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 5]);
    let update = json!({ "UUID": uuid, "BatchSize": 100, "MaximumBatchingWindowInSeconds": 5 });
    world.call("UpdateEventSourceMapping", update).await.expect("updated");
    world.engine.calls.lock().unwrap().clear();
    let before = world.clock_ms();
    for n in 0..7 {
        world.records.send(&format!("n{n}"), "x", None);
        pass(1).await;
    }
    pass(10).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    assert_eq!(calls.iter().map(|call| call.ids().len()).collect::<Vec<_>>(), [5, 2]);
    assert!((5_000..5_200).contains(&(calls[0].at_ms - before)), "the window opens with the first record");
    // A full batch does not wait for its window.
    world.engine.calls.lock().unwrap().clear();
    let before = world.clock_ms();
    for n in 0..150 {
        world.records.send(&format!("o{n}"), "x", None);
    }
    pass(1).await;
    let call = world.engine.calls.lock().unwrap()[0].clone();
    assert_eq!((call.ids().len(), call.at_ms / 100), (100, before / 100));
}

#[tokio::test(start_paused = true)]
async fn what_no_filter_wants_is_done() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    let filters = json!({ "FilterCriteria": { "Filters": [
        { "Pattern": r#"{"body": {"kind": ["order"]}}"# },
        { "Pattern": r#"{"body": {"price": [{"numeric": [">", 100]}]}}"# },
    ] } });
    map(&world, filters).await;
    for (id, body) in [
        ("a", r#"{"kind": "order"}"#),
        ("b", r#"{"kind": "other"}"#),
        ("c", r#"{"price": 101}"#),
        ("d", r#"{"price": 100}"#),
        ("e", "no json"),
    ] {
        world.records.send(id, body, None);
    }
    pass(1).await;
    assert_eq!(batches(&world).concat(), ["a", "c"]);
    assert_eq!(world.records.left(), 0, "the others are settled");
}

#[tokio::test(start_paused = true)]
async fn one_poison_message_among_a_hundred() {
    for partial in [true, false] {
        let world = World::new().await;
        *world.records.max_receives.lock().unwrap() = 3;
        world.engine.put("f", move |call| match (call.has("m42"), partial) {
            (true, true) => {
                Does::Say(Duration::ZERO, json!({ "batchItemFailures": [{ "itemIdentifier": "m42" }] }).to_string())
            }
            (true, false) => Does::Fail(r#"{"errorType":"Poison","errorMessage":"x"}"#),
            _ => Does::Answer("{}"),
        });
        for n in 0..100 {
            world.records.send(&format!("m{n:02}"), "x", None);
        }
        let kinds = if partial { json!(["ReportBatchItemFailures"]) } else { json!([]) };
        map(&world, json!({ "FunctionResponseTypes": kinds })).await;
        pass(200).await;
        assert_eq!(world.records.dead(), ["m42"], "partial: {partial}");
        let settled: BTreeSet<String> = world.records.settled().into_iter().collect();
        assert_eq!(settled.len(), 99, "partial: {partial}");
        let of_poison = flint_store::journal::of_event(&*world.store, &place(), event_of("m42")).unwrap();
        let kinds: Vec<_> = of_poison.iter().map(|(_, entry)| (entry.kind, entry.outcome)).collect();
        assert_eq!(kinds, [(Kind::Retried, Some(Outcome::FunctionError)); 3]);
        let error = of_poison[0].1.error.clone().expect("says of what it failed");
        assert_eq!(error.kind, if partial { "BatchItemFailures" } else { "Poison" });
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_answer_fails_the_whole_batch() {
    let world = World::new().await;
    world.engine.put("f", |call| match call.at_ms > 20_000 {
        true => Does::Answer("{}"),
        false => Does::Answer(r#"{"batchItemFailures":[{"itemIdentifier":"nobody"}]}"#),
    });
    for id in ["a", "b"] {
        world.records.send(id, "x", None);
    }
    map(&world, json!({ "FunctionResponseTypes": ["ReportBatchItemFailures"] })).await;
    pass(10).await;
    assert_eq!((world.records.left(), world.records.settled().len()), (2, 0));
    pass(30).await;
    assert_eq!(world.records.left(), 0, "after the visibility timeout");
    assert_eq!(world.engine.seconds("f").last(), Some(&30));
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_order_and_moves_on() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 2;
    let seen: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let notes = seen.clone();
    world.engine.put("f", move |call| {
        let mut failed = None;
        for id in call.ids() {
            if id == "g1-03" {
                failed = Some(id);
                break;
            }
            notes.lock().unwrap().entry(id[..2].to_owned()).or_default().push(id);
        }
        let items: Vec<Value> = failed.iter().map(|id| json!({ "itemIdentifier": id })).collect();
        Does::Say(Duration::from_millis(5), json!({ "batchItemFailures": items }).to_string())
    });
    for n in 0..20 {
        for group in ["g0", "g1", "g2", "g3"] {
            world.records.send(&format!("{group}-{n:02}"), "x", Some(group));
        }
    }
    map(&world, json!({ "EventSourceArn": FIFO, "FunctionResponseTypes": ["ReportBatchItemFailures"] })).await;
    pass(300).await;
    assert_eq!(world.records.dead(), ["g1-03"]);
    let settled = world.records.settled();
    assert_eq!(settled.len(), 79);
    for group in ["g0", "g1", "g2", "g3"] {
        let of_group: Vec<_> = settled.iter().filter(|id| id.starts_with(group)).cloned().collect();
        assert!(of_group.is_sorted(), "{of_group:?}");
        let seen = seen.lock().unwrap()[group].clone();
        assert!(seen.is_sorted(), "what the function saw: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_fails_without_an_answer_keeps_its_order_too() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 3;
    world.engine.put("f", |call| if call.has("g-01") { Does::Fail("{}") } else { Does::Answer("null") });
    for n in 0..6 {
        world.records.send(&format!("g-{n:02}"), "x", Some("g"));
    }
    map(&world, json!({ "EventSourceArn": FIFO })).await;
    pass(200).await;
    assert_eq!(world.records.settled(), ["g-00", "g-02", "g-03", "g-04", "g-05"]);
    assert_eq!(world.records.dead(), ["g-01"], "it takes none of its group along");
}

#[tokio::test(start_paused = true)]
async fn throttles_do_not_count_as_receives() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 2;
    world.engine.put("f", |call| if call.at_ms < 40_000 { Does::Throttle } else { Does::Answer("null") });
    for id in ["a", "b", "c"] {
        world.records.send(id, "x", None);
    }
    map(&world, json!({})).await;
    pass(39).await;
    assert!(world.records.receives("a") <= 1, "{}", world.records.receives("a"));
    let calls = world.engine.calls.lock().unwrap().len();
    assert!(calls < 12, "{calls} calls that were refused");
    pass(30).await;
    assert_eq!((world.records.left(), world.records.dead().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_at_once_than_allowed() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(1)));
    for n in 0..100 {
        world.records.send(&format!("m{n}"), "x", None);
    }
    let uuid = map(&world, json!({ "BatchSize": 1, "ScalingConfig": { "MaximumConcurrency": 2 } })).await;
    pass(10).await;
    assert_eq!(world.engine.running.lock().unwrap().1, 2);
    assert!((18..=22).contains(&world.engine.calls.lock().unwrap().len()));
    world.call("UpdateEventSourceMapping", json!({ "UUID": uuid, "ScalingConfig": {} })).await.expect("updated");
    pass(3).await;
    assert_eq!(world.records.left(), 0, "the whole backlog at once");
    assert!(world.engine.running.lock().unwrap().1 > 50);
}

#[tokio::test(start_paused = true)]
async fn the_reference_s_ramp_with_parity() {
    let world = World::parity().await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(10)));
    *world.records.visibility.lock().unwrap() = Duration::from_secs(600);
    for n in 0..500 {
        world.records.send(&format!("m{n}"), "x", None);
    }
    map(&world, json!({ "BatchSize": 1 })).await;
    pass(0).await;
    assert_eq!(world.engine.running.lock().unwrap().0, 5);
    pass(9).await;
    let running = world.engine.running.lock().unwrap().0;
    assert!((45..=55).contains(&running), "{running} after nine seconds: 5 and 300 a minute");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_and_a_drain_leaves_nothing_out() {
    let world = World::limited(1).await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(20)));
    map(&world, json!({ "BatchSize": 1 })).await;
    for id in ["a", "b", "c"] {
        world.records.send(id, "x", None);
    }
    pass(1).await;
    world.delivery.drain(Duration::from_secs(2)).await;
    assert_eq!(world.records.backlog_now(), 3, "the one in flight came back, too");
    world.engine.put("f", |_| Does::Answer("null"));
    let world = world.restart(10).await;
    pass(1).await;
    assert_eq!(world.records.left(), 0, "at once, not after the visibility timeout");
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_goes_round_ends_with_its_message() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 3;
    world.engine.put("f", |_| Does::Answer("null"));
    let mut header: Option<String> = None;
    let lineage = flint_model::Lineage::root(event_of("first"));
    for _ in 0..16 {
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
        header = Some(flint_model::trace::next_pass(header.as_deref(), &lineage, arn).header.to_string());
    }
    map(&world, json!({})).await;
    world.records.send_traced("round", "x", None, header.as_deref());
    world.records.send("plain", "x", None);
    pass(60).await;
    assert_eq!(world.records.dead(), ["round"]);
    assert_eq!(batches(&world).concat(), ["plain"], "its neighbour is not stopped");
    let entries = flint_store::journal::of_event(&*world.store, &place(), event_of("round")).unwrap();
    let error = entries[0].1.error.clone().expect("the reason");
    assert_eq!(error.kind, "RecursiveInvocationException");
}

#[tokio::test(start_paused = true)]
async fn two_functions_share_the_room() {
    let world = World::limited(2).await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(1)));
    world.engine.put("g", |_| Does::Work(Duration::from_millis(1)));
    map(&world, json!({ "BatchSize": 1 })).await;
    for n in 0..500 {
        world.records.send(&format!("m{n}"), "x", None);
    }
    pass(5).await;
    let before = world.clock_ms();
    world.send("g", "{}").await;
    pass(3).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    let at = calls.iter().find(|call| call.function == "g").expect("its turn came").at_ms;
    assert!(at <= before + 1_100, "{at} after {before}");
}

/// How often each record was in a batch.
fn times(world: &World) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for id in batches(world).concat() {
        *times.entry(id).or_insert(0) += 1;
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_window_longer_than_the_visibility_takes_no_record_twice() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 2;
    world.engine.put("f", |_| Does::Answer("null"));
    map(&world, json!({ "BatchSize": 100, "MaximumBatchingWindowInSeconds": 300 })).await;
    for id in ["a", "b", "c"] {
        world.records.send(id, "x", None);
        pass(40).await;
    }
    pass(300).await;
    assert_eq!(batches(&world), [["a", "b", "c"]], "the window is 300 s, a visibility timeout 30");
    assert_eq!((world.records.left(), world.records.dead().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn batches_that_wait_for_their_turn_are_not_taken_twice() {
    for fifo in [false, true] {
        let world = World::new().await;
        // The first time all ten fail together; then each comes alone, and takes nearly as long as it may.
        world.engine.put("f", |call| match call.ids().len() {
            1 => Does::Work(Duration::from_millis(2_900)),
            _ => Does::Fail("{}"),
        });
        *world.records.visibility.lock().unwrap() = Duration::from_secs(4);
        for n in 0..10 {
            world.records.send(&format!("m{n}"), "x", fifo.then(|| format!("g{n}")).as_deref());
        }
        let arn = if fifo { FIFO } else { ARN };
        map(&world, json!({ "EventSourceArn": arn, "ScalingConfig": { "MaximumConcurrency": 2 } })).await;
        pass(90).await;
        assert_eq!(world.records.left(), 0);
        assert!(times(&world).values().all(|n| *n == 2), "once with the others, once alone: {:?}", times(&world));
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_late_finds_its_records_fresh() {
    let world = World::limited(1).await;
    world.engine.put("f", |_| Does::Answer("null"));
    world.engine.put("g", |_| Does::Work(Duration::from_secs(100)));
    map(&world, json!({})).await;
    *world.records.max_receives.lock().unwrap() = 2;
    pass(1).await;
    world.send("g", "{}").await;
    pass(1).await;
    world.records.send("m", "x", None);
    pass(200).await;
    assert_eq!(times(&world), BTreeMap::from([("m".to_owned(), 1)]));
    assert_eq!((world.records.left(), world.records.dead().len()), (0, 0), "it waited longer than its visibility");
}

#[tokio::test(start_paused = true)]
async fn large_records_are_not_all_taken_at_once() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(2)));
    let body = "x".repeat(200 << 10);
    for n in 0..400 {
        world.records.send(&format!("m{n:03}"), &body, None);
    }
    let window = json!({ "BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 1,
                         "ScalingConfig": { "MaximumConcurrency": 2 } });
    map(&world, window).await;
    pass(1).await;
    assert!(world.records.backlog_now() > 200, "80 MiB would be in hand");
    pass(60).await;
    assert_eq!(world.records.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn behind_a_chain_that_goes_round_its_group_waits() {
    let world = World::new().await;
    *world.records.max_receives.lock().unwrap() = 2;
    world.engine.put("f", |_| Does::Answer("null"));
    let lineage = flint_model::Lineage::root(event_of("first"));
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let pass_on = |header: Option<String>| {
        Some(flint_model::trace::next_pass(header.as_deref(), &lineage, arn).header.to_string())
    };
    let header = (0..16).fold(None, |header, _| pass_on(header));
    world.records.send("g-0", "x", Some("g"));
    world.records.send_traced("g-1", "x", Some("g"), header.as_deref());
    world.records.send("g-2", "x", Some("g"));
    world.records.send("h-0", "x", Some("h"));
    map(&world, json!({ "EventSourceArn": FIFO })).await;
    pass(0).await;
    assert_eq!(world.records.settled(), ["g-0", "h-0"], "the third is behind one that may come again");
    pass(60).await;
    assert_eq!((world.records.dead(), world.records.settled().len()), (vec!["g-1".to_owned()], 3));
}
