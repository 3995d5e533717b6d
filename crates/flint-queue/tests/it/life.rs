//! Messages outlive the process; what is deleted, purged or too old is gone from the store too.

use flint_queue::keys;

use crate::support::{World, pass};

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_messages_their_counts_and_their_visibility() {
    let world = World::new().await;
    let url = world.queue("q", &[("VisibilityTimeout", "30")]).await;
    for n in 0..300 {
        world.send(&url, &n.to_string()).await.expect("sent");
    }
    let out = world.receive(&url, 10, 30).await;
    let gone = world.receive(&url, 10, 30).await;
    for (_, handle) in &gone {
        world.delete(&url, handle).await.expect("deleted");
    }
    let world = world.restart().await;
    assert_eq!(world.attribute(&url, "ApproximateNumberOfMessagesNotVisible").await, "10");
    world.delete(&url, &out[0].1).await.expect("a handle from before");
    let mut left = Vec::new();
    loop {
        match &world.bodies(&url, 10, 600).await[..] {
            [] => break,
            some => left.extend(some.to_vec()),
        }
    }
    let want: Vec<String> = (20..300).map(|n: u32| n.to_string()).collect();
    assert_eq!(left, want);
    assert_eq!(world.attribute(&url, "ApproximateNumberOfMessages").await, "0", "exact once all is seen");
    pass(31).await;
    assert_eq!(world.bodies(&url, 10, 30).await, (1..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_delay_goes_on_over_a_restart() {
    let world = World::new().await;
    let url = world.queue("q", &[("DelaySeconds", "10")]).await;
    world.send(&url, "later").await.expect("sent");
    let world = world.restart().await;
    pass(9).await;
    assert!(world.bodies(&url, 10, 30).await.is_empty());
    pass(1).await;
    assert_eq!(world.bodies(&url, 10, 30).await, ["later"]);
}

#[tokio::test(start_paused = true)]
async fn large_texts_lie_in_chunks_and_leave_nothing() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let large: String = (0..1_048_576u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    world.send(&url, &large).await.expect("sent");
    assert_eq!((world.rows(keys::CHUNKS), world.rows(keys::UPLOADS)), (17, 0));
    let world = world.restart().await;
    let received = world.receive(&url, 1, 30).await;
    assert!(received[0].0 == large);
    world.delete(&url, &received[0].1).await.expect("deleted");
    assert_eq!((world.rows(keys::CHUNKS), world.rows(keys::MESSAGES), world.rows(keys::FLIGHTS)), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn half_a_large_text_is_removed_at_the_next_start() {
    use flint_store::{Batch, Store};
    let world = World::new().await;
    let id = flint_base::EventId::next();
    let batch = Batch::new().put(keys::UPLOADS, keys::upload_key(id), bytes::Bytes::new()).put(
        keys::CHUNKS,
        keys::chunk_key(id, 0),
        "piece",
    );
    world.store.commit(batch).await.expect("stored");
    let world = world.restart().await;
    assert_eq!((world.rows(keys::CHUNKS), world.rows(keys::UPLOADS)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn retention_ends_messages_that_nobody_asks_for() {
    let world = World::new().await;
    let url = world.queue("q", &[("MessageRetentionPeriod", "60")]).await;
    for n in 0..200 {
        world.send(&url, &n.to_string()).await.expect("sent");
    }
    pass(30).await;
    world.send(&url, "young").await.expect("sent");
    let world = world.restart().await;
    pass(32).await;
    assert_eq!(world.rows(keys::MESSAGES), 1);
    assert_eq!(world.attribute(&url, "ApproximateNumberOfMessages").await, "1");
    assert_eq!(world.bodies(&url, 10, 30).await, ["young"]);
    let journal = flint_store::journal::recent(&*world.store, &crate::support::ctx().place, None, 1000).expect("reads");
    let discarded = journal.iter().filter(|(_, e)| e.kind == flint_store::journal::Kind::Discarded).count();
    assert_eq!(discarded, 200);
}

#[tokio::test(start_paused = true)]
async fn purged_and_deleted_queues_leave_no_rows() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let large = "x".repeat(100_000);
    for _ in 0..40 {
        world.send(&url, "small").await.expect("sent");
        world.send(&url, &large).await.expect("sent");
    }
    let held = world.receive(&url, 5, 30).await;
    world.call("PurgeQueue", &[("QueueUrl", url.as_str().into())]).await.expect("purged");
    world.delete(&url, &held[0].1).await.expect("gone is no error");
    world.send(&url, "after").await.expect("sent");
    // The sweep is cut short and goes on.
    let world = world.restart().await;
    pass(5).await;
    assert_eq!((world.rows(keys::MESSAGES), world.rows(keys::CHUNKS), world.rows(keys::FLIGHTS)), (1, 0, 0));
    assert_eq!(world.bodies(&url, 10, 30).await, ["after"]);
    let fault = world.call("PurgeQueue", &[("QueueUrl", url.as_str().into())]).await;
    // The minute is not remembered over a restart.
    assert!(fault.is_ok());
    world.call("DeleteQueue", &[("QueueUrl", url.as_str().into())]).await.expect("deleted");
    pass(5).await;
    for keyspace in [keys::MESSAGES, keys::FLIGHTS, keys::CHUNKS, keys::QUEUES, keys::TALLIES, keys::GARBAGE] {
        assert_eq!(world.rows(keyspace), 0, "{keyspace}");
    }
    let again = world.queue("q", &[]).await;
    let fault = world.delete(&again, &held[0].1).await.expect_err("a handle of the queue before");
    assert_eq!(fault.code, "ReceiptHandleIsInvalid");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_receive_is_woken_and_a_deleted_queue_ends_it() {
    let world = World::new().await;
    let url = world.queue("q", &[("ReceiveMessageWaitTimeSeconds", "20")]).await;
    let ask = [("QueueUrl", flint_kit::Doc::from(url.as_str()))];
    let (received, _) = tokio::join!(world.call("ReceiveMessage", &ask), async {
        pass(5).await;
        world.send(&url, "now").await.expect("sent");
    });
    assert_eq!(crate::support::messages(&received.expect("received"))[0].0, "now");
    let before = tokio::time::Instant::now();
    let (received, _) = tokio::join!(world.call("ReceiveMessage", &ask), async {
        pass(5).await;
        world.call("DeleteQueue", &ask).await.expect("deleted");
    });
    assert_eq!(received.expect_err("no queue").code, "QueueDoesNotExist");
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_waiting_receives_gets_its_message() {
    let world = std::sync::Arc::new(World::new().await);
    let url = world.queue("q", &[("ReceiveMessageWaitTimeSeconds", "20")]).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (world, url) = (world.clone(), url.clone());
            tokio::spawn(async move {
                let ask = [("QueueUrl", flint_kit::Doc::from(url.as_str()))];
                crate::support::messages(&world.call("ReceiveMessage", &ask).await.expect("received")).len()
            })
        })
        .collect();
    pass(1).await;
    for n in 0..20 {
        world.send(&url, &n.to_string()).await.expect("sent");
    }
    let before = tokio::time::Instant::now();
    for one in waiting {
        assert_eq!(one.await.expect("runs"), 1);
    }
    assert!(before.elapsed().as_millis() < 1000);
}
