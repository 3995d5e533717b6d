//! Descriptors: opening relative to one, reading and writing whole, pipes, flags.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check_int;

/// Wraps a descriptor that a system call has just returned.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what the kernel returned for a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `openat` with `O_CLOEXEC` added.
pub fn open_at(dir: RawFd, path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd = check_int(unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    Ok(own(fd))
}

pub fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    open_at(libc::AT_FDCWD, path, flags, 0)
}

pub fn mkdir_at(dir: RawFd, path: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: as for `open_at`.
    check_int(unsafe { libc::mkdirat(dir, path.as_ptr(), mode) }).map(drop)
}

pub fn rmdir_at(dir: RawFd, path: &CStr) -> io::Result<()> {
    // SAFETY: as for `open_at`.
    check_int(unsafe { libc::unlinkat(dir, path.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

pub fn unlink_at(dir: RawFd, path: &CStr) -> io::Result<()> {
    // SAFETY: as for `open_at`.
    check_int(unsafe { libc::unlinkat(dir, path.as_ptr(), 0) }).map(drop)
}

pub fn symlink_at(target: &CStr, dir: RawFd, path: &CStr) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    check_int(unsafe { libc::symlinkat(target.as_ptr(), dir, path.as_ptr()) }).map(drop)
}

pub fn mknod_at(dir: RawFd, path: &CStr, mode: u32, major: u32, minor: u32) -> io::Result<()> {
    // SAFETY: as for `open_at`.
    check_int(unsafe { libc::mknodat(dir, path.as_ptr(), mode, libc::makedev(major, minor)) }).map(drop)
}

/// `fchmod`: unlike the mode given to `openat` this ignores the umask.
pub fn chmod(fd: RawFd, mode: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::fchmod(fd, mode) }).map(drop)
}

pub fn chown(fd: RawFd, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::fchown(fd, uid, gid) }).map(drop)
}

pub fn stat(fd: RawFd) -> io::Result<libc::stat> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `st` has room for one `stat`.
    check_int(unsafe { libc::fstat(fd, st.as_mut_ptr()) })?;
    // SAFETY: `fstat` succeeded and filled it.
    Ok(unsafe { st.assume_init() })
}

pub fn is_dir(fd: RawFd) -> io::Result<bool> {
    Ok(stat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// The file is the null device, 1:3, and nothing that someone put in its place.
pub fn is_null_device(fd: RawFd) -> io::Result<bool> {
    let st = stat(fd)?;
    Ok(st.st_mode & libc::S_IFMT == libc::S_IFCHR && st.st_rdev == libc::makedev(1, 3))
}

/// Writes all of it, going on after interruptions and short writes.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length describe `bytes`.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        bytes = &bytes[n as usize..];
    }
    Ok(())
}

/// Writes all of it at an offset, going on after interruptions and short writes.
pub fn write_all_at(fd: RawFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length describe `bytes`.
        let n = unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset as libc::off_t) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        bytes = &bytes[n as usize..];
        offset += n as u64;
    }
    Ok(())
}

/// Makes a file this long; what it gains is a hole.
pub fn set_length(fd: RawFd, length: u64) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::ftruncate(fd, length as libc::off_t) }).map(drop)
}

/// Reads at an offset into `buffer`; returns how much came.
pub fn read_at(fd: RawFd, buffer: &mut [u8], offset: i64) -> io::Result<usize> {
    loop {
        // SAFETY: the pointer and length describe `buffer`.
        let n = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
        if n >= 0 {
            return Ok(n as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reads a short kernel file (a cgroup or proc file) from its start.
pub fn read_small(fd: RawFd) -> io::Result<String> {
    let mut buffer = [0_u8; 4096];
    let n = read_at(fd, &mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// Writes a short text to a kernel file relative to `dir`.
pub fn put(dir: RawFd, path: &CStr, text: &str) -> io::Result<()> {
    let fd = open_at(dir, path, libc::O_WRONLY, 0)?;
    write_all(fd.as_raw_fd(), text.as_bytes())
}

/// (read end, write end), both close-on-exec and blocking.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for two descriptors.
    check_int(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(ends[0]), own(ends[1])))
}

pub fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    Ok(own(check_int(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?))
}

pub fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated.
    Ok(own(check_int(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?))
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = check_int(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: no pointers.
    check_int(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// A duplicate whose number is at least `least`.
pub fn dup_above(fd: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    Ok(own(check_int(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) })?))
}

/// Makes `number` a duplicate of `fd` without close-on-exec.
pub fn dup_onto(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; callers give a number that no owner holds.
    check_int(unsafe { libc::dup2(fd, number) }).map(drop)
}

/// Closes every descriptor from `first` up, owners or not: only for processes that are about to forget them all.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; see above for the owners.
    check_int(unsafe { libc::close_range(first as u32, u32::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` up as close-on-exec.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::close_range(first as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) }).map(drop)
}

/// Takes the exclusive lock of an open file or directory without waiting.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: no pointers.
    match check_int(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for events on one descriptor; returns what happened, 0 on timeout.
pub fn poll_one(fd: RawFd, events: i16, timeout_ms: i32) -> io::Result<i16> {
    let mut one = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: `one` is one valid pollfd.
    match check_int(unsafe { libc::poll(&mut one, 1, timeout_ms) }) {
        Ok(_) => Ok(one.revents),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// Registers a descriptor with the runtime's poller.
pub fn watch(fd: OwnedFd, interest: tokio::io::Interest) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always names the same open descriptor, and nobody takes it out of the AsyncFd.
    Ok(unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, interest) }?)
}
