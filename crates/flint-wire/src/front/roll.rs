//! The connections that are open, and which of them are of use.
//!
//! A connection that waits for its client holds a place that a good caller may need. Each kind of waiting has its limit
//! (`Limits`); when every place is taken, the connection that has been of no use longest makes room. A call that runs is
//! never ended here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;

/// Requests that a connection may give up before their answer, beyond a share of those that it waited for.
const GIVEN_UP: u32 = 100;

/// Every open connection.
#[derive(Debug)]
pub(super) struct Roll {
    limits: Limits,
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Members {
    next: u64,
    open: HashMap<u64, Arc<Life>>,
    swept: Instant,
}

/// What one connection does at the moment.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Requests whose body still comes.
    arriving: AtomicU32,
    /// Calls that run, and streamed answers that wait for the function.
    running: AtomicU32,
    /// A request has come.
    greeted: AtomicBool,
    in_head: AtomicBool,
    /// How long the head that is coming has been coming.
    head_ms: AtomicU64,
    /// How long nothing has moved while no request was under way.
    quiet_ms: AtomicU64,
    answered: AtomicU32,
    given_up: AtomicU32,
    ending: AtomicBool,
    end: Notify,
}

/// A connection's place in the roll; dropped with the connection.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) life: Arc<Life>,
    roll: Arc<Roll>,
    id: u64,
}

impl Roll {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let members = Members { next: 0, open: HashMap::new(), swept: Instant::now() };
        Arc::new(Self { limits, members: Mutex::new(members) })
    }

    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let life = Arc::new(Life::default());
        let mut members = self.lock();
        let id = members.next;
        members.next += 1;
        members.open.insert(id, Arc::clone(&life));
        Place { life, roll: Arc::clone(self), id }
    }

    /// Ends the connections that waited too long, again and again. Does no harm if it runs twice.
    pub(super) async fn watch(self: Arc<Self>) {
        let shortest = self.limits.head_wait.min(self.limits.idle_wait);
        let mut tick = tokio::time::interval((shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1)));
        loop {
            tick.tick().await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        let mut members = self.lock();
        let now = Instant::now();
        let passed = now.duration_since(std::mem::replace(&mut members.swept, now));
        members.open.values().for_each(|life| life.age(passed, &self.limits));
    }

    /// Ends the connection that can be missed most: none with a call that runs; before those that send a request, those
    /// that don't; of these the one that has been quiet longest; of several the oldest.
    pub(super) fn make_room(&self) {
        let members = self.lock();
        let busy = |life: &Life| life.running.load(Ordering::Relaxed) > 0 || life.ending.load(Ordering::Relaxed);
        let idle = members.open.iter().filter(|(_, life)| !busy(life));
        let least = idle.min_by_key(|(id, life)| {
            let arriving = life.arriving.load(Ordering::Relaxed) > 0;
            // Coming back to a connection that has been good is what makes it worth keeping.
            let good = life.greeted.load(Ordering::Relaxed) && !life.in_head.load(Ordering::Relaxed);
            (arriving, good, u64::MAX - life.quiet_ms.load(Ordering::Relaxed), **id)
        });
        if let Some((_, life)) = least {
            life.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roll.lock().open.remove(&self.id);
    }
}

impl Life {
    /// Waits until the connection has to make room.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// The connection has to go.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }

    /// A head is coming, or not any more.
    pub(super) fn set_in_head(&self, inside: bool) {
        if self.in_head.load(Ordering::Relaxed) != inside {
            self.in_head.store(inside, Ordering::Relaxed);
            self.head_ms.store(0, Ordering::Relaxed);
        }
    }

    /// A head is coming and nothing else is under way.
    pub(super) fn is_only_in_head(&self) -> bool {
        let under_way = self.arriving.load(Ordering::Relaxed) + self.running.load(Ordering::Relaxed);
        self.in_head.load(Ordering::Relaxed) && under_way == 0
    }

    /// The client took something, or sent something that was wanted.
    pub(super) fn moved(&self) {
        self.quiet_ms.store(0, Ordering::Relaxed);
    }

    /// A request's head has come.
    pub(super) fn visit(self: &Arc<Self>) -> Visit {
        self.greeted.store(true, Ordering::Relaxed);
        self.arriving.fetch_add(1, Ordering::Relaxed);
        self.moved();
        Visit { life: Arc::clone(self), stage: Stage::Arriving }
    }

