//! A disk that knows what was flushed: one file on a FUSE mount of our own, for a loop device to lie on.
//!
//! Writes stay in memory until the kernel asks for a sync. A picture of the disk at a power cut is what was flushed, and of the
//! rest nothing, a random half, or all, sector by sector. Only what a loop device asks is answered.
//!
//! Reference: the kernel's `include/uapi/linux/fuse.h`, protocol 7.31.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use flint_store::testing::Rng;

const SECTOR: usize = 512;
const WRITE_MAX: u32 = 128 << 10;
const ROOT: u64 = 1;
const DISK: u64 = 2;
/// The one file's name.
const NAME: &str = "disk";

/// What a power cut keeps of what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Half,
    All,
}

/// The mount; unmounted when dropped.
pub struct Disk {
    mount: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    flushed: File,
    path: PathBuf,
    size: u64,
    /// Sectors that were written and not flushed.
    pending: BTreeMap<u64, Vec<u8>>,
    syncs: u64,
}

impl Disk {
    /// Mounts a disk of `size` bytes below `folder`.
    pub fn mount(folder: &Path, size: u64) -> Result<Self> {
        let (mount, path) = (folder.join("fuse"), folder.join("flushed"));
        std::fs::create_dir_all(&mount)?;
        let flushed = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        flushed.set_len(size)?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("/dev/fuse is needed")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        let options = std::ffi::CString::new(options)?;
        rustix::mount::mount("flint-torture", &mount, "fuse", flags, options.as_c_str())
            .context("mounting needs root")?;
        let state = Arc::new(Mutex::new(State { flushed, path, size, pending: BTreeMap::new(), syncs: 0 }));
        let serving = Arc::clone(&state);
        std::thread::spawn(move || serve(device, &serving));
        Ok(Self { mount, state })
    }

    /// The file that is the disk.
    pub fn file(&self) -> PathBuf {
        self.mount.join(NAME)
    }

    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// The disk as a power cut now would leave it, as a file of its own.
    pub fn picture(&self, to: &Path, keep: Keep, rng: &mut Rng) -> Result<()> {
        let state = lock(&self.state);
        let copied = Command::new("cp").arg("--sparse=always").arg(&state.path).arg(to).status()?;
        ensure!(copied.success(), "the disk could not be copied");
        let image = OpenOptions::new().write(true).open(to)?;
        for (sector, bytes) in &state.pending {
            let kept = match keep {
                Keep::Nothing => false,
                Keep::Half => rng.chance(50),
                Keep::All => true,
            };
            if kept {
                image.write_all_at(bytes, sector * SECTOR as u64)?;
            }
        }
        Ok(image.sync_all()?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Best effort: a test's mount.
        let _ = rustix::mount::unmount(&self.mount, rustix::mount::UnmountFlags::DETACH);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let len = len.min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut bytes = vec![0; len];
        self.flushed.read_exact_at(&mut bytes, offset)?;
        let first = offset / SECTOR as u64;
        for (sector, content) in self.pending.range(first..=(offset + len as u64) / SECTOR as u64) {
            let start = sector * SECTOR as u64;
            for (at, byte) in (start..).zip(content) {
                if let Some(place) = at.checked_sub(offset).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?)) {
                    *place = *byte;
                }
            }
        }
        Ok(bytes)
    }

    /// A loop device writes whole sectors.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !offset.is_multiple_of(SECTOR as u64) || !bytes.len().is_multiple_of(SECTOR) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (sector, content) in (offset / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
            self.pending.insert(sector, content.to_vec());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        for (sector, bytes) in std::mem::take(&mut self.pending) {
            self.flushed.write_all_at(&bytes, sector * SECTOR as u64)?;
        }
        Ok(())
    }
}

/// Answers until the mount is gone.
fn serve(mut device: File, state: &Mutex<State>) {
    let mut buffer = vec![0; WRITE_MAX as usize + (64 << 10)];
    while let Ok(len) = device.read(&mut buffer) {
        let Some(request) = Request::parse(&buffer[..len]) else { continue };
        let Some(answer) = answer(&request, state) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()), Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend(u32::try_from(16 + body.len()).unwrap_or(0).to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(request.unique.to_ne_bytes());
        reply.extend(body);
        // Whoever asked may be gone.
        let _ = device.write_all(&reply);
    }
}

struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self { opcode: u32_at(4)?, unique: u64_at(8)?, node: u64_at(16)?, body: bytes.get(40..)? })
    }

    fn u64(&self, at: usize) -> u64 {
        self.body.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> u32 {
        self.body.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// `None` where no answer is expected.
fn answer(request: &Request<'_>, state: &Mutex<State>) -> Option<io::Result<Vec<u8>>> {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const SETATTR: u32 = 4;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const WRITE: u32 = 16;
    const STATFS: u32 = 17;
    const RELEASE: u32 = 18;
    const FSYNC: u32 = 20;
    const FLUSH: u32 = 25;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    let unknown = || io::Error::from(rustix::io::Errno::NOSYS);
    Some(match request.opcode {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => Ok(init()),
        LOOKUP if request.body.strip_suffix(b"\0") == Some(NAME.as_bytes()) => {
            let mut body = Vec::new();
            for number in [DISK, 1, u64::MAX >> 8, u64::MAX >> 8, 0] {
                body.extend(number.to_ne_bytes());
            }
            body.extend(attributes(DISK, lock(state).size));
            Ok(body)
        }
        LOOKUP => Err(rustix::io::Errno::NOENT.into()),
        GETATTR | SETATTR => {
            let mut body = Vec::from((u64::MAX >> 8).to_ne_bytes());
            body.extend([0; 8]);
            body.extend(attributes(request.node, lock(state).size));
            Ok(body)
        }
        OPEN => Ok(vec![0; 16]),
        READ => lock(state).read(request.u64(8), request.u32(16) as usize),
        WRITE => {
            let size = request.u32(16);
            let bytes = request.body.get(40..).and_then(|rest| rest.get(..size as usize)).unwrap_or_default();
            lock(state).write(request.u64(8), bytes).map(|()| [size.to_ne_bytes(), [0; 4]].concat())
        }
        FSYNC => lock(state).sync().map(|()| Vec::new()),
        STATFS => Ok(vec![0; 80]),
        FLUSH | RELEASE => Ok(Vec::new()),
        _ => Err(unknown()),
    })
}

fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut body = Vec::new();
    for number in [7, 31, WRITE_MAX, BIG_WRITES | MAX_PAGES] {
        body.extend(number.to_ne_bytes());
    }
    body.extend([16u16, 12].iter().flat_map(|n| n.to_ne_bytes()));
    body.extend([WRITE_MAX, 1].iter().flat_map(|n| n.to_ne_bytes()));
    body.extend((u16::try_from(WRITE_MAX / 4096).unwrap_or(1)).to_ne_bytes());
    body.resize(64, 0);
    body
}

fn attributes(node: u64, size: u64) -> Vec<u8> {
    let is_root = node == ROOT;
    let (size, mode) = if is_root { (0, 0o040_700u32) } else { (size, 0o100_600) };
    let mut body = Vec::new();
    for number in [node, size, size / SECTOR as u64, 0, 0, 0] {
        body.extend(number.to_ne_bytes());
    }
    for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32] {
        body.extend(number.to_ne_bytes());
    }
    body
}
