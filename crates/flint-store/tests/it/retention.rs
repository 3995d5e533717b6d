//! Nothing that is younger and within the bytes vanishes, nothing else stays: over restarts, checkpoints and power cuts.

use std::collections::VecDeque;

use flint_base::{EventId, Timestamp};
use flint_model::{Lineage, Place};
use flint_store::journal::{self, Entry, Floor, Kind, Limits, retention};
use flint_store::testing::{Keep, Rng, SimDisk};
use flint_store::{Batch, Direction, KeyRange, LogStore, Store};

use crate::options;

const SEGMENT: u64 = 64 << 10;
const LIMITS: Limits = Limits { well_ms: 500, well_bytes: 40_000, failed_ms: 2_000, failed_bytes: 20_000 };

fn place(n: u64) -> Place {
    let account = format!("{n:012}").parse().expect("an account");
    Place { account, region: "us-east-1".parse().expect("a region") }
}

/// An entry that is in the log, as the rule sees it.
#[derive(Clone, Debug)]
struct Known {
    version: u64,
    entry: Entry,
    bytes: u64,
}

/// The rule, as plainly as it can be written.
#[derive(Clone, Debug, Default)]
struct Rule {
    well: VecDeque<Known>,
    failed: VecDeque<Known>,
}

impl Rule {
    fn apply(&mut self, now: i64) {
        for (kept, ms, bytes) in [
            (&mut self.well, LIMITS.well_ms, LIMITS.well_bytes),
            (&mut self.failed, LIMITS.failed_ms, LIMITS.failed_bytes),
        ] {
            let mut total: u64 = kept.iter().map(|known| known.bytes).sum();
            while let Some(first) = kept.front()
                && (first.entry.at.as_millis() < now - ms || total > bytes)
            {
                total -= first.bytes;
                kept.pop_front();
            }
        }
    }

    fn of(&self, n: u64) -> Vec<EventId> {
        let mut all: Vec<&Known> = self.well.iter().chain(&self.failed).collect();
        all.sort_by_key(|known| known.version);
        all.into_iter().filter(|known| known.entry.place == place(n)).map(|known| known.entry.lineage.event).collect()
    }
}

fn kept(store: &dyn Store, n: u64) -> Vec<EventId> {
    let mut all = journal::recent(store, &place(n), None, usize::MAX).expect("reads");
    all.reverse();
    all.into_iter().map(|(_, entry)| entry.lineage.event).collect()
}

/// Rows of packed entries that are wholly below the floor.
fn leftovers(store: &dyn Store) -> usize {
    let floor = Floor::read(store).expect("reads").at;
    let rows = |space| store.scan(space, &KeyRange::all(), usize::MAX, Direction::Forward).expect("reads");
    let runs = rows(journal::RUNS);
    assert_eq!(runs.len(), rows(journal::DIGESTS).len(), "a digest for each run");
    let below = |row: &&flint_store::Row| row.version < floor.version;
    runs.iter().filter(below).count() + rows(journal::PAGES).iter().filter(below).count()
}

#[test]
fn what_is_young_and_small_enough_stays_and_nothing_else() {
    let (mut cut, mut aged, mut runs) = (0u64, 0u64, 0usize);
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new();
        let (mut now, mut rule, mut all) = (1_000i64, Rule::default(), Vec::<Known>::new());
        for life in 0..5 {
            let context = format!("seed {seed} life {life}");
            let (store, mut driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).expect("opens");
            // What the power took along was not acknowledged; the rule begins again at the floor that is there.
            let version = store.version();
            all.retain(|known| known.version <= version);
            let floor = Floor::read(&store).expect("reads");
            let (mut well, failed): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|k| k.entry.went_well());
            well.retain(|known| known.version >= floor.at.version);
            let failed_left: usize = (0..3).map(|n| kept(&store, n).len()).sum::<usize>() - well.len();
            let failed = failed.split_at(failed.len() - failed_left).1.to_vec();
            rule = Rule { well: well.into(), failed: failed.into() };
            for n in 0..3 {
                assert_eq!(kept(&store, n), rule.of(n), "{context}: what was there before");
            }
            for _ in 0..rng.below(60) {
                now += rng.below(30) as i64;
                for _ in 0..=rng.below(12) {
                    let kind = if rng.chance(20) { Kind::Retried } else { Kind::Settled };
                    let lineage = Lineage::root(EventId::next());
                    let mut entry = Entry::new(place(rng.below(3)), lineage, kind, Timestamp::from_millis(now));
                    entry.environment = Some("x".repeat(rng.below(300) as usize));
                    let pending = store.commit(Batch::new().journal(entry.clone()));
                    driver.turn();
                    let version = pending.wait().expect("commits").version;
                    let bytes = 20 + entry.encode().len() as u64;
                    let known = Known { version, entry, bytes };
                    all.push(known.clone());
                    if known.entry.went_well() { &mut rule.well } else { &mut rule.failed }.push_back(known);
                }
                if rng.chance(30) {
                    let before = rule.clone();
                    let mut commit = |step: Option<Batch>| {
                        let Some(batch) = step else { return false };
                        let pending = store.commit(batch);
                        driver.turn();
                        pending.wait().expect("commits");
                        true
                    };
                    let at = Timestamp::from_millis(now);
                    while commit(retention::step(&store, at, LIMITS, &Default::default()).expect("reads")) {}
                    while commit(retention::step_failed(&store, at, LIMITS).expect("reads")) {}
                    rule.apply(now);
                    let gone = before.well.len() - rule.well.len();
                    let old = before.well.iter().filter(|k| k.entry.at.as_millis() < now - LIMITS.well_ms).count();
                    (aged, cut) = (aged + old as u64, cut + gone.saturating_sub(old) as u64);
                    for n in 0..3 {
                        assert_eq!(kept(&store, n), rule.of(n), "{context} at {now}");
                    }
                    assert_eq!(leftovers(&store), 0, "{context}");
                }
                if let Some(known) = rule.well.get(rng.below(40) as usize) {
                    let event = known.entry.lineage.event;
                    for found in [
                        journal::of_event(&store, &known.entry.place, event).expect("reads"),
                        journal::of_root(&store, &known.entry.place, event).expect("reads"),
                    ] {
                        assert_eq!(found.len(), 1, "{context}: a packed entry is found by its event, and by its root");
                    }
                }
            }
            runs += store.scan(journal::RUNS, &KeyRange::all(), usize::MAX, Direction::Forward).expect("reads").len();
            drop((store, driver));
            disk = match rng.below(3) {
                0 => disk.after_kill(),
                1 => disk.after_power_cut(Keep::Some, &mut rng),
                _ => disk.after_power_cut(Keep::Nothing, &mut rng),
            };
        }
        drop(rule);
    }
    println!("{aged} went for their age, {cut} for their bytes; {runs} runs were looked at");
    assert!(aged > 100 && cut > 100 && runs > 100, "the histories must bring all of it");
}
