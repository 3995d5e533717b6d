//! What each function has done since the server started: counters and a histogram of durations, for `flint top`.
//!
//! Counters outlive the pools of their function. Adding to them takes no lock; the histogram is made at a function's
//! first call, so that a function that nobody calls costs next to nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use flint_model::{FunctionName, Place};

/// Buckets per doubling: a percentile is at most 9 % above the true one.
const PER_OCTAVE: f64 = 8.0;

/// The upper bound of the first bucket, in microseconds.
const FIRST_US: f64 = 50.0;

/// Enough for 50 us to 18 minutes; what takes longer is in the last bucket.
const BUCKETS: usize = 196;

/// All functions' counters.
#[derive(Debug, Default)]
pub(crate) struct Stats(RwLock<HashMap<(Place, FunctionName), Arc<FunctionStats>>>);

/// One function's counters.
#[derive(Debug, Default)]
pub(crate) struct FunctionStats {
    invocations: AtomicU64,
    errors: AtomicU64,
    throttles: AtomicU64,
    cold_starts: AtomicU64,
    durations: OnceLock<Box<[AtomicU64; BUCKETS]>>,
}

/// One function's counters as an operator sees them.
#[derive(Clone, Debug)]
pub struct StatsView {
    pub place: Place,
    pub function: FunctionName,
    pub invocations: u64,
    pub errors: u64,
    pub throttles: u64,
    pub cold_starts: u64,
    /// How many calls took at most so long, and longer than the entry before says. Only what is not zero.
    pub durations: Vec<(Duration, u64)>,
}

impl Stats {
    /// The counters of a function, made if they are missing.
    pub(crate) fn of(&self, place: &Place, function: &FunctionName) -> Arc<FunctionStats> {
        let key = (place.clone(), function.clone());
        if let Some(stats) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return stats.clone();
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    /// Drops the counters of a function that was deleted. Its last calls count for nobody.
    pub(crate) fn forget(&self, place: &Place, function: &FunctionName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&(place.clone(), function.clone()));
    }

    pub(crate) fn view(&self) -> Vec<StatsView> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut views: Vec<_> =
            all.iter().map(|((place, function), stats)| stats.view(place.clone(), function.clone())).collect();
        views.sort_by(|a, b| a.function.cmp(&b.function));
        views
    }
}

impl FunctionStats {
    /// Counts a call that ran: how long its caller waited, whether it failed, whether an environment was made for it.
    pub(crate) fn ran(&self, took: Duration, failed: bool, cold: bool) {
        self.invocations.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(failed.into(), Ordering::Relaxed);
        self.cold_starts.fetch_add(cold.into(), Ordering::Relaxed);
        let durations = self.durations.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        durations[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that was refused for want of room.
    pub(crate) fn throttled(&self) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
    }

    fn view(&self, place: Place, function: FunctionName) -> StatsView {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let buckets = self.durations.get().into_iter().flat_map(|all| all.iter().enumerate());
        StatsView {
            place,
            function,
            invocations: of(&self.invocations),
            errors: of(&self.errors),
            throttles: of(&self.throttles),
            cold_starts: of(&self.cold_starts),
            durations: buckets.map(|(i, count)| (upper(i), of(count))).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn bucket(took: Duration) -> usize {
    let octaves = (took.as_secs_f64() * 1e6 / FIRST_US).log2();
    // A cast from a float stops at the bounds of the integer: what is too short is in the first bucket.
    ((octaves * PER_OCTAVE).ceil() as usize).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST_US / 1e6 * (bucket as f64 / PER_OCTAVE).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_at_most_its_buckets_bound() {
        for us in [0, 1, 49, 50, 51, 100, 777, 12_345, 1_000_000, 900_000_000] {
            let took = Duration::from_micros(us);
            let i = bucket(took);
            assert!(took <= upper(i) + Duration::from_nanos(100), "{us}");
            assert!(i == 0 || took + Duration::from_nanos(100) >= upper(i - 1), "{us}");
        }
        assert_eq!(bucket(Duration::from_secs(1_000_000)), BUCKETS - 1);
    }

    #[test]
    fn calls_are_counted_per_function() {
        let stats = Stats::default();
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        let name: FunctionName = "f".parse().expect("legal");
        stats.of(&place, &name).ran(Duration::from_millis(3), false, true);
        stats.of(&place, &name).ran(Duration::from_millis(3), true, false);
        stats.of(&place, &name).throttled();
        let view = stats.view().remove(0);
        assert_eq!((view.invocations, view.errors, view.throttles, view.cold_starts), (2, 1, 1, 1));
        assert_eq!(view.durations.len(), 1);
        assert_eq!(view.durations[0].1, 2);
    }
}
