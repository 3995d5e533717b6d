//! Receivers that stop waiting half-way: a mapping that is changed drops its poll wherever it stands.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use flint_kit::{Doc, Input, Source};
use flint_queue::{Options, Queues};
use flint_store::LogStore;
use flint_store::log::Driver;
use tokio::time::Instant;

use crate::support::{PausedClock, arn, ctx};

struct Driven {
    queues: Arc<Queues>,
    driver: Driver,
    _dir: tempfile::TempDir,
}

impl Driven {
    /// Lets the store work until `future` is ready.
    async fn end<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
                return done;
            }
            self.driver.turn();
            tokio::task::yield_now().await;
        }
    }

    async fn call(&mut self, operation: &str, members: &[(&'static str, &str)]) -> Doc {
        let fields = members.iter().map(|(name, value)| match value.strip_prefix("{") {
            Some(rest) => {
                let (key, value) = rest.split_once('=').expect("an attribute");
                ((*name).into(), Doc::Map(vec![(key.to_owned().into(), Doc::from(value))]))
            }
            None => ((*name).into(), Doc::from(*value)),
        });
        let (service, input) = (self.queues.service(), Input::from_doc(Doc::Map(fields.collect())));
        self.end(async move { service.call(&ctx(), operation, input).await }).await.expect("served").doc
    }

    async fn poll(&mut self, name: &str) -> usize {
        let queues = self.queues.clone();
        self.end(async move { queues.poll(&arn(name), 10, Duration::ZERO).await }).await.expect("polled").len()
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_buried_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, driver) = LogStore::open_driven(dir.path(), flint_store::Options::default()).expect("a store");
    let clock = Arc::new(PausedClock { start: Instant::now(), moved: Default::default() });
    let queues = Queues::open(Arc::new(store), clock, Options::default()).await.expect("opens");
    let mut world = Driven { queues, driver, _dir: dir };
    world.call("CreateQueue", &[("QueueName", "dead")]).await;
    let policy = format!("{{RedrivePolicy={{\"deadLetterTargetArn\":\"{}\",\"maxReceiveCount\":1}}", arn("dead"));
    world.call("CreateQueue", &[("QueueName", "q"), ("Attributes", &policy)]).await;
    let url = "http://localhost:4566/000000000000/q";
    world.call("SendMessage", &[("QueueUrl", url), ("MessageBody", "poison")]).await;
    assert_eq!(world.poll("q").await, 1);
    // Behind the dead one is another, so that the receive has its own commit to wait for, then that of the move.
    for (bodies, turns) in [(["a", "b"], 0), (["c", "d"], 1), (["e", "f"], 2)] {
        tokio::time::sleep(Duration::from_secs(31)).await;
        for body in bodies {
            world.call("SendMessage", &[("QueueUrl", url), ("MessageBody", body)]).await;
        }
        let queues = world.queues.clone();
        let (from, mut polls) = (arn("q"), 0);
        let mut poll = Box::pin(queues.poll(&from, 10, Duration::ZERO));
        while poll_fn(|cx| Poll::Ready(poll.as_mut().poll(cx).is_pending())).await && polls < turns {
            world.driver.turn();
            polls += 1;
        }
        drop(poll);
        while world.driver.turn() {}
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(31)).await;
        world.poll("q").await;
    }
    let mut buried = 0;
    for _ in 0..3 {
        buried += world.poll("dead").await;
    }
    assert_eq!(buried, 7, "none is held by somebody who is gone");
}
