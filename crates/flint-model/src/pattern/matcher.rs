//! One condition on one value.

use std::net::IpAddr;

use super::json::Json;
use super::number::Decimal;

/// What a value has to be. A field's values are alternatives: one that holds is enough.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Matcher {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
    /// A text that is an address equals every way to write that address.
    Address(IpAddr),
    Prefix(String),
    Suffix(String),
    /// These three hold folded text.
    EqualsIgnoreCase(String),
    PrefixIgnoreCase(String),
    SuffixIgnoreCase(String),
    Wildcard(Wildcard),
    Numeric(Range),
    Cidr(Cidr),
    Exists(bool),
    Not(AnythingBut),
}

/// What a value must not be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AnythingBut {
    Texts(Vec<String>),
    Numbers(Vec<Decimal>),
    IgnoreCase(Vec<String>),
    Prefixes(Vec<String>),
    Suffixes(Vec<String>),
    Wildcards(Vec<Wildcard>),
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub value: Decimal,
    /// The value itself is in the range.
    pub included: bool,
}

/// Numbers between two ends, or beyond one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub low: Option<Bound>,
    pub high: Option<Bound>,
}

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cidr {
    pub base: IpAddr,
    pub bits: u32,
}

/// A text in which `*` stands for any characters: what stands between the stars.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wildcard(pub Vec<String>);

/// The form in which texts are compared without regard to case.
pub(super) fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

impl Matcher {
    /// Whether `value`, which is neither array nor object, is what is wanted.
    pub(super) fn takes(&self, value: &Json) -> bool {
        match (self, value) {
            (Matcher::Exists(wanted), _) => *wanted,
            (Matcher::Not(but), _) => !but.names(value),
            (Matcher::Null, Json::Null) => true,
            (Matcher::Bool(wanted), Json::Bool(found)) => wanted == found,
            (Matcher::Number(wanted), Json::Number(found)) => wanted == found,
            (Matcher::Numeric(range), Json::Number(found)) => range.holds(found),
            (_, Json::String(text)) => self.takes_text(text),
            _ => false,
        }
    }

    fn takes_text(&self, text: &str) -> bool {
        match self {
            Matcher::Text(wanted) => text == wanted,
            Matcher::Address(wanted) => address(text) == Some(*wanted),
            Matcher::Prefix(start) => text.starts_with(start.as_str()),
            Matcher::Suffix(end) => text.ends_with(end.as_str()),
            Matcher::EqualsIgnoreCase(wanted) => fold(text) == *wanted,
            Matcher::PrefixIgnoreCase(start) => fold(text).starts_with(start.as_str()),
            Matcher::SuffixIgnoreCase(end) => fold(text).ends_with(end.as_str()),
            Matcher::Wildcard(wildcard) => wildcard.holds(text),
            Matcher::Cidr(cidr) => address(text).is_some_and(|found| cidr.holds(found)),
            _ => false,
        }
    }
}

impl AnythingBut {
    /// Whether `value` is what it must not be. A number is never one of the texts, nor a text one of the numbers.
    fn names(&self, value: &Json) -> bool {
        match (self, value) {
            (AnythingBut::Numbers(numbers), Json::Number(found)) => numbers.contains(found),
            (AnythingBut::Texts(texts), Json::String(found)) => texts.contains(found),
            (AnythingBut::IgnoreCase(texts), Json::String(found)) => texts.contains(&fold(found)),
            (AnythingBut::Prefixes(starts), Json::String(found)) => {
                starts.iter().any(|s| found.starts_with(s.as_str()))
            }
            (AnythingBut::Suffixes(ends), Json::String(found)) => ends.iter().any(|e| found.ends_with(e.as_str())),
            (AnythingBut::Wildcards(wildcards), Json::String(found)) => wildcards.iter().any(|w| w.holds(found)),
            _ => false,
        }
    }
}

impl Range {
    /// Numbers beyond what the reference compares are in no range.
    fn holds(&self, found: &Decimal) -> bool {
        let above = |low: &Bound| *found > low.value || (low.included && *found == low.value);
        let below = |high: &Bound| *found < high.value || (high.included && *found == high.value);
        found.is_comparable() && self.low.as_ref().is_none_or(above) && self.high.as_ref().is_none_or(below)
    }
}

/// An address as the reference reads it, which knows no zones.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

impl Cidr {
    fn holds(&self, found: IpAddr) -> bool {
        match (self.base, found) {
            (IpAddr::V4(base), IpAddr::V4(found)) => {
                same(base.to_bits().into(), found.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(base), IpAddr::V6(found)) => same(base.to_bits(), found.to_bits(), 128 - self.bits),
            _ => false,
        }
    }
}

/// Whether two addresses are one but for their last `free` bits.
fn same(a: u128, b: u128, free: u32) -> bool {
    free >= u128::BITS || a >> free == b >> free
}

impl Wildcard {
    /// Each piece is found as early as can be behind the one before; the last one has to end the text.
    fn holds(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return text.is_empty() };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
        for piece in middle {
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}
