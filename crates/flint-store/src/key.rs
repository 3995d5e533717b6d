//! Keyspaces and the order-preserving encoding of keys.
//!
//! A key is a sequence of parts whose bytes sort as the parts do. Text parts are escaped (`00` becomes `00 FF`) and end
//! with `00 01`, so that `"a"` sorts before `"a\0"` and before `"ab"`; numbers are big-endian. A keyspace fixes which
//! kinds of parts its keys have; the encoding does not say.

use std::fmt;

use flint_model::Place;

/// Names an ordered map of keys to values, such as `functions`. Names are at most 64 bytes and are part of the data at
/// rest: renaming one is a migration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Keyspace(&'static str);

impl Keyspace {
    /// # Panics
    /// If the name is empty or longer than 64 bytes; at compile time when used in a `const`.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= 64, "a keyspace's name has 1 to 64 bytes");
        Self(name)
    }

    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A key, at most [`crate::batch::MAX_KEY_BYTES`] long. Built part by part:
///
/// ```
/// use flint_store::Key;
/// let key = Key::default().text("thumbnail").u64(7);
/// let mut parts = key.parts();
/// assert_eq!(parts.text().as_deref(), Some("thumbnail"));
/// assert_eq!(parts.u64(), Some(7));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The first two parts of every key that belongs to a tenant: account and region.
    pub fn for_place(place: &Place) -> Self {
        let mut out = Vec::with_capacity(64);
        put_text(&mut out, place.account.as_str());
        put_text(&mut out, place.region.as_str());
        Self(out)
    }

    /// A key from bytes that [`Key::as_bytes`] gave.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Appends a text part. Any text is legal; order is that of its bytes.
    #[must_use]
    pub fn text(self, part: &str) -> Self {
        let mut key = self;
        put_text(&mut key.0, part);
        key
    }

    /// Appends a number; order is numeric.
    #[must_use]
    pub fn u64(self, part: u64) -> Self {
        self.raw(&part.to_be_bytes())
    }

    /// Appends bytes as they are. Only for parts of one fixed length (such as ids), or as the last part.
    #[must_use]
    pub fn raw(self, part: &[u8]) -> Self {
        let mut key = self;
        key.0.extend_from_slice(part);
        key
    }

    /// This key with `part` behind it, as [`Self::raw`] would make it of a copy.
    #[must_use]
    pub fn with_raw(&self, part: &[u8]) -> Self {
        let mut key = Vec::with_capacity(self.0.len() + part.len());
        key.extend_from_slice(&self.0);
        key.extend_from_slice(part);
        Self(key)
    }

    /// Reads the parts back in order.
    pub fn parts(&self) -> Parts<'_> {
        Parts { rest: &self.0 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

fn put_text(out: &mut Vec<u8>, part: &str) {
    if !part.as_bytes().contains(&0) {
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(&[0, 1]);
        return;
    }
    for byte in part.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Reads a key's parts; `None` where the key does not hold such a part.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    pub fn text(&mut self) -> Option<String> {
        let mut out = Vec::new();
        let mut rest = self.rest;
        loop {
            match rest {
                [0, 1, tail @ ..] => {
                    self.rest = tail;
                    return String::from_utf8(out).ok();
                }
                [0, 0xFF, tail @ ..] => {
                    out.push(0);
                    rest = tail;
                }
                [0, ..] | [] => return None,
                [byte, tail @ ..] => {
                    out.push(*byte);
                    rest = tail;
                }
            }
        }
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A raw part of `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// A half-open range of keys: `start <= key < end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Key,
    /// `None`: to the end of the keyspace.
    pub end: Option<Key>,
}

impl KeyRange {
    /// The whole keyspace.
    pub fn all() -> Self {
        Self { start: Key::default(), end: None }
    }

    /// `start <= key < end`.
    pub fn between(start: Key, end: Key) -> Self {
        Self { start, end: Some(end) }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &Key) -> Self {
        let mut end = prefix.0.clone();
        while end.last() == Some(&0xFF) {
            end.pop();
        }
        let bounded = end.last_mut().map(|last| *last += 1).is_some();
        Self { start: prefix.clone(), end: bounded.then_some(Key(end)) }
    }

    /// Every key of a tenant in a region.
    pub fn place(place: &Place) -> Self {
        Self::prefix(&Key::for_place(place))
    }

    /// The part of this range behind `key`: how a forward scan goes on after a page.
    #[must_use]
    pub fn after(&self, key: &Key) -> Self {
        let next = key.clone().raw(&[0]);
        Self { start: next.max(self.start.clone()), end: self.end.clone() }
    }

    /// The part of this range ahead of `key`: how a reverse scan goes on after a page.
    #[must_use]
    pub fn before(&self, key: &Key) -> Self {
        let end = match &self.end {
            Some(end) if end < key => end.clone(),
            _ => key.clone(),
        };
        Self { start: self.start.clone(), end: Some(end) }
    }

    pub fn contains(&self, key: &Key) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }

    /// True if no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_sorts_as_text_whatever_follows() {
        let texts = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "ü", "\u{10FFFF}"];
        let mut sorted = texts;
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            for (x, y) in [(0, u64::MAX), (u64::MAX, 0)] {
                let (a, b) = (Key::default().text(pair[0]).u64(x), Key::default().text(pair[1]).u64(y));
                assert!(a < b, "{pair:?} {a:?} {b:?}");
            }
        }
        for text in texts {
            let key = Key::default().text(text).u64(9).raw(&[1, 2]);
            let mut parts = key.parts();
            assert_eq!(parts.text().as_deref(), Some(text));
            assert_eq!(parts.u64(), Some(9));
            assert_eq!(parts.array(), Some([1, 2]));
            assert_eq!(parts.rest(), b"");
            assert_eq!(parts.text(), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn keys_sort_as_their_parts_do(a: (String, u64, String), b: (String, u64, String)) {
            let key = |(x, n, y): &(String, u64, String)| Key::default().text(x).u64(*n).text(y);
            proptest::prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            let (key, mut parts) = (key(&a), Vec::new());
            let mut read = key.parts();
            parts.extend([read.text(), read.u64().map(|n| n.to_string()), read.text()].into_iter().flatten());
            proptest::prop_assert_eq!(parts, [a.0, a.1.to_string(), a.2]);
        }

        #[test]
        fn any_bytes_are_read_as_parts_or_refused(bytes: Vec<u8>) {
            let key = Key::from_bytes(bytes);
            let mut parts = key.parts();
            while parts.text().is_some() || parts.array::<3>().is_some() {}
        }
    }

    #[test]
    fn a_prefix_holds_its_keys_and_no_others() {
        let range = KeyRange::prefix(&Key::from_bytes(&b"a\xFF"[..]));
        assert_eq!(range.end, Some(Key::from_bytes(&b"b"[..])));
        assert!(range.contains(&Key::from_bytes(&b"a\xFF\xFF"[..])));
        assert!(!range.contains(&Key::from_bytes(&b"b"[..])));
        assert_eq!(KeyRange::prefix(&Key::from_bytes(&b"\xFF\xFF"[..])).end, None);
        assert_eq!(KeyRange::prefix(&Key::default()), KeyRange::all());
    }

    #[test]
    fn pages_do_not_overlap() {
        let range = KeyRange::prefix(&Key::from_bytes(&b"k"[..]));
        let key = Key::from_bytes(&b"k5"[..]);
        assert!(!range.after(&key).contains(&key) && !range.before(&key).contains(&key));
        assert!(range.after(&key).contains(&Key::from_bytes(&b"k5\0"[..])));
        assert!(range.before(&key).contains(&Key::from_bytes(&b"k4"[..])));
    }
}
