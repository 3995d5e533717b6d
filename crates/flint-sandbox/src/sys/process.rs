//! Processes: clone3, namespaces, identity, capabilities, limits.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{check, check_int};

/// Its constant in `libc` has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What `clone3` is asked for besides a child.
pub struct Clone3 {
    pub flags: u64,
    /// A version 2 cgroup directory that the child is born in.
    pub cgroup: Option<RawFd>,
}

pub enum Forked {
    Child,
    Parent { pid: u32, pidfd: OwnedFd },
}

/// `clone3` in the manner of fork, with a pidfd.
///
/// # Safety
/// The process must have one thread. The child must not return into code that believes to be the parent.
pub unsafe fn clone3(what: &Clone3) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = what.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(fd) = what.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size that is passed; without CLONE_VM the child has its own memory.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there.
    Ok(Forked::Parent { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// A plain fork by the raw system call; returns 0 in the child.
///
/// # Safety
/// As for [`clone3`].
pub unsafe fn fork() -> io::Result<i32> {
    // SAFETY: no pointers are used with these flags.
    check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as libc::c_ulong, 0, 0, 0, 0) }).map(|pid| pid as i32)
}

/// `SCHED_BATCH`: an ordinary share of the processors, but waking up interrupts nobody. Inherited; going back takes a call
/// that the filter does not allow. Reference: sched(7).
pub fn schedule_as_batch() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is a valid sched_param.
    match check_int(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &param) }) {
        // Who was started with idle priority may not leave it, and pushes nobody off anyhow.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        other => other.map(drop),
    }
}

pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::unshare(flags) }).map(drop)
}

pub fn set_ns(fd: RawFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::setns(fd, kind) }).map(drop)
}

pub fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: only used for options whose argument is a number.
    check_int(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
}

/// Effective user and group.
pub fn ids() -> (u32, u32) {
    // SAFETY: no pointers; neither call can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Sets the name that `ps` shows, at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: `name` is NUL-terminated; failing is harmless.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Real, effective and saved group and user, by raw calls: glibc's would signal threads.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: an empty list needs no pointer.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// Capability numbers, from `linux/capability.h`.
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const FOWNER: u32 = 3;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const MKNOD: u32 = 27;
    /// One above the highest number that any kernel has; unknown ones answer EINVAL, which ends the loop.
    pub const END: u32 = 64;
}

/// Keeps the effective and permitted capabilities that are both held and in `keep` (a bit set); none inheritable.
pub fn limit_capabilities(keep: u64) -> io::Result<()> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 reads and writes two data elements.
    check(unsafe { libc::syscall(libc::SYS_capget, &header, data.as_mut_ptr()) })?;
    for (half, data) in data.iter_mut().enumerate() {
        let keep = (keep >> (32 * half)) as u32;
        *data = CapData { effective: data.permitted & keep, permitted: data.permitted & keep, inheritable: 0 };
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) }).map(drop)
}

/// Removes every capability that is not in `keep` from the bounding set.
pub fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for number in 0..cap::END {
        if keep >> number & 1 == 1 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lowers a resource limit, soft and hard, to `most`; never raises the hard one.
pub fn limit_resource(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for one rlimit.
    check_int(unsafe { libc::getrlimit(resource, &mut now) })?;
    let value = most.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `new` is a valid rlimit.
    check_int(unsafe { libc::setrlimit(resource, &new) }).map(drop)
}

/// Raises the soft limit on descriptors to the hard one; what can't be raised stays.
pub fn raise_descriptors() {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid rlimit in both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut now) == 0 {
            now.rlim_cur = now.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &now);
        }
    }
}

/// A session keyring of its own instead of the one that was inherited, where the kernel has keyrings and the user may have
/// one more.
pub fn own_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: without a name nothing is read.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) }) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)) => Ok(()),
        other => other.map(drop),
    }
}

/// A descriptor of the process that has this number now.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just returned it, close-on-exec as always.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// SIGKILL to the process behind a pidfd; false for one that has ended (and needs none).
pub fn kill(pidfd: RawFd) -> bool {
    signal(pidfd, libc::SIGKILL).is_ok()
}

/// Sends a signal to the process behind a pidfd.
pub fn signal(pidfd: RawFd, number: libc::c_int) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no information is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, number, none, 0) }).map(drop)
}

pub fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length describe `name`.
    check_int(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Ends this process at once, running nothing.
pub fn exit(status: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(status) }
}

/// Default action for every signal, none blocked.
pub fn reset_signals() {
    // SAFETY: all-zero is a valid sigset and sigaction (SIG_DFL); numbers that can't be changed answer an error.
    unsafe {
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Waits for any child; returns its pid and raw wait status.
pub fn wait_any() -> io::Result<(i32, i32)> {
    loop {
        match wait_child(libc::__WALL) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// As [`wait_any`]; none while all children run.
pub fn wait_any_now() -> io::Result<Option<(i32, i32)>> {
    wait_child(libc::__WALL | libc::WNOHANG).map(|ended| (ended.0 != 0).then_some(ended))
}

fn wait_child(options: libc::c_int) -> io::Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for one int.
    let pid = check_int(unsafe { libc::waitpid(-1, &mut status, options) })?;
    Ok((pid, status))
}

fn signal_set(numbers: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: all-zero is a valid sigset, and both calls get one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &number in numbers {
            libc::sigaddset(&mut set, number);
        }
        set
    }
}

/// Blocks these signals and no others.
pub fn block_signals(numbers: &[libc::c_int]) {
    // SAFETY: the set is valid; the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &signal_set(numbers), std::ptr::null_mut()) };
}

/// A signal that has come.
pub struct Signal {
    pub number: libc::c_int,
    /// Who sent it by `kill` or a pidfd: 0 for a process that has no number in this pid namespace. None where the kernel
    /// or a queued value says something else.
    pub sender: Option<i32>,
}

/// Waits for one of these signals, which must be blocked.
pub fn wait_signal(numbers: &[libc::c_int]) -> io::Result<Signal> {
    let set = signal_set(numbers);
    loop {
        // SAFETY: all-zero is a valid siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` and `info` are valid.
        match check_int(unsafe { libc::sigwaitinfo(&set, &mut info) }) {
            Ok(number) => {
                // SAFETY: with this code the kernel has filled in the sender.
                let sender = (info.si_code == libc::SI_USER).then(|| unsafe { info.si_pid() });
                return Ok(Signal { number, sender });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal to every process of this pid namespace but the caller, which must be its init.
pub fn signal_all(number: libc::c_int) {
    // SAFETY: no pointers.
    unsafe { libc::kill(-1, number) };
}
