//! The suite that every engine passes, and the random world that drives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

use flint_base::{EventId, Timestamp};
use flint_model::{Lineage, Place};

use crate::batch::{Batch, Expect, MAX_BATCH_PARTS, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::error::CommitError;
use crate::journal::{self, Entry, Kind, Limits};
use crate::key::{Key, KeyRange, Keyspace};
use crate::memory::MemoryStore;
use crate::store::{Direction, Row, Store};

const A: Keyspace = Keyspace::new("a");
const B: Keyspace = Keyspace::new("b");
const SPACES: [Keyspace; 5] = [A, B, journal::JOURNAL, journal::BY_EVENT, journal::retention::FLOOR];
/// Small enough that the world meets them.
const LIMITS: Limits = Limits { well_ms: 15, well_bytes: 3_000, failed_ms: 25, failed_bytes: 2_000 };

/// Small, fast, repeatable random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Random batches over a small set of keys, and what the model says of them.
#[derive(Debug)]
pub struct World {
    pub rng: Rng,
    pub model: MemoryStore,
    places: [Place; 2],
    events: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let place = |account: &str| Place {
            account: account.parse().expect("twelve digits"),
            region: "us-east-1".parse().expect("a region"),
        };
        let places = [place("000000000000"), place("111111111111")];
        Self { rng: Rng::new(seed), model: MemoryStore::new(), places, events: 0 }
    }

    fn key(&mut self) -> Key {
        let place = Key::for_place(&self.places[self.rng.below(2) as usize]);
        place.text(["x", "y", "y\0z", ""][self.rng.below(4) as usize]).u64(self.rng.below(12))
    }

    fn space(&mut self) -> Keyspace {
        if self.rng.chance(50) { A } else { B }
    }

    fn range(&mut self) -> KeyRange {
        match self.rng.below(6) {
            0 => KeyRange::all(),
            1 => KeyRange::place(&self.places[0]),
            2 => KeyRange { start: self.key(), end: None },
            3 => KeyRange::prefix(&Key::for_place(&self.places[1]).text("y")),
            _ => KeyRange::between(self.key(), self.key()),
        }
    }

    /// A batch of up to six parts; about one in five states a precondition that may fail.
    pub fn batch(&mut self) -> Batch {
        if self.rng.chance(15)
            && let Some(batch) = self.forget()
        {
            return batch;
        }
        let mut batch = Batch::new();
        for _ in 0..self.rng.below(3) {
            let (space, key) = (self.space(), self.key());
            let found = self.model.get(space, &key).ok().flatten();
            let expect = match found {
                _ if self.rng.chance(20) => [Expect::Absent, Expect::Present][self.rng.below(2) as usize],
                Some(found) => Expect::Version(found.version),
                None => Expect::Absent,
            };
            batch = batch.expect(space, key, expect);
        }
        for _ in 0..=self.rng.below(4) {
            let (space, key) = (self.space(), self.key());
            batch = match self.rng.below(20) {
                0 => {
                    let range = self.range();
                    batch.delete_range(space, range)
                }
                1..=6 => batch.delete(space, key),
                7..=8 => batch.journal(self.entry()),
                9 => {
                    let entries = (0..=self.rng.below(3)).map(|_| self.entry()).collect();
                    Batch { packed: entries, ..batch }
                }
                _ => {
                    let len = [0, 1, 20, 700][self.rng.below(4) as usize];
                    batch.put(space, key, vec![self.rng.number() as u8; len])
                }
            };
        }
        batch
    }

    /// A step of the journal's retention, as the model sees it.
    fn forget(&mut self) -> Option<Batch> {
        let now = Timestamp::from_millis(self.events as i64);
        let step = match self.rng.chance(50) {
            true => journal::retention::step(&self.model, now, LIMITS, &Default::default()),
            false => journal::retention::step_failed(&self.model, now, LIMITS),
        };
        step.expect("reads work")
    }

    fn entry(&mut self) -> Entry {
        self.events += 1;
        let place = self.places[self.rng.below(2) as usize].clone();
        let lineage = Lineage::root(EventId::next());
        let kind = if self.rng.chance(30) { Kind::Retried } else { Kind::Accepted };
        Entry::new(place, lineage, kind, Timestamp::from_millis(self.events as i64))
    }

    /// Commits to the model.
    pub fn expect(&self, batch: Batch) -> Result<u64, CommitError> {
        self.model.commit(batch).wait().map(|commit| commit.version)
    }

    /// # Panics
    /// If the store differs from the model in any row or in random reads.
    pub fn assert_same(&mut self, store: &dyn Store) {
        for space in SPACES {
            let all = KeyRange::all();
            let expected = scan(&self.model, space, &all, usize::MAX, Direction::Forward);
            assert_eq!(scan(store, space, &all, usize::MAX, Direction::Forward), expected, "{space}");
        }
        assert_eq!(store.journal_written(), self.model.journal_written());
        for place in &self.places {
            let all = |store: &dyn Store| journal::recent(store, place, None, usize::MAX).expect("reads work");
            let (found, expected) = (all(store), all(&self.model));
            assert_eq!(found, expected);
            for (position, entry) in found.iter().rev().step_by(found.len() / 2 + 1) {
                let event = entry.lineage.event;
                let one = (*position, entry.clone());
                assert!(journal::of_event(store, place, event).expect("reads work").contains(&one));
                assert!(journal::of_root(store, place, event).expect("reads work").contains(&one));
                let behind = journal::newer(store, place, *position, 3).expect("reads work");
                assert_eq!(behind, journal::newer(&self.model, place, *position, 3).expect("reads work"));
            }
        }
        for _ in 0..20 {
            let (space, key, range) = (self.space(), self.key(), self.range());
            assert_eq!(store.get(space, &key).expect("reads work"), self.model.get(space, &key).expect("reads work"));
            let limit = [0, 1, 3, 100][self.rng.below(4) as usize];
            for direction in [Direction::Forward, Direction::Reverse] {
                let expected = scan(&self.model, space, &range, limit, direction);
                assert_eq!(scan(store, space, &range, limit, direction), expected, "{space} {range:?} {direction:?}");
            }
        }
    }
}

