//! Landlock on top of everything else: of the trees inside, each says what may be done in it, and the rest is denied.
//!
//! It restates what mounts and permissions say already, by other code in the kernel: a wall has to fail twice. Where the
//! kernel has no Landlock the sandbox does without.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use super::root;
use crate::sys::{check, fds};

// Not named because nothing grants them: 6 and 11, device nodes.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
/// Renames and links from one directory to another; ABI 2.
const REFER: u64 = 1 << 13;
/// ABI 3.
const TRUNCATE: u64 = 1 << 14;
/// ABI 5.
const IOCTL_DEVICE: u64 = 1 << 15;

const READ: u64 = READ_FILE | READ_DIR;
const CHANGE: u64 = WRITE_FILE | REFER | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM;

/// Abstract sockets and signals end at the sandbox; ABI 6.
const SCOPES: u64 = 0b11;

/// What may be done in a tree.
pub type Rule = (&'static CStr, u64);

/// A function's trees.
pub const FUNCTION: &[Rule] = &[
    (c"/", READ | EXECUTE),
    (c"/tmp", READ | CHANGE | EXECUTE | MAKE_SOCK | MAKE_FIFO),
    (c"/dev", WRITE_FILE),
    (c"/dev/shm", CHANGE | MAKE_SOCK | MAKE_FIFO),
];

/// The unpack helper's one tree.
pub const UNPACK: &[Rule] = &[(root::STAGING, READ | WRITE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM)];

/// The kernel's version of Landlock.
#[derive(Clone, Copy)]
pub struct Abi(u32);

impl Abi {
    /// None where the calls do not answer or Landlock is switched off.
    pub fn detect() -> Option<Self> {
        const VERSION: libc::c_uint = 1;
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: with this flag the kernel reads nothing and answers its version.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
        u32::try_from(version).ok().filter(|&v| v > 0).map(Self)
    }

    /// The rights that this version knows.
    fn rights(self) -> u64 {
        let count = match self.0 {
            1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        (1 << count) - 1
    }
}

/// `struct landlock_ruleset_attr`; older kernels take what is longer as long as it is zero.
#[repr(C)]
struct Attributes {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct Beneath {
    rights: u64,
    parent: RawFd,
}

/// Rights that the kernel looks for at every opening of a file, even one to read, all the way up its path. Nothing is lost
/// without them: what may not be opened for writing can't be shortened, but for a path on a read-only mount, and device
/// nodes are in `/dev` only, which grants them.
const AT_EVERY_OPEN: u64 = TRUNCATE | IOCTL_DEVICE;

/// The rights that the kernel has to look at: what a rule grants everywhere is left out, since asking for it denies nothing.
fn handled(abi: Abi, rules: &[Rule]) -> u64 {
    let everywhere = rules.iter().filter(|(path, _)| *path == c"/").fold(0, |all, (_, rights)| all | rights);
    abi.rights() & !everywhere & !AT_EVERY_OPEN
}

/// Denies this process, and all that it starts, every file right outside of `rules`; for ever. Needs `no_new_privs`.
pub fn restrict(abi: Abi, rules: &[Rule]) -> io::Result<()> {
    let scoped = if abi.0 >= 6 { SCOPES } else { 0 };
    let handled = handled(abi, rules);
    let attributes = Attributes { files: handled, network: 0, scoped };
    // SAFETY: `attributes` is a valid ruleset description of the size that is passed.
    let set = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size_of::<Attributes>(), 0)
    })?;
    // SAFETY: the kernel has just returned it as a new descriptor.
    let set = unsafe { OwnedFd::from_raw_fd(set as RawFd) };
    for (path, rights) in rules {
        let rights = rights & handled;
        if rights == 0 {
            continue;
        }
        let tree = fds::open(path, libc::O_PATH | libc::O_NOFOLLOW)?;
        let beneath = Beneath { rights, parent: tree.as_raw_fd() };
        const PATH_BENEATH: libc::c_int = 1;
        // SAFETY: `beneath` is a valid rule of that kind.
        check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, set.as_raw_fd(), PATH_BENEATH, &raw const beneath, 0)
        })?;
    }
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set.as_raw_fd(), 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_version() {
        assert_eq!(Abi(1).rights(), 0x1fff);
        assert_eq!((Abi(4).rights(), Abi(7).rights()), (0x7fff, 0xffff));
        let devices = 1 << 6 | 1 << 11;
        for (path, rights) in FUNCTION.iter().chain(UNPACK) {
            assert_eq!(rights & devices, 0, "{path:?}");
        }
    }

    #[test]
    fn what_is_granted_everywhere_is_not_asked_for() {
        assert_eq!(handled(Abi(7), FUNCTION), Abi(7).rights() & !(READ | EXECUTE | AT_EVERY_OPEN));
        assert_eq!(handled(Abi(1), UNPACK), Abi(1).rights());
    }
}
