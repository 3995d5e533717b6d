//! `/tmp` of sandboxes: one sparse ext4 image each, on a loop device, mounted here and handed over as a detached mount.
//!
//! The pages of a tmpfs are charged to whoever wrote them, so a function could not fill a `/tmp` that is larger than its
//! memory. An image goes past the page cache to the data directory's disk instead. It is a file without a name, the loop
//! device lets go of it with its last mount, and both hold on descriptors alone: whatever ends the spawner or the server,
//! nothing is left. Nothing is recycled, a new file reads as zeros.
//!
//! Where that does not work (no loop devices, no ext4, a full disk) a sandbox gets a sized tmpfs, which its memory limit pays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use super::ext4::{self, Pristine, Size};
use super::helper::{self, Helper};
use crate::sys::{fds, loops, mount};

/// What most functions have, so what is prepared with a slot: the reference's default.
pub const USUAL: Size = Size { bytes: 512 << 20, inodes: 32_768 };

/// Bytes that one sandbox may write to its `/tmp` a second in the long run. More, and the writes of the store, which share
/// the disk, wait behind it.
pub const WRITE_RATE: u64 = 100 << 20;

/// Prepared file systems that are kept when their slot needed another one, or none.
const SPARES_MAX: usize = 4;

/// Device numbers of one server, from the first on: apart from what other programs take, which count from 0, and, as uid
/// ranges are leased, apart from those of other servers. A device that someone has all the same is skipped.
const NUMBERS_FIRST: u32 = 1024;
const NUMBERS: u32 = 4000;

/// Devices that are tried before giving up, and how many of them may be such as were used before.
const TRIES: usize = 64;
const RESTED_TRIES: usize = 4;

/// Formats that are kept at hand, one for each size in use.
const FORMATS_MAX: usize = 8;

/// A file system that waits for its sandbox or is in use by it.
pub struct Tmp {
    size: Size,
    device: u32,
    /// The detached mount, until a launch has taken it over.
    mount: Option<OwnedFd>,
    /// The root directory. Keeps the file system until this process lets go of it, after the sandbox's own end.
    root: OwnedFd,
}

impl Tmp {
    pub fn mount(&self) -> Option<RawFd> {
        self.mount.as_ref().map(|fd| fd.as_raw_fd())
    }

    /// The child has its own copy by now.
    pub fn handed_over(&mut self) {
        self.mount = None;
    }
}

/// Makes them, and keeps the devices.
pub struct Images {
    /// The folder of the image files.
    folder: OwnedFd,
    /// A detached tmpfs with the device nodes, so that it does not matter what the host's `/dev` holds.
    nodes: OwnedFd,
    control: OwnedFd,
    formats: BTreeMap<Size, Pristine>,
    spares: Vec<Tmp>,
    devices: Devices,
    helper: Helper,
    /// Said once, until it works again.
    complained: bool,
}

struct Devices {
    /// Room for partitions between the minor numbers, as a power of two.
    shift: u32,
    first: u32,
    next: u32,
    /// Not in use; the one that rested longest comes first.
    free: VecDeque<u32>,
    /// Those that this server has used.
    owned: BTreeSet<u32>,
    /// `blkio.throttle.write_bps_device` of the version 1 root group, on whose account the kernel writes back.
    throttle: Option<OwnedFd>,
    /// New ones, whose rate is not limited yet.
    unlimited: BTreeSet<u32>,
}