fn scan(store: &dyn Store, space: Keyspace, range: &KeyRange, limit: usize, direction: Direction) -> Vec<Row> {
    store.scan(space, range, limit, direction).expect("reads work")
}

/// Runs everything that must hold for any engine. `make` gives an empty store.
///
/// # Panics
/// If the engine fails.
pub fn suite<S: Store + 'static>(make: impl Fn() -> S) {
    versions_count_up(&make());
    preconditions_hold(&make());
    writes_apply_in_order(&make());
    scans_page_both_ways(&make());
    limits_are_kept(&make());
    the_journal_is_read_newest_first(&make());
    packed_entries_are_found_among_the_others(&make());
    failures_wait_for_a_person(&make());
    payloads_are_kept_while_somebody_names_them(&(Arc::new(make()) as Arc<dyn Store>));
    a_dropped_commit_is_still_done(&make());
    for seed in 0..20 {
        equals_the_model(&make(), seed);
    }
}

fn key(n: u64) -> Key {
    Key::default().u64(n)
}

fn versions_count_up(store: &dyn Store) {
    for n in 1..=5 {
        assert_eq!(store.commit(Batch::new().put(A, key(n), "v")).wait().expect("commits").version, n);
        assert_eq!(store.get(A, &key(n)).expect("reads").expect("is there").version, n);
    }
    let conflict = store.commit(Batch::new().insert(A, key(1), "w")).wait();
    assert!(matches!(conflict, Err(CommitError::Conflict { .. })));
    assert_eq!(store.commit(Batch::new()).wait().expect("an empty batch commits").version, 6);
}

fn preconditions_hold(store: &dyn Store) {
    let absent = Batch::new().insert(A, key(1), "one");
    assert_eq!(store.commit(absent.clone()).wait().expect("absent").version, 1);
    let conflict = CommitError::Conflict { index: 0, keyspace: A, key: key(1), found: Some(1) };
    assert_eq!(store.commit(absent).wait(), Err(conflict));
    let stale = Batch::new().expect(A, key(1), Expect::Present).replace(A, key(1), 9, "two").put(B, key(1), "no");
    let conflict = CommitError::Conflict { index: 1, keyspace: A, key: key(1), found: Some(1) };
    assert_eq!(store.commit(stale).wait(), Err(conflict));
    assert_eq!(store.get(B, &key(1)).expect("reads"), None, "nothing of a refused batch is applied");
    store.commit(Batch::new().replace(A, key(1), 1, "two")).wait().expect("the version is right");
    let gone = CommitError::Conflict { index: 0, keyspace: B, key: key(1), found: None };
    assert_eq!(store.commit(Batch::new().expect(B, key(1), Expect::Present)).wait(), Err(gone));
    assert_eq!(store.get(A, &key(1)).expect("reads").expect("is there").value, "two");
}

