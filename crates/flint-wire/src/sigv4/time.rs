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
    let part = |from: usize, to: usize| &text[from..to];
    Timestamp::parse_iso8601(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    ))
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
