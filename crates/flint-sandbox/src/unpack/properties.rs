//! Whatever the bytes are: no panic, nothing outside of the staging directory, no more than the limits; and what is accepted
//! another reader of zip archives sees in the same way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use zip::write::SimpleFileOptions;

use super::{Outcome, Trouble, archive};
use crate::message::UnpackRequest;
use crate::sys::fds;

const BYTES: u64 = 1 << 20;
const ENTRIES: u32 = 64;

fn limits() -> UnpackRequest {
    UnpackRequest { slot: 0, bytes: BYTES, entries: ENTRIES, depth: 8, memory: 0, cpu_seconds: 0 }
}

/// A directory with nothing in it but the staging directory; in memory, where there is room for that.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        std::fs::create_dir(dir.path().join("staging")).unwrap();
        Self(dir)
    }

    fn staging(&self) -> std::path::PathBuf {
        self.0.path().join("staging")
    }

    fn unpack(&self, bytes: &[u8]) -> Outcome {
        let file = fds::memfd(c"archive").unwrap();
        fds::write_all(file.as_raw_fd(), bytes).unwrap();
        let staging = std::fs::File::open(self.staging()).unwrap();
        archive::unpack(file.as_raw_fd(), staging.into(), &limits())
    }

    /// What was written, by path. Panics at what must never be there.
    fn written(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        assert_eq!(
            std::fs::read_dir(self.0.path()).unwrap().count(),
            1,
            "something was written beside the staging directory"
        );
        let mut found = BTreeMap::new();
        let (mut entries, mut bytes) = (0, 0);
        let mut queue = vec![self.staging()];
        while let Some(dir) = queue.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let inside = path.strip_prefix(self.staging()).unwrap().to_owned();
                entries += 1;
                let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
                let content = if kind.is_dir() {
                    queue.push(path);
                    continue;
                } else if kind.is_symlink() {
                    let target = std::fs::read_link(&path).unwrap();
                    assert!(stays_inside(&inside, &target), "{inside:?} -> {target:?}");
                    target.as_os_str().as_bytes().to_vec()
                } else {
                    assert!(kind.is_file(), "{inside:?} is {kind:?}");
                    std::fs::read(&path).unwrap()
                };
                bytes += content.len() as u64;
                found.insert(inside.as_os_str().as_bytes().to_vec(), content);
            }
        }
        assert!(entries <= ENTRIES && bytes <= BYTES, "{entries} entries, {bytes} bytes");
        found
    }
}

/// A link's target, read without looking at what is there.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count() as i64 - 1;
    target.components().all(|part| {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        depth >= 0
    })
}

/// What another reader makes of an accepted archive: content by path, without directories.
fn as_others_see_it(bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut found = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name_raw().to_vec();
        if name.last() == Some(&b'/') {
            continue;
        }
        let parts: Vec<&[u8]> = name.split(|&b| b == b'/').filter(|part| *part != b".").collect();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(parts.join(&b'/'), content);
    }
    found
}

/// Unpacks and checks what holds for any bytes.
fn check(bytes: &[u8]) -> Outcome {
    let place = Place::new();
    let outcome = place.unpack(bytes);
    let written = place.written();
    if let Ok(unpacked) = &outcome {
        assert_eq!(unpacked.files as usize, written.len());
        assert_eq!(unpacked.bytes.bytes(), written.values().map(|c| c.len() as u64).sum::<u64>());
        assert_eq!(written, as_others_see_it(bytes));
    }
    if let Err(Trouble::Io(error)) = &outcome {
        panic!("an archive's fault was taken for the disk's: {error}");
    }
    outcome
}

fn good(shape: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).unix_permissions(0o644);
    let packed = SimpleFileOptions::default().unix_permissions(0o755);
    zip.start_file("app.py", packed).unwrap();
    zip.write_all(&b"def handler(event, context):\n    return event\n".repeat(9)).unwrap();
    if shape >= 1 {
        zip.add_directory("lib/", plain).unwrap();
        zip.start_file("lib/data.bin", plain).unwrap();
        zip.write_all(&(0..=255).collect::<Vec<u8>>()).unwrap();
        zip.add_symlink("lib/up", "../app.py", packed).unwrap();
    }
    if shape >= 2 {
        zip.start_file("lib/long.bin", packed.large_file(true)).unwrap();
        zip.write_all(&vec![7; 70_000]).unwrap();
        zip.set_comment("made for a test").unwrap();
    }
    let mut bytes = zip.finish().unwrap().into_inner();
    if shape == 3 {
        let mut stream = zip::ZipWriter::new_stream(Vec::new());
        stream.start_file("streamed.txt", packed).unwrap();
        stream.write_all(&b"sizes come later ".repeat(20)).unwrap();
        stream.start_file("second.txt", packed.large_file(true)).unwrap();
        stream.write_all(b"and are long ones").unwrap();
        bytes = stream.finish().unwrap().into_inner();
    }
    bytes
}

const SHAPES: usize = 4;

#[test]
fn good_archives_are_good() {
    for shape in 0..SHAPES {
        let outcome = check(&good(shape));
        assert!(outcome.is_ok(), "{shape}: {outcome:?}");
    }
    // The first line of a script, as zipapp writes it, with offsets that count it.
    let script = b"#!/usr/bin/env python3\n".to_vec();
    let mut start = Cursor::new(script.clone());
    start.set_position(script.len() as u64);
    let mut zip = zip::ZipWriter::new(start);
    zip.start_file("__main__.py", SimpleFileOptions::default()).unwrap();
    zip.write_all(b"print(1)").unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let outcome = check(&bytes);
    assert!(bytes.starts_with(&script) && outcome.is_ok(), "{outcome:?}");
    assert!(check(&[b"MZ\n", &bytes[..]].concat()).is_err());
}

