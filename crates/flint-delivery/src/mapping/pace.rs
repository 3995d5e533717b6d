//! How many batches of a mapping may be in flight.
//!
//! Pure. The whole of what is allowed is used as soon as there is a backlog; errors lower it, throttles lower it to what
//! goes through. With the reference's own ramp it begins with five and grows by 300 a minute.
//!
//! Reference: Lambda Developer Guide, "Configuring scaling behavior for SQS event source mappings".

use std::time::Duration;

use flint_base::Timestamp;

use crate::policy::backoff;

/// Batches that the reference begins with, and what it adds in a minute.
const RAMP_START: usize = 5;
const RAMP_PER_MINUTE: u128 = 300;

/// Longest pause of a mapping whose function was not asked.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How a batch ended, as far as the pace cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// The function failed.
    Failed,
    /// The function was not asked.
    NotAsked,
}

#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    ramp: bool,
    /// Learned from errors and throttles; at most `most`.
    limit: usize,
    in_flight: usize,
    /// Since when there is always something in flight.
    busy_since: Option<Timestamp>,
    strikes: u32,
    paused_until: Option<Timestamp>,
}

/// Whether another batch may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// Not before then, or not before a batch ends.
    After(Option<Timestamp>),
}

impl Pace {
    pub(crate) fn new(most: usize, ramp: bool) -> Self {
        Self { most, ramp, limit: most, in_flight: 0, busy_since: None, strikes: 0, paused_until: None }
    }

    /// The mapping was changed: what was learned is forgotten, what is in flight is not.
    pub(crate) fn reset(&mut self, most: usize) {
        (self.most, self.limit) = (most, most);
        (self.strikes, self.paused_until) = (0, None);
    }

    pub(crate) fn room(&self, now: Timestamp) -> Room {
        match self.paused_until {
            Some(until) if until > now => return Room::After(Some(until)),
            _ => {}
        }
        if self.in_flight < self.limit.min(self.ramped(now)) {
            return Room::Free;
        }
        // The ramp grows without anything ending.
        let grows = self.ramp && self.in_flight < self.limit;
        Room::After(grows.then(|| now.saturating_add(Duration::from_millis(200))))
    }

    fn ramped(&self, now: Timestamp) -> usize {
        if !self.ramp {
            return usize::MAX;
        }
        let busy = self.busy_since.map_or(Duration::ZERO, |since| now.since(since));
        RAMP_START.saturating_add(usize::try_from(busy.as_millis() * RAMP_PER_MINUTE / 60_000).unwrap_or(usize::MAX))
    }

    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.in_flight += 1;
        self.busy_since.get_or_insert(now);
    }

    pub(crate) fn end(&mut self, now: Timestamp, ended: Ended) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.busy_since = None;
        }
        match ended {
            Ended::Well => {
                (self.strikes, self.paused_until) = (0, None);
                self.limit = self.limit.saturating_add(1).min(self.most);
            }
            Ended::Failed => {
                (self.strikes, self.paused_until) = (0, None);
                let used = self.limit.min(self.in_flight + 1);
                self.limit = (used - used / 4).max(2).min(self.most);
            }
            Ended::NotAsked => {
                self.limit = self.in_flight.max(1);
                if self.in_flight == 0 {
                    self.strikes = self.strikes.saturating_add(1);
                    self.paused_until = Some(now.saturating_add(backoff(self.strikes).min(PAUSE_MAX)));
                }
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn fill(pace: &mut Pace, now: Timestamp) -> usize {
        let mut begun = 0;
        while pace.room(now) == Room::Free {
            pace.begin(now);
            begun += 1;
        }
        begun
    }

    #[test]
    fn a_backlog_gets_all_at_once() {
        let mut pace = Pace::new(1_000, false);
        assert_eq!(fill(&mut pace, at(0)), 1_000);
        assert_eq!(pace.room(at(0)), Room::After(None));
        pace.end(at(1), Ended::Well);
        assert_eq!(pace.room(at(1)), Room::Free);
    }

    #[test]
    fn the_reference_s_ramp() {
        let mut pace = Pace::new(1_000, true);
        assert_eq!(fill(&mut pace, at(0)), 5);
        assert_eq!(fill(&mut pace, at(60)), 300);
        assert_eq!(fill(&mut pace, at(300)), 695, "a thousand at most");
        let mut pace = Pace::new(2, true);
        assert_eq!(fill(&mut pace, at(600)), 2);
    }

    #[test]
    fn errors_lower_it_and_success_raises_it() {
        let mut pace = Pace::new(100, false);
        fill(&mut pace, at(0));
        for _ in 0..60 {
            pace.end(at(0), Ended::Failed);
        }
        assert_eq!((pace.in_flight(), pace.room(at(0))), (40, Room::After(None)), "{pace:?}");
        while pace.in_flight() > 0 {
            pace.end(at(0), Ended::Failed);
        }
        assert_eq!(fill(&mut pace, at(0)), 2, "never so low that one that fails stops all");
        for _ in 0..200 {
            pace.end(at(0), Ended::Well);
            fill(&mut pace, at(0));
        }
        assert_eq!(pace.in_flight(), 100);
    }

    #[test]
    fn throttles_pause_only_if_nothing_goes_through() {
        let mut pace = Pace::new(100, false);
        for _ in 0..3 {
            pace.begin(at(0));
        }
        pace.end(at(0), Ended::NotAsked);
        assert_eq!(pace.room(at(0)), Room::After(None), "two go through, so two");
        pace.end(at(0), Ended::NotAsked);
        pace.end(at(0), Ended::NotAsked);
        assert_eq!(pace.room(at(0)), Room::After(Some(at(1))));
        assert_eq!(fill(&mut pace, at(1)), 1);
        pace.end(at(1), Ended::NotAsked);
        assert_eq!(pace.room(at(1)), Room::After(Some(at(3))));
    }
}
