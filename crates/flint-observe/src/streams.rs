//! The streams of a group, in little memory: each environment of a function makes one, and a busy group has very many.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;

use crate::segment::StreamTimes;

/// The group's streams, by number and by name. Numbers are never used again.
#[derive(Debug, Default)]
pub struct Streams {
    /// Ascending by number.
    all: Vec<Stream>,
    /// Numbers, in the order of the names.
    sorted: Vec<u32>,
    pub next_id: u32,
}

/// A log stream.
#[derive(Clone, Debug)]
pub struct Stream {
    pub name: Name,
    pub id: u32,
    pub made_by_output: bool,
    created: Millis,
    times: Option<PackedTimes>,
}

/// A stream's name. Those of environments, `2026/11/27/[$LATEST]` or `[7]` and 32 hexadecimal digits, take no memory of their own.
#[derive(Clone, PartialEq, Eq)]
pub enum Name {
    OfEnvironment {
        /// Months of 31 days since the year 2000.
        day: u16,
        /// 0: `$LATEST`.
        version: u32,
        id: [u8; 16],
    },
    Other(Box<str>),
}

const LATEST: &str = "$LATEST";
const FIRST_YEAR: u16 = 2000;

impl Name {
    pub fn new(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self::Other(text.into()))
    }

    /// The short form of what it would render again to the letter.
    fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(11)?;
        let (version, id) = rest.strip_prefix('[')?.split_once(']')?;
        let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<u16>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let months = year.checked_sub(FIRST_YEAR)?.checked_mul(12)?.checked_add(month.checked_sub(1)?)?;
        let name = Self::OfEnvironment {
            day: months.checked_mul(31)?.checked_add(day.checked_sub(1)?)?,
            version: if version == LATEST { 0 } else { version.parse().ok()? },
            id: *hex::decode(id).ok()?.first_chunk()?,
        };
        (name.to_string() == text).then_some(name)
    }

    fn cmp_text(&self, other: &str) -> Ordering {
        match self {
            Self::Other(own) => (**own).cmp(other),
            Self::OfEnvironment { .. } => self.to_string().as_str().cmp(other),
        }
    }
}

impl Ord for Name {
    /// As the texts.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (
                Self::OfEnvironment { day, version, id },
                Self::OfEnvironment { day: other_day, version: other_version, id: other_id },
            ) if day != other_day || version == other_version => (day, id).cmp(&(other_day, other_id)),
            (Self::Other(own), Self::Other(other)) => own.cmp(other),
            (_, Self::Other(other)) => self.cmp_text(other),
            (own, _) => own.cmp_text(&other.to_string()),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text) => f.write_str(text),
            Self::OfEnvironment { day, version, id } => {
                let (month, day) = (day / 31, day % 31 + 1);
                write!(f, "{}/{:02}/{day:02}/[", FIRST_YEAR + month / 12, month % 12 + 1)?;
                match version {
                    0 => f.write_str(LATEST)?,
                    number => write!(f, "{number}")?,
                }
                write!(f, "]{:032x}", u128::from_be_bytes(*id))
            }
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Milliseconds since the epoch in six bytes: 4,000 years each way, where those beyond end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Millis([u8; 6]);

impl Millis {
    fn new(ms: i64) -> Self {
        let [_, _, kept @ ..] = ms.clamp(-(1 << 47), (1 << 47) - 1).to_be_bytes();
        Self(kept)
    }

    fn get(self) -> i64 {
        let [a, b, c, d, e, f] = self.0;
        // The sign comes back with the arithmetic shift.
        i64::from_be_bytes([a, b, c, d, e, f, 0, 0]) >> 16
    }
}

/// [`StreamTimes`] in little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedTimes([Millis; 3]);

impl From<StreamTimes> for PackedTimes {
    fn from(StreamTimes { first, last, last_ingested }: StreamTimes) -> Self {
        Self([first, last, last_ingested].map(Millis::new))
    }
}

impl From<PackedTimes> for StreamTimes {
    fn from(PackedTimes(times): PackedTimes) -> Self {
        let [first, last, last_ingested] = times.map(Millis::get);
        Self { first, last, last_ingested }
    }
}

impl Stream {
    /// Milliseconds since the epoch.
    pub fn created(&self) -> i64 {
        self.created.get()
    }

    /// `None` before the first event.
    pub fn times(&self) -> Option<StreamTimes> {
        self.times.map(StreamTimes::from)
    }
}

