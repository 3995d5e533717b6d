//! Want of space, a second process, and what callers see of both.

use std::time::Duration;

use flint_store::testing::SimDisk;
use flint_store::{Batch, CommitError, Error, Health, Key, LogStore, Options, Store, stopped};

use crate::{SPACE, log_only, options};

const SEGMENT: u64 = 64 << 10;

fn put(n: u64) -> Batch {
    Batch::new().put(SPACE, Key::default().u64(n), vec![1; 1000])
}

#[test]
fn want_of_space_refuses_writes_and_heals() {
    let disk = SimDisk::new();
    drop(LogStore::open("/data", log_only(&disk, SEGMENT)).unwrap());
    let index = disk.content("/data/state.redb").unwrap().len() as u64;
    disk.set_capacity(Some(index + 1000 + 3 * SEGMENT));
    let store = LogStore::open("/data", log_only(&disk, SEGMENT)).unwrap();
    let mut n = 0;
    let error = loop {
        match store.commit(put(n)).wait() {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 1000, "two segments are full some time");
    };
    assert_eq!(error, CommitError::Full);
    assert_eq!(*store.health().borrow(), Health::Full);
    assert!(store.get(SPACE, &Key::default().u64(n - 1)).unwrap().is_some(), "reads go on");
    assert_eq!(store.get(SPACE, &Key::default().u64(n)).unwrap(), None, "what was refused is not there");
    assert_eq!(store.commit(put(n)).wait(), Err(CommitError::Full), "and stays so");

    disk.set_capacity(None);
    let mut health = store.health();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(1), health.wait_for(|h| *h == Health::Serving)).await
        })
        .expect("heals within a second of space")
        .unwrap();
    assert_eq!(store.commit(put(n)).wait().unwrap().version, n + 1);
    drop(store);
    let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
    assert_eq!(store.version(), n + 1);
}

#[test]
fn a_new_store_without_space_is_refused_and_leaves_nothing_in_the_way() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(SEGMENT / 2));
    assert!(matches!(LogStore::open("/data", options(&disk, SEGMENT)), Err(Error::Full(_))));
    disk.set_capacity(None);
    let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
    store.commit(put(1)).wait().unwrap();
}

#[test]
fn a_failed_sync_stops_the_store_and_says_so() {
    use flint_store::testing::{Call, Fault};
    let disk = SimDisk::new();
    let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
    store.commit(put(1)).wait().unwrap();
    disk.inject(Fault { call: Call::Sync, nth: 1, error: std::io::ErrorKind::Other });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // The maker of segments may meet the fault instead; either way it is the end.
    for n in 2..20 {
        if store.commit(put(n)).wait().is_err() {
            break;
        }
    }
    let reason =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), stopped(&store)).await }).unwrap();
    assert!(reason.contains("segment"), "{reason}");
    assert!(matches!(store.commit(put(99)).wait(), Err(CommitError::Stopped(_))));
}

#[test]
fn a_second_opener_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: SEGMENT, ..Options::default() };
    let store = LogStore::open(dir.path(), options.clone()).unwrap();
    let error = LogStore::open(dir.path(), options.clone()).unwrap_err();
    assert!(matches!(error, Error::Locked(_)));
    assert!(!error.to_string().contains('\n'));
    drop(store);
    LogStore::open(dir.path(), options).unwrap();
}

#[test]
fn a_closed_store_refuses_but_finishes_what_it_took() {
    let disk = SimDisk::new();
    let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
    let pending: Vec<_> = (0..50).map(|n| store.commit(put(n))).collect();
    store.close();
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(matches!(store.commit(put(99)).wait(), Err(CommitError::Stopped(_))));
}
