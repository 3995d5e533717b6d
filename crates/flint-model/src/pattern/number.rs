//! Numbers as patterns compare them: by value, exactly, however they are written.

use std::cmp::Ordering;
use std::fmt;

/// A decimal number of any size: `3.018e2` is `301.8`, and twelve-digit account numbers keep their last digit.
///
/// Differs: the reference keeps 15 digits, six of them behind the point, where it compares ranges; this compares exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero. The value is `0.DIGITS` times ten to the power of `exponent`.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// The value of a JSON number. `literal` keeps JSON's grammar.
    pub(super) fn of(literal: &str) -> Self {
        let (negative, rest) = literal.strip_prefix('-').map_or((false, literal), |rest| (true, rest));
        let (mantissa, power) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let leading = all.iter().take_while(|d| **d == b'0').count();
        let trailing = all[leading..].iter().rev().take_while(|d| **d == b'0').count();
        let digits = all[leading..all.len() - trailing].to_vec();
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        let point = whole.len() as i64 - leading as i64;
        Self { negative, digits, exponent: power_of(power).saturating_add(point) }
    }

    /// Whether it is in the range in which the reference compares: -5.0e9 to 5.0e9.
    pub(super) fn is_comparable(&self) -> bool {
        let bound = Decimal { negative: false, digits: vec![b'5'], exponent: 10 };
        self.magnitude(&bound) != Ordering::Greater
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::str::from_utf8(&self.digits).unwrap_or("");
        match (self.negative, digits) {
            (_, "") => f.write_str("0"),
            (true, digits) => write!(f, "-0.{digits}E{}", self.exponent),
            (false, digits) => write!(f, "0.{digits}E{}", self.exponent),
        }
    }
}

/// An exponent as written; beyond what 64 bits hold it stays at their end.
fn power_of(text: &str) -> i64 {
    text.strip_prefix('+').unwrap_or(text).parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        for (a, b) in [("300", "3.0e2"), ("0", "-0.0"), ("0.000001", "1e-6"), ("35e-1", "3.50"), ("1E+2", "100")] {
            assert_eq!(Decimal::of(a), Decimal::of(b), "{a} {b}");
        }
        let ascending = ["-1e99", "-5.1", "-5", "-0.2", "0", "1e-99", "0.19", "0.2", "9", "10", "123456789012", "1e99"];
        for pair in ascending.windows(2) {
            assert!(Decimal::of(pair[0]) < Decimal::of(pair[1]), "{pair:?}");
        }
        assert!(Decimal::of("-5.0e9").is_comparable() && !Decimal::of("5000000000.1").is_comparable());
        assert!(Decimal::of("1e99999999999999999999") > Decimal::of("1e9999"));
        assert!(Decimal::of("1e-99999999999999999999") > Decimal::of("0"));
    }
}