fn writes_apply_in_order(store: &dyn Store) {
    let batch = Batch::new()
        .put(A, key(1), "a")
        .delete(A, key(1))
        .put(A, key(2), "b")
        .delete_range(A, KeyRange::all())
        .put(A, key(3), "c")
        .put(A, key(3), "d")
        .delete(A, key(4));
    store.commit(batch).wait().expect("commits");
    let rows = scan(store, A, &KeyRange::all(), 9, Direction::Forward);
    assert_eq!(rows, [Row { key: key(3), version: 1, value: Bytes::from_static(b"d") }]);
}

fn scans_page_both_ways(store: &dyn Store) {
    let batch = (0..100).fold(Batch::new(), |batch, n| batch.put(A, key(n), vec![n as u8]));
    store.commit(batch).wait().expect("commits");
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut range = KeyRange::between(key(10), key(90));
        let mut seen = Vec::new();
        loop {
            let page = scan(store, A, &range, 7, direction);
            let Some(last) = page.last() else { break };
            range = match direction {
                Direction::Forward => range.after(&last.key),
                Direction::Reverse => range.before(&last.key),
            };
            seen.extend(page.iter().map(|row| row.value[0]));
        }
        if direction == Direction::Reverse {
            seen.reverse();
        }
        assert_eq!(seen, (10..90).collect::<Vec<u8>>());
    }
    assert!(scan(store, A, &KeyRange::between(key(9), key(3)), 9, Direction::Forward).is_empty());
    assert!(scan(store, B, &KeyRange::all(), 9, Direction::Reverse).is_empty());
}

fn limits_are_kept(store: &dyn Store) {
    let long = Key::from_bytes(vec![1; MAX_KEY_BYTES + 1]);
    let value = vec![0; MAX_VALUE_BYTES];
    let too_large = [
        Batch::new().put(A, long.clone(), "v"),
        Batch::new().expect(A, long.clone(), Expect::Absent),
        Batch::new().delete_range(A, KeyRange { start: key(1), end: Some(long) }),
        Batch::new().put(A, key(1), vec![0; MAX_VALUE_BYTES + 1]),
        (0..=MAX_BATCH_PARTS as u64).fold(Batch::new(), |batch, n| batch.delete(A, key(n))),
        (0..17).fold(Batch::new(), |batch, n| batch.put(A, key(n), value.clone())),
    ];
    for batch in too_large {
        assert!(matches!(store.commit(batch).wait(), Err(CommitError::TooLarge { .. })));
    }
    let largest = Batch::new().put(A, Key::from_bytes(vec![1; MAX_KEY_BYTES]), value);
    store.commit(largest).wait().expect("what is within the limits commits");
}

fn the_journal_is_read_newest_first(store: &dyn Store) {
    let mut world = World::new(1);
    let mut entries = Vec::new();
    for n in 0..12u64 {
        let lineage = entries.first().map_or(Lineage::root(EventId::next()), |e: &Entry| e.lineage);
        let mut entry = Entry::new(world.places[0].clone(), lineage, Kind::Attempted, Timestamp::from_millis(n as i64));
        entry.attempt = n as u32;
        entry.billed_ms = Some(n);
        entry.target = Some("arn:aws:lambda:us-east-1:000000000000:function:f".to_owned());
        entries.push(entry.clone());
        store.commit(Batch::new().put(A, key(n), "state").journal(entry)).wait().expect("commits");
    }
    let other = world.entry();
    store.commit(Batch::new().journal(other.clone())).wait().expect("commits");
    let place = &world.places[0];
    let recent = journal::recent(store, place, None, 3).expect("reads");
    let newest: Vec<Entry> = entries.into_iter().chain((other.place == *place).then_some(other)).rev().collect();
    assert_eq!(recent.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), newest[..3]);
    let older = journal::recent(store, place, Some(recent[2].0), 9).expect("reads");
    assert_eq!(older.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), newest[3..]);
    let event = newest[4].lineage.event;
    let of_event = journal::of_event(store, place, event).expect("reads");
    let expected: Vec<Entry> = newest.into_iter().filter(|e| e.lineage.event == event).rev().collect();
    assert_eq!(of_event.into_iter().map(|(_, e)| e).collect::<Vec<_>>(), expected);
}

