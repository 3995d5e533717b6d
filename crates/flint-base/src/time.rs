//! Wall-clock time, monotonic time and the [`Clock`] that hands both out.
//!
//! Nothing above this crate asks the system for the time: it takes a `Clock`, so that tests and simulations
//! decide what time it is.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Name under which a [`Timestamp`] travels through serde, so that self-describing formats that know time
/// (such as `flint_kit::Doc`) can tell it from a number.
pub const TIMESTAMP_NEWTYPE: &str = "$flint::Timestamp";

/// An instant of wall-clock time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch with milliseconds as the fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The span from `earlier` to this instant; zero if the clock went backwards.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-11-21T09:00:00.000Z`, the form of ISO 8601 that the reference's REST-JSON and XML answers carry.
    pub fn to_iso8601(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S%.3fZ")
    }

    /// `2026-11-21T09:00:00.000+0000`, the form of Lambda's `LastModified`.
    pub fn to_lambda(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S%.3f+0000")
    }

    /// Formats in UTC with `strftime` directives as `jiff` knows them.
    pub fn format(self, directives: &str) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => t.to_zoned(jiff::tz::TimeZone::UTC).strftime(directives).to_string(),
            Err(_) => self.0.to_string(),
        }
    }

    /// Parses RFC 3339 / ISO 8601 text with an offset.
    pub fn parse_iso8601(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso8601())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_newtype_struct(TIMESTAMP_NEWTYPE, &self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since the Unix epoch")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Timestamp, D::Error> {
                i64::deserialize(d).map(Timestamp)
            }
            fn visit_i64<E>(self, ms: i64) -> Result<Timestamp, E> {
                Ok(Timestamp(ms))
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Timestamp, E> {
                i64::try_from(ms).map(Timestamp).map_err(E::custom)
            }
        }
        d.deserialize_newtype_struct(TIMESTAMP_NEWTYPE, Visitor)
    }
}

/// Where all time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time. May jump; never use it for spans.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. Never goes backwards.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until told to advance.
#[derive(Debug)]
pub struct VirtualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl VirtualClock {
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves both the wall clock and the monotonic clock forward.
    pub fn advance(&self, span: Duration) {
        let mut state = self.lock();
        state.0 = state.0.saturating_add(span);
        state.1 += span;
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_to(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_reference_forms() {
        let t = Timestamp::from_millis(1_795_251_600_123);
        assert_eq!(t.to_iso8601(), "2026-11-21T09:00:00.123Z");
        assert_eq!(t.to_lambda(), "2026-11-21T09:00:00.123+0000");
        assert_eq!(Timestamp::parse_iso8601("2026-11-21T09:00:00.123Z"), Some(t));
    }

    #[test]
    fn a_clock_that_jumps_back_gives_no_negative_span() {
        let clock = VirtualClock::at(Timestamp::from_millis(10_000));
        let before = clock.now();
        clock.jump_to(Timestamp::from_millis(5_000));
        assert_eq!(clock.now().since(before), Duration::ZERO);
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.monotonic(), Duration::from_secs(1));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "([0-9TZ:+.-]|\\PC){0,40}", ms in -1_000_000_000_000i64..4_000_000_000_000) {
            let _ = Timestamp::parse_iso8601(&text);
            let at = Timestamp::from_millis(ms);
            proptest::prop_assert_eq!(Timestamp::parse_iso8601(&at.to_iso8601()), Some(at));
        }
    }
}
