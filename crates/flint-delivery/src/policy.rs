//! When an event is tried again, and when it is given up.
//!
//! Pure. Reference: Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation": a
//! function's own errors are tried twice more, after one and after two minutes; throttles (429) and errors of the
//! platform (5xx) go back to the queue for up to six hours, after 1 s at first, then exponentially longer up to 5 minutes.

use std::time::Duration;

use flint_base::Timestamp;

/// `MaximumRetryAttempts` and `MaximumEventAgeInSeconds` as they hold for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Tries after the first, 0 to 2.
    pub retries: u32,
    /// 60 s to 6 h.
    pub max_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries: 2, max_age: Duration::from_secs(6 * 3600) }
    }
}

/// How an attempt ended, as far as retries care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Succeeded,
    /// The function failed, or there is none of that name or qualifier (404): one attempt is used up.
    Failed,
    /// 429 or 5xx: the function was not asked, no attempt is used up.
    NotAsked,
    /// Lambda refuses the event itself (4xx): trying again changes nothing.
    Refused,
    /// Reserved concurrency is zero: the function is switched off.
    SwitchedOff,
    /// The chain went through the function too often.
    Recursive,
}

/// Why an event was given up, as `requestContext.condition` says it; or that it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
    RecursiveInvocation,
}

impl Condition {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Condition::Success => "Success",
            Condition::RetriesExhausted => "RetriesExhausted",
            Condition::EventAgeExceeded => "EventAgeExceeded",
            Condition::ZeroReservedConcurrency => "ZeroReservedConcurrency",
            Condition::RecursiveInvocation => "RecursiveInvocation",
        }
    }
}

/// What happened to an event so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Attempts that used one up, the last included.
    pub attempts: u32,
    /// How often in a row the function was not asked, the last included.
    pub not_asked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    End(Condition),
    Again(Timestamp),
}

/// What is next for an event that was `accepted` then, has had `tries` and `ended` so at `now`.
pub(crate) fn decide(policy: Policy, accepted: Timestamp, tries: Tries, ended: Ended, now: Timestamp) -> Verdict {
    let last = accepted.saturating_add(policy.max_age);
    match ended {
        Ended::Succeeded => Verdict::End(Condition::Success),
        Ended::SwitchedOff => Verdict::End(Condition::ZeroReservedConcurrency),
        Ended::Recursive => Verdict::End(Condition::RecursiveInvocation),
        Ended::Refused => Verdict::End(Condition::RetriesExhausted),
        Ended::Failed if tries.attempts > policy.retries => Verdict::End(Condition::RetriesExhausted),
        Ended::Failed => {
            let next = now.saturating_add(Duration::from_secs(60) * tries.attempts.max(1));
            // The reference looks ahead: it gives up now what would be too old then.
            if next > last { Verdict::End(Condition::EventAgeExceeded) } else { Verdict::Again(next) }
        }
        Ended::NotAsked if now >= last => Verdict::End(Condition::EventAgeExceeded),
        // The last try is when the age is reached, not up to five minutes before.
        Ended::NotAsked => Verdict::Again(now.saturating_add(backoff(tries.not_asked)).min(last)),
    }
}

/// Whether an event that comes to its turn at `now` is too old to be tried.
pub(crate) fn too_old(policy: Policy, accepted: Timestamp, now: Timestamp) -> bool {
    now.since(accepted) > policy.max_age
}

/// The wait after the `n`th time in a row: 1 s, 2 s, 4 s up to 5 minutes.
pub(crate) fn backoff(n: u32) -> Duration {
    const MOST: Duration = Duration::from_secs(300);
    Duration::from_secs(1 << n.saturating_sub(1).min(9)).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * SECOND)
    }

    /// The seconds at which an event is tried if every try ends the same way and takes no time.
    fn tried(policy: Policy, ended: Ended) -> (Vec<i64>, Condition) {
        let mut now = at(0);
        let mut tries = Tries::default();
        let mut times = Vec::new();
        loop {
            times.push(now.as_millis() / SECOND);
            match ended {
                Ended::NotAsked => tries.not_asked += 1,
                _ => tries.attempts += 1,
            }
            match decide(policy, at(0), tries, ended, now) {
                Verdict::Again(next) => now = next,
                Verdict::End(condition) => return (times, condition),
            }
        }
    }

    #[test]
    fn a_function_s_errors_are_tried_after_one_and_two_minutes() {
        let policy = |retries, age| Policy { retries, max_age: Duration::from_secs(age) };
        let exhausted = Condition::RetriesExhausted;
        assert_eq!(tried(Policy::default(), Ended::Failed), (vec![0, 60, 180], exhausted));
        assert_eq!(tried(policy(1, 21_600), Ended::Failed), (vec![0, 60], exhausted));
        assert_eq!(tried(policy(0, 21_600), Ended::Failed), (vec![0], exhausted));
        assert_eq!(tried(policy(2, 60), Ended::Failed), (vec![0, 60], Condition::EventAgeExceeded));
        assert_eq!(tried(policy(2, 179), Ended::Failed), (vec![0, 60], Condition::EventAgeExceeded));
        assert_eq!(tried(policy(2, 180), Ended::Failed), (vec![0, 60, 180], exhausted));
    }

    #[test]
    fn what_was_not_asked_backs_off_up_to_the_age() {
        let (times, condition) = tried(Policy::default(), Ended::NotAsked);
        assert_eq!(times[..11], [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 300));
        assert_eq!(times.last(), Some(&21_600));
        assert_eq!(condition, Condition::EventAgeExceeded);
        let short = Policy { retries: 2, max_age: Duration::from_secs(60) };
        assert_eq!(tried(short, Ended::NotAsked).0, [0, 1, 3, 7, 15, 31, 60]);
    }

    #[test]
    fn what_cannot_change_ends_at_once() {
        for (ended, condition) in [
            (Ended::Refused, Condition::RetriesExhausted),
            (Ended::SwitchedOff, Condition::ZeroReservedConcurrency),
            (Ended::Recursive, Condition::RecursiveInvocation),
            (Ended::Succeeded, Condition::Success),
        ] {
            assert_eq!(tried(Policy::default(), ended), (vec![0], condition));
        }
    }
}
