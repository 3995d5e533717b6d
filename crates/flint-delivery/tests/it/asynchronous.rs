//! Attempts, waits, ages, destinations and dead letters of asynchronous invocations.

use std::time::Duration;

use flint_kit::{AttributeValue, Fault};
use flint_store::journal::{Kind, Outcome};
use serde_json::{Value, json};

use crate::fakes::{Does, World, pass, place};

fn golden(text: &str) -> Value {
    serde_json::from_str(text).expect("a golden file is JSON")
}

fn leak(value: &Value) -> &'static str {
    Box::leak(value.to_string().into_boxed_str())
}

const DEAD: &str = "arn:aws:sqs:us-east-1:000000000000:dead";

async fn configure(world: &World, function: &str, more: Value) {
    let mut doc = json!({ "FunctionName": function });
    doc.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    world.call("PutFunctionEventInvokeConfig", doc).await.expect("configured");
}

#[tokio::test(start_paused = true)]
async fn an_event_runs_at_once_and_once() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    let id = world.send("f", "{\"a\":1}").await;
    pass(0).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].request_id, &calls[0].payload[..]), (id, &b"{\"a\":1}"[..]));
    assert_eq!(calls[0].trace.as_deref(), Some("Root=1-5759e988-bd862e3fe1be46a994272793"));
    pass(7 * 3600).await;
    assert_eq!(world.engine.seconds("f"), [0]);
    let entries = world.journal(id);
    assert_eq!(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [Kind::Accepted, Kind::Settled]);
    assert_eq!(entries[1].outcome, Some(Outcome::Succeeded));
    assert!(world.queue.sent.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_failure_is_the_reference_s() {
    let golden = golden(include_str!("golden/on-failure.json"));
    let world = World::new().await;
    let answer = leak(&golden["answer"]);
    world.engine.put("my-function", move |_| Does::Fail(answer));
    configure(&world, "my-function", json!({ "DestinationConfig": { "OnFailure": { "Destination": DEAD } } })).await;
    let id = golden["requestId"].as_str().unwrap().parse().unwrap();
    world.send_as(id, "my-function", golden["payload"].to_string()).await;
    pass(200).await;
    assert_eq!(world.engine.seconds("my-function"), [0, 60, 180], "the waits are one and two minutes");
    assert!(world.engine.calls.lock().unwrap().iter().all(|call| call.request_id == id), "one id for all attempts");
    let sent = world.queue.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    let (queue, envelope) = &sent[0];
    let mut record: Value = serde_json::from_slice(&envelope.payload).unwrap();
    same_second(&mut record, &golden["record"]);
    assert_eq!((queue.as_str(), &record), ("dead", &golden["record"]));
    assert!(envelope.attributes.is_empty());
    assert_eq!(envelope.lineage.cause, Some(id.into()));
    assert_eq!(world.kinds(id), [Kind::Accepted, Kind::Retried, Kind::Retried, Kind::DeadLettered]);
}

/// The clock of tokio wakes a few milliseconds late; what the record says is compared to the second.
fn same_second(record: &mut Value, wanted: &Value) {
    let (said, expected) = (record["timestamp"].as_str().unwrap().to_owned(), wanted["timestamp"].as_str().unwrap());
    assert_eq!((said.len(), &said[..20]), (expected.len(), &expected[..20]));
    record["timestamp"] = json!(expected);
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_success_is_the_reference_s() {
    let golden = golden(include_str!("golden/on-success.json"));
    let world = World::new().await;
    world.engine.put("event-destinations", |_| Does::Answer("null"));
    world.engine.put("next", |_| Does::Answer("null"));
    let next = "arn:aws:lambda:us-east-1:000000000000:function:next";
    configure(&world, "event-destinations", json!({ "DestinationConfig": { "OnSuccess": { "Destination": next } } }))
        .await;
    let id = golden["requestId"].as_str().unwrap().parse().unwrap();
    world.send_as(id, "event-destinations", golden["payload"].to_string()).await;
    pass(1).await;
    let call = world.engine.calls.lock().unwrap().iter().find(|call| call.function == "next").cloned().expect("called");
    let mut record: Value = serde_json::from_slice(&call.payload).unwrap();
    same_second(&mut record, &golden["record"]);
    assert_eq!(record, golden["record"]);
    assert_eq!((call.lineage.cause, call.lineage.root, call.lineage.depth), (Some(id.into()), id.into(), 1));
    let trace = flint_model::Trace::parse(call.trace.as_deref().unwrap()).unwrap();
    assert_eq!(
        flint_model::trace::root_text(&trace.root),
        "1-5759e988-bd862e3fe1be46a994272793",
        "one trace for the chain"
    );
    let first = "arn:aws:lambda:us-east-1:000000000000:function:event-destinations";
    assert_eq!((trace.passes(first), trace.lineage().event), (1, id.into()), "the chain has been through the function");
    assert_eq!(world.kinds(call.request_id), [Kind::Accepted, Kind::Settled]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_the_reference_s() {
    let golden = golden(include_str!("golden/dead-letter.json"));
    let world = World::new().await;
    let answer = leak(&golden["answer"]);
    world.engine.put("f", move |_| Does::Fail(answer));
    world.engine.change("f", |facts| facts.dead_letter = Some(DEAD.into()));
    let id = world.send("f", golden["payload"].to_string()).await;
    pass(200).await;
    let sent = world.queue.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.payload, golden["body"].as_str().unwrap());
    let attributes = sent[0].1.attributes.iter().map(|attribute| {
        let (kind, value) = match &attribute.value {
            AttributeValue::String(value) => ("String", value),
            AttributeValue::Number(value) => ("Number", value),
            AttributeValue::Binary(_) => panic!("no binary"),
        };
        (attribute.name.clone(), json!([kind, value.replace(&id.to_string(), "{requestId}")]))
    });
    assert_eq!(Value::Object(attributes.collect()), golden["attributes"]);
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_qualifier_hold() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Fail("{}"));
    configure(&world, "f", json!({ "Qualifier": "live", "MaximumRetryAttempts": 0 })).await;
    configure(&world, "f", json!({ "MaximumRetryAttempts": 1 })).await;
    let of_alias = world.send("f:live", "{}").await;
    pass(400).await;
    let of_latest = world.send("f", "{}").await;
    pass(400).await;
    assert_eq!(world.engine.seconds("f"), [0, 400, 460]);
    assert_eq!(world.engine.calls.lock().unwrap()[0].qualifier.as_deref(), Some("live"));
    assert_eq!(world.kinds(of_alias), [Kind::Accepted, Kind::Discarded]);
    assert_eq!(world.kinds(of_latest), [Kind::Accepted, Kind::Retried, Kind::Discarded]);
}

#[tokio::test(start_paused = true)]
async fn what_would_be_too_old_then_is_given_up_now() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Fail("{\"errorMessage\":\"x\"}"));
    let both =
        json!({ "MaximumEventAgeInSeconds": 100, "DestinationConfig": { "OnFailure": { "Destination": DEAD } } });
    configure(&world, "f", both).await;
    world.send("f", "{}").await;
    pass(100).await;
    assert_eq!(world.engine.seconds("f"), [0, 60]);
    let record: Value = serde_json::from_slice(&world.queue.sent.lock().unwrap()[0].1.payload).unwrap();
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(record["responsePayload"]["errorMessage"], "x");
}

