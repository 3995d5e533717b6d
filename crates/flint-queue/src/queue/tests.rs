//! The heart against a naive model: a list of messages, looked through from the front each time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What a test does.
#[derive(Clone, Debug)]
enum Step {
    /// Group, delay in seconds; committed at once, later, or not at all.
    Send(u8, u8, Commit),
    /// The oldest send that is not committed yet is.
    Commit,
    Receive {
        max: usize,
        visibility: u8,
        committed: bool,
    },
    /// Of the messages that are out, one by its place; deleted in one go or in two.
    Delete(u8),
    Change(u8, u8),
    Wait(u8),
    /// The server stops and opens the queue again.
    Restart,
    Purge,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Commit {
    Now,
    Later,
    Never,
}

fn step() -> impl Strategy<Value = Step> {
    let commit = prop::sample::select(vec![Commit::Now, Commit::Now, Commit::Now, Commit::Later, Commit::Never]);
    prop_oneof![
        6 => (0u8..4, prop::sample::select(vec![0u8, 0, 0, 2, 5]), commit).prop_map(|(g, d, c)| Step::Send(g, d, c)),
        2 => Just(Step::Commit),
        5 => (1usize..12, 0u8..6, prop::bool::weighted(0.9))
            .prop_map(|(max, visibility, committed)| Step::Receive { max, visibility, committed }),
        4 => any::<u8>().prop_map(Step::Delete),
        2 => (any::<u8>(), 0u8..6).prop_map(|(at, seconds)| Step::Change(at, seconds)),
        3 => (0u8..4).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Purge),
    ]
}

/// A message as the store and the model know it.
#[derive(Clone, Debug)]
struct Known {
    group: u8,
    visible_at: i64,
    receives: u32,
    generation: u32,
    flight: Option<Flight>,
}

/// The naive model beside the heart: it stands for the store too.
struct World {
    fifo: bool,
    heart: Heart,
    now: i64,
    floor: u64,
    page: usize,
    /// Committed messages in order.
    stored: BTreeMap<u64, Known>,
    /// Sends whose commit is not there yet.
    waiting: BTreeMap<u64, Known>,
    /// Messages that are out: sequence and generation.
    out: Vec<(u64, u32)>,
    sent: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    purged: BTreeSet<u64>,
}

const RULES: Rules = Rules { max: 1, visibility_ms: 0, max_receives: None, retention_ms: i64::MAX };

impl World {
    fn new(fifo: bool, page: usize) -> Self {
        Self {
            fifo,
            heart: Heart::new(fifo, 1, 1, 0),
            now: 1_000_000,
            floor: 1,
            page,
            stored: BTreeMap::new(),
            waiting: BTreeMap::new(),
            out: Vec::new(),
            sent: BTreeSet::new(),
            deleted: BTreeSet::new(),
            purged: BTreeSet::new(),
        }
    }

    fn group(known: &Known) -> String {
        format!("g{}", known.group)
    }

    fn fill(&mut self, wanted: usize) {
        while let Some(from) = self.heart.needs(wanted) {
            let page: Vec<(u64, String)> = self
                .stored
                .range(from.max(self.floor)..)
                .take(self.page)
                .map(|(sequence, known)| (*sequence, Self::group(known)))
                .collect();
            let last = page.len() < self.page;
            let loaded = page.iter().map(|(sequence, group)| Loaded {
                sequence: *sequence,
                sent: 0,
                group: self.fifo.then_some(group.as_str()),
                chunks: 0,
            });
            self.heart.load(loaded, last);
        }
    }

    fn send(&mut self, group: u8, delay: u8, commit: Commit) {
        let visible_at = self.now + i64::from(delay) * 1000;
        let name = format!("g{group}");
        let sequence = self.heart.send(self.now, visible_at, self.fifo.then_some(&name), 0);
        let flight = (delay > 0).then_some(Flight { visible_at, first_received: 0, receive_count: 0, generation: 0 });
        let known = Known { group, visible_at, receives: 0, generation: 0, flight };
        match commit {
            // Commits come in order: what waits is there first.
            Commit::Now => {
                while !self.waiting.is_empty() {
                    self.commit();
                }
                self.stored.insert(sequence, known);
                self.sent.insert(sequence);
                self.heart.sent(sequence);
            }
            Commit::Later => {
                self.waiting.insert(sequence, known);
            }
            Commit::Never => self.heart.unsend(sequence),
        }
    }