fn packed_entries_are_found_among_the_others(store: &dyn Store) {
    // Nine packed, in pages of one, three and five, with one by itself after each page.
    let event = |n: u8| EventId::from_bytes([n; 16]);
    let mut all: Vec<Entry> = Vec::new();
    for range in [0..1, 2..5, 6..11] {
        let alone = entry(Kind::Accepted, event(range.end), i64::from(range.end));
        let packed: Vec<Entry> = range.map(|n| entry(Kind::Finished, event(n), n.into())).collect();
        all.extend(packed.iter().cloned());
        store.commit(Batch { packed, ..Batch::new() }).wait().expect("commits");
        all.push(alone.clone());
        store.commit(Batch::new().journal(alone)).wait().expect("commits");
    }
    let place = all[0].place.clone();
    let newest: Vec<Entry> = all.iter().rev().cloned().collect();
    let found = journal::recent(store, &place, None, usize::MAX).expect("reads");
    assert_eq!(found.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), newest);
    assert!(found.is_sorted_by(|a, b| a.0 > b.0));
    for limit in [1, 2, 4] {
        let (mut before, mut read) = (None, Vec::new());
        loop {
            let page = journal::recent(store, &place, before, limit).expect("reads");
            let Some(last) = page.last() else { break };
            before = Some(last.0);
            read.extend(page.into_iter().map(|(_, e)| e));
        }
        assert_eq!(read, newest, "{limit}");
    }
    for one in &all {
        let found = journal::of_event(store, &place, one.lineage.event).expect("reads");
        assert_eq!(found.iter().map(|(_, e)| e).collect::<Vec<_>>(), [one]);
    }
    assert!(journal::of_event(store, &place, event(77)).expect("reads").is_empty());
}

fn entry(kind: Kind, event: EventId, at: i64) -> Entry {
    let place =
        Place { account: "000000000000".parse().expect("an account"), region: "us-east-1".parse().expect("a region") };
    Entry::new(place, Lineage::root(event), kind, Timestamp::from_millis(at))
}

