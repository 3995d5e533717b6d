//! Power cuts at every step: what was acknowledged is there, a batch is there whole or not at all, and life goes on.

use flint_store::testing::{Call, Fault, Keep, Rng, SimDisk, World};
use flint_store::{Batch, LogStore, MemoryStore, Store};

use crate::options;

const SEGMENT: u64 = 16 << 10;

/// One history over several lives of a store.
struct History {
    world: World,
    /// Every batch that the model accepted; the n-th is the commit of version n + 1.
    accepted: Vec<Batch>,
    acknowledged: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { world: World::new(seed), accepted: Vec::new(), acknowledged: 0 }
    }

    /// Lives until the power goes or `groups` groups are done. True if the power went.
    fn live(&mut self, disk: &SimDisk, groups: u64) -> bool {
        let Ok((store, mut driver)) = LogStore::open_driven("/data", options(disk, SEGMENT)) else { return true };
        for _ in 0..groups {
            let batches: Vec<_> = (0..=self.world.rng.below(8)).map(|_| self.world.batch()).collect();
            let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
            driver.turn();
            let mut lost = false;
            for (pending, batch) in pending.into_iter().zip(batches) {
                let expected = self.world.expect(batch.clone());
                if expected.is_ok() {
                    self.accepted.push(batch);
                }
                match pending.wait() {
                    Err(flint_store::CommitError::Stopped(_)) => lost = true,
                    got => {
                        assert!(!lost, "nothing is acknowledged after a failure");
                        assert_eq!(got.map(|commit| commit.version), expected);
                        self.acknowledged = expected.unwrap_or(self.acknowledged);
                    }
                }
            }
            if lost {
                return true;
            }
        }
        driver.finish();
        false
    }

    /// Opens what a power cut left, checks it, and makes it the truth from here on.
    fn recover(&mut self, disk: &SimDisk, context: &str) {
        let (store, _driver) = match LogStore::open_driven("/data", options(disk, SEGMENT)) {
            Ok(opened) => opened,
            Err(e) => panic!("{context}: {e}"),
        };
        let version = store.version();
        assert!(version >= self.acknowledged, "{context}: lost {} behind {version}", self.acknowledged);
        assert!(version as usize <= self.accepted.len(), "{context}: {version} was never written");
        self.accepted.truncate(version as usize);
        self.world.model = MemoryStore::new();
        for batch in &self.accepted {
            self.world.expect(batch.clone()).unwrap();
        }
        self.world.assert_same(&store);
        self.acknowledged = version;
    }
}

fn cut_power(seeds: std::ops::Range<u64>, first_cut: impl Fn(u64, &mut Rng) -> u64) {
    let mut checkpoints = 0;
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let keep = [Keep::Nothing, Keep::Some, Keep::Some, Keep::Everything][rng.below(4) as usize];
        let mut history = History::new(seed);
        let mut disk = SimDisk::new();
        disk.power_off_at(first_cut(seed, &mut rng));
        for life in 0..4 {
            history.live(&disk, 40);
            let context = format!("seed {seed} {keep:?} life {life}");
            if rng.chance(30) {
                // What a life after a mere kill has served must survive the power cut that follows.
                disk = disk.after_kill();
                history.recover(&disk, &context);
            }
            disk = disk.after_power_cut(keep, &mut rng);
            history.recover(&disk, &context);
            disk.power_off_at(1 + disk.changes() + rng.below(500));
        }
        checkpoints += u64::from(disk.content("/data/log/00000000000000000001").is_none());
    }
    println!("{checkpoints} histories went beyond a checkpoint");
}

#[test]
fn a_power_cut_at_any_call_of_a_first_life_loses_nothing_acknowledged() {
    cut_power(0..250, |seed, _| seed + 1);
}

#[test]
fn power_cuts_under_checkpoints_lose_nothing_acknowledged() {
    cut_power(1000..1250, |_, rng| 250 + rng.below(1000));
}

#[test]
fn a_sync_that_lies_is_found_out() {
    // The control: if what is "synced" is not kept, the same check must fail.
    let mut history = History::new(1);
    let disk = SimDisk::new();
    history.live(&disk, 10);
    let emptied = SimDisk::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.recover(&emptied, "control")));
    assert!(outcome.is_err());
}

#[test]
fn the_first_error_of_the_log_is_the_last_word() {
    for (call, nth) in [(Call::Pwrite, 1), (Call::Sync, 1), (Call::Sync, 4), (Call::SyncDir, 1), (Call::SyncDir, 2)] {
        let mut history = History::new(nth);
        let mut disk = SimDisk::new();
        assert!(!history.live(&disk, 1), "a healthy start");
        let (store, mut driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
        disk.inject(Fault { call, nth, error: std::io::ErrorKind::Other });
        let mut stopped = false;
        for _ in 0..200 {
            let batch = history.world.batch();
            let pending = store.commit(batch.clone());
            driver.turn();
            match pending.wait() {
                Err(flint_store::CommitError::Stopped(_)) => {
                    stopped = true;
                    if history.world.expect(batch.clone()).is_ok() {
                        history.accepted.push(batch);
                    }
                    break;
                }
                got => {
                    assert_eq!(got.clone().map(|c| c.version), history.world.expect(batch.clone()));
                    if let Ok(commit) = got {
                        history.accepted.push(batch);
                        history.acknowledged = commit.version;
                    }
                }
            }
        }
        assert!(stopped, "{call:?}");
        // The disk is fine again: still nothing is acknowledged.
        assert!(store.commit(Batch::new()).wait().is_err());
        assert!(matches!(*store.health().borrow(), flint_store::Health::Stopped(_)));
        drop((store, driver));
        disk = disk.after_power_cut(Keep::Some, &mut Rng::new(nth));
        history.recover(&disk, &format!("{call:?} {nth}"));
    }
}

#[test]
fn a_frame_whose_sync_failed_is_not_trusted_to_the_cache() {
    // The sync fails, the process ends, the machine lives on: the next life reads the frame from the cache, builds on it, and
    // then the power goes.
    for nth in 1..12 {
        let mut history = History::new(nth);
        let disk = SimDisk::new();
        assert!(!history.live(&disk, 3), "a healthy start");
        disk.inject(Fault { call: Call::Sync, nth, error: std::io::ErrorKind::Other });
        history.live(&disk, 20);
        let disk = disk.after_kill();
        history.recover(&disk, "after the kill");
        assert!(!history.live(&disk, 3), "a healthy life");
        let disk = disk.after_power_cut(Keep::Nothing, &mut Rng::new(nth));
        history.recover(&disk, &format!("sync {nth}, then the power"));
    }
}
