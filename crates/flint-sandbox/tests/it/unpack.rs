//! Archives, honest and nasty.

use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;
use flint_sandbox::{Refusal, UnpackError, UnpackLimits, Unpacked};
use zip::write::SimpleFileOptions;

use crate::{World, eventually, tests};

tests! {
    an_honest_archive_is_unpacked,
    archives_of_common_tools_are_unpacked,
    nasty_archives_are_refused,
    bombs_are_stopped,
    damage_is_found_wherever_it_is,
    nothing_is_left_of_the_helpers,
}

/// A staging directory inside a directory that nothing may be written to.
pub struct Staging(tempfile::TempDir, std::path::PathBuf);

impl Staging {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("staging");
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::chown(&inner, Some(64_990), Some(64_990)).unwrap();
        Self(dir, inner)
    }

    pub fn path(&self) -> &Path {
        &self.1
    }

    /// Something was written beside it.
    pub fn escaped(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().count() != 1
    }
}

pub async fn unpack_with(
    world: &World,
    bytes: &[u8],
    staging: &Staging,
    limits: UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let dir = std::fs::File::open(staging.path()).unwrap();
    world.sandboxes.unpack(file.into(), dir.into(), limits).await
}

pub async fn unpack(world: &World, bytes: &[u8]) -> (Result<Unpacked, UnpackError>, Staging) {
    let staging = Staging::new();
    (unpack_with(world, bytes, &staging, UnpackLimits::default()).await, staging)
}

async fn an_honest_archive_is_unpacked(world: Arc<World>) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let file = |mode| SimpleFileOptions::default().unix_permissions(mode);
    zip.start_file("app.py", file(0o600)).unwrap();
    zip.write_all(b"print(1)").unwrap();
    zip.start_file("bin/tool", file(0o700)).unwrap();
    zip.write_all(&b"x".repeat(100_000)).unwrap();
    zip.add_directory("empty/", file(0o700)).unwrap();
    zip.start_file("empty", file(0o600)).ok();
    zip.abort_file().ok();
    zip.start_file("a/b/c/d/deep.txt", file(0o6777)).unwrap();
    zip.write_all(b"deep").unwrap();
    zip.add_symlink("lib/libx.so", "libx.so.1", file(0o777)).unwrap();
    zip.add_symlink("lib/up", "../app.py", file(0o777)).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let (done, staging) = unpack(&world, &bytes).await;
    let done = done.unwrap();
    assert_eq!(done.files, 5);
    assert_eq!(done.bytes, ByteCount(8 + 100_000 + 4 + 9 + 9));
    let meta = |name: &str| std::fs::symlink_metadata(staging.path().join(name)).unwrap();
    assert_eq!(std::fs::read(staging.path().join("app.py")).unwrap(), b"print(1)");
    for (name, mode) in
        [("app.py", 0o644), ("bin/tool", 0o755), ("empty", 0o755), ("a/b", 0o755), ("a/b/c/d/deep.txt", 0o755)]
    {
        let meta = meta(name);
        assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (mode, 64_990, 64_990), "{name}");
    }
    assert_eq!(std::fs::read_link(staging.path().join("lib/libx.so")).unwrap(), Path::new("libx.so.1"));
    assert_eq!(std::fs::read(staging.path().join("lib/up")).unwrap(), b"print(1)");
}