/// One change of an archive.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Number(usize, u32, bool),
    Cut(usize, usize),
    Repeat(usize, usize),
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    /// A header's signature, so that the change hits a field of a header.
    Field(usize, usize, u32),
}

fn changes() -> impl Strategy<Value = Change> {
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(0xffff),
        Just(0xffff_ffff),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        0..100_u32,
        any::<u32>(),
    ];
    let at = 0..100_000_usize;
    let tail = prop_oneof![vec(any::<u8>(), 0..64), (0..SHAPES).prop_map(good), Just(b"PK\x05\x06".repeat(6))];
    prop_oneof![
        2 => (at.clone(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        1 => (at.clone(), numbers.clone(), any::<bool>()).prop_map(|(at, to, wide)| Change::Number(at, to, wide)),
        1 => (at.clone(), 1..80_usize).prop_map(|(at, n)| Change::Cut(at, n)),
        1 => (at, 1..200_usize).prop_map(|(at, n)| Change::Repeat(at, n)),
        1 => tail.clone().prop_map(Change::Append),
        1 => tail.prop_map(Change::Prepend),
        6 => (0..8_usize, 0..46_usize, numbers).prop_map(|(which, offset, to)| Change::Field(which, offset, to)),
    ]
}

fn change(bytes: &mut Vec<u8>, change: Change) {
    let length = bytes.len().max(1);
    let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
        let end = (at + new.len()).min(bytes.len());
        if let Some(place) = bytes.get_mut(at..end) {
            place.copy_from_slice(&new[..place.len()]);
        }
    };
    match change {
        Change::Set(at, to) => put(bytes, at % length, &[to]),
        Change::Number(at, to, true) => put(bytes, at % length, &to.to_le_bytes()),
        Change::Number(at, to, false) => put(bytes, at % length, &(to as u16).to_le_bytes()),
        Change::Cut(at, n) => drop(bytes.drain((at % length).min(bytes.len())..(at % length + n).min(bytes.len()))),
        Change::Repeat(at, n) => {
            let at = (at % length).min(bytes.len());
            let piece = bytes[at..(at + n).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        Change::Append(tail) => bytes.extend(tail),
        Change::Prepend(head) => drop(bytes.splice(0..0, head)),
        Change::Field(which, offset, to) => {
            let headers: Vec<usize> =
                bytes.windows(3).enumerate().filter(|(_, w)| w[..2] == *b"PK" && w[2] < 9).map(|(at, _)| at).collect();
            if let Some(at) = headers.get(which % headers.len().max(1)) {
                let wide = to > 0xffff || offset % 2 == 0;
                let to = to.to_le_bytes();
                put(bytes, at + offset, if wide { &to } else { &to[..2] });
            }
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..40),
        Just(b"PK\x03\x04".to_vec()),
        Just(b"PK\x01\x02".to_vec()),
        Just(b"PK\x05\x06".to_vec()),
        Just(b"PK\x06\x06".to_vec()),
        Just(b"PK\x06\x07".to_vec()),
        Just(vec![0; 18]),
        Just(vec![0xff; 8]),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A path or a link's target from parts that are interesting to climb with.
fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a", "b", "c", "A", "é", "e\u{301}", ".", "..", "", "...", "a b", "\\", "C:", "\u{202e}",
    ]);
    (vec(part, 1..5), any::<bool>()).prop_map(|(parts, slash)| parts.join("/") + if slash { "/" } else { "" })
}

/// Tries many values; returns the share that was accepted.
fn share_accepted<S: Strategy>(values: &S, bytes_of: impl Fn(S::Value) -> Vec<u8>) -> f64 {
    const CASES: u32 = 4000;
    let accepted = Cell::new(0);
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(values, |value| {
        accepted.set(accepted.get() + u32::from(check(&bytes_of(value)).is_ok()));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    f64::from(accepted.get()) / f64::from(CASES)
}

#[test]
fn any_bytes() {
    share_accepted(&pieces(), |bytes| bytes);
}

#[test]
fn changed_archives() {
    let accepted = share_accepted(&(0..SHAPES, vec(changes(), 1..4)), |(shape, changed)| {
        let mut bytes = good(shape);
        changed.into_iter().for_each(|one| change(&mut bytes, one));
        bytes
    });
    // Times and the like may change; were all refused, or all accepted, nothing would be tried.
    assert!((0.02..0.5).contains(&accepted), "{accepted}");
}

#[test]
fn any_names() {
    let accepted = share_accepted(&vec((path(), prop::option::of(path())), 1..5), |entries| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, target) in entries {
            let options = SimpleFileOptions::default().unix_permissions(0o644);
            // The writer refuses names of its own accord; what it takes is tried.
            match target {
                Some(target) => drop(zip.add_symlink(name, target, options)),
                None => {
                    if zip.start_file(name, options).is_ok() {
                        zip.write_all(b"x").unwrap();
                    }
                }
            }
        }
        zip.finish().unwrap().into_inner()
    });
    assert!((0.02..0.5).contains(&accepted), "{accepted}");
}
