//! A store that takes no writes: nothing is acknowledged, nothing is lost, and it heals by itself.

use std::sync::atomic::Ordering;

use crate::support::{World, pass};

#[tokio::test(start_paused = true)]
async fn refused_writes_change_nothing() {
    let world = World::new().await;
    let url = world.queue("q", &[]).await;
    let fifo = world.queue("q.fifo", &[]).await;
    world.send(&url, "before").await.expect("sent");
    let (_, handle) = world.receive(&url, 1, 30).await.remove(0);
    world.send(&url, "second").await.expect("sent");

    world.store.full.store(true, Ordering::SeqCst);
    let fault = world.send(&url, "refused").await.expect_err("no room");
    assert_eq!(fault.status, 503);
    assert_eq!(world.send_to(&fifo, "g", "id", "refused").await.expect_err("no room").status, 503);
    assert_eq!(world.delete(&url, &handle).await.expect_err("no room").status, 503);
    let ask = [("QueueUrl", flint_kit::Doc::from(url.as_str()))];
    assert_eq!(world.call("ReceiveMessage", &ask).await.expect_err("no room").status, 503);
    assert_eq!(world.call("PurgeQueue", &ask).await.expect_err("no room").status, 503);
    assert_eq!(world.call("DeleteQueue", &ask).await.expect_err("no room").status, 503);

    world.store.full.store(false, Ordering::SeqCst);
    assert_eq!(world.attribute(&url, "ApproximateNumberOfMessages").await, "1");
    assert_eq!(world.bodies(&url, 10, 30).await, ["second"]);
    world.send_to(&fifo, "g", "id", "again").await.expect("sent");
    assert_eq!(world.bodies(&fifo, 10, 30).await, ["again"]);
    pass(31).await;
    // The first one's deletion was refused, so it comes back.
    assert_eq!(world.bodies(&url, 10, 0).await, ["before", "second"]);
    world.delete(&url, &handle).await.expect("an old handle is no error");
    let world = world.restart().await;
    assert_eq!(world.bodies(&url, 10, 30).await, ["before", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_receive_does_not_spin_while_a_dead_letter_cannot_be_moved() {
    let world = World::new().await;
    let dead = world.queue("dead", &[]).await;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":1}"#;
    let url = world.queue("q", &[("RedrivePolicy", policy)]).await;
    world.send(&url, "poison").await.expect("sent");
    assert_eq!(world.bodies(&url, 1, 0).await, ["poison"]);

    world.store.full.store(true, Ordering::SeqCst);
    // Without a pause this would never come back: every look finds the same message.
    let before = tokio::time::Instant::now();
    let ask = [("QueueUrl", flint_kit::Doc::from(url.as_str())), ("WaitTimeSeconds", flint_kit::Doc::from(2i64))];
    let answer = world.call("ReceiveMessage", &ask).await.expect("nothing to hand out is no error");
    assert!(answer.get("Messages").is_none(), "{answer:?}");
    assert_eq!(before.elapsed().as_secs(), 2);

    world.store.full.store(false, Ordering::SeqCst);
    assert!(world.bodies(&url, 1, 0).await.is_empty());
    assert_eq!(world.bodies(&dead, 1, 0).await, ["poison"]);
}