impl Streams {
    pub fn insert(&mut self, id: u32, name: &str, created: i64, made_by_output: bool) {
        let stream = Stream { name: Name::new(name), id, made_by_output, created: Millis::new(created), times: None };
        match self.place_of(&stream.name) {
            Ok(place) => self.sorted[place] = id,
            Err(place) => insert(&mut self.sorted, place, id),
        }
        match self.all.binary_search_by_key(&id, |s| s.id) {
            Ok(at) => self.all[at] = stream,
            Err(at) => insert(&mut self.all, at, stream),
        }
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    pub fn remove(&mut self, id: u32) {
        let Ok(at) = self.all.binary_search_by_key(&id, |s| s.id) else { return };
        if let Ok(place) = self.place_of(&self.all[at].name)
            && self.sorted[place] == id
        {
            self.sorted.remove(place);
        }
        self.all.remove(at);
    }

    /// Where a name stands among the sorted, or would.
    fn place_of(&self, name: &Name) -> Result<usize, usize> {
        self.sorted.binary_search_by(|id| self.named(*id).cmp(name))
    }

    /// The name of a number among the sorted.
    fn named(&self, id: u32) -> &Name {
        &self.get(id).expect("the sorted numbers are those of streams").name
    }

    pub fn get(&self, id: u32) -> Option<&Stream> {
        self.all.binary_search_by_key(&id, |s| s.id).ok().map(|at| &self.all[at])
    }

    pub fn of(&self, name: &str) -> Option<&Stream> {
        let place = self.place_of(&Name::new(name)).ok()?;
        self.get(self.sorted[place])
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// By number.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.all.iter()
    }

    /// By name, between two names.
    pub fn range(&self, start: Bound<&str>, end: Bound<&str>) -> impl DoubleEndedIterator<Item = &Stream> {
        let before = |name: &str, and_itself: bool| {
            self.sorted.partition_point(|id| match self.named(*id).cmp_text(name) {
                Ordering::Less => true,
                Ordering::Equal => and_itself,
                Ordering::Greater => false,
            })
        };
        let from = match start {
            Bound::Unbounded => 0,
            Bound::Included(name) => before(name, false),
            Bound::Excluded(name) => before(name, true),
        };
        let to = match end {
            Bound::Unbounded => self.sorted.len(),
            Bound::Included(name) => before(name, true),
            Bound::Excluded(name) => before(name, false),
        };
        self.sorted[from.min(to)..to].iter().filter_map(|id| self.get(*id))
    }

    /// Notes times of a stream's events. A stream that a power cut took out of the list keeps its number taken.
    pub fn saw(&mut self, id: u32, times: StreamTimes) {
        self.next_id = self.next_id.max(id.saturating_add(1));
        if let Ok(at) = self.all.binary_search_by_key(&id, |s| s.id) {
            let stream = &mut self.all[at];
            let mut all = stream.times().unwrap_or(times);
            all.merge(times);
            stream.times = Some(all.into());
        }
    }

    /// Forgets all times, to be told again.
    pub fn forget_times(&mut self) {
        self.all.iter_mut().for_each(|stream| stream.times = None);
    }
}

/// [`Vec::insert`] that grows by an eighth: doubling would leave half of the memory unused.
pub fn insert<T>(vec: &mut Vec<T>, at: usize, value: T) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(vec.len() / 8 + 4);
    }
    vec.insert(at, value);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_environments_are_short() {
        assert!(size_of::<Stream>() <= 64 && size_of::<Name>() == 24);
        for (text, short) in [
            ("2026/11/27/[$LATEST]0123456789abcdef0123456789abcdef", true),
            ("2026/01/31/[4294967295]00000000000000000000000000000000", true),
            ("2026/11/27/[$LATEST]0123456789ABCDEF0123456789abcdef", false),
            ("2026/11/27/[007]0123456789abcdef0123456789abcdef", false),
            ("2026/11/27/[0]0123456789abcdef0123456789abcdef", false),
            ("2026/11/32/[1]0123456789abcdef0123456789abcdef", false),
            ("2026/13/01/[1]0123456789abcdef0123456789abcdef", false),
            ("2026/00/01/[1]0123456789abcdef0123456789abcdef", false),
            ("1999/11/27/[1]0123456789abcdef0123456789abcdef", false),
            ("2026-11-27/[1]0123456789abcdef0123456789abcdef", false),
            ("2026/11/27/[1]0123456789abcdef0123456789abcdef00", false),
            ("2026/11/2\u{e9}/[1]x", false),
            ("", false),
        ] {
            let name = Name::new(text);
            assert_eq!(name.to_string(), text);
            assert_eq!(matches!(name, Name::OfEnvironment { .. }), short, "{text}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "202[67]/(09|10)/(01|30)/\\[(\\$LATEST|1|7|10)\\][0-2]{32}",
            "[a-c2]{1,3}",
            "2026/09/01/\\[1\\][0-2]{0,3}",
        ]
    }

    proptest! {
        #[test]
        fn names_sort_as_their_texts(a in name(), b in name()) {
            prop_assert_eq!(Name::new(&a).cmp(&Name::new(&b)), a.cmp(&b));
            prop_assert_eq!(Name::new(&a).cmp_text(&b), a.cmp(&b));
        }

        #[test]
        fn times_come_back(ms in -(1i64 << 47)..(1i64 << 47)) {
            prop_assert_eq!(Millis::new(ms).get(), ms);
        }

        #[test]
        fn finds_what_a_map_finds(steps in prop::collection::vec((0u8..4, name(), name()), 0..60)) {
            let mut streams = Streams::default();
            let mut model: BTreeMap<String, u32> = BTreeMap::new();
            for (n, (kind, name, other)) in steps.into_iter().enumerate() {
                let id = n as u32;
                if kind == 0 {
                    if let Some(id) = model.remove(&name) {
                        streams.remove(id);
                    }
                } else if !model.contains_key(&name) {
                    streams.insert(id, &name, n as i64, false);
                    streams.saw(id, StreamTimes { first: 5, last: 7, last_ingested: 9 });
                    model.insert(name.clone(), id);
                }
                prop_assert_eq!(streams.len(), model.len());
                prop_assert_eq!(streams.of(&name).map(|s| s.id), model.get(&name).copied());
                let (low, high) = if name <= other { (name, other) } else { (other, name) };
                let range = (Bound::Included(low.as_str()), Bound::Excluded(high.as_str()));
                let expected: Vec<u32> = model.range::<str, _>(range).map(|(_, id)| *id).collect();
                let found: Vec<u32> = streams.range(range.0, range.1).map(|s| s.id).collect();
                prop_assert_eq!(found, expected);
                let range = (Bound::Excluded(low.as_str()), Bound::Unbounded);
                let expected: Vec<u32> = model.range::<str, _>(range).rev().map(|(_, id)| *id).collect();
                let found: Vec<u32> = streams.range(range.0, range.1).rev().map(|s| s.id).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
