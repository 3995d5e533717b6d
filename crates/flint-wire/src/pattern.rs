//! The regular expressions of the models, compiled on first use.
//!
//! The models are written for a Java engine; we match with `regex-lite`, which is linear in the text. The few patterns
//! that it can't express have a hand-written twin in [`special`]; a test goes through every pattern of the tables.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, PoisonError, RwLock};

use regex_lite::Regex;

/// Longer texts are not matched: what may be longer has no pattern that matters, and a length limit besides.
const LONGEST: usize = 64 * 1024;

/// Texts that are remembered for a pattern, and how long they may be. The same few names are sent again and again, and
/// looking one up costs a hundredth of matching it.
const KNOWN: usize = 1024;
const KNOWN_LONGEST: usize = 256;

enum Matcher {
    Regex(Regex, RwLock<HashSet<Box<str>>>),
    Special(fn(&str) -> bool),
    /// Can't be expressed. Everything passes; the operation has the last word.
    Open,
}

/// Whether the whole `text` matches `pattern`.
pub fn matches(pattern: &'static str, text: &str) -> bool {
    static CACHE: LazyLock<RwLock<HashMap<&'static str, &'static Matcher>>> = LazyLock::new(RwLock::default);
    if text.len() > LONGEST {
        return true;
    }
    let known = CACHE.read().unwrap_or_else(PoisonError::into_inner).get(pattern).copied();
    let matcher = known.unwrap_or_else(|| {
        let mut cache = CACHE.write().unwrap_or_else(PoisonError::into_inner);
        // Patterns come from static tables, so what is leaked here is bounded by them.
        cache.entry(pattern).or_insert_with(|| Box::leak(Box::new(compile(pattern))))
    });
    match matcher {
        Matcher::Regex(regex, known) => {
            remembered(known, text) || {
                let matches = regex.is_match(text);
                if matches && text.len() <= KNOWN_LONGEST {
                    remember(known, text);
                }
                matches
            }
        }
        Matcher::Special(special) => special(text),
        Matcher::Open => true,
    }
}

fn remembered(known: &RwLock<HashSet<Box<str>>>, text: &str) -> bool {
    known.read().unwrap_or_else(PoisonError::into_inner).contains(text)
}

fn remember(known: &RwLock<HashSet<Box<str>>>, text: &str) {
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN {
        known.clear();
    }
    known.insert(text.into());
}

/// Whether we can tell matches of `pattern`.
pub fn is_expressible(pattern: &str) -> bool {
    !matches!(compile(pattern), Matcher::Open)
}

fn compile(pattern: &str) -> Matcher {
    if let Some(special) = special(pattern) {
        return Matcher::Special(special);
    }
    Regex::new(&format!("^(?:{pattern})$")).map_or(Matcher::Open, |regex| Matcher::Regex(regex, RwLock::default()))
}

/// An alias's name, which must not look like a version: the one pattern with a look-ahead that requests meet.
const ALIAS: &str = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)";

/// Letters, separators, digits and a few signs: the keys and values of tags; and the name of an alias.
fn special(pattern: &str) -> Option<fn(&str) -> bool> {
    if pattern == ALIAS {
        return Some(is_alias);
    }
    const TAG: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]";
    let inner = pattern.trim_start_matches(['^', '(']).trim_end_matches(['$', ')']);
    match inner.strip_prefix(TAG) {
        Some("*") => Some(|text| text.chars().all(is_tag)),
        Some("+") => Some(|text| !text.is_empty() && text.chars().all(is_tag)),
        _ => None,
    }
}

fn is_alias(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.bytes().all(legal) && !text.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(c: char) -> bool {
    let separator = c == ' ' || (c.is_whitespace() && !c.is_control());
    c.is_alphabetic() || c.is_numeric() || separator || "_.:/=+-@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Kind, Shape};
    use crate::tables::SERVICES;

    /// Every pattern that a request can meet.
    fn patterns(shape: &'static Shape, out: &mut Vec<&'static str>) {
        out.extend(shape.pattern);
        match shape.kind {
            Kind::Structure(members) => {
                members.iter().filter(|m| m.served).for_each(|m| patterns(m.shape, out));
            }
            Kind::List(item) => patterns(item.shape, out),
            Kind::Map(entries) => {
                patterns(entries.key, out);
                patterns(entries.value, out);
            }
            _ => {}
        }
    }

    #[test]
    fn every_pattern_of_what_we_serve_can_be_told() {
        let mut all = Vec::new();
        for operation in SERVICES.iter().flat_map(|s| s.operations) {
            if let Some(shapes) = &operation.shapes {
                patterns(shapes.input, &mut all);
            }
        }
        assert!(all.len() > 10);
        for pattern in all {
            assert!(is_expressible(pattern), "{pattern}");
        }
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("[a-z]+", "abc"));
        assert!(!matches("[a-z]+", "abc1"));
        assert!(!matches("[a-z]+", "abc\n"));
        assert!(!matches("a|b", "ab"));
        assert!(matches(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Größe 1"));
        assert!(!matches(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a\tb"));
        assert!(matches(ALIAS, "blue-1") && matches(ALIAS, "1a"));
        assert!(!matches(ALIAS, "12") && !matches(ALIAS, "") && !matches(ALIAS, "a b"));
        assert!(!matches(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$", ""));
    }
}
