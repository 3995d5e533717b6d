//! Exports of a store at work and backups: exactly a committed state, or refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use flint_base::Timestamp;
use flint_store::testing::{Keep, Rng, SimDisk, World};
use flint_store::{Batch, Blobs, Direction, Error, Key, KeyRange, LogStore, Options, Store, backup};

use crate::{SPACE, options};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn small() -> Options {
    // Many segments and checkpoints, so that an export meets all of them.
    Options { segment_bytes: 256 << 10, checkpoint_layer_bytes: 64 << 10, ..Options::default() }
}

/// Writer `w` counts up: the n-th commit of it sets its counter to n and its total to the sum. Any mix of commits shows.
fn counts(store: &dyn Store) -> Vec<(u64, u64)> {
    let rows = store.scan(SPACE, &KeyRange::all(), usize::MAX, Direction::Forward).unwrap();
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    rows.iter().filter(|row| row.key.len() == 8).map(|row| (number(&row.value, 0), number(&row.value, 8))).collect()
}

#[test]
fn an_export_under_load_is_exactly_a_committed_state() {
    const WRITERS: u64 = 4;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LogStore::open(dir.path().join("data"), small()).unwrap());
    let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; WRITERS as usize]));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, stop, acked) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&acked));
            thread::spawn(move || {
                let mut sum = 0;
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    sum += n;
                    let value = [u64::to_le_bytes(n), u64::to_le_bytes(sum)].concat();
                    let own = Key::default().u64(writer);
                    // A record that a later commit deletes again: what lives short is in the log alone.
                    let batch =
                        Batch::new().put(SPACE, own.clone(), value).put(SPACE, own.clone().u64(n), vec![1; 900]);
                    store.commit(batch.delete(SPACE, own.u64(n.saturating_sub(50)))).wait().unwrap();
                    acked[writer as usize].store(n, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..12 {
        let to = dir.path().join(format!("export-{round}"));
        fs::create_dir(&to).unwrap();
        let before: Vec<u64> = acked.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        let extent = store.export(&to).unwrap();
        assert_eq!(LogStore::verify(&to).unwrap().version, extent.version, "round {round}");
        let copy = LogStore::open(&to, small()).unwrap();
        assert_eq!(copy.version(), extent.version);
        let found = counts(&copy);
        // Each commit raises one counter by one: together they are the version.
        assert_eq!(found.iter().map(|(n, _)| n).sum::<u64>(), extent.version, "round {round}");
        for ((n, sum), before) in found.iter().zip(&before) {
            assert_eq!(*sum, n * (n + 1) / 2);
            assert!(n >= before, "round {round}: {n} of {before} acknowledged");
        }
        drop(copy);
        fs::remove_dir_all(&to).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    // Pins are gone: the log is bounded again.
    let segments = || fs::read_dir(dir.path().join("data/log")).unwrap().count();
    for n in 0..400 {
        store.commit(Batch::new().put(SPACE, Key::default().u64(99).u64(n), vec![2; 60_000])).wait().unwrap();
    }
    assert!(segments() < 24, "{} segments", segments());
}

#[test]
fn an_export_on_a_simulated_disk_equals_the_model() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let mut world = World::new(seed);
        let (store, mut driver) = LogStore::open_driven("/data", options(&disk, 16 << 10)).unwrap();
        for _ in 0..world.rng.below(120) {
            let batch = world.batch();
            let pending = store.commit(batch.clone());
            driver.turn();
            assert_eq!(pending.wait().map(|commit| commit.version), world.expect(batch));
        }
        let extent = store.export(Path::new("/copy")).unwrap();
        assert_eq!(extent.version, store.version());
        // Synced: it survives the power cut as well.
        let after = disk.after_power_cut(Keep::Nothing, &mut Rng::new(seed));
        assert_eq!(LogStore::verify_on(after.clone(), "/copy").unwrap().version, extent.version);
        let (copy, _driver) = LogStore::open_driven("/copy", options(&after, 16 << 10)).unwrap();
        world.assert_same(&copy);
    }
}

/// A closed data directory with rows, blobs and a key file.
fn data_directory(dir: &Path) -> u64 {
    let store = LogStore::open(dir, Options { segment_bytes: 64 << 10, ..small() }).unwrap();
    let blobs = Blobs::open(dir).unwrap();
    for n in 0..300 {
        let batch = Batch::new().put(SPACE, Key::default().u64(n), vec![n as u8; 700]);
        store.commit(batch).wait().unwrap();
    }
    blobs.put(b"a package").unwrap();
    blobs.put(&[7; 10_000]).unwrap();
    fs::write(dir.join("master.key"), "secret\n").unwrap();
    fs::write(dir.join("endpoint"), "not part of it\n").unwrap();
    store.version()
}

#[test]
fn a_backup_restores_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out, back) = (dir.path().join("data"), dir.path().join("backup"), dir.path().join("back"));
    let version = data_directory(&data);
    let taken = backup::take(&data, &["master.key", "credentials.json"], &out, NOW).unwrap();
    assert_eq!((taken.version, taken.made), (version, NOW));
    assert_eq!(backup::verify(&out).unwrap(), taken);
    assert!(matches!(backup::take(&data, &[], &out, NOW), Err(Error::Exists(_))));
    assert!(matches!(backup::restore(&out, &data), Err(Error::NotEmpty(_))));

    assert_eq!(backup::restore(&out, &back).unwrap(), taken);
    assert_eq!(fs::read_to_string(back.join("master.key")).unwrap(), "secret\n");
    assert!(!back.join("endpoint").exists() && !back.join("MANIFEST").exists());
    let (original, copy) = (LogStore::open(&data, small()).unwrap(), LogStore::open(&back, small()).unwrap());
    assert_eq!((copy.version(), copy.id()), (version, original.id()));
    let rows = |store: &LogStore| store.scan(SPACE, &KeyRange::all(), usize::MAX, Direction::Forward).unwrap();
    assert_eq!(rows(&copy), rows(&original));
    let blobs = Blobs::open(&back).unwrap();
    assert_eq!(blobs.list().unwrap().len(), 2);
    blobs.list().unwrap().iter().for_each(|hash| drop(blobs.read(hash).unwrap()));
    // It is a store like any other: it goes on.
    copy.commit(Batch::new().put(SPACE, Key::default().u64(1), "on")).wait().unwrap();
    // An empty directory is as good as a new one.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    backup::restore(&out, &empty).unwrap();
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out, back) = (dir.path().join("data"), dir.path().join("backup"), dir.path().join("back"));
    data_directory(&data);
    backup::take(&data, &["master.key"], &out, NOW).unwrap();
    let mut files = Vec::new();
    let mut folders = vec![out.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() >= 6, "{files:?}");
    let mut cases = 0;
    let mut refused = |what: &str| {
        let error = backup::restore(&out, &back).expect_err(what);
        let text = error.to_string();
        assert!(!text.contains('\n') && matches!(error, Error::Backup { .. }), "{what}: {text}");
        assert!(!back.exists(), "{what}: nothing is restored");
        cases += 1;
    };
    for path in &files {
        let content = fs::read(path).unwrap();
        // Every region: 48 places over the whole length, each with one bit.
        for part in 0..48 {
            let at = content.len() * part / 48;
            let mut bent = content.clone();
            bent[at] ^= 1 << (part % 8);
            fs::write(path, &bent).unwrap();
            refused(&format!("{} bent at {at}", path.display()));
        }
        fs::write(path, &content[..content.len() - 1]).unwrap();
        refused(&format!("{} cut", path.display()));
        fs::write(path, [&content[..], b"x"].concat()).unwrap();
        refused(&format!("{} grown", path.display()));
        fs::remove_file(path).unwrap();
        refused(&format!("{} gone", path.display()));
        std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        assert!(backup::restore(&out, &back).is_err() && !back.exists(), "{} is a link", path.display());
        fs::remove_file(path).unwrap();
        fs::write(path, &content).unwrap();
    }
    fs::write(out.join("blobs/stranger"), "x").unwrap();
    refused("a file that nobody named");
    fs::remove_file(out.join("blobs/stranger")).unwrap();
    backup::restore(&out, &back).expect("the control: untouched, it is restored");
    println!("{cases} damaged backups refused");
}

#[test]
fn a_source_that_is_damaged_makes_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    data_directory(&data);
    let blobs = Blobs::open(&data).unwrap();
    let hash = blobs.list().unwrap()[0];
    let whole = fs::read(blobs.path(&hash)).unwrap();
    fs::write(blobs.path(&hash), "zap").unwrap();
    assert!(matches!(backup::take(&data, &[], &out, NOW), Err(Error::Damaged { .. })));
    fs::remove_file(blobs.path(&hash)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", blobs.path(&hash)).unwrap();
    assert!(matches!(backup::take(&data, &[], &out, NOW), Err(Error::Io { .. })), "no link is followed");
    fs::remove_file(blobs.path(&hash)).unwrap();
    fs::write(blobs.path(&hash), whole).unwrap();
    let format = fs::read(data.join("format")).unwrap();
    fs::write(data.join("format"), "flint-store 1\n").unwrap();
    assert!(backup::take(&data, &[], &out, NOW).is_err());
    fs::write(data.join("format"), format).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing stays behind");
    backup::take(&data, &[], &out, NOW).unwrap();
}