    fn commit(&mut self) {
        if let Some((sequence, known)) = self.waiting.pop_first() {
            if sequence >= self.floor {
                self.stored.insert(sequence, known);
                self.sent.insert(sequence);
            }
            self.heart.sent(sequence);
        }
    }

    /// What may be handed out now, by the rules alone.
    fn available(&self) -> Vec<u64> {
        let visible = |known: &Known| known.visible_at <= self.now;
        if !self.fifo {
            return self.stored.iter().filter(|(_, known)| visible(known)).map(|(s, _)| *s).collect();
        }
        let mut closed: BTreeSet<u8> =
            self.stored.values().filter(|k| !visible(k) && k.generation > 0).map(|k| k.group).collect();
        let mut free = Vec::new();
        // A message of the group that is not committed yet keeps later ones back, and so does one that is delayed.
        for (sequence, known) in self.stored.iter().chain(&self.waiting).collect::<BTreeMap<_, _>>() {
            if closed.contains(&known.group) {
                continue;
            }
            if self.waiting.contains_key(sequence) || !visible(known) {
                closed.insert(known.group);
            } else {
                free.push(*sequence);
            }
        }
        free
    }

    fn receive(&mut self, max: usize, visibility: u8, committed: bool) {
        self.heart.advance(self.now);
        self.fill(max);
        let free: BTreeSet<u64> = self.available().into_iter().collect();
        let rules = Rules { max, visibility_ms: i64::from(visibility) * 1000, ..RULES };
        let taken = self.heart.take(self.now, rules);
        assert!(taken.dead.is_empty() && taken.expired.is_empty() && !taken.over_limit);
        let got: Vec<u64> = taken.out.iter().map(|(sequence, _)| *sequence).collect();
        for sequence in &got {
            assert!(free.contains(sequence), "{sequence} was handed out, free were {free:?}");
        }
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), got.len(), "one message twice: {got:?}");
        if self.fifo {
            assert!(!got.is_empty() || free.is_empty(), "nothing was handed out of {free:?}");
            self.check_order(&got, &free);
        } else {
            assert_eq!(got.len(), max.min(free.len()), "{free:?}");
        }
        for (sequence, head) in taken.out {
            if !committed {
                self.heart.untake(sequence, head.generation);
                continue;
            }
            let known = self.stored.get_mut(&sequence).expect("it was free");
            known.receives += 1;
            assert_eq!(head.receive_count, known.receives, "of {sequence}");
            assert!(head.generation > known.generation);
            known.generation = head.generation;
            known.visible_at = head.visible_at;
            known.flight = Some(head.flight());
            self.out.push((sequence, head.generation));
        }
        if !committed {
            self.heart.advance(self.now);
        }
    }

    /// Of each group the ones that came are the first that were free, in order.
    fn check_order(&self, got: &[u64], free: &BTreeSet<u64>) {
        for group in 0..4 {
            let of = |s: &&u64| self.stored[s].group == group;
            let came: Vec<u64> = got.iter().filter(of).copied().collect();
            let first: Vec<u64> = free.iter().filter(of).take(came.len()).copied().collect();
            assert_eq!(came, first, "group {group}");
        }
    }

    /// A handle of those that are out, current or not.
    fn pick(&self, at: u8) -> Option<(u64, u32)> {
        (!self.out.is_empty()).then(|| self.out[usize::from(at) % self.out.len()])
    }

    fn delete(&mut self, at: u8) {
        let Some((sequence, generation)) = self.pick(at) else { return };
        self.heart.advance(self.now);
        let standing = self.heart.standing(sequence, generation);
        let known = self.stored.get(&sequence);
        let want = match known {
            None => Standing::Gone,
            Some(known) if known.generation != generation => Standing::Stale,
            Some(known) if known.visible_at > self.now => Standing::Current,
            Some(_) => Standing::Lapsed,
        };
        // A message that came back and was never loaded again after a restart is not known to the window.
        assert_eq!(standing, want, "of {sequence}");
        if standing == Standing::Current || standing == Standing::Lapsed {
            self.heart.hold(sequence);
            assert_eq!(self.heart.standing(sequence, generation), Standing::Stale);
            if at.is_multiple_of(5) {
                self.heart.release(self.now, sequence);
                return;
            }
            self.heart.remove(sequence);
            self.stored.remove(&sequence);
            self.deleted.insert(sequence);
            self.out.retain(|(s, _)| *s != sequence);
        }
    }

    fn change(&mut self, at: u8, seconds: u8) {
        let Some((sequence, generation)) = self.pick(at) else { return };
        self.heart.advance(self.now);
        if self.heart.standing(sequence, generation) != Standing::Current {
            return;
        }
        let visible_at = self.now + i64::from(seconds) * 1000;
        let head = self.heart.change(self.now, sequence, visible_at, at.is_multiple_of(2)).expect("it is out");
        let known = self.stored.get_mut(&sequence).expect("it is out");
        known.visible_at = visible_at;
        known.receives = head.receive_count;
        known.flight = Some(head.flight());
    }

    fn restart(&mut self) {
        // Whoever waits for a commit hears nothing any more; it may be there or not.
        let lost = self.waiting.split_off(&self.waiting.keys().nth(1).copied().unwrap_or(u64::MAX));
        drop(lost);
        while !self.waiting.is_empty() {
            self.commit();
        }
        let next = self.stored.last_key_value().map_or(0, |(s, _)| s + 1).max(self.heart.next + 10);
        // A tally may be behind: deletions after it are not known.
        let count = if self.stored.is_empty() { 0 } else { self.stored.len() as u64 + 3 };
        self.heart = Heart::new(self.fifo, self.floor, next, count);
        for (sequence, known) in &self.stored {
            let Some(flight) = known.flight else { continue };
            let group = Self::group(known);
            let group = self.fifo.then_some(group.as_str());
            self.heart.restore(self.now, Loaded { sequence: *sequence, sent: 0, group, chunks: 0 }, flight);
        }
    }

    fn purge(&mut self) {
        self.floor = self.heart.purge();
        self.purged.extend(self.stored.keys());
        self.stored.clear();
        self.out.clear();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send(group, delay, commit) => self.send(group, if self.fifo { delay.min(2) } else { delay }, commit),
            Step::Commit => self.commit(),
            Step::Receive { max, visibility, committed } => self.receive(max, visibility, committed),
            Step::Delete(at) => self.delete(at),
            Step::Change(at, seconds) => self.change(at, seconds),
            Step::Wait(seconds) => self.now += i64::from(seconds) * 1000,
            Step::Restart => self.restart(),
            Step::Purge => self.purge(),
        }
    }

    /// In the end every message that was sent and not deleted or purged can be had, and the counts are right.
    fn drain(&mut self) {
        while !self.waiting.is_empty() {
            self.commit();
        }
        self.now += 100_000;
        let mut rounds = 0;
        while !self.stored.is_empty() {
            let before = self.stored.len();
            self.receive(10, 5, true);
            for (sequence, generation) in std::mem::take(&mut self.out) {
                if self.heart.standing(sequence, generation) == Standing::Current {
                    self.heart.hold(sequence);
                    self.heart.remove(sequence);
                    self.stored.remove(&sequence);
                    self.deleted.insert(sequence);
                }
            }
            rounds += 1;
            assert!(self.stored.len() < before, "{before} messages do not come, round {rounds}");
        }
        self.heart.advance(self.now);
        self.fill(1);
        assert_eq!(self.heart.counts(), (0, 0, 0));
        let ended: BTreeSet<u64> = self.deleted.union(&self.purged).copied().collect();
        assert_eq!(ended, self.sent, "every message has one end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_standard_queue_does_as_the_model_does(steps in prop::collection::vec(step(), 1..120), page in 1usize..9) {
        let mut world = World::new(false, page);
        steps.into_iter().for_each(|step| world.run(step));
        world.drain();
    }

    #[test]
    fn a_fifo_queue_does_as_the_model_does(steps in prop::collection::vec(step(), 1..120), page in 1usize..9) {
        let mut world = World::new(true, page);
        steps.into_iter().for_each(|step| world.run(step));
        world.drain();
    }
}

