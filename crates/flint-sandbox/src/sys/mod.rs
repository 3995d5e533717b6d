//! The system calls that this room makes, each as one small function that returns `io::Result`.
//!
//! Raw on purpose: between `clone3` and `execve` nothing may depend on a library's idea of threads.

pub mod fds;
pub mod loops;
pub mod mount;
pub mod process;
pub mod socket;

use std::io;

/// Turns a system call's return value into a result.
pub fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// The same for calls that return `int`.
pub fn check_int(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Nanoseconds of the kernel's monotonic clock; the same for every process of this host.
pub fn monotonic_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for one timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64)
}
