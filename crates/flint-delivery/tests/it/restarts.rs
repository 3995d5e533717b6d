//! What a kill leaves.

use std::sync::Arc;
use std::time::Duration;

use flint_base::Clock as _;
use flint_store::journal::Kind;

use crate::fakes::{Does, World, pass};

#[tokio::test(start_paused = true)]
async fn waiting_events_are_there_after_a_restart() {
    let world = World::limited(1).await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(1)));
    world.engine.put("g", |_| Does::Fail("{}"));
    let failed = world.send("g", "{}").await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(world.send("f", "{}").await);
    }
    pass(3).await;
    let begun = world.engine.calls.lock().unwrap().clone();
    assert!(begun.len() < 10, "some wait");
    let world = world.restart(10).await;
    pass(200).await;
    let calls = world.engine.calls.lock().unwrap().clone();
    for id in &all {
        let times = calls.iter().filter(|call| call.request_id == *id).count();
        let was_in_flight = begun.last().is_some_and(|call| call.request_id == *id);
        assert!(times == 1 || (times == 2 && was_in_flight), "{times} runs");
        assert_eq!(world.kinds(*id), [Kind::Accepted, Kind::Settled]);
    }
    let of_failed: Vec<_> =
        calls.iter().filter(|call| call.request_id == failed).map(|call| call.at_ms / 1000).collect();
    assert_eq!(of_failed[0], 0);
    assert!(of_failed.len() == 3 && (60..63).contains(&of_failed[1]), "its waits hold over a restart: {of_failed:?}");
}

#[tokio::test(start_paused = true)]
async fn more_than_memory_holds() {
    let world = World::limited(50).await;
    world.engine.put("f", |_| Does::Work(Duration::from_millis(1)));
    world.engine.change("f", |facts| facts.reserved_concurrency = None);
    const EVENTS: usize = 10_000;
    for _ in 0..EVENTS {
        world.send("f", "{}").await;
    }
    assert!(world.delivery.waiting() <= 4_096, "{} in memory", world.delivery.waiting());
    let world = world.restart(50).await;
    pass(60).await;
    let mut ids: Vec<_> = world.engine.calls.lock().unwrap().iter().map(|call| call.request_id).collect();
    ids.sort_unstable();
    let runs = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), EVENTS, "every event ran");
    assert!(runs <= EVENTS + 50, "{runs} runs");
    assert_eq!(world.rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drained_server_has_nothing_half_done() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Work(Duration::from_secs(5)));
    let id = world.send("f", "{}").await;
    pass(1).await;
    let before = world.clock.now();
    world.delivery.drain(Duration::from_secs(30)).await;
    assert!((3..6).contains(&world.clock.now().since(before).as_secs()));
    assert_eq!(world.kinds(id), [Kind::Accepted, Kind::Settled]);
    let late = world.send("f", "{}").await;
    pass(10).await;
    assert_eq!(world.kinds(late), [Kind::Accepted], "taken, and kept for the next start");
    let engine = Arc::clone(&world.engine);
    let world = world.restart(10).await;
    pass(10).await;
    assert_eq!((world.kinds(late).len(), engine.calls.lock().unwrap().len()), (2, 2));
}