async fn archives_of_common_tools_are_unpacked(world: Arc<World>) {
    let script = r#"
import zipfile, sys, io, os
os.chdir(sys.argv[1]); os.makedirs("pkg/sub")
for n in ("pkg/__init__.py", "pkg/sub/data.bin", "main.py"): open(n, "wb").write(os.urandom(5000) * 3)
import shutil; shutil.make_archive("made", "zip", ".", "pkg")
with zipfile.ZipFile("stored.zip", "w") as z: z.write("main.py"); z.writestr("written.txt", "text")
class Stream(io.RawIOBase):
    def __init__(s, f): s.f = f
    def writable(s): return True
    def write(s, b): return s.f.write(b)
with open("streamed.zip", "wb") as f:
    with zipfile.ZipFile(Stream(f), "w", zipfile.ZIP_DEFLATED) as z:
        z.write("main.py"); z.write("pkg/sub/data.bin"); z.writestr("ünïcode.txt", "x")
with zipfile.ZipFile("big.zip", "w", zipfile.ZIP_DEFLATED) as z:
    with z.open("z64.bin", "w", force_zip64=True) as f: f.write(b"y" * 100000)
    for i in range(2000): z.writestr("many/f%d.txt" % i, "x" * i)
"#;
    let dir = tempfile::tempdir().unwrap();
    let made = crate::output("/usr/bin/python3", &["-c", script, &dir.path().to_string_lossy()], "/").await;
    assert!(made.status.success(), "{made:?}");
    for (name, files) in [("made.zip", 2), ("stored.zip", 2), ("streamed.zip", 3), ("big.zip", 2001)] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let (done, _staging) = unpack(&world, &bytes).await;
        assert_eq!(done.unwrap_or_else(|e| panic!("{name}: {e}")).files, files, "{name}");
    }
    if Path::new("/usr/bin/zip").exists() {
        let made =
            crate::output("/usr/bin/zip", &["-qry", "zip.zip", "pkg", "main.py"], &dir.path().to_string_lossy()).await;
        assert!(made.status.success(), "{made:?}");
        let (done, _staging) = unpack(&world, &std::fs::read(dir.path().join("zip.zip")).unwrap()).await;
        assert_eq!(done.unwrap().files, 3);
    }
    let dir_name = dir.path().to_string_lossy();
    for (tool, script, files) in [
        ("/usr/bin/zip", "zip -qry - pkg main.py | cat > out.zip", 3),
        ("/usr/bin/jar", "jar cf out.zip pkg main.py", 4),
        ("/usr/bin/jar", "jar c0Mf out.zip pkg main.py", 3),
        ("/usr/bin/python3", "python3 -m zipapp pkg -o out.zip -p '/usr/bin/env python3' -c -m sub:x", 3),
    ] {
        if !Path::new(tool).exists() {
            println!("  {tool} is not here");
            continue;
        }
        std::fs::remove_file(dir.path().join("out.zip")).ok();
        let made = crate::output("/bin/sh", &["-ec", script], &dir_name).await;
        assert!(made.status.success(), "{script}: {made:?}");
        let (done, _staging) = unpack(&world, &std::fs::read(dir.path().join("out.zip")).unwrap()).await;
        assert_eq!(done.unwrap_or_else(|e| panic!("{script}: {e}")).files, files, "{script}");
    }
}

/// One entry, with headers that may lie.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub central_name: Option<Vec<u8>>,
    /// As it lies in the archive.
    pub data: Vec<u8>,
    pub mode: u32,
    pub flags: u16,
    pub method: u16,
    pub central_size: Option<u32>,
    pub local_size: Option<u32>,
    /// Checksum and unpacked size in both headers, where they are not those of `data`.
    pub said: Option<(u32, u32)>,
    pub local_extra: Vec<u8>,
    pub central_extra: Vec<u8>,
    /// What follows the data.
    pub tail: Vec<u8>,
}

pub fn entry(name: &[u8]) -> Entry {
    Entry {
        name: name.to_vec(),
        central_name: None,
        data: b"data".to_vec(),
        mode: 0o100_644,
        flags: 0,
        method: 0,
        central_size: None,
        local_size: None,
        said: None,
        local_extra: Vec::new(),
        central_extra: Vec::new(),
        tail: Vec::new(),
    }
}