    fn age(&self, passed: Duration, limits: &Limits) {
        let add = |counter: &AtomicU64, limit: Duration| {
            let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            let total = counter.fetch_add(passed, Ordering::Relaxed).saturating_add(passed);
            if u128::from(total) > limit.as_millis() {
                self.end();
            }
        };
        if self.in_head.load(Ordering::Relaxed) {
            add(&self.head_ms, limits.head_wait);
        }
        // Bodies that come have a pace of their own.
        if self.arriving.load(Ordering::Relaxed) + self.running.load(Ordering::Relaxed) == 0 {
            add(&self.quiet_ms, limits.idle_wait);
        }
    }
}

/// One request, from its head to its answer.
#[derive(Debug)]
pub(super) struct Visit {
    life: Arc<Life>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arriving,
    Running,
    /// The answer waits for the client.
    Leaving,
}

impl Visit {
    /// All of the request has come, or its answer waits for the function again.
    pub(super) fn runs(&mut self) {
        self.become_(Stage::Running);
    }

    /// The answer, or a piece of it, waits for the client.
    pub(super) fn leaves(&mut self) {
        self.become_(Stage::Leaving);
        self.life.moved();
    }

    /// The answer is there.
    pub(super) fn answered(&mut self) {
        self.life.answered.fetch_add(1, Ordering::Relaxed);
        self.leaves();
    }

    fn become_(&mut self, next: Stage) {
        if self.stage == next {
            return;
        }
        if let Some(counter) = self.counter(next) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = self.counter(self.stage) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
        self.stage = next;
    }

    fn counter(&self, stage: Stage) -> Option<&AtomicU32> {
        match stage {
            Stage::Arriving => Some(&self.life.arriving),
            Stage::Running => Some(&self.life.running),
            Stage::Leaving => None,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let life = Arc::clone(&self.life);
        if self.stage != Stage::Leaving {
            // Only HTTP/2 can give up a request and keep the connection.
            let given_up = life.given_up.fetch_add(1, Ordering::Relaxed) + 1;
            if given_up > GIVEN_UP.max(life.answered.load(Ordering::Relaxed) / 4) {
                life.end();
            }
        }
        self.become_(Stage::Leaving);
        life.moved();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn limits() -> Limits {
        Limits { head_wait: Duration::from_secs(10), idle_wait: Duration::from_secs(60), ..Limits::default() }
    }

    fn is_ended(place: &Place) -> bool {
        place.life.ended().now_or_never().is_some()
    }

    fn pass(place: &Place, seconds: u64) {
        place.life.age(Duration::from_secs(seconds), &limits());
    }

    #[tokio::test]
    async fn waiting_ends_by_its_kind() {
        let roll = Roll::new(limits());
        let place = roll.enter();
        place.life.set_in_head(true);
        pass(&place, 10);
        assert!(!is_ended(&place));
        pass(&place, 1);
        assert!(is_ended(&place), "a head that does not end");

        let place = roll.enter();
        let mut call = place.life.visit();
        pass(&place, 1000);
        call.runs();
        pass(&place, 1000);
        assert!(!is_ended(&place), "a call under way has limits of its own");
        call.answered();
        pass(&place, 60);
        assert!(!is_ended(&place));
        call.leaves();
        pass(&place, 60);
        call.runs();
        pass(&place, 1000);
        assert!(!is_ended(&place), "a stream whose function thinks");
        call.leaves();
        pass(&place, 61);
        assert!(is_ended(&place), "an answer that nobody takes");
        drop(call);

        let place = roll.enter();
        pass(&place, 61);
        assert!(is_ended(&place), "silence");
    }

    #[tokio::test]
    async fn the_least_useful_makes_room() {
        let roll = Roll::new(limits());
        let [running, arriving, good, slow_head, new] = std::array::from_fn(|_| roll.enter());
        let mut call = running.life.visit();
        call.runs();
        let body = arriving.life.visit();
        good.life.visit().answered();
        slow_head.life.set_in_head(true);
        pass(&new, 5);
        for expected in [new, slow_head, good, arriving] {
            roll.make_room();
            assert!(is_ended(&expected), "{expected:?}");
        }
        drop(body);
        roll.make_room();
        assert!(!is_ended(&running));
    }

    #[tokio::test]
    async fn giving_up_again_and_again_ends_a_connection() {
        let roll = Roll::new(limits());
        let place = roll.enter();
        for _ in 0..GIVEN_UP {
            drop(place.life.visit());
        }
        assert!(!is_ended(&place));
        drop(place.life.visit());
        assert!(is_ended(&place));
        let patient = roll.enter();
        for n in 0..1000 {
            let mut call = patient.life.visit();
            if n % 6 != 0 {
                call.answered();
            }
        }
        assert!(!is_ended(&patient));
    }
}
