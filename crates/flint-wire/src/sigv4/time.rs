//! The two forms of a request's date.

use flint_base::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// `20261121T090000Z`.
pub fn basic(at: Timestamp) -> String {
    at.format("%Y%m%dT%H%M%SZ")
}

/// Parses `20261121T090000Z` and nothing else.
pub fn parse_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 16
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 => *b == b'T',
            15 => *b == b'Z',
            _ => b.is_ascii_digit(),
        });
    if !shape {
        return None;
    }
    // Every request comes by here, so without the detour of a general parser.
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0_i16, |n, b| n * 10 + i16::from(b - b'0'));
    let small = |from: usize| i8::try_from(number(from, from + 2)).ok();
    // A leap second is the second before it, as in ISO 8601 texts.
    let second = small(13)?.min(if number(13, 15) == 60 { 59 } else { i8::MAX });
    let at = jiff::civil::DateTime::new(number(0, 4), small(4)?, small(6)?, small(9)?, small(11)?, second, 0).ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(at).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

/// Parses the value of a `Date` header: RFC 7231's form, or the basic form that some signers put there.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    parse_basic(text).or_else(|| parse_http(text))
}

/// Parses `Sat, 21 Nov 2026 09:00:00 GMT`.
pub fn parse_http(text: &str) -> Option<Timestamp> {
    let parsed = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(parsed.as_millisecond()))
}

/// `Sat, 21 Nov 2026 09:00:00 GMT`.
pub fn http(at: Timestamp) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_nothing_bent() {
        let at = Timestamp::from_millis(1_795_251_600_000);
        assert_eq!(basic(at), "20261121T090000Z");
        assert_eq!(parse_date("20261121T090000Z"), Some(at));
        assert_eq!(parse_date("Sat, 21 Nov 2026 09:00:00 GMT"), Some(at));
        assert_eq!(parse_date(&http(at)), Some(at));
        for bad in
            ["", "20261121T090000", "20261121t090000Z", "2026-11-21T09:00:00Z", "20261321T090000Z", "２0261121T090000Z"]
        {
            assert_eq!(parse_basic(bad), None, "{bad}");
        }
    }
}