impl Images {
    /// `range` is the number of this server's uid range among those of its size.
    ///
    /// Errors: what the host does not have or does not allow.
    pub fn open(folder: &Path, range: u32, throttle: Option<&Path>) -> io::Result<Self> {
        let folder = fds::open(&crate::cgroup::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let options = [(c"size", c"1m"), (c"nr_inodes", c"8k"), (c"mode", c"0700")];
        let nodes = mount::new_fs(c"tmpfs", &options, mount::NOSUID | mount::NOEXEC)?;
        let (major, minor) = loops::CONTROL;
        fds::mknod_at(nodes.as_raw_fd(), c"control", libc::S_IFCHR | 0o600, major, minor)?;
        let control = fds::open_at(nodes.as_raw_fd(), c"control", libc::O_RDWR, 0)?;
        let throttle = throttle.and_then(|path| fds::open(&crate::cgroup::c_path(path).ok()?, libc::O_WRONLY).ok());
        let partitions = std::fs::read_to_string("/sys/module/loop/parameters/max_part").unwrap_or_default();
        let partitions: u32 = partitions.trim().parse().unwrap_or(0);
        let first = NUMBERS_FIRST + range * NUMBERS;
        let helper = Helper::start(&control, throttle.as_ref(), WRITE_RATE)?;
        Ok(Self {
            folder,
            nodes,
            control,
            formats: BTreeMap::new(),
            spares: Vec::new(),
            devices: Devices {
                shift: u32::BITS - partitions.leading_zeros(),
                first,
                next: 0,
                free: VecDeque::new(),
                owned: BTreeSet::new(),
                throttle,
                unlimited: BTreeSet::new(),
            },
            helper,
            complained: false,
        })
    }

    /// One of the usual size for a slot that is being made; none, with a warning, where it can't be.
    pub fn usual(&mut self) -> Option<Tmp> {
        let spare = self.spares.iter().position(|spare| spare.size == USUAL);
        spare.map(|at| self.spares.swap_remove(at)).or_else(|| self.made(USUAL))
    }

    /// One of this size for a launch by `uid`, best the one that was `prepared`; none as above.
    pub fn suited(&mut self, prepared: Option<Tmp>, size: Size, uid: u32) -> Option<Tmp> {
        let tmp = match prepared {
            Some(tmp) if tmp.size == size => Some(tmp),
            other => {
                if let Some(tmp) = other {
                    self.spare(tmp);
                }
                self.made(size)
            }
        }?;
        // Set-group-id and the like would go with a change of owner; the mode is set afterwards.
        let owned = fds::chown(tmp.root.as_raw_fd(), uid, uid).and_then(|()| fds::chmod(tmp.root.as_raw_fd(), 0o1777));
        match owned {
            Ok(()) => Some(tmp),
            Err(error) => {
                self.complain(&error);
                self.give_back(tmp);
                None
            }
        }
    }

    /// (major, minor)
    pub fn device_of(&self, tmp: &Tmp) -> (u32, u32) {
        (loops::MAJOR, tmp.device << self.devices.shift)
    }

    /// Keeps one that no sandbox has seen, or lets it go.
    pub fn spare(&mut self, tmp: Tmp) {
        if tmp.mount.is_some() && tmp.size == USUAL && self.spares.len() < SPARES_MAX {
            self.spares.push(tmp);
        } else {
            self.give_back(tmp);
        }
    }

    /// Takes one down. What it holds may take tens of milliseconds to let go of, so the helper does it.
    pub fn give_back(&mut self, tmp: Tmp) {
        self.devices.free.push_back(tmp.device);
        self.helper.end(tmp.root);
    }

    pub fn has_work(&self) -> bool {
        self.devices.throttle.is_some() && !self.devices.unlimited.is_empty()
    }

    /// Has the rate of new devices limited.
    pub fn work(&mut self) {
        let Devices { unlimited, shift, .. } = &mut self.devices;
        if self.helper.limit(unlimited.iter().map(|number| number << *shift)).is_ok() {
            unlimited.clear();
        }
    }

    /// All file systems are to go with this process, now, without writing anything.
    pub fn close(&mut self, live: impl Iterator<Item = Tmp>) {
        for tmp in live.chain(self.spares.drain(..)) {
            loops::shut_down_fs(tmp.root.as_raw_fd()).ok();
        }
        if let Some(throttle) = &self.devices.throttle {
            let minors = self.devices.owned.iter().map(|number| number << self.devices.shift);
            minors.for_each(|minor| drop(helper::limit(throttle.as_raw_fd(), minor, 0)));
        }
        self.helper.remove(self.devices.owned.iter().copied());
    }

    fn made(&mut self, size: Size) -> Option<Tmp> {
        match self.make(size) {
            Ok(tmp) => {
                self.complained = false;
                Some(tmp)
            }
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "no image for /tmp: it is in memory, on the account of the function");
        }
    }

