//! The timer structure: what is due when, earliest first, with a bounded head in memory and the rest in the store.
//!
//! Pure. Rows lie in the store under keys that sort by [`Due`], so a restart needs no rebuilding, millions may wait, and
//! what memory holds is a window at the front. Invariant: every row of the store up to [`Heads::bound`] is in memory, or
//! held by someone who will bring it back, put it elsewhere or end it; no row behind the bound is in memory.

use std::collections::BTreeSet;

use flint_base::{EventId, Timestamp};

/// When a row is due, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub id: EventId,
}

impl Due {
    /// Sorts before every other.
    const FIRST: Due = Due { at: Timestamp::from_millis(i64::MIN), id: EventId::from_bytes([0; 16]) };

    pub(crate) fn new(at: Timestamp, id: EventId) -> Self {
        Self { at, id }
    }
}

/// The window.
#[derive(Debug)]
pub(crate) struct Heads {
    rows: BTreeSet<Due>,
    /// Rows that are on their way in or out: popped and not yet ended, or committed and not yet inserted.
    held: BTreeSet<Due>,
    /// Behind it the store may have more; `None`: it has not.
    bound: Option<Due>,
    /// Most rows in memory.
    most: usize,
}

impl Heads {
    /// A window on a range of the store of which nothing is known yet.
    pub(crate) fn unread(most: usize) -> Self {
        Self { rows: BTreeSet::new(), held: BTreeSet::new(), bound: Some(Due::FIRST), most }
    }

    /// A window on a range that is empty.
    pub(crate) fn empty(most: usize) -> Self {
        Self { bound: None, ..Self::unread(most) }
    }

    /// `due` is about to be written: whatever [`Heads::refill`] finds of it is not for anyone else. Ends with
    /// [`Heads::insert`], [`Heads::release`] or [`Heads::lost`].
    pub(crate) fn hold(&mut self, due: Due) {
        self.held.insert(due);
    }

    /// `due` is in the store and waits for its time.
    pub(crate) fn insert(&mut self, due: Due) {
        self.held.remove(&due);
        if self.bound.is_some_and(|bound| due > bound) {
            return;
        }
        self.rows.insert(due);
        while self.rows.len() > self.most {
            self.rows.pop_last();
            self.bound = Some(self.rows.last().copied().unwrap_or(Due::FIRST));
        }
    }

    /// `due` is not in the store any more, or never came there.
    pub(crate) fn release(&mut self, due: Due) {
        self.held.remove(&due);
    }

    /// Whether `due` is in the store is not known: it will be looked up.
    pub(crate) fn lost(&mut self, due: Due) {
        self.held.remove(&due);
        let behind = self.rows.split_off(&due);
        drop(behind);
        if self.bound.is_none_or(|bound| bound >= due) {
            self.bound = Some(self.rows.last().copied().unwrap_or(Due::FIRST));
        }
    }

