//! The operations on event source mappings, and the states in between.

use std::time::Duration;

use flint_kit::Doc;
use serde_json::{Value, json};

use crate::fakes::{Does, World, pass};
use crate::sources::{ARN, FIFO};

async fn state(world: &World, uuid: &str) -> Option<String> {
    let doc = world.call("GetEventSourceMapping", json!({ "UUID": uuid })).await.ok()?;
    doc.text_of("State").map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn the_states_of_a_mapping() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(5)));
    let create = json!({ "FunctionName": "f", "EventSourceArn": ARN, "Enabled": false });
    let made = world.call("CreateEventSourceMapping", create.clone()).await.expect("made");
    assert_eq!(made.text_of("State"), Some("Creating"));
    assert_eq!(made.text_of("StateTransitionReason"), Some("USER_INITIATED"));
    assert_eq!((made.int_of("BatchSize"), made.int_of("MaximumBatchingWindowInSeconds")), (Some(10), Some(0)));
    assert_eq!(made.get("FunctionResponseTypes"), Some(&Doc::List(vec![])));
    let uuid = made.text_of("UUID").unwrap().to_owned();
    assert!(made.text_of("EventSourceMappingArn").unwrap().ends_with(&format!(":event-source-mapping:{uuid}")));
    assert_eq!(state(&world, &uuid).await.as_deref(), Some("Disabled"));
    world.records.send("a", "x", None);
    pass(60).await;
    assert!(world.engine.calls.lock().unwrap().is_empty());
    let twice = world.call("CreateEventSourceMapping", create).await.expect_err("there is one");
    assert_eq!((twice.status, twice.code.as_ref()), (409, "ResourceConflictException"));
    assert!(twice.message.contains(&uuid), "{twice}");
    let on = world.call("UpdateEventSourceMapping", json!({ "UUID": uuid, "Enabled": true })).await.expect("on");
    assert_eq!(on.text_of("State"), Some("Enabling"));
    pass(1).await;
    assert_eq!(state(&world, &uuid).await.as_deref(), Some("Enabled"));
    let off = world.call("UpdateEventSourceMapping", json!({ "UUID": uuid, "Enabled": false })).await.expect("off");
    assert_eq!(off.text_of("State"), Some("Disabling"));
    assert_eq!(state(&world, &uuid).await.as_deref(), Some("Disabling"), "a batch is still in flight");
    world.records.send("b", "x", None);
    pass(5).await;
    assert_eq!(state(&world, &uuid).await.as_deref(), Some("Disabled"));
    assert_eq!((world.records.left(), world.engine.calls.lock().unwrap().len()), (1, 1));
    world.call("UpdateEventSourceMapping", json!({ "UUID": uuid, "Enabled": true })).await.expect("on");
    pass(1).await;
    let gone = world.call("DeleteEventSourceMapping", json!({ "UUID": uuid })).await.expect("deleted");
    assert_eq!(gone.text_of("State"), Some("Deleting"));
    assert_eq!(state(&world, &uuid).await.as_deref(), Some("Deleting"));
    let late = world.call("UpdateEventSourceMapping", json!({ "UUID": uuid, "BatchSize": 1 })).await.expect_err("late");
    assert_eq!(late.code, "ResourceInUseException");
    pass(6).await;
    assert_eq!(state(&world, &uuid).await, None);
    assert_eq!(world.records.left(), 0, "what was in flight came to its end");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    world.engine.put("slow", |_| Does::Answer("null"));
    world.engine.change("slow", |facts| facts.timeout = Duration::from_secs(60));
    let with = |more: Value| {
        let mut doc = json!({ "FunctionName": "f", "EventSourceArn": ARN });
        doc.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        doc
    };
    let arn = |arn: &str| with(json!({ "EventSourceArn": arn }));
    let invalid = "InvalidParameterValueException";
    for (doc, code, words) in [
        (json!({ "FunctionName": "f" }), invalid, "eventSourceArn"),
        (with(json!({ "FunctionName": "g" })), "ResourceNotFoundException", "Function not found"),
        (arn("arn:aws:sqs:us-east-1:000000000000:no-queue"), invalid, "NonExistentQueue"),
        (arn("arn:aws:sqs:eu-west-1:000000000000:jobs"), invalid, "another account or region"),
        (arn("arn:aws:kinesis:us-east-1:000000000000:stream/s"), "NotImplemented", "kinesis"),
        (with(json!({ "BatchSize": 11 })), invalid, "Maximum batch window in seconds must be greater than 0"),
        (with(json!({ "EventSourceArn": FIFO, "BatchSize": 11 })), invalid, "FIFO"),
        (with(json!({ "EventSourceArn": FIFO, "MaximumBatchingWindowInSeconds": 1 })), invalid, "FIFO"),
        (with(json!({ "FunctionName": "slow" })), invalid, "30 seconds is less than Function timeout: 60 seconds"),
        (
            with(json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{" }] } })),
            invalid,
            "Invalid filter pattern definition.",
        ),
    ] {
        let fault = world.call("CreateEventSourceMapping", doc.clone()).await.expect_err("refused");
        assert_eq!(fault.code, code, "{doc}: {fault}");
        assert!(fault.message.contains(words), "{doc}: {fault}");
    }
    let unknown = json!({ "UUID": "6d9bce8e-836b-442c-8070-74e77903c815" });
    let fault = world.call("GetEventSourceMapping", unknown).await.expect_err("unknown");
    assert_eq!((fault.status, fault.message.as_str()), (404, "The resource you requested does not exist."));
}

#[tokio::test(start_paused = true)]
async fn mappings_are_listed_in_pages() {
    let world = World::new().await;
    for name in ["f", "g"] {
        world.engine.put(name, |_| Does::Answer("null"));
        for queue in ["a", "b", "c"] {
            let source = format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
            let doc = json!({ "FunctionName": name, "EventSourceArn": source });
            world.call("CreateEventSourceMapping", doc).await.expect("made");
        }
    }
    let count = |doc: &Doc| match doc.get("EventSourceMappings") {
        Some(Doc::List(items)) => items.len(),
        _ => 0,
    };
    let (mut seen, mut marker) = (0, None);
    loop {
        let mut doc = json!({ "MaxItems": 4 });
        if let Some(marker) = marker {
            doc["Marker"] = json!(marker);
        }
        let page = world.call("ListEventSourceMappings", doc).await.expect("listed");
        seen += count(&page);
        marker = page.text_of("NextMarker").map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, 6);
    for (doc, expected) in
        [(json!({ "FunctionName": "g" }), 3), (json!({ "EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:a" }), 2)]
    {
        assert_eq!(count(&world.call("ListEventSourceMappings", doc).await.expect("listed")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_has_a_hundred_at_most() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    for n in 0..101 {
        let arn = format!("{ARN}-{n}");
        let create = json!({ "FunctionName": "f", "EventSourceArn": arn, "Enabled": false });
        world.call("CreateEventSourceMapping", create).await.expect("made");
    }
    let page = world.call("ListEventSourceMappings", json!({ "MaxItems": 10_000 })).await.expect("a page");
    let Some(Doc::List(found)) = page.get("EventSourceMappings") else { panic!("{page:?}") };
    assert_eq!(found.len(), 100);
    let more = json!({ "MaxItems": 10_000, "Marker": page.text_of("NextMarker").expect("there is one more") });
    let page = world.call("ListEventSourceMappings", more).await.expect("a page");
    let Some(Doc::List(found)) = page.get("EventSourceMappings") else { panic!("{page:?}") };
    assert_eq!((found.len(), page.text_of("NextMarker")), (1, None));
}
