//! The execution environments of one configuration of one function.
//!
//! An environment is in exactly one place: idle in the pool, or busy with the task that took it. The most recently
//! used one is taken first, so that the others can age and be reaped. A pool whose configuration was replaced is
//! *retired*: it takes nothing back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use flint_base::Timestamp;
use flint_kit::endpoint::ENVIRONMENT_LIFE;
use flint_model::{ByteCount, FunctionName, Place};
use flint_runtime::{ColdStart, Environment, EnvironmentSpec};
use futures_util::FutureExt;

use crate::code::Trees;
use crate::room::Memory;

/// Why an environment had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first of this configuration.
    First,
    /// All others were busy.
    ScaleOut,
    /// Others had been reaped or evicted, or had ended.
    Gone,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub spec: Arc<EnvironmentSpec>,
    /// Keeps the trees on disk while anything of this pool may mount it.
    _trees: Trees,
    retired: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Leased>,
    cards: Vec<Weak<Card>>,
    made: u64,
}

/// An environment together with what it holds of the host.
#[derive(Debug)]
pub(crate) struct Leased {
    pub environment: Environment,
    pub card: Arc<Card>,
    _memory: Memory,
    /// Monotonic time of the last use.
    idle_since: Duration,
    frozen: bool,
}

/// What `flint ps` shows of an environment; outlives its place in the pool.
#[derive(Debug)]
pub(crate) struct Card {
    id: String,
    pid: u32,
    started: Timestamp,
    cause: Cause,
    busy: AtomicBool,
    frozen: AtomicBool,
    last_used_ms: AtomicU64,
    invocations: AtomicU64,
    memory_bytes: AtomicU64,
    cold_start: Mutex<ColdStart>,
}

/// An environment as an operator sees it.
#[derive(Clone, Debug)]
pub struct EnvironmentView {
    pub place: Place,
    pub id: String,
    pub function: FunctionName,
    pub version: Arc<str>,
    /// `Init`, `Busy`, `Idle` or `Frozen`.
    pub state: &'static str,
    pub pid: u32,
    pub memory_mb: u32,
    pub memory_used_bytes: u64,
    pub started: Timestamp,
    pub last_used: Timestamp,
    pub invocations: u64,
    pub cause: Cause,
    pub cold_start: ColdStart,
}

impl Leased {
    pub(crate) fn new(environment: Environment, memory: Memory, cause: Cause, now: Timestamp) -> Self {
        let card = Arc::new(Card {
            id: environment.id().to_owned(),
            pid: environment.pid(),
            started: now,
            cause,
            busy: AtomicBool::new(true),
            frozen: AtomicBool::new(false),
            last_used_ms: AtomicU64::new(millis(now)),
            invocations: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            cold_start: Mutex::new(environment.cold_start()),
        });
        Self { environment, card, _memory: memory, idle_since: Duration::ZERO, frozen: false }
    }

    /// Whether no call has finished in it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.card.invocations.load(Ordering::Relaxed) == 0
    }

    /// Notes a finished call on the card.
    pub(crate) fn note_call(&self, now: Timestamp, memory_used: ByteCount) {
        self.card.last_used_ms.store(millis(now), Ordering::Relaxed);
        self.card.memory_bytes.store(memory_used.bytes(), Ordering::Relaxed);
        if self.card.invocations.fetch_add(1, Ordering::Relaxed) == 0 {
            *lock(&self.card.cold_start) = self.environment.cold_start();
        }
    }

    /// Whether the main process still runs. One that ended between calls is replaced, not blamed on the next call.
    fn is_alive(&self) -> bool {
        self.environment.exited().now_or_never().is_none()
    }

    fn is_old(&self, now: Timestamp) -> bool {
        is_old(self.card.started, now)
    }

    /// Kills the environment and waits until nothing of it is left.
    pub(crate) async fn close(self) {
        self.environment.close().await;
    }
}

impl Pool {
    pub(crate) fn new(spec: EnvironmentSpec, trees: Trees) -> Arc<Self> {
        let retired = AtomicBool::new(false);
        Arc::new(Self { spec: Arc::new(spec), _trees: trees, retired, state: Mutex::default() })
    }

    /// The most recently used idle environment, thawed. Dead and old ones that it meets are handed back for closing.
    pub(crate) fn take(&self, now: Timestamp) -> (Option<Leased>, Vec<Leased>) {
        let mut dead = Vec::new();
        loop {
            let popped = lock(&self.state).idle.pop();
            let Some(mut leased) = popped else { return (None, dead) };
            if leased.frozen {
                leased.environment.thaw();
                leased.frozen = false;
                leased.card.frozen.store(false, Ordering::Relaxed);
            }
            if leased.is_alive() && !leased.is_old(now) {
                leased.card.busy.store(true, Ordering::Relaxed);
                return (Some(leased), dead);
            }
            dead.push(leased);
        }
    }

