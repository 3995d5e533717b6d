//! What the host and the account can give: concurrency permits and memory.
//!
//! Both are counters with a bound. Whoever holds a permit gives it back by dropping it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use flint_model::AccountId;

/// Bounds shared by all pools.
#[derive(Debug)]
pub(crate) struct Room {
    /// Invocations in flight per account.
    in_flight: RwLock<HashMap<AccountId, Arc<Gauge>>>,
    concurrency: u64,
    memory_mb: Gauge,
    memory_budget_mb: u64,
}

/// A counter that never goes above a bound.
#[derive(Debug, Default)]
struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `n` unless the sum would exceed `bound`.
    fn add(&self, n: u64, bound: u64) -> bool {
        let grow = |now: u64| now.checked_add(n).filter(|sum| *sum <= bound);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow).is_ok()
    }

    fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::AcqRel);
    }
}

/// The right to have one invocation in flight.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gauge>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// Memory set aside for one environment.
#[derive(Debug)]
pub(crate) struct Memory {
    room: Arc<Room>,
    mb: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.room.memory_mb.sub(self.mb);
    }
}

impl Room {
    /// `concurrency` bounds the invocations in flight of each account, `memory_budget_mb` all environments together.
    pub(crate) fn new(concurrency: u64, memory_budget_mb: u64) -> Arc<Self> {
        Arc::new(Self { in_flight: RwLock::default(), concurrency, memory_mb: Gauge::default(), memory_budget_mb })
    }

    /// Admits one invocation of `account`, or `None` at the account's concurrency limit.
    pub(crate) fn admit(&self, account: &AccountId) -> Option<Permit> {
        let gauge = self.gauge(account);
        gauge.add(1, self.concurrency).then(|| Permit(gauge))
    }

    /// Sets memory aside, or `None` when the budget is spent.
    pub(crate) fn reserve(self: &Arc<Self>, mb: u64) -> Option<Memory> {
        self.memory_mb.add(mb, self.memory_budget_mb).then(|| Memory { room: self.clone(), mb })
    }

    /// Whether an environment of this size could ever be made.
    pub(crate) fn could_hold(&self, mb: u64) -> bool {
        mb <= self.memory_budget_mb
    }

    pub(crate) fn memory_in_use_mb(&self) -> u64 {
        self.memory_mb.0.load(Ordering::Acquire)
    }

    pub(crate) fn memory_budget_mb(&self) -> u64 {
        self.memory_budget_mb
    }

    fn gauge(&self, account: &AccountId) -> Arc<Gauge> {
        if let Some(gauge) = self.in_flight.read().unwrap_or_else(PoisonError::into_inner).get(account) {
            return gauge.clone();
        }
        self.in_flight.write().unwrap_or_else(PoisonError::into_inner).entry(account.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_exact_under_contention() {
        let room = Room::new(8, 1024);
        let account: AccountId = "000000000000".parse().expect("legal");
        let peak = AtomicU64::new(0);
        let now = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(permit) = room.admit(&account) {
                            let inside = now.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(inside, Ordering::SeqCst);
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(peak.load(Ordering::SeqCst) <= 8);
        let all: Vec<_> = std::iter::from_fn(|| room.admit(&account)).collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn memory_comes_back() {
        let room = Room::new(1, 300);
        let first = room.reserve(128).expect("fits");
        let _second = room.reserve(128).expect("fits");
        assert!(room.reserve(128).is_none());
        drop(first);
        assert!(room.reserve(128).is_some());
        assert!(!room.could_hold(301));
    }
}
