//! Both engines pass the shared suite; the one on disk also after reopening.

use std::cell::Cell;

use flint_store::testing::{SimDisk, World, suite};
use flint_store::{LogStore, Options, Store};

use crate::options;

#[test]
fn the_log_passes_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let made = Cell::new(0);
    suite(|| {
        made.set(made.get() + 1);
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        LogStore::open(dir.path().join(made.get().to_string()), options).unwrap()
    });
}

#[test]
fn the_log_passes_on_a_simulated_disk() {
    suite(|| {
        let options = Options { ..options(&SimDisk::new(), 256 << 10) };
        LogStore::open("/data", options).unwrap()
    });
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        let mut world = World::new(seed);
        for _ in 0..5 {
            let store = LogStore::open("/data", options(&disk, 16 << 10)).unwrap();
            world.assert_same(&store);
            for _ in 0..world.rng.below(40) {
                let batches: Vec<_> = (0..=world.rng.below(6)).map(|_| world.batch()).collect();
                let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
                for (pending, batch) in pending.into_iter().zip(batches) {
                    assert_eq!(pending.wait().map(|commit| commit.version), world.expect(batch));
                }
            }
        }
    }
}