pub fn link(name: &[u8], target: &[u8]) -> Entry {
    Entry { data: target.to_vec(), mode: 0o120_777, ..entry(name) }
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

pub fn build(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for e in entries {
        let offset = out.len() as u32;
        let size = e.data.len() as u32;
        let (crc, unpacked) = e.said.unwrap_or((crc32(&e.data), size));
        let common = |out: &mut Vec<u8>, sizes: Option<u32>, name: &[u8], extra: &[u8]| {
            out.extend(20_u16.to_le_bytes());
            out.extend(e.flags.to_le_bytes());
            out.extend(e.method.to_le_bytes());
            out.extend([0, 0, 0x21, 0]);
            out.extend(crc.to_le_bytes());
            out.extend(sizes.unwrap_or(size).to_le_bytes());
            out.extend(sizes.unwrap_or(unpacked).to_le_bytes());
            out.extend((name.len() as u16).to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
        };
        out.extend(0x0403_4b50_u32.to_le_bytes());
        common(&mut out, e.local_size, &e.name, &e.local_extra);
        for part in [&e.name, &e.local_extra, &e.data, &e.tail] {
            out.extend(part);
        }
        let name = e.central_name.as_ref().unwrap_or(&e.name);
        central.extend(0x0201_4b50_u32.to_le_bytes());
        // Made by Unix.
        central.extend(0x0314_u16.to_le_bytes());
        common(&mut central, e.central_size, name, &e.central_extra);
        central.extend([0; 6]);
        central.extend((e.mode << 16).to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend(name);
        central.extend(&e.central_extra);
    }
    let start = out.len() as u32;
    out.extend(&central);
    out.extend(0x0605_4b50_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

async fn nasty_archives_are_refused(world: Arc<World>) {
    let (good, _staging) = unpack(&world, &build(&[entry(b"a"), entry(b"d/b"), link(b"l", b"a")])).await;
    assert_eq!(good.unwrap().files, 3, "the builder builds good ones");
    let deep = [b"d/".repeat(65), b"f".to_vec()].concat();
    let long = vec![b'x'; 300];
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("absolute", vec![entry(b"/etc/x")]),
        ("dotdot", vec![entry(b"../x")]),
        ("dotdot inside", vec![entry(b"a/../../x")]),
        ("only dotdot", vec![entry(b"..")]),
        ("nul", vec![entry(b"a\0b")]),
        ("backslash", vec![entry(b"..\\..\\x")]),
        ("newline", vec![entry(b"a\nb")]),
        ("not utf-8", vec![entry(b"a\xffb")]),
        ("empty name", vec![entry(b"")]),
        ("double slash", vec![entry(b"a//b")]),
        ("link out", vec![link(b"l", b"../x")]),
        ("link absolute", vec![link(b"l", b"/etc/passwd")]),
        ("link climbs late", vec![entry(b"a/b"), link(b"l", b"a/../../x")]),
        ("link to nothing", vec![link(b"l", b"")]),
        ("file through a link", vec![link(b"d", b"e"), entry(b"d/x")]),
        ("file through a link, later", vec![entry(b"d/x"), link(b"d", b"/tmp")]),
        ("file over a link", vec![link(b"l", b"a"), entry(b"l")]),
        ("same name twice", vec![entry(b"a"), entry(b"a")]),
        ("same file in other words", vec![entry(b"a/b"), entry(b"a/./b")]),
        ("file and directory", vec![entry(b"a"), entry(b"a/b")]),
        ("directory and file", vec![entry(b"a/b"), entry(b"a")]),
        ("device", vec![Entry { mode: 0o020_666, ..entry(b"dev") }]),
        ("fifo", vec![Entry { mode: 0o010_666, ..entry(b"pipe") }]),
        ("socket", vec![Entry { mode: 0o140_666, ..entry(b"sock") }]),
        ("directory without slash", vec![Entry { mode: 0o040_755, ..entry(b"d") }]),
        ("encrypted", vec![Entry { flags: 1, ..entry(b"e") }]),
        ("odd method", vec![Entry { method: 12, ..entry(b"m") }]),
        ("other name in the local header", vec![Entry { central_name: Some(b"b".to_vec()), ..entry(b"a") }]),
        ("bad local name", vec![Entry { central_name: Some(b"xx".to_vec()), ..entry(b"../x") }]),
        ("other size in the central header", vec![Entry { central_size: Some(2), ..entry(b"a") }]),
        ("other size in the local header", vec![Entry { local_size: Some(2), ..entry(b"a") }]),
        ("too deep", vec![entry(&deep)]),
        ("name too long", vec![entry(&long)]),
        ("link target too long", vec![link(b"l", &vec![b'x'; 5000])]),
    ];
    for (what, entries) in cases {
        let (got, staging) = unpack(&world, &build(&entries)).await;
        assert!(matches!(got, Err(UnpackError::Refused(_))), "{what}: {got:?}");
        assert!(!staging.escaped(), "{what}");
    }
    for bytes in [&b""[..], b"PK", b"no zip at all", &[0; 4096], &build(&[])[..10]] {
        let (got, _staging) = unpack(&world, bytes).await;
        assert!(matches!(got, Err(UnpackError::Refused(Refusal::NotZip(_)))), "{got:?}");
    }
    let many: Vec<_> = (0..20).map(|i| entry(format!("f{i}").as_bytes())).collect();
    let limits = UnpackLimits { entries: 10, ..Default::default() };
    let got = unpack_with(&world, &build(&many), &Staging::new(), limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(Refusal::TooManyEntries(10)))), "{got:?}");
    let few: Vec<_> = (0..3).map(|i| entry(format!("{}f", format!("d{i}/").repeat(9)).as_bytes())).collect();
    let got = unpack_with(&world, &build(&few), &Staging::new(), limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(Refusal::TooManyEntries(10)))), "directories count: {got:?}");
}

