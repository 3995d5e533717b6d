//! Torn tails and flipped bits: what is served was written, and lost acknowledged data is refused, not passed over.

use flint_store::testing::{Keep, Rng, SimDisk, World};
use flint_store::{Batch, Direction, Error, Key, KeyRange, LogStore, Store};

use crate::{SPACE, log_only as options};

const BLOCK: usize = 4096;
const SEGMENT: u64 = 32 << 10;

fn segment(number: u64) -> String {
    format!("/data/log/{number:020}")
}

fn used(content: &[u8]) -> usize {
    let last = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    last.next_multiple_of(BLOCK)
}

/// A store whose last two frames take two blocks and one; ends without a seal. Returns where they begin.
fn two_frames() -> (SimDisk, usize) {
    let disk = SimDisk::new();
    let (store, mut driver) = LogStore::open_driven("/data", options(&disk, SEGMENT)).unwrap();
    let mut start = 0;
    for (n, len) in [(1, 10), (2, 5000), (3, 300)] {
        if n == 2 {
            start = used(&disk.content(segment(1)).unwrap());
        }
        let pending = store.commit(Batch::new().put(SPACE, Key::default().u64(n), vec![n as u8; len]));
        driver.turn();
        pending.wait().unwrap();
    }
    drop((store, driver));
    (disk, start)
}

#[test]
fn a_tail_torn_at_any_length_is_cut_off_and_written_on() {
    let (disk, start) = two_frames();
    let end = start + 3 * BLOCK;
    assert_eq!(used(&disk.content(segment(1)).unwrap()), end);
    let mut last = 1;
    let mut seen = Vec::new();
    for len in start..=end {
        // A file that ends early and one that goes on with zeros are read alike; a sample of the former will do.
        for truncate in if len % 11 == 0 { &[false, true][..] } else { &[false] } {
            let copy = disk.after_power_cut(Keep::Everything, &mut Rng::new(0));
            copy.edit(segment(1), |bytes| if *truncate { bytes.truncate(len) } else { bytes[len..].fill(0) });
            let (store, mut driver) = LogStore::open_driven("/data", options(&copy, SEGMENT)).unwrap();
            let version = store.version();
            assert!(version >= last, "{len}: a longer tail holds no less");
            last = version;
            seen.push(version);
            for row in store.scan(SPACE, &KeyRange::all(), 9, Direction::Forward).unwrap() {
                let n = row.key.parts().u64().unwrap();
                assert_eq!((row.version, row.value), (n, vec![n as u8; [0, 10, 5000, 300][n as usize]].into()));
            }
            if len % 97 == 0 {
                let pending = store.commit(Batch::new().put(SPACE, Key::default().u64(9), "on"));
                driver.turn();
                assert_eq!(pending.wait().unwrap().version, version + 1);
                drop((store, driver));
                let again = LogStore::open_driven("/data", options(&copy, SEGMENT)).unwrap().0;
                assert_eq!(again.version(), version + 1);
            }
        }
    }
    seen.dedup();
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let disk = SimDisk::new();
    let mut world = World::new(3);
    {
        let store = LogStore::open("/data", options(&disk, SEGMENT)).unwrap();
        for _ in 0..60 {
            let batch = world.batch();
            assert_eq!(store.commit(batch.clone()).wait().map(|c| c.version), world.expect(batch));
        }
    }
    let last = (1..).find(|n| disk.content(segment(n + 1)).is_none_or(|c| used(&c) == 0)).unwrap();
    assert!(last >= 3, "several segments are in play");
    let mut rng = Rng::new(4);
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..1500 {
        let number = 1 + rng.below(last);
        let content = disk.content(segment(number)).unwrap();
        let (at, bit) = (rng.below(used(&content) as u64) as usize, rng.below(8));
        let copy = disk.after_power_cut(Keep::Everything, &mut rng);
        copy.edit(segment(number), |bytes| bytes[at] ^= 1 << bit);
        match LogStore::open_driven("/data", options(&copy, SEGMENT)) {
            Ok((store, _)) => {
                // Closed in good order: a seal stands behind every batch, so nothing may be missing either.
                world.assert_same(&store);
                harmless += 1;
            }
            Err(Error::Damaged { reason, .. }) => {
                assert!(reason.contains("log segment"), "{reason}");
                refused += 1;
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 100 && harmless > 100, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_flipped_bit_in_an_unsealed_tail_costs_at_most_that_tail() {
    let (disk, start) = two_frames();
    for at in (start..start + 3 * BLOCK).step_by(5) {
        let copy = disk.after_power_cut(Keep::Everything, &mut Rng::new(0));
        copy.edit(segment(1), |bytes| bytes[at] ^= 1 << (at % 8));
        match LogStore::open_driven("/data", options(&copy, SEGMENT)) {
            Ok((store, _)) => {
                let version = store.version();
                assert!(version == 3 || (version == 2 && at >= start + 2 * BLOCK), "{at}: {version}");
                assert_eq!(store.get(SPACE, &Key::default().u64(2)).unwrap().unwrap().value, vec![2; 5000]);
            }
            Err(Error::Damaged { .. }) => assert!(at < start + 2 * BLOCK),
            Err(e) => panic!("{at}: {e}"),
        }
    }
}

#[test]
fn a_missing_or_bent_file_is_refused() {
    let disk = SimDisk::new();
    let mut world = World::new(3);
    {
        let store = LogStore::open("/data", options(&disk, 16 << 10)).unwrap();
        for _ in 0..60 {
            let _ = store.commit(world.batch()).wait();
        }
    }
    let refused = |change: &dyn Fn(&SimDisk)| {
        let copy = disk.after_power_cut(Keep::Everything, &mut Rng::new(0));
        change(&copy);
        LogStore::open_driven("/data", options(&copy, 16 << 10)).map(|_| ()).unwrap_err().to_string()
    };
    use flint_store::disk::Disk;
    let remove = |path: String| move |disk: &SimDisk| disk.remove(path.as_ref()).unwrap();
    assert!(refused(&remove(segment(1))).contains("should begin with segment 1"));
    assert!(refused(&remove(segment(2))).contains("is not intact"));
    assert!(refused(&remove("/data/format".into())).contains("no `format` file"));
    let all = refused(&|disk: &SimDisk| {
        for name in disk.list("/data/log".as_ref()).unwrap() {
            disk.remove(format!("/data/log/{name}").as_ref()).unwrap();
        }
    });
    assert!(all.contains("there is none"), "{all}");
    let newer = refused(&|disk: &SimDisk| disk.edit("/data/format", |text| text[12] = b'9'));
    assert!(newer.contains("has format 9, this binary knows 1"), "{newer}");
    let format = disk.content("/data/format").unwrap();
    for at in 0..format.len() {
        refused(&|disk: &SimDisk| disk.edit("/data/format", |text| text[at] ^= 1));
        refused(&|disk: &SimDisk| disk.edit("/data/format", |text| text.truncate(at)));
    }
}

#[test]
fn a_missing_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(LogStore::open(dir.path(), flint_store::Options { segment_bytes: 16 << 10, ..Default::default() }).unwrap());
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let error = LogStore::open(dir.path(), flint_store::Options::default()).unwrap_err();
    assert!(error.to_string().contains("the log is missing"), "{error}");
}