    fn make(&mut self, size: Size) -> io::Result<Tmp> {
        let image = loops::nameless(self.folder.as_raw_fd())?;
        self.format(size)?.write(image.as_raw_fd())?;
        let (number, device) = self.bound(&image)?;
        let made = mount_device(&device).and_then(|mount| {
            let root = fds::open_at(mount.as_raw_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            Ok(Tmp { size, device: number, mount: Some(mount), root })
        });
        if made.is_err() {
            self.devices.free.push_back(number);
        }
        made
    }

    fn format(&mut self, size: Size) -> io::Result<&Pristine> {
        if !self.formats.contains_key(&size) {
            if self.formats.len() >= FORMATS_MAX {
                self.formats.pop_last();
            }
            // The time of the first is the time of all: nobody looks at it.
            let pristine = Pristine::new(size, unix_time()).ok_or(io::Error::from_raw_os_error(libc::EFBIG))?;
            self.formats.insert(size, pristine);
        }
        self.formats.get(&size).ok_or(io::ErrorKind::NotFound.into())
    }

    /// A device with `image` behind it that nobody else has open.
    fn bound(&mut self, image: &OwnedFd) -> io::Result<(u32, OwnedFd)> {
        let mut last = io::Error::from_raw_os_error(libc::ENOSPC);
        // A device that was given back may still be busy with its end; new ones are next.
        let rested = self.devices.free.len().min(RESTED_TRIES);
        for round in 0..TRIES {
            let Some(number) = self.devices.take(round < rested) else { break };
            match self.bind(number, image) {
                Ok(device) => {
                    self.devices.own(number);
                    return Ok((number, device));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    // What never was ours is another's, and not tried again.
                    if self.devices.owned.contains(&number) {
                        self.devices.free.push_back(number);
                    }
                    last = error;
                }
                Err(error) => {
                    self.devices.free.push_back(number);
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn bind(&self, number: u32, image: &OwnedFd) -> io::Result<OwnedFd> {
        let device = self.device(number, 0)?;
        loops::bind(device.as_raw_fd(), image, ext4::BLOCK as u32)?;
        // While anyone has an earlier file system of this device, a new mount would be that one; then this is refused.
        drop(self.device(number, libc::O_EXCL)?);
        Ok(device)
    }

    /// Opens a device, which is made if it is not there: it is new, or somebody has removed it as nobody's.
    fn device(&self, number: u32, flags: libc::c_int) -> io::Result<OwnedFd> {
        let name = CString::new(number.to_string())?;
        let open = || fds::open_at(self.nodes.as_raw_fd(), &name, libc::O_RDWR | flags, 0);
        match open() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {}
            other => return other,
        }
        loops::add(self.control.as_raw_fd(), number)?;
        let kind = libc::S_IFBLK | 0o600;
        match fds::mknod_at(self.nodes.as_raw_fd(), &name, kind, loops::MAJOR, number << self.devices.shift) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        open()
    }
}

impl Devices {
    fn take(&mut self, rested: bool) -> Option<u32> {
        let fresh = (self.next < NUMBERS).then_some(self.first + self.next);
        let number = if rested { self.free.pop_front().or(fresh) } else { fresh.or_else(|| self.free.pop_front()) }?;
        self.next += u32::from(Some(number) == fresh);
        Some(number)
    }

    fn own(&mut self, number: u32) {
        if self.owned.insert(number) {
            self.unlimited.insert(number);
        }
    }
}

/// The device's file system as a detached mount. The image is ours alone, so its parser meets no foreign bytes but those that
/// the kernel wrote for its tenant.
fn mount_device(device: &OwnedFd) -> io::Result<OwnedFd> {
    let source = CString::new(format!("/proc/self/fd/{}", device.as_raw_fd()))?;
    let attributes = mount::NOSUID | mount::NODEV | mount::NOATIME;
    // What survives a power failure is of no interest: no flushes, which would be the store's as well.
    let flags = [c"nobarrier", c"noinit_itable"];
    mount::new_fs_flagged(c"ext4", &[(c"source", &source), (c"errors", c"continue")], &flags, attributes)
}

fn unix_time() -> u32 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for one timespec; CLOCK_REALTIME always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut t) };
    u32::try_from(t.tv_sec).unwrap_or(0)
}
