//! Dead letters and their way back.

use flint_kit::Doc;
use flint_queue::keys;
use flint_store::journal::{self, Kind};

use crate::support::{World, arn, ctx, pass};

async fn with_dead_letters(world: &World, suffix: &str, receives: u32) -> (String, String) {
    let dead = world.queue(&format!("dead{suffix}"), &[]).await;
    let target = arn(&format!("dead{suffix}"));
    let policy = format!(r#"{{"deadLetterTargetArn":"{target}","maxReceiveCount":{receives}}}"#);
    let url = world.queue(&format!("q{suffix}"), &[("RedrivePolicy", &policy)]).await;
    (url, dead)
}

#[tokio::test(start_paused = true)]
async fn the_receive_count_outlives_a_restart_and_the_move_is_in_the_journal() {
    let world = World::new().await;
    let (url, dead) = with_dead_letters(&world, "", 2).await;
    world.send(&url, "poison").await.expect("sent");
    world.send(&url, "later").await.expect("sent");
    assert_eq!(world.bodies(&url, 1, 1).await, ["poison"]);
    let world = world.restart().await;
    pass(2).await;
    assert_eq!(world.bodies(&url, 1, 1).await, ["poison"]);
    let world = world.restart().await;
    pass(2).await;
    assert_eq!(world.bodies(&url, 10, 30).await, ["later"]);
    assert_eq!(world.bodies(&dead, 10, 30).await, ["poison"]);
    assert_eq!(world.rows(keys::MESSAGES), 2);
    let journal = journal::recent(&*world.store, &ctx().place, None, 10).expect("reads");
    let moved: Vec<_> = journal.iter().filter(|(_, entry)| entry.kind == Kind::DeadLettered).collect();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].1.attempt, moved[0].1.target.clone()), (2, Some(arn("dead").to_string())));
}

#[tokio::test(start_paused = true)]
async fn without_its_dead_letter_queue_a_message_is_received_on() {
    let world = World::new().await;
    let (url, dead) = with_dead_letters(&world, "", 1).await;
    world.send(&url, "a").await.expect("sent");
    world.call("DeleteQueue", &[("QueueUrl", Doc::from(dead))]).await.expect("deleted");
    for _ in 0..3 {
        assert_eq!(world.bodies(&url, 1, 0).await, ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_task_keeps_its_rate_and_goes_on_after_a_restart() {
    let world = World::new().await;
    let (url, dead) = with_dead_letters(&world, ".fifo", 1).await;
    for n in 0..30 {
        let (group, body) = (format!("g{}", n % 3), n.to_string());
        world.send_to(&url, &group, &body, &body).await.expect("sent");
    }
    loop {
        if world.bodies(&url, 10, 0).await.is_empty() {
            break;
        }
    }
    assert_eq!(world.attribute(&dead, "ApproximateNumberOfMessages").await, "30");
    let source = arn("dead.fifo").to_string();
    let start = [("SourceArn", Doc::from(source.as_str())), ("MaxNumberOfMessagesPerSecond", Doc::Int(2))];
    world.call("StartMessageMoveTask", &start).await.expect("started");
    pass(5).await;
    let status = |doc: Doc| match doc.get("Results") {
        Some(Doc::List(tasks)) => {
            let moved = tasks[0].int_of("ApproximateNumberOfMessagesMoved").expect("a number");
            (tasks[0].text_of("Status").expect("a status").to_owned(), moved)
        }
        _ => panic!("no tasks"),
    };
    let list = [("SourceArn", Doc::from(source.as_str()))];
    let (state, moved) = status(world.call("ListMessageMoveTasks", &list).await.expect("listed"));
    assert!(state == "RUNNING" && (8..=12).contains(&moved), "{state} {moved}");
    let world = world.restart().await;
    pass(12).await;
    let (state, moved) = status(world.call("ListMessageMoveTasks", &list).await.expect("listed"));
    assert_eq!((state.as_str(), moved), ("COMPLETED", 30));
    // Each group is in order again.
    let mut came: Vec<u32> = Vec::new();
    while came.len() < 30 {
        let some = world.receive(&url, 10, 30).await;
        assert!(!some.is_empty(), "{came:?}");
        for (body, handle) in some {
            came.push(body.parse().expect("a number"));
            world.delete(&url, &handle).await.expect("deleted");
        }
    }
    for group in 0..3 {
        let of: Vec<u32> = came.iter().copied().filter(|n| n % 3 == group).collect();
        assert!(of.is_sorted(), "{came:?}");
    }
}
