//! Mounts by descriptor: trees are cloned, given their attributes and moved without ever naming a path that a tenant
//! could have changed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{check, check_int};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
pub const NOATIME: u64 = 0x10;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: callers pass what the kernel returned for a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// A detached copy of the mount at `path` relative to `dir` (itself when `path` is empty), without what is mounted
/// below it. The mount must be in the caller's mount namespace.
pub fn clone_tree(dir: RawFd, path: &CStr) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT) as libc::c_uint;
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) }).map(own)
}

/// As [`clone_tree`], with all that is mounted below it.
pub fn clone_whole_tree(dir: RawFd, path: &CStr) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) }).map(own)
}

/// Adds attributes to the mount that `fd` stands for.
pub fn set_attributes(fd: RawFd, set: u64) -> io::Result<()> {
    change_attributes(fd, set, 0)
}

/// Adds attributes to the mount that `fd` stands for and to all below it.
pub fn set_whole_attributes(fd: RawFd, set: u64) -> io::Result<()> {
    change_attributes(fd, set, AT_RECURSIVE)
}

fn change_attributes(fd: RawFd, set: u64, flags: libc::c_uint) -> io::Result<()> {
    let attr = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is NUL-terminated, `attr` is a valid mount_attr of the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as libc::c_uint | flags,
            &attr as *const MountAttr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Attaches a detached tree at `path` relative to `dir`.
pub fn attach(tree: RawFd, dir: RawFd, path: &CStr) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated.
    check(unsafe {
        libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), dir, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
    })
    .map(drop)
}

/// A new, detached file system of a kind such as `tmpfs` or `proc`, with options and mount attributes.
pub fn new_fs(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    new_fs_flagged(kind, options, &[], attributes)
}

/// As [`new_fs`], with options that have no value as well.
pub fn new_fs_flagged(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    flags: &[&CStr],
    attributes: u64,
) -> io::Result<OwnedFd> {
    // SAFETY: `kind` is NUL-terminated.
    let context = own(check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?);
    let context_fd = std::os::fd::AsRawFd::as_raw_fd(&context);
    for (key, value) in options {
        // SAFETY: both strings are NUL-terminated.
        check(unsafe {
            libc::syscall(libc::SYS_fsconfig, context_fd, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
        })?;
    }
    let none = std::ptr::null::<libc::c_char>();
    for flag in flags {
        // SAFETY: the string is NUL-terminated and a flag takes no value.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context_fd, FSCONFIG_SET_FLAG, flag.as_ptr(), none, 0) })?;
    }
    create(context_fd, attributes)
}

/// A new, detached, read-only overlay of two detached trees, the first above the second: the kernel tells nobody where the
/// trees come from, as it does of a bind mount (`/proc/self/mountinfo`).
///
/// Errors: `EINVAL` before Linux 6.13, which knows layers by path only; `ENODEV` without overlayfs.
pub fn overlay(above: RawFd, below: RawFd, attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: the string is NUL-terminated.
    let context = own(check(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?);
    let context_fd = std::os::fd::AsRawFd::as_raw_fd(&context);
    let none = std::ptr::null::<libc::c_char>();
    for layer in [above, below] {
        let key = c"lowerdir+".as_ptr();
        // SAFETY: the key is NUL-terminated; this command takes a descriptor and no value.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context_fd, FSCONFIG_SET_FD, key, none, layer) })?;
    }
    create(context_fd, attributes)
}

/// Makes the file system that `context` describes, and a detached mount of it.
fn create(context: RawFd, attributes: u64) -> io::Result<OwnedFd> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes as libc::c_uint) }).map(own)
}

/// `mount(2)` of a new file system at a trusted path.
pub fn mount_new(kind: &CStr, path: &CStr, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    // SAFETY: every string is NUL-terminated.
    check_int(unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
        .map(drop)
}

/// Cuts the whole tree of this mount namespace off from the propagation of others.
pub fn make_all_private() -> io::Result<()> {
    propagate(libc::MS_PRIVATE)
}

/// Lets the whole tree of this mount namespace follow what the host mounts and unmounts, and not the other way round.
pub fn make_all_slave() -> io::Result<()> {
    propagate(libc::MS_SLAVE)
}

fn propagate(kind: libc::c_ulong) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the target is NUL-terminated, the other strings are not used for a change of propagation.
    check_int(unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | kind, none.cast()) }).map(drop)
}

/// Makes the directory that `fd` stands for the root of this mount namespace and detaches the old one.
pub fn become_root(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::fchdir(fd) })?;
    // SAFETY: both strings are NUL-terminated. With "." twice the old root ends up stacked on the new one.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is NUL-terminated.
    check_int(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    // SAFETY: the path is NUL-terminated.
    check_int(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}
