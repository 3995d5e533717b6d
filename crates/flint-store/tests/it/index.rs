//! Checkpoints and the index: the log stays bounded, damage is refused, want of space is waited out.

use std::time::Duration;

use flint_base::{Clock, SystemClock};
use flint_store::disk::Disk;
use flint_store::testing::{Call, Fault, Keep, Rng, SimDisk, World};
use flint_store::{Batch, CommitError, Error, Health, Key, LogStore, Store};

use crate::{SPACE, options};

const SEGMENT: u64 = 16 << 10;
const INDEX: &str = "/data/state.redb";

/// A world that went through many checkpoints.
fn grown(seed: u64) -> (SimDisk, World) {
    let disk = SimDisk::new();
    let mut world = World::new(seed);
    let (store, mut driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
    for round in 0..300 {
        let batches: Vec<_> = (0..=world.rng.below(8)).map(|_| world.batch()).collect();
        let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
        driver.turn();
        for (pending, batch) in pending.into_iter().zip(batches) {
            assert_eq!(pending.wait().map(|c| c.version), world.expect(batch), "seed {seed} round {round}");
        }
        world.assert_same(&store);
    }
    driver.finish();
    (disk, world)
}

fn segments(disk: &SimDisk) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        disk.list("/data/log".as_ref()).unwrap().iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn reads_through_all_levels_equal_the_model_and_the_log_stays_short() {
    for seed in 0..8 {
        let (disk, mut world) = grown(seed);
        let segments = segments(&disk);
        assert!(*segments.last().unwrap() > 12, "many segments were written: {segments:?}");
        assert!(segments.len() <= 9, "and few are left: {segments:?}");
        let (store, _driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
        world.assert_same(&store);
    }
}

#[test]
fn with_threads_too() {
    let disk = SimDisk::new();
    let mut world = World::new(5);
    for _ in 0..6 {
        let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
        for _ in 0..100 {
            let batches: Vec<_> = (0..=world.rng.below(8)).map(|_| world.batch()).collect();
            let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
            for (pending, batch) in pending.into_iter().zip(batches) {
                assert_eq!(pending.wait().map(|c| c.version), world.expect(batch));
            }
        }
        world.assert_same(&store);
    }
    assert!(segments(&disk)[0] > 1, "checkpoints were made");
}

#[test]
fn a_missing_index_or_a_log_that_begins_behind_it_is_refused() {
    let (disk, _) = grown(1);
    let copy = disk.after_kill();
    copy.remove(INDEX.as_ref()).unwrap();
    let error = LogStore::open_driven("/data", options(&copy, SEGMENT)).map(drop).unwrap_err().to_string();
    assert!(error.contains("the index cannot be used: it is missing"), "{error}");

    // The mark lies in one of the last few segments: without those it has nowhere to stand.
    let copy = disk.after_kill();
    let all = segments(&copy);
    for number in &all[..all.len() - 1] {
        copy.remove(format!("/data/log/{number:020}").as_ref()).unwrap();
    }
    let error = LogStore::open_driven("/data", options(&copy, SEGMENT)).map(drop).unwrap_err().to_string();
    assert!(error.contains("the log should begin with segment"), "{error}");
}

#[test]
fn a_flipped_bit_in_the_index_is_refused_or_harmless() {
    let (disk, mut world) = grown(2);
    let len = disk.content(INDEX).unwrap().len() as u64;
    let mut rng = Rng::new(6);
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..400 {
        let copy = disk.after_kill();
        let (at, bit) = (rng.below(len) as usize, rng.below(8));
        copy.edit(INDEX, |bytes| bytes[at] ^= 1 << bit);
        match LogStore::open_driven("/data", options(&copy, SEGMENT)) {
            Ok((store, _)) => {
                world.assert_same(&store);
                harmless += 1;
            }
            Err(Error::Damaged { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    println!("{refused} refused, {harmless} harmless of {len} bytes");
    assert!(refused > 0 && harmless > 0);
}

#[test]
fn a_checkpoint_without_space_waits_and_writes_are_refused_before_memory_runs_out() {
    let disk = SimDisk::new();
    let store = LogStore::open("/data", options(&disk, 64 << 10)).unwrap();
    // Space for the log's segments, none for the index to grow.
    disk.set_capacity(Some(disk.used() + (4 << 20)));
    let mut n = 0u64;
    let error = loop {
        match store.commit(Batch::new().put(SPACE, Key::default().u64(n), vec![n as u8; 8000])).wait() {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 5000, "the disk is full some time");
    };
    assert_eq!(error, CommitError::Full);
    for k in 0..n {
        assert_eq!(store.get(SPACE, &Key::default().u64(k)).unwrap().unwrap().value, vec![k as u8; 8000]);
    }
    disk.set_capacity(None);
    let mut health = store.health();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(2), health.wait_for(|h| *h == Health::Serving)).await
        })
        .expect("heals when there is space")
        .unwrap();
    let clock = SystemClock::new();
    while let Err(error) = store.commit(Batch::new().put(SPACE, Key::default().u64(n), "v")).wait() {
        assert_eq!(error, CommitError::Full);
        assert!(clock.monotonic() < Duration::from_secs(2), "heals when there is space");
    }
    drop(store);
    let store = LogStore::open("/data", options(&disk, 64 << 10)).unwrap();
    assert_eq!(store.version(), n + 1);
}

#[test]
fn an_error_of_the_index_stops_the_store_and_loses_nothing() {
    for call in [Call::Sync, Call::Pwrite, Call::SetLen] {
        for nth in 1..6 {
            let (disk, mut world) = grown(nth);
            let disk = disk.after_kill();
            let (store, mut driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
            disk.inject(Fault { call, nth: nth * 7, error: std::io::ErrorKind::Other });
            let mut acknowledged = store.version();
            for _ in 0..300 {
                let batch = world.batch();
                let pending = store.commit(batch);
                driver.turn();
                match pending.wait() {
                    Ok(commit) => acknowledged = commit.version,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(CommitError::Stopped(_)) => break,
                    Err(e) => panic!("{e}"),
                }
            }
            drop((store, driver));
            let disk = disk.after_power_cut(Keep::Some, &mut Rng::new(nth));
            let (store, _driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
            assert!(store.version() >= acknowledged);
        }
    }
}
