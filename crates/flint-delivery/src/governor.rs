//! How many functions may run at once for events that nobody waits for.
//!
//! Background work takes a permit for each invocation. Permits are handed out in the order in which they were asked for,
//! so that every function with work gets its turn. How many there are follows the processors: while they have time to
//! spare the number grows, when they have none it falls to a few per processor, so that a backlog leaves room for calls
//! that somebody waits for. The account's own limits come on top; the engine knows them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Answers the share of the processors' time that was in use since it was last asked, 0 to 1; `None` if that is unknown.
pub type LoadProbe = Arc<dyn Fn() -> Option<f32> + Send + Sync>;

/// How often the number of permits is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// From here on there is no time to spare.
const BUSY: f32 = 0.90;
/// Up to here there is.
const IDLE: f32 = 0.75;

/// Bounds of the number of permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What busy processors leave for background work.
    pub least: usize,
    pub most: usize,
}

/// Hands out permits.
pub(crate) struct Governor {
    bounds: Bounds,
    probe: Option<LoadProbe>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allowed: usize,
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to have one background invocation in flight.
pub(crate) struct Permit(Option<Arc<Governor>>);

impl Governor {
    pub(crate) fn new(bounds: Bounds, probe: Option<LoadProbe>) -> Arc<Self> {
        // Without a probe there is nothing to follow.
        let allowed = if probe.is_some() { bounds.least } else { bounds.most };
        let state = State { allowed, taken: 0, waiting: VecDeque::new() };
        Arc::new(Self { bounds, probe, state: Mutex::new(state) })
    }

    /// Waits for a permit.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        let turn = {
            let mut state = self.lock();
            if state.taken < state.allowed && state.waiting.is_empty() {
                state.taken += 1;
                return Permit(Some(self.clone()));
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back(sender);
            turn
        };
        // The sender is dropped only together with the governor, which we hold.
        turn.await.unwrap_or(Permit(None))
    }

    /// Follows the load for ever.
    pub(crate) async fn run(self: &Arc<Self>) {
        let Some(probe) = &self.probe else { return std::future::pending().await };
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(load) = probe() {
                self.follow(load);
                self.hand_out();
            }
        }
    }

    fn follow(&self, load: f32) {
        let mut state = self.lock();
        let allowed = state.allowed;
        state.allowed = if load >= BUSY {
            (allowed - allowed.div_ceil(4)).min(state.taken.max(self.bounds.least)).max(self.bounds.least)
        } else if load <= IDLE && (state.taken >= allowed || !state.waiting.is_empty()) {
            (allowed + allowed / 4 + 1).min(self.bounds.most)
        } else {
            allowed
        };
    }

    /// Gives what is free to who has waited longest.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                if state.taken >= state.allowed {
                    return;
                }
                let Some(next) = state.waiting.pop_front() else { return };
                state.taken += 1;
                next
            };
            if let Err(mut unwanted) = next.send(Permit(Some(self.clone()))) {
                // Who asked is gone. Not by drop, which would come back here.
                unwanted.0 = None;
                self.lock().taken -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(governor) = self.0.take() {
            governor.lock().taken -= 1;
            governor.hand_out();
        }
    }
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "Governor({} of {}, {} wait)", state.taken, state.allowed, state.waiting.len())
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governor(least: usize, most: usize) -> Arc<Governor> {
        Governor::new(Bounds { least, most }, Some(Arc::new(|| None)))
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_bounded_and_come_in_turn() {
        let governor = governor(1, 4);
        let first = governor.acquire().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for n in 0..3 {
            let (governor, order) = (governor.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = governor.acquire().await;
                order.lock().unwrap().push(n);
            }));
            tokio::task::yield_now().await;
        }
        assert!(order.lock().unwrap().is_empty());
        tasks.remove(0).abort();
        tokio::task::yield_now().await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 2], "who left is passed over");
        assert_eq!(governor.lock().taken, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_the_load_allows_without_anything_ending() {
        let governor = Governor::new(Bounds { least: 1, most: 50 }, Some(Arc::new(|| Some(0.2))));
        let following = governor.clone();
        tokio::spawn(async move { following.run().await });
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(governor.acquire().await);
        }
        assert_eq!(held.len(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_follows_the_load() {
        let governor = governor(2, 10);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(governor.acquire().await);
        }
        for _ in 0..20 {
            governor.follow(0.1);
            let free = {
                let state = governor.lock();
                state.allowed - state.taken
            };
            for _ in 0..free {
                held.push(governor.acquire().await);
            }
        }
        assert_eq!(held.len(), 10, "grows to the most while there is time to spare");
        for _ in 0..20 {
            governor.follow(1.0);
        }
        assert_eq!(governor.lock().allowed, 2, "falls to the least while there is none");
        held.clear();
        governor.follow(0.1);
        assert_eq!(governor.lock().allowed, 2, "does not grow while nobody asks");
    }
}
