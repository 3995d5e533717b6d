//! Archives that say one thing to one reader and another to the next, and other tricks of their trade.
//!
//! `unpack` holds what is wrong with single entries; here it is the archive's structure that lies.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use flint_model::ByteCount;
use flint_sandbox::{Refusal, UnpackError, UnpackLimits};

use crate::unpack::{Entry, Staging, build, crc32, entry, link, unpack, unpack_with};
use crate::{World, tests};

tests! {
    structures_that_can_be_read_in_two_ways_are_refused,
    headers_that_disagree_are_refused,
    data_that_is_not_what_it_says_is_refused,
    what_means_nothing_here_does_nothing,
    bombs_of_every_make_are_stopped,
    names_that_differ_a_little_are_different_files,
}

/// Writes numbers into a copy of an archive.
fn patched(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn inserted(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    [&bytes[..at], new, &bytes[at..]].concat()
}

/// Where the n-th header with a signature is.
fn nth(bytes: &[u8], signature: &[u8; 4], n: usize) -> usize {
    bytes.windows(4).enumerate().filter(|(_, w)| w == signature).map(|(at, _)| at).nth(n).expect("it is there")
}

fn local(bytes: &[u8], n: usize) -> usize {
    nth(bytes, b"PK\x03\x04", n)
}

fn central(bytes: &[u8], n: usize) -> usize {
    nth(bytes, b"PK\x01\x02", n)
}

fn end(bytes: &[u8]) -> usize {
    bytes.len() - 22
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The archive with every offset moved, as if something lay before it.
fn shifted(bytes: &[u8], by: u32, count: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for n in 0..count {
        let at = central(&bytes, n) + 42;
        bytes = patched(&bytes, at, &(number(&bytes, at) + by).to_le_bytes());
    }
    let at = end(&bytes) + 16;
    patched(&bytes, at, &(number(&bytes, at) + by).to_le_bytes())
}

/// An archive whose end record is a zip64 one; `change` sees the long record and its locator.
fn long(bytes: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (size, start) = (number(bytes, end(bytes) + 12), number(bytes, end(bytes) + 16));
    let count = u64::from(u16::from_le_bytes(bytes[end(bytes) + 10..end(bytes) + 12].try_into().unwrap()));
    let mut tail = b"PK\x06\x06".to_vec();
    tail.extend(44_u64.to_le_bytes());
    tail.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    tail.extend(count.to_le_bytes());
    tail.extend(count.to_le_bytes());
    tail.extend(u64::from(size).to_le_bytes());
    tail.extend(u64::from(start).to_le_bytes());
    tail.extend(b"PK\x06\x07\0\0\0\0");
    tail.extend((end(bytes) as u64).to_le_bytes());
    tail.extend(1_u32.to_le_bytes());
    change(&mut tail);
    inserted(bytes, end(bytes), &tail)
}

async fn refused(world: &World, what: &str, bytes: &[u8]) {
    let (got, staging) = unpack(world, bytes).await;
    assert!(matches!(got, Err(UnpackError::Refused(_))), "{what}: {got:?}");
    assert!(!staging.escaped(), "{what}");
    assert_eq!(
        std::fs::read_dir(staging.path()).unwrap().count(),
        0,
        "{what}: it is refused before anything is written"
    );
}

async fn structures_that_can_be_read_in_two_ways_are_refused(world: Arc<World>) {
    let two = [entry(b"a"), entry(b"b")];
    let good = build(&two);
    let other = build(&[entry(b"evil")]);
    let (sizes, starts, counts) = (end(&good) + 12, end(&good) + 16, end(&good) + 8);
    let (first, second) = (local(&good, 0), local(&good, 1));
    let start = central(&good, 0);
    assert!(unpack(&world, &good).await.0.is_ok());
    assert!(unpack(&world, &long(&good, |_| {})).await.0.is_ok(), "the builder builds good long ones");

    // A comment that holds an end record, alone or with a whole archive of its own before it.
    let commented = |comment: &[u8]| {
        let bytes = patched(&good, end(&good) + 20, &(comment.len() as u16).to_le_bytes());
        [bytes, comment.to_vec()].concat()
    };
    assert!(unpack(&world, &commented(b"a comment")).await.0.is_ok());
    let at = good.len() as u32;
    // An entry of the first archive lies in the data of the other one's only entry.
    let nested = Entry { data: good[..first + 35].to_vec(), ..entry(b"outer") };
    let inside = {
        let bytes = build(&[nested, entry(b"x")]);
        let at = central(&bytes, 1) + 42;
        // The second points into the first one's data.
        patched(&bytes, at, &(35_u32).to_le_bytes())
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("bytes before", [b"bytes", &good[..]].concat()),
        ("bytes before, offsets right", [b"bytes".to_vec(), shifted(&good, 5, 2)].concat()),
        ("a script of two lines before", [b"#!/bin/sh\nx\n".to_vec(), shifted(&good, 12, 2)].concat()),
        ("an archive before", [other.clone(), good.clone()].concat()),
        ("an archive before, offsets right", [other.clone(), shifted(&good, other.len() as u32, 2)].concat()),
        ("a byte behind", [&good[..], b"x"].concat()),
        ("an archive behind", [good.clone(), other.clone()].concat()),
        ("an end record behind", [&good[..], &good[end(&good)..]].concat()),
        ("an end record in the comment", commented(&good[end(&good)..])),
        ("an archive in the comment", commented(&shifted(&other, at, 1))),
        ("an end record's mark in the comment", commented(b"PK\x05\x06")),
        ("a comment longer than the archive", patched(&good, end(&good) + 20, &[1, 0])),
        ("a comment shorter than what follows", [&commented(b"abc")[..], b"d"].concat()),
        ("one entry fewer in the end record", patched(&good, counts, &[1, 0, 1, 0])),
        ("one entry more in the end record", patched(&good, counts, &[3, 0, 3, 0])),
        ("two counts", patched(&good, counts, &[1, 0, 2, 0])),
        ("a part of a split archive", patched(&good, end(&good) + 4, &[1, 0, 1, 0])),
        ("an entry in another part", patched(&good, start + 34, &[1, 0])),
        ("a directory that begins later", patched(&good, starts, &(start as u32 + 1).to_le_bytes())),
        ("a directory at -1", patched(&good, starts, &[0xff; 4])),
        ("a directory behind the end", patched(&good, starts, &0x7fff_ffff_u32.to_le_bytes())),
        ("a directory of 4 GiB", patched(&good, sizes, &[0xff; 4])),
        ("a gap before the directory", {
            let bytes = inserted(&good, start, b"gap");
            patched(&bytes, end(&bytes) + 16, &(start as u32 + 3).to_le_bytes())
        }),
        ("something behind the directory", inserted(&good, end(&good), b"PK\x05\x05\0\0")),
        ("an entry that the directory does not have", {
            let bytes = build(&[entry(b"a"), entry(b"hidden"), entry(b"c")]);
            let (from, to) = (central(&bytes, 1), central(&bytes, 2));
            let size = number(&bytes, end(&bytes) + 12) - (to - from) as u32;
            let bytes = [&bytes[..from], &bytes[to..]].concat();
            let bytes = patched(&bytes, end(&bytes) + 8, &[2, 0, 2, 0]);
            patched(&bytes, end(&bytes) + 12, &size.to_le_bytes())
        }),
        ("two names for one entry's data", patched(&good, central(&good, 1) + 42, &0_u32.to_le_bytes())),
        ("an entry inside of another's data", inside),
        ("an entry behind the directory", patched(&good, central(&good, 1) + 42, &(start as u32).to_le_bytes())),
        ("an entry at -1", patched(&good, central(&good, 1) + 42, &[0xff; 4])),
        ("an entry behind the end", patched(&good, central(&good, 1) + 42, &0x8000_0000_u32.to_le_bytes())),
        ("no local header", patched(&good, second, b"XXXX")),
        ("zip64: a locator that points elsewhere", long(&good, |tail| tail[64] ^= 1)),
        ("zip64: a locator that points far away", long(&good, |tail| tail[71] = 0x7f)),
        ("zip64: a record of another size", long(&good, |tail| tail[4] = 45)),
        ("zip64: no record", long(&good, |tail| tail[0] = 0)),
        ("zip64: another count", long(&good, |tail| tail[32] = 1)),
        ("zip64: another start", long(&good, |tail| tail[48] ^= 1)),
        ("zip64: two disks", long(&good, |tail| tail[72] = 2)),
        ("zip64: two starts, one of them possible", {
            let bytes = long(&good, |tail| tail[48] ^= 1);
            let at = end(&bytes) + 16;
            patched(&bytes, at, &[0xff; 4])
        }),
    ];
    println!("  {} structures", cases.len());
    for (what, bytes) in cases {
        refused(&world, what, &bytes).await;
    }
}

/// A zip64 field of these numbers.
fn field(numbers: &[u64]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend((numbers.len() as u16 * 8).to_le_bytes());
    numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
    out
}

/// Info-ZIP's field with a name in UTF-8.
fn name_field(name: &[u8], of: &[u8]) -> Vec<u8> {
    let mut out = vec![0x75, 0x70];
    out.extend((5 + name.len() as u16).to_le_bytes());
    out.push(1);
    out.extend(crc32(of).to_le_bytes());
    out.extend(name);
    out
}

async fn headers_that_disagree_are_refused(world: Arc<World>) {
    let good = build(&[entry(b"a")]);
    let (local, central) = (local(&good, 0), central(&good, 0));
    let with =
        |central_extra: Vec<u8>, local_extra: Vec<u8>| build(&[Entry { central_extra, local_extra, ..entry(b"a") }]);
    let same = |extra: Vec<u8>| with(extra.clone(), extra);
    let long_sizes = |sizes: &[u64]| {
        let bytes = with(field(sizes), Vec::new());
        let at = nth(&bytes, b"PK\x01\x02", 0) + 20;
        patched(&bytes, at, &[0xff; 8])
    };
    for (what, bytes) in [
        ("a name field that says the same", same(name_field(b"a", b"a"))),
        ("sizes in a zip64 field", long_sizes(&[4, 4])),
        ("zip64 sizes once more", same(field(&[4, 4]))),
        ("padding", same(vec![0, 0, 0])),
        ("an unknown field", same(vec![0x99, 0x99, 2, 0, 1, 2])),
    ] {
        let (got, _staging) = unpack(&world, &bytes).await;
        assert!(got.is_ok(), "{what}: {got:?}");
    }
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("flags: sizes later, only in the local header", patched(&good, local + 6, &[8])),
        ("flags: sizes later, only in the directory", patched(&good, central + 8, &[8])),
        ("flags: UTF-8 in one of them", patched(&good, local + 7, &[8])),
        ("flags: encrypted in the local header", patched(&good, local + 6, &[1])),
        ("flags: strong encryption", patched(&patched(&good, local + 6, &[0x40]), central + 8, &[0x40])),
        ("flags: a hidden directory", patched(&patched(&good, local + 7, &[0x20]), central + 9, &[0x20])),
        ("flags: patched data", patched(&patched(&good, local + 6, &[0x20]), central + 8, &[0x20])),
        ("method: deflate in the local header", patched(&good, local + 8, &[8])),
        ("method: deflate in the directory", patched(&good, central + 10, &[8])),
        ("method: deflate64", patched(&patched(&good, local + 8, &[9]), central + 10, &[9])),
        ("method: AES", patched(&patched(&good, local + 8, &[99]), central + 10, &[99])),
        ("checksum", patched(&good, local + 14, &[0])),
        ("packed size", patched(&good, local + 18, &[3])),
        ("size", patched(&good, local + 22, &[3])),
        ("a longer name", patched(&good, local + 26, &[2])),
        ("a shorter name", patched(&good, local + 26, &[0])),
        ("extra fields over the data", patched(&good, local + 28, &[4])),
        ("another name in the directory's name field", with(name_field(b"b", b"a"), Vec::new())),
        ("another name in the local name field", with(Vec::new(), name_field(b"../b", b"a"))),
        ("an empty name field", same(vec![0x75, 0x70, 0, 0])),
        ("a field that is longer than the fields", same(vec![0x99, 0x99, 200, 0])),
        ("zip64: two fields", same([field(&[4, 4]), field(&[4, 4])].concat())),
        ("zip64: other sizes than the header's own", same(field(&[5, 5]))),
        ("zip64: a size and nothing more", long_sizes(&[4])),
        ("zip64: a number too many", long_sizes(&[4, 4, 0])),
        ("zip64: 2^63 bytes", long_sizes(&[1 << 63, 4])),
        ("zip64: 2^64 - 1 packed bytes", long_sizes(&[4, u64::MAX])),
    ];
    println!("  {} headers", cases.len());
    for (what, bytes) in cases {
        refused(&world, what, &bytes).await;
    }
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("x", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(data).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let (from, size) = (local(&bytes, 0), number(&bytes, local(&bytes, 0) + 18));
    bytes[from + 31..from + 31 + size as usize].to_vec()
}

/// An entry whose data is `stored` in the archive and said to be `size` bytes with this checksum.
fn packed(stored: Vec<u8>, size: u32, crc: u32) -> Entry {
    Entry { method: 8, data: stored, said: Some((crc, size)), ..entry(b"a") }
}

async fn data_that_is_not_what_it_says_is_refused(world: Arc<World>) {
    let text = b"some text, some text, some text, some text".repeat(20);
    let (stream, size, crc) = (deflated(&text), text.len() as u32, crc32(&text));
    let (got, _staging) = unpack(&world, &build(&[packed(stream.clone(), size, crc)])).await;
    assert_eq!(got.unwrap().bytes, ByteCount(size.into()));
    let cases: Vec<(&str, Entry)> = vec![
        ("shorter than said", packed(stream.clone(), size + 1, crc)),
        ("longer than said", packed(stream.clone(), size - 1, crc)),
        ("said to be empty", packed(stream.clone(), 0, crc)),
        ("another checksum", packed(stream.clone(), size, crc ^ 1)),
        ("something behind the stream", packed([&stream[..], b"x"].concat(), size, crc)),
        ("a second stream", packed([&stream[..], &stream[..]].concat(), size, crc)),
        ("a stream that breaks off", packed(stream[..stream.len() - 1].to_vec(), size, crc)),
        ("no stream", packed(b"\xff\xff\xff\xff".to_vec(), size, crc)),
        ("nothing at all", packed(Vec::new(), size, crc)),
        ("stored with a checksum of something else", Entry { said: Some((7, 4)), ..entry(b"a") }),
        ("stored with two sizes", Entry { said: Some((crc32(b"data"), 5)), ..entry(b"a") }),
        ("a directory with content", Entry { mode: 0o040_755, ..entry(b"d/") }),
        ("a file with a directory's name", entry(b"d/")),
        ("a link with a directory's name", link(b"d/", b"x")),
        ("a drive", entry(b"C:/x")),
        ("a drive's relative path", entry(b"c:x")),
        ("a drive, a link", link(b"Z:l", b"a")),
        ("a network path", entry(b"//server/share/x")),
        ("an escape", entry(b"\x1b[31mred")),
        ("a delete", entry(b"a\x7fb")),
        ("a control character of the upper half", entry("a\u{85}b".as_bytes())),
        ("a path of 5,000", entry(&b"directory/".repeat(500))),
        ("a link called dot", link(b".", b"../../x")),
        ("a link called dot dot", link(b"..", b"x")),
        ("a character device", Entry { mode: 0o020_644, ..entry(b"null") }),
        ("a block device", Entry { mode: 0o060_644, ..entry(b"disk") }),
    ];
    println!("  {} contents", cases.len());
    for (what, entry) in cases {
        let (got, staging) = unpack(&world, &build(&[entry])).await;
        assert!(matches!(got, Err(UnpackError::Refused(_))), "{what}: {got:?}");
        assert!(!staging.escaped(), "{what}");
    }
    // What follows the data of an entry whose sizes come later.
    let later = |descriptor: &[u8]| {
        let size = deflated(&text);
        let bytes = build(&[Entry { flags: 8, tail: descriptor.to_vec(), ..packed(size, text.len() as u32, crc) }]);
        patched(&bytes, 14, &[0; 12])
    };
    let record = |crc: u32, packed: usize, size: u32| {
        [crc.to_le_bytes(), (packed as u32).to_le_bytes(), size.to_le_bytes()].concat()
    };
    let right = record(crc, stream.len(), size);
    let marked = [b"PK\x07\x08", &right[..]].concat();
    for good in [&right, &marked] {
        let (got, _staging) = unpack(&world, &later(good)).await;
        assert!(got.is_ok(), "{got:?}");
    }
    for (what, descriptor) in [
        ("no descriptor", Vec::new()),
        ("another size in the descriptor", record(crc, stream.len(), size + 1)),
        ("another packed size in the descriptor", record(crc, stream.len() - 1, size)),
        ("another checksum in the descriptor", record(crc ^ 1, stream.len(), size)),
        ("two descriptors", [right.clone(), right.clone()].concat()),
        ("a descriptor and more", [&marked[..], b"more"].concat()),
        ("half a descriptor", right[..6].to_vec()),
    ] {
        refused(&world, what, &later(&descriptor)).await;
    }
}

async fn what_means_nothing_here_does_nothing(world: Arc<World>) {
    // PKWARE's and Info-ZIP's fields for Unix hold targets of hard links, devices, owners and modes.
    let pkware = [&[0x0d, 0, 24, 0][..], &[0; 8], &[0, 0, 0, 0], b"/etc/passwd\0"].concat();
    let info_zip = [&[0x6e, 0x75, 25, 0][..], &[0; 4], &[0xff, 0x8d], &[11, 0, 0, 0], &[0; 4], b"/etc/passwd"].concat();
    let owner = [&[0x75, 0x78, 11, 0, 1, 4][..], &[0; 4], &[4], &[0; 4]].concat();
    let fields: Vec<Entry> = [pkware, info_zip, owner]
        .into_iter()
        .enumerate()
        .map(|(n, extra)| Entry {
            central_extra: extra.clone(),
            local_extra: extra,
            ..entry(format!("f{n}").as_bytes())
        })
        .collect();
    let inner = build(&[entry(b"inner"), entry(b"../inner")]);
    let more = vec![
        Entry { mode: 0o106_777, ..entry(b"setid") },
        Entry { mode: 0o101_644, ..entry(b"sticky") },
        Entry { mode: 0o100_000, ..entry(b"closed") },
        Entry { mode: 0, ..entry(b"no mode") },
        Entry { data: inner.clone(), ..entry(b"nested.zip") },
        entry(b"CON"),
        entry(b"trailing. "),
        entry(b".hidden"),
        link(b"loop", b"loop"),
        link(b"dangling", b"nowhere"),
        link(b"other", b"loop"),
    ];
    let all = [fields, more].concat();
    let (got, staging) = unpack(&world, &build(&all)).await;
    assert_eq!(got.unwrap().files as usize, all.len());
    for one in all.iter().filter(|one| one.mode & 0o170_000 != 0o120_000) {
        let path = staging.path().join(std::str::from_utf8(&one.name).unwrap());
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file() && std::os::unix::fs::MetadataExt::nlink(&meta) == 1, "{path:?}");
        let mode = if one.mode & 0o111 == 0 { 0o644 } else { 0o755 };
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path:?}");
        assert_eq!(std::fs::read(&path).unwrap(), one.data, "{path:?}");
    }
}

