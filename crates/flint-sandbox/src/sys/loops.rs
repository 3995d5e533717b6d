//! Loop devices: a file as a block device, and what goes with it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use super::{check_int, fds};

/// Major number of the block devices (Documentation/admin-guide/devices.txt).
pub const MAJOR: u32 = 7;
/// `/dev/loop-control`
pub const CONTROL: (u32, u32) = (10, 237);

const LOOP_CTL_ADD: libc::c_ulong = 0x4C80;
const LOOP_CTL_REMOVE: libc::c_ulong = 0x4C81;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// `_IOR('X', 125, __u32)`
const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Without writing anything back.
const GOING_DOWN_NO_FLUSH: u32 = 2;

/// `struct loop_info64`
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Makes the device with this number. One that exists already is fine.
pub fn add(control: RawFd, number: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    match check_int(unsafe { libc::ioctl(control, LOOP_CTL_ADD, libc::c_ulong::from(number)) }) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(()),
    }
}

/// Removes a device that nobody uses.
pub fn remove(control: RawFd, number: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check_int(unsafe { libc::ioctl(control, LOOP_CTL_REMOVE, libc::c_ulong::from(number)) }).map(drop)
}

/// Binds a file to a device until the device's last descriptor and mount are gone; past the page cache where it can be.
pub fn bind(device: RawFd, file: &OwnedFd, block_size: u32) -> io::Result<()> {
    // SAFETY: numbers and arrays of numbers, for which all-zero is valid.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd() as u32;
    config.block_size = block_size;
    config.info.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    // SAFETY: `config` is a valid loop_config.
    check_int(unsafe { libc::ioctl(device, LOOP_CONFIGURE, &config as *const Config) }).map(drop)
}

/// Stops a file system at once: what was not written back by now never will be.
pub fn shut_down_fs(dir: RawFd) -> io::Result<()> {
    // SAFETY: the kernel reads one number.
    check_int(unsafe { libc::ioctl(dir, FS_IOC_SHUTDOWN, &GOING_DOWN_NO_FLUSH as *const u32) }).map(drop)
}

/// A file without a name in `dir`, gone with its last descriptor.
pub fn nameless(dir: RawFd) -> io::Result<OwnedFd> {
    fds::open_at(dir, c".", libc::O_TMPFILE | libc::O_RDWR | libc::O_EXCL, 0o600)
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);
