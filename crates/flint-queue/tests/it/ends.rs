//! What the journal says of a message's end.

use flint_base::{EventId, Timestamp};
use flint_kit::{Doc, Source, Told};
use flint_model::Lineage;
use flint_store::journal::{self, Entry, Kind, Outcome};

use crate::support::{World, arn, ctx, pass};

/// Sends a message; answers its event.
async fn sent(world: &World, url: &str, body: &str) -> EventId {
    let doc = world.send(url, body).await.expect("sent");
    doc.text_of("MessageId").expect("an id").parse().expect("an event id")
}

fn entries(world: &World, event: EventId) -> Vec<Entry> {
    let found = journal::of_event(&*world.store, &ctx().place, event).expect("reads");
    found.into_iter().map(|(_, entry)| entry).collect()
}

fn kinds(world: &World, event: EventId) -> Vec<Kind> {
    entries(world, event).iter().map(|entry| entry.kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_an_entry_of_the_same_commit() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let event = sent(&world, &url, "x").await;
    world.receive(&url, 1, 0).await;
    let (_, handle) = world.receive(&url, 1, 30).await.pop().expect("received");
    world.store.full.store(true, std::sync::atomic::Ordering::SeqCst);
    world.delete(&url, &handle).await.expect_err("there is no room");
    assert_eq!(kinds(&world, event), [Kind::Accepted]);
    world.store.full.store(false, std::sync::atomic::Ordering::SeqCst);
    world.delete(&url, &handle).await.expect("deleted");
    world.delete(&url, &handle).await.expect("again is no error, and nothing more happens");
    assert_eq!(kinds(&world, event), [Kind::Accepted, Kind::Settled]);
    let end = entries(&world, event).pop().expect("there");
    assert_eq!(
        (end.source.as_deref(), end.target, end.attempt),
        (Some("arn:aws:sqs:us-east-1:000000000000:q"), None, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_deletions_ends_each_message_once() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let mut events = Vec::new();
    for n in 0..10 {
        events.push(sent(&world, &url, &n.to_string()).await);
    }
    let out = world.receive(&url, 10, 30).await;
    let entry = |(n, (_, handle)): (usize, &(String, String))| {
        Doc::Map(vec![("Id".into(), Doc::from(n.to_string())), ("ReceiptHandle".into(), Doc::from(handle.as_str()))])
    };
    let all = Doc::List(out.iter().enumerate().map(entry).collect());
    let members = [("QueueUrl", Doc::from(url.as_str())), ("Entries", all)];
    world.call("DeleteMessageBatch", &members).await.expect("deleted");
    for event in events {
        assert_eq!(kinds(&world, event), [Kind::Accepted, Kind::Settled]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_settles_a_record_says_what_the_journal_says() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let (event, other) = (sent(&world, &url, "x").await, sent(&world, &url, "y").await);
    let records = world.queues.poll(&arn("q"), 10, std::time::Duration::ZERO).await.expect("polled");
    let note = |kind: Kind, event: EventId, outcome: Outcome| {
        let entry = Entry::new(ctx().place, Lineage::root(event), kind, Timestamp::from_millis(5));
        let error = (kind == Kind::Retried).then(|| journal::Error::new("Busy", "x"));
        Some(Entry { outcome: Some(outcome), error, ..entry }.encode())
    };
    let told = |n: usize, note| Told { handle: records[n].handle.clone(), note };
    let back = vec![told(1, note(Kind::Retried, other, Outcome::Throttled))];
    world.queues.give_back(&arn("q"), back, std::time::Duration::ZERO, true).await.expect("given back");
    let done = vec![told(0, note(Kind::Settled, event, Outcome::Succeeded))];
    world.queues.settle(&arn("q"), done.clone()).await.expect("settled");
    world.queues.settle(&arn("q"), done).await.expect("settled again, which says nothing new");
    assert_eq!(kinds(&world, event), [Kind::Accepted, Kind::Settled]);
    assert_eq!(entries(&world, event)[1].outcome, Some(Outcome::Succeeded));
    assert_eq!(kinds(&world, other), [Kind::Accepted, Kind::Retried]);
    let last = journal::failures::last_error(&*world.store, &ctx().place, other).expect("reads");
    assert_eq!(last.expect("an error").error.kind, "Busy");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_deleted_waits_for_nobody() {
    let world = World::new().await;
    let dead = world.queue("dead", &[]).await;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":1}"#;
    let url = world.queue("q", &[("RedrivePolicy", policy)]).await;
    let event = sent(&world, &url, "x").await;
    assert_eq!(world.receive(&url, 1, 0).await.len(), 1);
    assert_eq!(world.receive(&url, 1, 0).await.len(), 0);
    let waits = || journal::failures::failure(&*world.store, &ctx().place, event).expect("reads").is_some();
    assert!(waits());
    let (_, handle) = world.receive(&dead, 1, 30).await.pop().expect("it lies there");
    world.delete(&dead, &handle).await.expect("deleted");
    assert!(!waits());
    assert_eq!(kinds(&world, event), [Kind::Accepted, Kind::DeadLettered, Kind::Settled]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_with_its_queue_is_told_of_once() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    for n in 0..5 {
        sent(&world, &url, &n.to_string()).await;
    }
    world.receive(&url, 2, 30).await;
    world.call("PurgeQueue", &[("QueueUrl", Doc::from(url.as_str()))]).await.expect("purged");
    pass(61).await;
    sent(&world, &url, "later").await;
    world.call("DeleteQueue", &[("QueueUrl", Doc::from(url.as_str()))]).await.expect("deleted");
    let whole = entries(&world, journal::whole("arn:aws:sqs:us-east-1:000000000000:q"));
    let said: Vec<String> = whole.iter().filter_map(|entry| entry.error.as_ref()).map(|e| e.message.clone()).collect();
    assert_eq!(said, ["PurgeQueue took 5 messages", "DeleteQueue took 1 messages"]);
    let waiting = journal::failures::failures(&*world.store, &ctx().place, None, 9).expect("reads");
    assert_eq!(waiting, [], "nobody is to look after them");
}