fn rules(max: usize) -> Rules {
    Rules { max, visibility_ms: 30_000, max_receives: Some(2), retention_ms: 60_000 }
}

#[test]
fn the_third_receive_of_two_is_a_dead_letter() {
    let mut heart = Heart::new(false, 1, 1, 0);
    let sequence = heart.send(0, 0, None, 0);
    heart.sent(sequence);
    for round in 0..2 {
        heart.advance(round * 30_000);
        assert_eq!(heart.take(round * 30_000, rules(1)).out.len(), 1);
    }
    heart.advance(59_999);
    assert_eq!(heart.take(59_999, rules(1)), Taken::default());
    heart.advance(60_000);
    let taken = heart.take(60_000, Rules { retention_ms: i64::MAX, ..rules(1) });
    assert_eq!((taken.out.len(), taken.dead.len()), (0, 1));
    // Nobody else gets it while it moves; it comes back if that fails.
    assert_eq!(heart.take(60_000, rules(1)), Taken::default());
    heart.release(60_000, sequence);
    assert_eq!(heart.take(60_000, Rules { retention_ms: i64::MAX, ..rules(1) }).dead.len(), 1);
}

#[test]
fn what_outlives_its_retention_is_not_handed_out() {
    let mut heart = Heart::new(false, 1, 1, 0);
    for at in [0, 1_000, 50_000] {
        let sequence = heart.send(at, at, None, 0);
        heart.sent(sequence);
    }
    assert_eq!(heart.expire(60_000, 60_000, 10).len(), 1);
    let taken = heart.take(61_000, rules(10));
    assert_eq!((taken.out.len(), taken.expired.len()), (1, 1));
}