fn failures_wait_for_a_person(store: &dyn Store) {
    let events: Vec<EventId> = (1..=9).map(|n| EventId::from_bytes([n; 16])).collect();
    for (event, at) in events.iter().zip(0..) {
        let told = journal::Error::new("KeyError", "x");
        let tried = Entry { error: Some(told), ..entry(Kind::Retried, *event, at) };
        let ended = if at % 2 == 0 { Kind::Discarded } else { Kind::DeadLettered };
        store.commit(Batch::new().journal(tried).journal(entry(ended, *event, at))).wait().expect("commits");
    }
    let place = entry(Kind::Accepted, events[0], 0).place;
    let waiting = |after| -> Vec<EventId> {
        let found = journal::failures::failures(store, &place, after, 99).expect("reads");
        found.iter().map(|(_, entry)| entry.lineage.event).collect()
    };
    assert_eq!(waiting(None), events, "more than the journal keeps");
    assert_eq!(waiting(Some(events[6])), events[7..]);
    let last = journal::failures::last_error(store, &place, events[2]).expect("reads").expect("an error");
    assert_eq!((last.error.kind.as_str(), last.at.as_millis()), ("KeyError", 2));

    let gone = Entry { recovered: true, ..entry(Kind::Settled, events[1], 50) };
    store.commit(Batch::new().journal(entry(Kind::Redriven, events[0], 50)).journal(gone)).wait().expect("commits");
    assert_eq!(waiting(None), events[2..]);
    assert_eq!(journal::failures::failure(store, &place, events[0]).expect("reads"), None);
    assert_eq!(journal::failures::last_error(store, &place, events[1]).expect("reads"), None);

    let now = Timestamp::from_millis(journal::failures::KEPT.as_millis() as i64 + 5);
    let mut from = None;
    loop {
        let (batch, next) = journal::failures::sweep(store, now, from, 2).expect("reads");
        store.commit(batch).wait().expect("commits");
        from = next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(waiting(None), events[5..], "what is older than fourteen days goes");
    assert_eq!(journal::failures::last_error(store, &place, events[2]).expect("reads"), None);
    assert!(journal::failures::last_error(store, &place, events[8]).expect("reads").is_some());
}

fn payloads_are_kept_while_somebody_names_them(store: &Arc<dyn Store>) {
    let place = entry(Kind::Accepted, EventId::from_bytes([1; 16]), 0).place;
    let mut kept = Vec::new();
    let keep = |content: &Bytes| block_on(journal::Kept::new(&place, content).add_to(&**store, Batch::new()));
    for (n, len) in [0_usize, 10, 70_000, 1 << 20].into_iter().enumerate() {
        let content = Bytes::from(vec![b'a' + n as u8; len]);
        let ended = entry(Kind::Discarded, EventId::from_bytes([n as u8; 16]), 0);
        let (batch, payload) = keep(&content).expect("commits");
        store.commit(batch.journal(Entry { payload: Some(payload), ..ended })).wait().expect("commits");
        kept.push((content, payload));
    }
    let stray = Bytes::from_static(b"nobody's");
    let (batch, stray_ref) = keep(&stray).expect("commits");
    store.commit(batch).wait().expect("commits");
    let mut well = Vec::new();
    for at in [1_000, 2_000] {
        let content = Bytes::from(vec![at as u8; 400]);
        let (batch, payload) = keep(&content).expect("commits");
        let finished = entry(Kind::Settled, EventId::from_bytes([99; 16]), at);
        store.commit(batch.journal(Entry { payload: Some(payload), ..finished })).wait().expect("commits");
        well.push((content, payload));
    }
    let clock = Arc::new(Hands(AtomicI64::new(3_000)));
    let read = |payload: &journal::PayloadRef| journal::payloads::read(&**store, &place, payload).expect("reads");
    let mut keeper = journal::Keeper::new(store.clone(), clock.clone(), Limits::default());
    let looks = |keeper: &mut journal::Keeper| (0..3).for_each(|_| block_on(keeper.pass(true, true)).expect("reads"));
    looks(&mut keeper);
    assert_eq!(read(&stray_ref), Some(stray), "its entry may be on its way");
    assert!(well.iter().all(|(content, payload)| read(payload).as_ref() == Some(content)));
    clock.0.store(24 * 3_600_000 + 1_500, Ordering::SeqCst);
    looks(&mut keeper);
    assert_eq!(read(&stray_ref), None);
    assert_eq!(read(&well[0].1), None, "of what went well it is kept for a day");
    assert_eq!(read(&well[1].1), Some(well[1].0.clone()));
    // Its payload is most of what an entry costs.
    let mut small = journal::Keeper::new(store.clone(), clock, Limits { well_bytes: 500, ..Limits::default() });
    looks(&mut small);
    assert_eq!(read(&well[1].1), None, "or until there is too much");
    for (content, payload) in kept {
        assert_eq!(read(&payload), Some(content), "of what failed it is kept");
    }
}

/// A clock that stands where it was put, in milliseconds.
#[derive(Debug)]
struct Hands(AtomicI64);

impl flint_base::Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// Commits of a store in memory, and of one that has its own thread, need no runtime.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::yield_now();
    }
}

fn a_dropped_commit_is_still_done(store: &dyn Store) {
    drop(store.commit(Batch::new().put(A, key(1), "kept")));
    store.commit(Batch::new().expect(A, key(1), Expect::Present)).wait().expect("the first batch came first");
}

/// Random batches, several waiting at once where the engine lets them, give what the model gives.
fn equals_the_model(store: &dyn Store, seed: u64) {
    let mut world = World::new(seed);
    let mut outcomes: BTreeMap<bool, u32> = BTreeMap::new();
    for round in 0..40 {
        let batches: Vec<Batch> = (0..=world.rng.below(6)).map(|_| world.batch()).collect();
        let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
        for (pending, batch) in pending.into_iter().zip(batches) {
            let expected = world.expect(batch);
            *outcomes.entry(expected.is_ok()).or_default() += 1;
            assert_eq!(pending.wait().map(|commit| commit.version), expected, "seed {seed} round {round}");
        }
        world.assert_same(store);
    }
    assert_eq!(outcomes.len(), 2, "the world must bring both commits and conflicts");
}