async fn bombs_are_stopped(world: Arc<World>) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..4 {
        zip.start_file(format!("zeros{i}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&vec![0; 4 << 20]).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    assert!(bytes.len() < 100_000);
    let limits = UnpackLimits { bytes: ByteCount::from_mib(10), ..Default::default() };
    let staging = Staging::new();
    let got = unpack_with(&world, &bytes, &staging, limits).await;
    assert!(matches!(got, Err(UnpackError::Refused(Refusal::TooLarge(b))) if b == ByteCount::from_mib(10)), "{got:?}");
    let written: u64 = std::fs::read_dir(staging.path()).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
    assert!(written <= 10 << 20, "{written}");
    let exact = UnpackLimits { bytes: ByteCount::from_mib(16), ..Default::default() };
    assert!(unpack_with(&world, &bytes, &Staging::new(), exact).await.is_ok());
    let no_time = UnpackLimits { time: Duration::from_micros(1), ..Default::default() };
    let got = unpack_with(&world, &bytes, &Staging::new(), no_time).await;
    assert!(matches!(got, Err(UnpackError::Helper(_))), "{got:?}");
}

async fn damage_is_found_wherever_it_is(world: Arc<World>) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a.txt", SimpleFileOptions::default()).unwrap();
    zip.write_all(b"some text that is long enough to be worth it, some text").unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let mut survived = 0;
    for at in (0..bytes.len()).step_by(2) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let (got, staging) = unpack(&world, &bad).await;
        match got {
            // Dates and version numbers may change without harm; content may not.
            Ok(_) => {
                survived += 1;
                for file in std::fs::read_dir(staging.path()).unwrap().flatten() {
                    assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 55, "byte {at}");
                }
            }
            Err(UnpackError::Refused(_)) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(survived < bytes.len() / 4, "{survived} of {}", bytes.len() / 2);
    for cut in (0..bytes.len()).step_by(7) {
        let (got, _staging) = unpack(&world, &bytes[..cut]).await;
        assert!(matches!(got, Err(UnpackError::Refused(_))), "cut at {cut}: {got:?}");
    }
    let mut shared = tempfile::tempfile().unwrap();
    shared.write_all(&bytes).unwrap();
    shared.seek(std::io::SeekFrom::Start(5)).unwrap();
    let staging = Staging::new();
    let dir = std::fs::File::open(staging.path()).unwrap();
    let archive = shared.try_clone().unwrap();
    world.sandboxes.unpack(archive.into(), dir.into(), UnpackLimits::default()).await.unwrap();
    assert_eq!(shared.stream_position().unwrap(), 5, "the descriptor's position is the server's");
}

async fn nothing_is_left_of_the_helpers(world: Arc<World>) {
    eventually("nothing is live", || {
        let census = world.sandboxes.census();
        census.live == 0 && census.leaving == 0
    })
    .await;
}
