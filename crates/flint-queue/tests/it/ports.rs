//! A queue as the target and the source of events.

use std::time::Duration;

use bytes::Bytes;
use flint_base::EventId;
use flint_kit::{Attribute, AttributeValue, Envelope, Source, Target, Told};
use flint_model::Lineage;

use crate::support::{World, arn, ctx};

fn envelope(payload: &'static str) -> Envelope {
    Envelope {
        payload: Bytes::from_static(payload.as_bytes()),
        lineage: Lineage::root(EventId::next()).child(EventId::next()),
        trace: Some("Root=1-5759e988-bd862e3fe1be46a994272793".into()),
        source: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        attributes: vec![Attribute { name: "ErrorCode".into(), value: AttributeValue::Number("200".into()) }],
        group: None,
        deduplication: Some("once".into()),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_comes_out_as_functions_know_it() {
    let world = World::new().await;
    world.queue("q", &[]).await;
    let queues = &*world.queues;
    let sent = envelope("{}");
    let receipt = queues.deliver(&ctx(), &arn("q"), sent.clone()).await.expect("taken");
    assert_eq!(queues.backlog(&arn("q")), 1);
    let record = queues.poll(&arn("q"), 10, Duration::ZERO).await.expect("polled").remove(0);
    assert_eq!((record.id.as_str(), record.receive_count, record.lineage), (receipt.id.as_str(), 1, sent.lineage));
    assert_eq!(record.trace, sent.trace);
    let event: serde_json::Value = serde_json::from_slice(&record.document).expect("JSON");
    let sent_at = event["attributes"]["SentTimestamp"].clone();
    let want = serde_json::json!({
        "messageId": record.id,
        "receiptHandle": record.handle,
        "body": "{}",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": sent_at,
            "SenderId": "000000000000",
            "ApproximateFirstReceiveTimestamp": event["attributes"]["ApproximateFirstReceiveTimestamp"],
            "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
        },
        "messageAttributes": {
            "ErrorCode": { "stringValue": "200", "stringListValues": [], "binaryListValues": [], "dataType": "Number" },
        },
        "md5OfMessageAttributes": event["md5OfMessageAttributes"],
        "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q",
        "awsRegion": "us-east-1",
    });
    assert_eq!(event, want);
    queues
        .settle(&arn("q"), vec![Told::plain(record.handle.clone()), Told::plain("nonsense".into())])
        .await
        .expect("settled");
    queues.settle(&arn("q"), vec![Told::plain(record.handle)]).await.expect("settled again is no error");
    assert_eq!(queues.poll(&arn("q"), 10, Duration::ZERO).await.expect("polled").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_uncounted_was_not_received() {
    let world = World::new().await;
    world.queue("q", &[]).await;
    let queues = &*world.queues;
    for _ in 0..3 {
        queues.deliver(&ctx(), &arn("q"), envelope("{}")).await.expect("taken");
    }
    for _ in 0..3 {
        let records = queues.poll(&arn("q"), 1_000, Duration::ZERO).await.expect("polled");
        assert_eq!(records.iter().map(|r| r.receive_count).collect::<Vec<_>>(), [1, 1, 1]);
        let handles = records.into_iter().map(|r| Told::plain(r.handle)).collect();
        queues.give_back(&arn("q"), handles, Duration::from_secs(2), true).await.expect("given back");
        assert_eq!(queues.poll(&arn("q"), 10, Duration::ZERO).await.expect("polled").len(), 0);
        // A poll that waits is woken when they are due.
        let before = tokio::time::Instant::now();
        let records = queues.poll(&arn("q"), 10, Duration::from_secs(20)).await.expect("polled");
        assert_eq!((records.len(), before.elapsed().as_secs()), (3, 2));
        let handles = records.into_iter().map(|r| Told::plain(r.handle)).collect();
        queues.give_back(&arn("q"), handles, Duration::ZERO, true).await.expect("given back");
    }
    let fault = queues.describe(&arn("nothing")).expect_err("no queue");
    assert_eq!(fault.code, "QueueDoesNotExist");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_brought_twice_is_one_in_a_fifo_queue() {
    let world = World::new().await;
    world.queue("q.fifo", &[]).await;
    let queues = &*world.queues;
    let one = Envelope { group: Some("g".into()), ..envelope("{}") };
    let first = queues.deliver(&ctx(), &arn("q.fifo"), one.clone()).await.expect("taken");
    assert_eq!(queues.deliver(&ctx(), &arn("q.fifo"), one).await.expect("taken"), first);
    assert!(queues.deliver(&ctx(), &arn("q.fifo"), envelope("{}")).await.is_err(), "it has no group");
    let info = queues.describe(&arn("q.fifo")).expect("described");
    assert!(info.fifo && info.visibility_timeout.as_secs() == 30);
    assert_eq!(queues.poll(&arn("q.fifo"), 10, Duration::ZERO).await.expect("polled").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_nobody_waits_for_loses_nothing() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let queues = &*world.queues;
    let source = arn("q");
    for _ in 0..5 {
        let waiting = tokio::time::timeout(Duration::from_millis(10), queues.poll(&source, 1, Duration::from_secs(20)));
        assert!(waiting.await.is_err());
    }
    world.send(&url, "a").await.expect("sent");
    let before = tokio::time::Instant::now();
    assert_eq!(queues.poll(&arn("q"), 1, Duration::from_secs(20)).await.expect("polled").len(), 1);
    assert!(before.elapsed().as_millis() < 100);
}