#[tokio::test(start_paused = true)]
async fn throttles_and_system_errors_back_off_and_use_no_attempt_up() {
    let world = World::new().await;
    world.engine.put("f", |call| match call.attempt {
        1..=4 => Does::Throttle,
        5 | 6 => Does::System,
        7 => Does::Fail("{}"),
        8 => Does::Throttle,
        _ => Does::Answer("null"),
    });
    let id = world.send("f", "{}").await;
    pass(600).await;
    // 1, 2, 4, 8, 16, 32 s; one minute after the error; then it begins anew with 1 s.
    assert_eq!(world.engine.seconds("f"), [0, 1, 3, 7, 15, 31, 63, 123, 124]);
    let outcomes: Vec<_> = world.journal(id).iter().filter_map(|entry| entry.outcome).collect();
    assert_eq!(outcomes[0], Outcome::Throttled);
    assert_eq!(outcomes[4], Outcome::SystemError);
    assert_eq!(world.kinds(id).last(), Some(&Kind::Settled));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_event_ends_when_it_is_too_old() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Throttle);
    world.engine.change("f", |facts| facts.dead_letter = Some(DEAD.into()));
    let both = json!({ "MaximumEventAgeInSeconds": 60, "DestinationConfig": { "OnFailure": { "Destination": DEAD } } });
    configure(&world, "f", both).await;
    world.send("f", "{}").await;
    pass(100).await;
    assert_eq!(world.engine.seconds("f"), [0, 1, 3, 7, 15, 31, 60]);
    let mut sent = world.queue.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 2, "both are told");
    sent.sort_by_key(|(_, envelope)| envelope.attributes.len());
    let record: Value = serde_json::from_slice(&sent[0].1.payload).unwrap();
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record["responseContext"], json!({ "statusCode": 429 }));
    assert_eq!(record.get("responsePayload"), None);
    assert_eq!(sent[1].1.attributes[1].value, AttributeValue::Number("429".into()));
    assert_eq!(sent[1].1.attributes[2].value, AttributeValue::String("Rate Exceeded.".into()));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_switched_off_is_not_asked() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    world.engine.change("f", |facts| facts.reserved_concurrency = Some(0));
    configure(&world, "f", json!({ "DestinationConfig": { "OnFailure": { "Destination": DEAD } } })).await;
    world.send("f", "{}").await;
    pass(1).await;
    assert!(world.engine.seconds("f").is_empty());
    let record: Value = serde_json::from_slice(&world.queue.sent.lock().unwrap()[0].1.payload).unwrap();
    assert_eq!(record["requestContext"]["condition"], "ZeroReservedConcurrency");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record.get("responseContext"), None);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_deleted_function_ends_where_that_said() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Fail("{}"));
    world.engine.change("f", |facts| facts.dead_letter = Some(DEAD.into()));
    world.send("f", "{\"n\":7}").await;
    pass(1).await;
    world.engine.remove("f");
    world.delivery.async_invoker().forget(&place(), &"f".parse().unwrap()).await.expect("forgotten");
    pass(200).await;
    let sent = world.queue.sent.lock().unwrap().clone();
    assert_eq!((sent.len(), &sent[0].1.payload[..]), (1, &b"{\"n\":7}"[..]));
    assert_eq!(sent[0].1.attributes[1].value, AttributeValue::Number("404".into()));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_cannot_take_a_record_gets_it_later() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("7"));
    configure(&world, "f", json!({ "DestinationConfig": { "OnSuccess": { "Destination": DEAD } } })).await;
    let busy = || Fault::unavailable("no space");
    world.queue.faults.lock().unwrap().extend([busy(), busy(), busy()]);
    world.send("f", "{}").await;
    pass(6).await;
    assert!(world.queue.sent.lock().unwrap().is_empty());
    pass(2).await;
    assert_eq!(world.queue.sent.lock().unwrap().len(), 1, "after 1, 2 and 4 s");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_leaves_a_durable_end() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Fail("{}"));
    configure(
        &world,
        "f",
        json!({ "MaximumRetryAttempts": 0, "DestinationConfig": { "OnFailure": { "Destination": DEAD } } }),
    )
    .await;
    world.queue.faults.lock().unwrap().push(Fault::client(400, "NonExistentQueue", "gone"));
    let id = world.send("f", "{}").await;
    pass(1).await;
    assert_eq!(world.kinds(id), [Kind::Accepted, Kind::Discarded]);
    assert_eq!(world.journal(id)[1].target.as_deref(), Some(DEAD));
}