    /// Takes an environment back; gives it to the caller for closing if the pool is retired.
    pub(crate) fn give_back(&self, mut leased: Leased, monotonic: Duration) -> Option<Leased> {
        leased.idle_since = monotonic;
        leased.card.busy.store(false, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if self.retired.load(Ordering::Acquire) {
            return Some(leased);
        }
        state.idle.push(leased);
        None
    }

    /// Why the next environment has to be made.
    pub(crate) fn cause(&self) -> Cause {
        let state = lock(&self.state);
        match state.cards.iter().filter_map(Weak::upgrade).count() {
            0 if state.made == 0 => Cause::First,
            0 => Cause::Gone,
            _ => Cause::ScaleOut,
        }
    }

    /// Makes a new environment visible.
    pub(crate) fn enrol(&self, leased: &Leased) {
        let mut state = lock(&self.state);
        state.cards.retain(|card| card.strong_count() > 0);
        state.cards.push(Arc::downgrade(&leased.card));
        state.made += 1;
    }

    /// Freezes what has been idle since before `cutoff`. Returns whether anything idle is still unfrozen.
    pub(crate) fn freeze_idle(&self, cutoff: Duration) -> bool {
        let mut waiting = false;
        for leased in lock(&self.state).idle.iter_mut().filter(|leased| !leased.frozen) {
            if leased.idle_since <= cutoff {
                leased.environment.freeze();
                leased.frozen = true;
                leased.card.frozen.store(true, Ordering::Relaxed);
            } else {
                waiting = true;
            }
        }
        waiting
    }

    /// Takes out what has been idle since before `cutoff`, what died meanwhile, and what is old.
    pub(crate) fn reap(&self, cutoff: Option<Duration>, now: Timestamp) -> Vec<Leased> {
        let over = |leased: &Leased| cutoff.is_some_and(|cutoff| leased.idle_since <= cutoff) || leased.is_old(now);
        let mut state = lock(&self.state);
        let (gone, kept) =
            std::mem::take(&mut state.idle).into_iter().partition(|leased| over(leased) || !leased.is_alive());
        state.idle = kept;
        gone
    }

    /// When the environment that has been idle longest was last used.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        lock(&self.state).idle.iter().map(|leased| leased.idle_since).min()
    }

    /// Takes out the environment that has been idle longest.
    pub(crate) fn evict(&self) -> Option<Leased> {
        let mut state = lock(&self.state);
        let (index, _) = state.idle.iter().enumerate().min_by_key(|(_, leased)| leased.idle_since)?;
        Some(state.idle.remove(index))
    }

    /// Ends the pool: nothing comes back to it. What was idle is handed over for closing.
    pub(crate) fn retire(&self) -> Vec<Leased> {
        let mut state = lock(&self.state);
        self.retired.store(true, Ordering::Release);
        std::mem::take(&mut state.idle)
    }

    pub(crate) fn view(&self) -> Vec<EnvironmentView> {
        let cards: Vec<_> = lock(&self.state).cards.iter().filter_map(Weak::upgrade).collect();
        cards.iter().map(|card| self.view_of(card)).collect()
    }

    fn view_of(&self, card: &Card) -> EnvironmentView {
        let busy = card.busy.load(Ordering::Relaxed);
        let state = match (busy, card.frozen.load(Ordering::Relaxed)) {
            (true, _) => "Busy",
            (false, true) => "Frozen",
            (false, false) => "Idle",
        };
        EnvironmentView {
            place: self.spec.place.clone(),
            id: card.id.clone(),
            function: self.spec.function.clone(),
            version: self.spec.version.clone(),
            state,
            pid: card.pid,
            memory_mb: self.spec.memory_mb,
            memory_used_bytes: card.memory_bytes.load(Ordering::Relaxed),
            started: card.started,
            last_used: Timestamp::from_millis(i64::try_from(card.last_used_ms.load(Ordering::Relaxed)).unwrap_or(0)),
            invocations: card.invocations.load(Ordering::Relaxed),
            cause: card.cause,
            cold_start: *lock(&card.cold_start),
        }
    }
}

/// Whether the credentials of an environment that was made at `started` might end before a call does.
fn is_old(started: Timestamp, now: Timestamp) -> bool {
    now.since(started) >= ENVIRONMENT_LIFE
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use flint_kit::endpoint::CREDENTIALS_LIFE;

    use super::*;

    #[test]
    fn an_environment_ends_before_its_credentials() {
        let at = |hours: u64| Timestamp::from_millis(0).saturating_add(Duration::from_secs(hours * 3600));
        assert!(!is_old(at(0), at(10)) && is_old(at(0), at(11)) && is_old(at(0), at(30)));
        assert!(!is_old(at(5), at(0)), "a clock that was set back");
        let last_call = Duration::from_secs(900 + 900);
        assert!(ENVIRONMENT_LIFE + last_call < CREDENTIALS_LIFE);
    }
}