async fn bombs_of_every_make_are_stopped(world: Arc<World>) {
    let limits = UnpackLimits { bytes: ByteCount::from_mib(4), entries: 100, ..Default::default() };
    let zeros = deflated(&vec![0; 8 << 20]);
    assert!(zeros.len() < 20_000, "a ratio of 400");
    let crc = crc32(&vec![0; 8 << 20]);
    let too_large = |got: &Result<_, UnpackError>| matches!(got, Err(UnpackError::Refused(Refusal::TooLarge(_))));
    // By ratio, honest: nothing needs writing.
    let staging = Staging::new();
    let got = unpack_with(&world, &build(&[packed(zeros.clone(), 8 << 20, crc)]), &staging, limits).await;
    assert!(too_large(&got), "{got:?}");
    assert_eq!(std::fs::read_dir(staging.path()).unwrap().count(), 0);
    // By ratio, lying: it stops where the lie shows.
    let staging = Staging::new();
    let got = unpack_with(&world, &build(&[packed(zeros.clone(), 1000, crc)]), &staging, limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(Refusal::Entry { .. }))), "{got:?}");
    let written: u64 = std::fs::read_dir(staging.path()).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
    assert!(written <= 1000, "{written}");
    // By sizes that overflow when they are added.
    let huge = |name: &[u8]| Entry {
        central_extra: field(&[1 << 63]),
        said: Some((crc, u32::MAX)),
        ..Entry { name: name.to_vec(), ..packed(zeros.clone(), 0, crc) }
    };
    let got = unpack_with(&world, &build(&[huge(b"a"), huge(b"b")]), &Staging::new(), limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(_))), "{got:?}");
    // By one stream that many entries share (no overlap is accepted, whatever they sum to).
    let mut shared = build(&(0..50).map(|n| entry(format!("f{n:02}").as_bytes())).collect::<Vec<_>>());
    for n in 0..50 {
        let at = central(&shared, n) + 42;
        shared = patched(&shared, at, &[0; 4]);
    }
    let got = unpack_with(&world, &shared, &Staging::new(), limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(_))), "{got:?}");
    // By count: of empty files, of directories alone, of links, and of a count that only the end record has.
    let many = |make: &dyn Fn(usize) -> Entry| build(&(0..101).map(make).collect::<Vec<_>>());
    let directory = |n| Entry { data: Vec::new(), mode: 0o040_755, ..entry(format!("d{n}/").as_bytes()) };
    for bytes in [
        many(&|n| Entry { data: Vec::new(), ..entry(format!("f{n}").as_bytes()) }),
        many(&directory),
        many(&|n| link(format!("l{n}").as_bytes(), b"x")),
        {
            let good = build(&[entry(b"a")]);
            patched(&good, end(&good) + 8, &[0xff, 0xff, 0xff, 0xff])
        },
        // Few entries, many directories.
        build(&(0..20).map(|n| entry(format!("{}f", format!("d{n}/").repeat(6)).as_bytes())).collect::<Vec<_>>()),
    ] {
        let got = unpack_with(&world, &bytes, &Staging::new(), limits).await;
        assert!(matches!(got, Err(UnpackError::Refused(Refusal::TooManyEntries(100)))), "{got:?}");
    }
    // By depth.
    let deep = build(&[entry(&[b"d/".repeat(64), b"f".to_vec()].concat())]);
    let got = unpack_with(&world, &deep, &Staging::new(), UnpackLimits::default()).await;
    assert!(matches!(got, Err(UnpackError::Refused(Refusal::Entry { .. }))), "{got:?}");
}

async fn names_that_differ_a_little_are_different_files(world: Arc<World>) {
    let names = ["App.py", "app.py", "APP.PY", "é", "e\u{301}", "a", "a ", "a.", "ａ"];
    let entries: Vec<Entry> = names
        .iter()
        .enumerate()
        .map(|(n, name)| Entry { data: vec![b'0' + n as u8], ..entry(name.as_bytes()) })
        .collect();
    let (got, staging) = unpack(&world, &build(&entries)).await;
    assert_eq!(got.unwrap().files as usize, names.len());
    for (n, name) in names.iter().enumerate() {
        assert_eq!(std::fs::read(staging.path().join(name)).unwrap(), [b'0' + n as u8], "{name:?}");
    }
}