#[tokio::test(start_paused = true)]
async fn large_events_are_whole() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Fail("{}"));
    world.engine.change("f", |facts| facts.dead_letter = Some(DEAD.into()));
    for size in [16 << 10, (16 << 10) + 1, 63 << 10, 200_000, 1 << 20] {
        let payload = format!("\"{}\"", "x".repeat(size - 2));
        world.send("f", payload.clone()).await;
        pass(200).await;
        let sent = world.queue.sent.lock().unwrap().pop().expect("a dead letter");
        assert!(sent.1.payload == payload, "{size}");
        assert!(world.engine.calls.lock().unwrap().drain(..).all(|call| call.payload == payload), "{size}");
    }
    assert_eq!(world.rows(), 0, "nothing of a payload stays behind");
}

#[tokio::test(start_paused = true)]
async fn a_busy_function_does_not_hold_up_another() {
    let world = World::limited(2).await;
    world.engine.put("busy", |_| Does::Work(Duration::from_secs(1)));
    world.engine.put("rare", |_| Does::Work(Duration::from_millis(10)));
    for _ in 0..500 {
        world.send("busy", "{}").await;
    }
    pass(10).await;
    let sent_at = world.engine.calls.lock().unwrap().last().expect("some").at_ms;
    world.send("rare", "{}").await;
    pass(2).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    let rare = calls.iter().find(|call| call.function == "rare").expect("its turn came");
    assert!(rare.at_ms <= sent_at + 1_200, "{} after {sent_at}", rare.at_ms);
    assert_eq!(world.engine.running.lock().unwrap().1, 2, "two at once");
    pass(250).await;
    assert_eq!(world.engine.seconds("busy").len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_is_throttled_is_no_storm() {
    let world = World::new().await;
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(2));
    let taken = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (slots, held) = (room.clone(), taken.clone());
    world.engine.put("f", move |_| match slots.clone().try_acquire_owned() {
        Ok(slot) => {
            let held = held.clone();
            let number = held.lock().unwrap().len();
            held.lock().unwrap().push(Some(slot));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                held.lock().unwrap()[number] = None;
            });
            Does::Work(Duration::from_millis(100))
        }
        Err(_) => Does::Throttle,
    });
    for _ in 0..1_000 {
        world.send("f", "{}").await;
    }
    pass(120).await;
    let calls = world.engine.calls.lock().unwrap().len();
    let done = taken.lock().unwrap().len();
    assert_eq!(done, 1_000, "all of them ran");
    assert!(calls < 3_500, "{calls} calls for a thousand events");
    drop(room);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_grew_too_old_goes_at_once() {
    let world = World::limited(4).await;
    world.engine.put("f", |_| Does::Throttle);
    for _ in 0..200 {
        world.send("f", "{}").await;
    }
    pass(1).await;
    world.engine.put("f", |_| Does::Answer("null"));
    let world = world.restart_after(Duration::from_secs(7 * 3600), 4).await;
    let fresh = world.send("f", "{}").await;
    pass(30).await;
    assert_eq!(world.kinds(fresh).last(), Some(&Kind::Settled), "it does not wait behind them");
    assert_eq!(world.rows(), 0, "two hundred events that nobody asks for any more");
}
