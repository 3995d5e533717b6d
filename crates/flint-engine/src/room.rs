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
    accounts: RwLock<HashMap<AccountId, Arc<Account>>>,
    /// What each account may have in flight, reserved concurrency included.
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

/// The concurrency of one account.
#[derive(Debug, Default)]
struct Account {
    /// Invocations in flight of functions without a reservation.
    unreserved: Gauge,
    /// Sum of all reservations.
    reserved: AtomicU64,
}

/// The concurrency of one function.
#[derive(Debug)]
pub(crate) struct Reservation {
    in_flight: Gauge,
    /// [`NO_LIMIT`] without a reservation.
    limit: AtomicU64,
}

const NO_LIMIT: u64 = u64::MAX;

/// Why an invocation was not admitted, as the `Reason` of `TooManyRequestsException` says it.
pub(crate) const RESERVED: &str = "ReservedFunctionConcurrentInvocationLimitExceeded";
pub(crate) const ACCOUNT: &str = "ConcurrentInvocationLimitExceeded";

impl Reservation {
    pub(crate) fn new(reserved: Option<u64>) -> Arc<Self> {
        Arc::new(Self { in_flight: Gauge::default(), limit: AtomicU64::new(reserved.unwrap_or(NO_LIMIT)) })
    }

    /// Changes the limit for calls to come; those in flight stay.
    pub(crate) fn set(&self, reserved: Option<u64>) {
        self.limit.store(reserved.unwrap_or(NO_LIMIT), Ordering::Release);
    }
}

/// The right to have one invocation in flight.
#[derive(Debug)]
pub(crate) struct Permit {
    function: Arc<Reservation>,
    /// For a function without a reservation.
    account: Option<Arc<Account>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.function.in_flight.sub(1);
        if let Some(account) = &self.account {
            account.unreserved.sub(1);
        }
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
        Arc::new(Self { accounts: RwLock::default(), concurrency, memory_mb: Gauge::default(), memory_budget_mb })
    }

    /// Admits one invocation of a function of `account`.
    ///
    /// Errors: the reason, [`RESERVED`] or [`ACCOUNT`].
    pub(crate) fn admit(&self, account: &AccountId, function: &Arc<Reservation>) -> Result<Permit, &'static str> {
        let limit = function.limit.load(Ordering::Acquire);
        if !function.in_flight.add(1, limit) {
            return Err(RESERVED);
        }
        // From here on dropping the permit gives back what was taken.
        let mut permit = Permit { function: function.clone(), account: None };
        if limit == NO_LIMIT {
            let account = self.account(account);
            let unreserved = self.concurrency.saturating_sub(account.reserved.load(Ordering::Acquire));
            if !account.unreserved.add(1, unreserved) {
                return Err(ACCOUNT);
            }
            permit.account = Some(account);
        }
        Ok(permit)
    }

    /// Changes what the account's functions reserve together, by one function's change.
    pub(crate) fn reserve_concurrency(&self, account: &AccountId, before: Option<u64>, after: Option<u64>) {
        let account = self.account(account);
        account.reserved.fetch_add(after.unwrap_or(0), Ordering::AcqRel);
        account.reserved.fetch_sub(before.unwrap_or(0), Ordering::AcqRel);
    }

    /// The account's limit and what of it no function reserves.
    pub(crate) fn concurrency(&self, account: &AccountId) -> (u64, u64) {
        let reserved = self.account(account).reserved.load(Ordering::Acquire);
        (self.concurrency, self.concurrency.saturating_sub(reserved))
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

    fn account(&self, id: &AccountId) -> Arc<Account> {
        if let Some(account) = self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            return account.clone();
        }
        self.accounts.write().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen threads admit and let go as fast as they can; answers the highest number that was in flight.
    fn peak(room: &Room, account: &AccountId, function: &Arc<Reservation>) -> u64 {
        let peak = AtomicU64::new(0);
        let now = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(permit) = room.admit(account, function) {
                            let inside = now.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(inside, Ordering::SeqCst);
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        peak.into_inner()
    }

    #[test]
    fn limits_are_exact_under_contention() {
        let room = Room::new(8, 1024);
        let account: AccountId = "000000000000".parse().expect("legal");
        let free = Reservation::new(None);
        assert!(peak(&room, &account, &free) <= 8);
        room.reserve_concurrency(&account, None, Some(3));
        let reserved = Reservation::new(Some(3));
        assert!(peak(&room, &account, &reserved) <= 3);
        let all: Vec<_> = std::iter::from_fn(|| room.admit(&account, &reserved).ok()).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(room.admit(&account, &reserved).expect_err("full"), RESERVED);
        let rest: Vec<_> = std::iter::from_fn(|| room.admit(&account, &free).ok()).collect();
        assert_eq!(rest.len(), 5, "what is reserved is not for others");
        assert_eq!(room.admit(&account, &free).expect_err("full"), ACCOUNT);
        drop((all, rest));
        assert!(room.admit(&account, &reserved).is_ok() && room.admit(&account, &free).is_ok());
    }

    #[test]
    fn zero_stops_and_a_change_holds_at_once() {
        let room = Room::new(8, 1024);
        let account: AccountId = "000000000000".parse().expect("legal");
        let function = Reservation::new(Some(0));
        assert_eq!(room.admit(&account, &function).expect_err("stopped"), RESERVED);
        function.set(Some(1));
        let permit = room.admit(&account, &function).expect("one");
        assert!(room.admit(&account, &function).is_err());
        function.set(None);
        assert!(room.admit(&account, &function).is_ok());
        drop(permit);
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