#[test]
fn what_was_delayed_before_the_start_does_not_overtake_what_is_not_loaded() {
    let mut heart = Heart::new(true, 1, 4, 3);
    let message = |sequence| Loaded { sequence, sent: 0, group: Some("g"), chunks: 0 };
    let flight = Flight { visible_at: 5, first_received: 0, receive_count: 0, generation: 0 };
    heart.restore(10, message(3), flight);
    heart.load([message(1)], false);
    let rules = Rules { max: 10, visibility_ms: 0, max_receives: None, retention_ms: i64::MAX };
    let out: Vec<u64> = heart.take(10, rules).out.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(out, [1]);
}

#[test]
fn behind_a_dead_letter_its_group_waits() {
    let mut heart = Heart::new(true, 1, 1, 0);
    for _ in 0..3 {
        let sequence = heart.send(0, 0, Some("g"), 0);
        heart.sent(sequence);
    }
    let one = |max_receives| Rules { max: 10, visibility_ms: 0, max_receives, retention_ms: i64::MAX };
    let first = heart.take(0, Rules { max: 1, ..one(None) });
    heart.advance(0);
    let taken = heart.take(0, one(Some(1)));
    assert_eq!((taken.out.len(), taken.dead.len()), (0, 1), "{taken:?}");
    assert_eq!(heart.take(0, one(Some(1))), Taken::default());
    heart.remove(first.out[0].0);
    assert_eq!(heart.take(0, one(Some(1))).out.len(), 2);
}

#[test]
fn at_most_120000_are_out() {
    let mut heart = Heart::new(false, 1, 1, 0);
    for _ in 0..MAX_IN_FLIGHT + 1 {
        let sequence = heart.send(0, 0, None, 0);
        heart.sent(sequence);
    }
    assert_eq!(heart.take(0, rules(MAX_IN_FLIGHT)).out.len(), MAX_IN_FLIGHT);
    let taken = heart.take(0, rules(1));
    assert!(taken.over_limit && taken.out.is_empty());
}
