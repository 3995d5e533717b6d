//! Values as people write them: spans, sizes, points in time.

use std::time::Duration;

use flint_base::Timestamp;

/// `500ms`, `30s`, `10m`, `2h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a span: expected a number with ms, s, m, h or d, such as 10m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let unit_ms: u64 = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

/// A span from 100 ms to an hour: how often to look.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    if bounds.contains(&span) { Ok(span) } else { Err(format!("{text:?} is not an interval: 100ms to 1h")) }
}

/// `512`, `512MB`, `512MiB`, `2GB`, `2GiB`: whole MiB.
pub(crate) fn megabytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size: expected MiB or a number with MiB or GiB, such as 2GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => Some(number),
        "g" | "gb" | "gib" => number.checked_mul(1024),
        _ => None,
    }
    .filter(|n| *n > 0)
    .ok_or_else(bad)
}

/// A span back from now, or an instant as in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    pub(crate) fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(span) => {
                let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(now.as_millis().saturating_sub(ms).max(0))
            }
        }
    }
}

impl std::str::FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_iso8601(text) {
            return Ok(Since::At(at));
        }
        duration(text).map(Since::Ago).map_err(|_| {
            format!(
                "{text:?} is no time: expected a span such as 10m, 2h or 1d, or an instant such as 2026-11-21T09:00:00Z"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(megabytes("2GiB"), Ok(2048));
        assert_eq!(megabytes("512"), Ok(512));
        for bad in ["", "m", "10", "10 parsecs", "-1s", "99999999999999999999s", "18446744073709551615d", "１s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "1TB", "x", "18446744073709551615GB"] {
            assert!(megabytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn points_in_time() {
        let now = Timestamp::from_millis(1_795_251_600_000);
        let at = |text: &str| text.parse::<Since>().map(|s| s.instant(now).to_iso8601());
        assert_eq!(at("10m").as_deref(), Ok("2026-11-21T08:50:00.000Z"));
        assert_eq!(at("2026-11-21T08:00:00Z").as_deref(), Ok("2026-11-21T08:00:00.000Z"));
        assert_eq!(at("99999999d").as_deref(), Ok("1970-01-01T00:00:00.000Z"));
        assert!(at("yesterday").is_err());
    }
}
