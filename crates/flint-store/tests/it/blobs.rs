//! Blobs: whole and durable under their name, or not there.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flint_store::disk::Disk;
use flint_store::testing::{Keep, Rng, SimDisk};
use flint_store::{BlobHash, Blobs, Error};

#[test]
fn put_open_remove() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let hash = blobs.put(b"zip").unwrap();
    assert_eq!(hash, BlobHash::of(b"zip"));
    assert_eq!(blobs.put(b"zip").unwrap(), hash);
    assert_eq!(blobs.list().unwrap(), [hash]);
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert_eq!(blobs.read(&hash).unwrap(), b"zip");
    let mut text = String::new();
    blobs.open_file(&hash).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "zip");
    std::fs::write(blobs.path(&hash), "zap").unwrap();
    assert!(matches!(blobs.read(&hash), Err(Error::Damaged { .. })));
    blobs.remove(&hash).unwrap();
    blobs.remove(&hash).unwrap();
    assert!(matches!(blobs.read(&hash), Err(Error::NoBlob(_))));
    assert!(matches!(blobs.open_file(&hash), Err(Error::NoBlob(_))));
    for bad in ["", "ab", &"g".repeat(64), &"A".repeat(64)] {
        assert!(bad.parse::<BlobHash>().is_err());
    }
}

#[test]
fn a_hold_keeps_what_is_removed_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let (gone, again, kept) = (blobs.put(b"gone").unwrap(), blobs.put(b"again").unwrap(), blobs.put(b"kept").unwrap());
    let holds = (blobs.hold(), blobs.clone().hold());
    blobs.remove(&gone).unwrap();
    blobs.remove(&again).unwrap();
    assert_eq!(blobs.read(&gone).unwrap(), b"gone");
    assert_eq!(blobs.put(b"again").unwrap(), again);
    drop(holds.0);
    assert_eq!(blobs.read(&gone).unwrap(), b"gone");
    drop(holds.1);
    assert!(matches!(blobs.read(&gone), Err(Error::NoBlob(_))));
    assert_eq!((blobs.read(&again).unwrap(), blobs.read(&kept).unwrap()), (b"again".to_vec(), b"kept".to_vec()));
    blobs.remove(&again).unwrap();
    assert!(matches!(blobs.read(&again), Err(Error::NoBlob(_))));
}

#[test]
fn a_power_cut_at_any_call_leaves_the_blob_whole_or_absent() {
    for cut in 1..40 {
        for (seed, keep) in [Keep::Nothing, Keep::Some, Keep::Some, Keep::Everything].into_iter().enumerate() {
            let disk = SimDisk::new();
            disk.create_dir(Path::new("/data")).unwrap();
            disk.power_off_at(cut);
            let bodies = [vec![1; 5000], vec![2; 700], vec![1; 5000]];
            let mut stored = Vec::new();
            if let Ok(blobs) = Blobs::open_on(Arc::new(disk.clone()), "/data") {
                stored.extend(bodies.iter().map_while(|body| blobs.put(body).ok()));
            }
            let disk = disk.after_power_cut(keep, &mut Rng::new(seed as u64));
            let blobs = Blobs::open_on(Arc::new(disk), "/data").unwrap();
            for hash in blobs.list().unwrap() {
                blobs.read(&hash).expect("what has a name is whole");
            }
            for hash in stored {
                blobs.read(&hash).expect("what was stored is there");
            }
        }
    }
}

#[test]
fn want_of_space_refuses_a_blob_and_leaves_nothing() {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/data")).unwrap();
    let blobs = Blobs::open_on(Arc::new(disk.clone()), "/data").unwrap();
    disk.set_capacity(Some(1000));
    assert!(matches!(blobs.put(&[1; 2000]), Err(Error::Full(_))));
    assert_eq!(disk.used(), 0);
    blobs.put(&[1; 900]).unwrap();
}
