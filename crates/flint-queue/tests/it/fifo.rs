//! FIFO queues: order and deduplication, over restarts too.

use flint_kit::Doc;
use flint_queue::keys;

use crate::support::{World, pass};

#[tokio::test(start_paused = true)]
async fn deduplication_lasts_five_minutes_and_over_restarts() {
    let world = World::new().await;
    let url = world.queue("q.fifo", &[]).await;
    let first = world.send_to(&url, "g", "id", "a").await.expect("sent");
    let (_, handle) = world.receive(&url, 1, 30).await.remove(0);
    world.delete(&url, &handle).await.expect("deleted");
    let world = world.restart().await;
    pass(299).await;
    let again = world.send_to(&url, "g", "id", "b").await.expect("taken");
    for name in ["MessageId", "SequenceNumber"] {
        assert_eq!(again.text_of(name), first.text_of(name), "{name}");
    }
    assert!(world.bodies(&url, 10, 30).await.is_empty());
    pass(1).await;
    let later = world.send_to(&url, "g", "id", "c").await.expect("sent");
    assert_ne!(later.text_of("MessageId"), first.text_of("MessageId"));
    assert!(later.text_of("SequenceNumber") > first.text_of("SequenceNumber"));
    assert_eq!(world.bodies(&url, 10, 30).await, ["c"]);
    // What is forgotten is removed.
    pass(1_000).await;
    assert_eq!(world.rows(flint_queue::keys::DUPLICATES), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_stays_closed_over_a_restart_while_one_of_it_is_out() {
    let world = World::new().await;
    let url = world.queue("q.fifo", &[]).await;
    for n in 0..400 {
        let (group, id) = (format!("g{}", n % 2), n.to_string());
        world.send_to(&url, &group, &id, &id).await.expect("sent");
    }
    let first = world.receive(&url, 3, 30).await;
    assert_eq!(first.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), ["0", "2", "4"]);
    let world = world.restart().await;
    let other = world.receive(&url, 10, 600).await;
    assert_eq!(other[0].0, "1");
    assert!(other.iter().all(|(body, _)| body.parse::<u32>().expect("a number") % 2 == 1));
    world.delete(&url, &first[0].1).await.expect("deleted");
    assert!(world.receive(&url, 10, 30).await.is_empty());
    pass(31).await;
    let rest = world.receive(&url, 10, 30).await;
    assert_eq!((rest[0].0.as_str(), rest[1].0.as_str(), rest[2].0.as_str()), ("2", "4", "6"));
    let fault = world.delete(&url, &first[1].1).await.expect_err("an expired handle");
    assert_eq!(fault.code, "InvalidParameterValue");
}

#[tokio::test(start_paused = true)]
async fn senders_of_one_id_at_once_are_told_the_same() {
    let world = std::sync::Arc::new(World::new().await);
    let url = world.queue("q.fifo", &[]).await;
    let send = |n: usize| {
        let (world, url) = (world.clone(), url.clone());
        tokio::spawn(async move { world.send_to(&url, "g", "one", &n.to_string()).await.expect("sent") })
    };
    let senders: Vec<_> = (0..32).map(send).collect();
    let mut ids = std::collections::BTreeSet::new();
    for sender in senders {
        ids.insert(sender.await.expect("runs").text_of("MessageId").expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(world.receive(&url, 10, 30).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_duplicate_leaves_nothing_on_the_disk() {
    let world = World::new().await;
    let url = world.queue("q.fifo", &[]).await;
    let large = "x".repeat(200 << 10);
    world.send_to(&url, "g", "id", &large).await.expect("sent");
    let chunks = world.rows(keys::CHUNKS);
    assert!(chunks > 0);
    for _ in 0..3 {
        world.send_to(&url, "g", "id", &large).await.expect("known");
    }
    assert_eq!((world.rows(keys::CHUNKS), world.rows(keys::UPLOADS)), (chunks, 0));
    let entries: Vec<Doc> = (0..3)
        .map(|n| {
            let id = if n < 2 { "same".to_owned() } else { "other".to_owned() };
            let members = [("Id", n.to_string()), ("MessageBody", large.clone()), ("MessageGroupId", "g".to_owned())];
            let mut members: Vec<_> = members.into_iter().map(|(name, v)| (name.into(), Doc::from(v))).collect();
            members.push(("MessageDeduplicationId".into(), Doc::from(id)));
            Doc::Map(members)
        })
        .collect();
    world
        .call("SendMessageBatch", &[("QueueUrl", Doc::from(url.as_str())), ("Entries", Doc::List(entries))])
        .await
        .expect("sent");
    assert_eq!((world.rows(keys::CHUNKS), world.rows(keys::UPLOADS)), (3 * chunks, 0));
}
