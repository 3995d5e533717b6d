//! Without root: the spawner makes a user namespace, and in it the namespaces that it has rights over.
//!
//! Its user and group keep their numbers there, and there are no others. All that follows is as with root: the
//! capabilities are those of this namespace, and a sandbox enters one of its own, below it, last.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cgroup::c_path;
use crate::sys::{fds, mount, process};

/// Makes and enters them. Must come before capabilities are given up. Errors name the step.
pub fn enter() -> Result<(), String> {
    let what = |name: &'static str| move |e: io::Error| format!("{name}: {e}");
    let (uid, gid) = process::ids();
    // Only a dumpable process owns the files through which it sets its maps.
    process::prctl(libc::PR_SET_DUMPABLE, 1).map_err(what("dumpable"))?;
    process::unshare(libc::CLONE_NEWUSER).map_err(what("user namespace"))?;
    map_own_ids(uid, gid).map_err(what("maps of the user namespace"))?;
    process::prctl(libc::PR_SET_DUMPABLE, 0).map_err(what("dumpable"))?;
    process::unshare(libc::CLONE_NEWNS).map_err(what("mount namespace"))?;
    process::unshare(libc::CLONE_NEWNET).map_err(what("network namespace"))?;
    // What the host unmounts must not be held by us; what is mounted here is not seen there.
    mount::make_all_slave().map_err(what("mount propagation"))
}

/// For the server without root, once it has its spawner: gives up the rights that its user has over the spawner's
/// namespaces, for ever.
///
/// The owner of a user namespace has every right over it, as long as he is in the one above. So the server goes into one of
/// its own, beside the spawner's, and drops the capabilities that it gets there. Must be called while the process has one
/// thread. Files and signals are as before.
pub fn seclude() -> io::Result<()> {
    let (uid, gid) = process::ids();
    process::prctl(libc::PR_SET_DUMPABLE, 1)?;
    process::unshare(libc::CLONE_NEWUSER)?;
    map_own_ids(uid, gid)?;
    process::limit_bounding_set(0)?;
    process::limit_capabilities(0)?;
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    process::prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Maps user and group of this process, which has just entered a user namespace, to the same numbers.
fn map_own_ids(uid: u32, gid: u32) -> io::Result<()> {
    fds::put(libc::AT_FDCWD, c"/proc/self/setgroups", "deny")?;
    fds::put(libc::AT_FDCWD, c"/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    fds::put(libc::AT_FDCWD, c"/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

/// The directory that the server has opened, as this process' own mount namespace has it: only trees of that one can be
/// cloned. The path is the server's, in a directory of its own; that it leads to the same directory is checked.
pub fn reopen(dir: RawFd) -> io::Result<OwnedFd> {
    let path = std::fs::read_link(format!("/proc/self/fd/{dir}"))?;
    let found = fds::open(&c_path(&path)?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
    let (asked, got) = (fds::stat(dir)?, fds::stat(found.as_raw_fd())?);
    if (asked.st_dev, asked.st_ino) != (got.st_dev, got.st_ino) {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    Ok(found)
}

/// A device node of the host's `/dev`, as a detached mount: without root none can be made.
pub fn device(name: &CStr, number: (u32, u32)) -> io::Result<OwnedFd> {
    let path = Path::new("/dev").join(OsStr::from_bytes(name.to_bytes()));
    let meta = std::fs::symlink_metadata(&path)?;
    if meta.mode() & libc::S_IFMT != libc::S_IFCHR || meta.rdev() != libc::makedev(number.0, number.1) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let tree = mount::clone_tree(libc::AT_FDCWD, &c_path(&path)?)?;
    mount::set_attributes(tree.as_raw_fd(), mount::NOSUID | mount::NOEXEC)?;
    Ok(tree)
}