    /// The earliest row if it is due; the caller holds it from now on.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Due> {
        let first = self.rows.first().copied().filter(|first| first.at <= now)?;
        self.rows.remove(&first);
        self.held.insert(first);
        Some(first)
    }

    /// When the earliest row in memory is due.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.rows.first().map(|due| due.at)
    }

    /// Where to read on in the store (behind this row), if memory has run dry and there may be more.
    pub(crate) fn wants(&self) -> Option<Due> {
        self.bound.filter(|_| self.rows.is_empty())
    }

    /// Takes the rows that a read behind [`Heads::wants`] found, in order; `complete` if the store has none behind them.
    pub(crate) fn refill(&mut self, found: Vec<Due>, complete: bool) {
        self.bound = if complete { None } else { found.last().copied().or(self.bound) };
        self.rows.extend(found.into_iter().filter(|due| !self.held.contains(due)));
    }

    /// Nothing waits here and nobody holds anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.held.is_empty() && self.bound.is_none()
    }

    /// Rows in memory that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn due(at: i64, id: u8) -> Due {
        Due::new(Timestamp::from_millis(at), EventId::from_bytes([id; 16]))
    }

    #[test]
    fn earliest_first_and_not_before_its_time() {
        let mut heads = Heads::empty(10);
        for row in [due(30, 1), due(10, 2), due(20, 3)] {
            heads.hold(row);
            heads.insert(row);
        }
        assert_eq!(heads.next_at(), Some(Timestamp::from_millis(10)));
        assert_eq!(heads.pop(Timestamp::from_millis(9)), None);
        assert_eq!(heads.pop(Timestamp::from_millis(25)), Some(due(10, 2)));
        assert_eq!(heads.pop(Timestamp::from_millis(25)), Some(due(20, 3)));
        assert_eq!(heads.pop(Timestamp::from_millis(25)), None);
        assert!(!heads.is_idle(), "two are held and one waits");
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Write a row and bring it in, after a look into the store if `refill`.
        Add {
            at: i64,
            id: u8,
            refill: bool,
        },
        /// Write a row and forget to say how it ended.
        Lose {
            at: i64,
            id: u8,
        },
        /// Take the next row and end it, or put it off to `again`.
        Run {
            again: Option<i64>,
        },
        Refill,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..50_i64, any::<u8>(), any::<bool>()).prop_map(|(at, id, refill)| Step::Add { at, id, refill }),
            (0..50_i64, any::<u8>()).prop_map(|(at, id)| Step::Lose { at, id }),
            proptest::option::of(0..50_i64).prop_map(|again| Step::Run { again }),
            Just(Step::Refill),
        ]
    }

    fn refill(heads: &mut Heads, store: &BTreeSet<Due>) {
        if let Some(bound) = heads.wants() {
            let rest = store.range((std::ops::Bound::Excluded(bound), std::ops::Bound::Unbounded));
            let found: Vec<Due> = rest.copied().take(3).collect();
            let complete = found.len() < 3;
            heads.refill(found, complete);
        }
    }

    proptest! {
        /// Against the store itself: nothing is lost, nothing is handed out twice, and the order is that of the rows.
        #[test]
        fn a_window_shows_what_the_store_has(steps in proptest::collection::vec(step(), 0..200), most in 1..6_usize) {
            let mut heads = Heads::unread(most);
            let mut store = BTreeSet::new();
            let end = Timestamp::from_millis(i64::MAX);
            for step in steps {
                match step {
                    Step::Add { at, id, refill: before } => {
                        let row = due(at, id);
                        if store.contains(&row) { continue }
                        heads.hold(row);
                        store.insert(row);
                        if before { refill(&mut heads, &store); }
                        heads.insert(row);
                    }
                    Step::Lose { at, id } => {
                        let row = due(at, id);
                        if store.contains(&row) { continue }
                        heads.hold(row);
                        store.insert(row);
                        heads.lost(row);
                    }
                    Step::Run { again } => {
                        refill(&mut heads, &store);
                        let got = heads.pop(end);
                        prop_assert_eq!(got, store.first().copied());
                        let Some(row) = got else { continue };
                        match again.map(|at| Due::new(Timestamp::from_millis(at), row.id)) {
                            Some(next) if !store.contains(&next) => {
                                heads.hold(next);
                                store.remove(&row);
                                store.insert(next);
                                heads.release(row);
                                heads.insert(next);
                            }
                            _ => {
                                store.remove(&row);
                                heads.release(row);
                            }
                        }
                    }
                    Step::Refill => refill(&mut heads, &store),
                }
                prop_assert!(heads.waiting() <= most.max(3));
            }
            while !store.is_empty() {
                refill(&mut heads, &store);
                let got = heads.pop(end);
                prop_assert_eq!(got, store.first().copied());
                store.remove(&got.expect("just compared"));
                heads.release(got.expect("just compared"));
            }
            refill(&mut heads, &store);
            prop_assert!(heads.is_idle());
        }
    }
}
