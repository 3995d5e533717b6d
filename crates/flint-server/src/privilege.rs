//! From root to the service user, for good.

use std::io;

use crate::error::Error;

/// Becomes `user` with no group but its own and no way back. Must be called while the process has one thread, since
/// the kernel keeps identities by thread.
pub(crate) fn drop_to(user: u32) -> Result<(), Error> {
    let check = |result: libc::c_int| {
        if result == 0 { Ok(()) } else { Err(Error::Privilege(io::Error::last_os_error())) }
    };
    // SAFETY: plain system calls without pointers (but for the empty group list, which is not read).
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user, user, user))?;
        check(libc::setresuid(user, user, user))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // Not to be dumped or traced, whatever the host's default after a change of identity is.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        if libc::setuid(0) == 0 {
            return Err(Error::Privilege(io::Error::other("root could be regained")));
        }
    }
    Ok(())
}

/// Nothing that the process knows is written to a file when it crashes. Children inherit this.
pub(crate) fn no_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "a crash may leave a core dump");
    }
}

/// No pages of 2 MiB for the server's heap: half of its memory was the unused rest of them. Called when the spawner exists, since
/// functions, which are the spawner's children, shall have them.
pub(crate) fn no_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the server takes more memory than it needs");
    }
}

/// Lets the process have as many descriptors as it may: an environment holds about a dozen.
pub(crate) fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Memory that the host can give to environments, in MB: four fifths of what is free, or of this process' own limit.
pub(crate) fn memory_budget_mb() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available_kb = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    available_kb.unwrap_or(1024 * 1024) / 1024 * 4 / 5
}
