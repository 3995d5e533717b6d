//! The spawner's first steps: it sheds what it inherited, locks the data directory's id, sweeps what an earlier life left
//! and leases a range of host uids.
//!
//! Locks are `flock`s on cgroup directories: they vanish with the process, whatever ends it, and every server of this
//! host sees the same ones.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::api::Options;
use crate::cgroup::{self, Layout};
use crate::error::Error;
use crate::sys::process::{self, cap};
use crate::sys::{check_int, fds};

/// Ranges that are tried before giving up; far more servers than one host carries.
const MAX_RANGES: u32 = 256;

/// The name of a server's top directory in every hierarchy.
pub fn top_name(data_id: &str) -> String {
    format!("flint-{data_id}")
}

pub fn check_options(options: &Options) -> Result<(), Error> {
    let bad = |name, problem: String| Err(Error::Option { name, problem });
    let id = &options.data_id;
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return bad("data_id", format!("{id:?} is not 1 to 64 lower-case hex digits"));
    }
    if options.uid_count == 0 || options.uid_count > 65_536 {
        return bad("uid_count", format!("{} is not between 1 and 65536", options.uid_count));
    }
    if options.uid_base < 1000 || options.uid_base.checked_add(options.uid_count.saturating_mul(2)).is_none() {
        return bad("uid_base", format!("{} leaves no room for host user ids", options.uid_base));
    }
    if options.service_uid == 0 || (options.service_gid == 0 && !options.rootless) {
        return bad("service_uid", "the service user must not be root".to_owned());
    }
    if options.idle_slots > 256 {
        return bad("idle_slots", format!("{} is more than 256", options.idle_slots));
    }
    Ok(())
}

/// The number of the spawner's end of the channel.
pub const CHANNEL: RawFd = 3;

/// Makes the forked copy of the server into a process of its own that knows nothing of it; returns the channel, moved.
///
/// Standard error stays, for what a panic has to say.
pub fn shed(channel: OwnedFd) -> OwnedFd {
    process::set_name(c"flint-spawner");
    // SAFETY: no pointers; a process that has just been forked is no group leader.
    unsafe { libc::setsid() };
    scrub_memory();
    // Children are not waited for: their end shows in pidfds. Being asked to stop is the server's business: it may
    // want to drain, and its end is ours.
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::umask(0o022);
    }
    process::prctl(libc::PR_SET_DUMPABLE, 0).ok();
    // A few descriptors for every sandbox.
    process::raise_descriptors();
    // Whatever the server holds open by now is none of the spawner's business.
    if channel.as_raw_fd() != CHANNEL {
        fds::dup_onto(channel.as_raw_fd(), CHANNEL).ok();
        std::mem::forget(channel);
    } else {
        std::mem::forget(channel);
    }
    fds::close_from(CHANNEL + 1).ok();
    if let Ok(null) = fds::open(c"/dev/null", libc::O_RDWR) {
        fds::dup_onto(null.as_raw_fd(), 0).ok();
        fds::dup_onto(null.as_raw_fd(), 1).ok();
    }
    // SAFETY: the number holds the channel, and its former owner has been forgotten.
    let channel = unsafe { OwnedFd::from_raw_fd(CHANNEL) };
    // SAFETY: no pointers.
    unsafe { libc::fcntl(CHANNEL, libc::F_SETFD, libc::FD_CLOEXEC) };
    channel
}

/// Overwrites arguments and environment, which `/proc/PID/cmdline` and `environ` of every later child would show.
fn scrub_memory() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: one thread; `environ` is null or a null-terminated array of C strings, and nobody reads it afterwards
    // because it is emptied in the same step.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            let length = libc::strlen(*next);
            libc::explicit_bzero((*next).cast(), length);
            next = next.add(1);
        }
        environ = std::ptr::null_mut();
    }
    // arg_start, arg_end, env_start, env_end are fields 48 to 51 of proc(5)'s stat; the state after the name is field 3.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<usize> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    for (start, end) in [(45, 46), (47, 48)] {
        let (Some(&start), Some(&end)) = (fields.get(start), fields.get(end)) else { return };
        if start != 0 && start < end && end - start < 8 << 20 {
            // SAFETY: the kernel reports this range as the process' own argument or environment strings, which lie in
            // its writable stack; nothing reads them any more.
            unsafe { libc::explicit_bzero(start as *mut libc::c_void, end - start) };
        }
    }
}

/// Keeps what making sandboxes takes; gives up the rest for ever. Without root they are those of the own user namespace.
pub fn shed_capabilities(rootless: bool) -> io::Result<()> {
    let mut keep = [
        cap::SYS_ADMIN,    // namespaces, mounts, host names
        cap::SYS_CHROOT,   // entering mount namespaces
        cap::SYS_RESOURCE, // resource limits up to what the launch asks for
        cap::NET_ADMIN,    // loopback up
        cap::SETUID,       // the sandbox's user
        cap::SETGID,       // the sandbox's group
        cap::SETPCAP,      // bounding sets
        cap::KILL,         // sandboxes run as other users
        cap::CHOWN,        // pipes belong to the sandbox's user
        cap::FOWNER,       // modes of what belongs to others
        cap::DAC_OVERRIDE, // interpreters below closed directories, cgroup files
        cap::MKNOD,        // the nodes of /dev
    ]
    .iter()
    .fold(0_u64, |set, number| set | 1 << number);
    if rootless {
        // How much memory sandboxes hold is read from their processes where no cgroup counts it.
        keep |= 1 << cap::SYS_PTRACE;
    }
    process::limit_bounding_set(keep)?;
    process::limit_capabilities(keep)
}

/// Locked cgroup directories. The locks go when this is dropped, and with the process.
#[derive(Debug)]
pub struct Locks {
    paths: Vec<PathBuf>,
    held: Vec<OwnedFd>,
}

impl Locks {
    /// Without root there is nothing that several servers of one host share.
    pub fn none() -> Self {
        Self { paths: Vec::new(), held: Vec::new() }
    }

    /// Removes the directories while they are still locked, innermost first.
    pub fn release(&mut self) {
        for path in self.paths.drain(..).rev() {
            std::fs::remove_dir(&path).ok();
        }
        self.held.clear();
    }

    fn hold(&mut self, path: PathBuf, fd: OwnedFd) {
        self.paths.push(path);
        self.held.push(fd);
    }
}

/// Who sandboxes are on the host.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    /// Each slot has one of its own, the same for user and group, from this one on.
    Leased { first: u32 },
    /// Without root: all are who started the server.
    Own { uid: u32, gid: u32 },
}

impl Ids {
    /// User and group of a slot.
    pub fn of(self, slot: u32) -> (u32, u32) {
        match self {
            Self::Leased { first } => (first + slot, first + slot),
            Self::Own { uid, gid } => (uid, gid),
        }
    }
}

/// Locks the data directory's id, sweeps its cgroups, leases a range of user ids and returns the first. Errors are one line for the operator.
pub fn lock_and_sweep(layout: &Layout, options: &Options) -> Result<(Locks, u32), String> {
    let home = layout.lock_home().ok_or("no cgroup hierarchy is mounted")?;
    let mut locks = Locks::none();
    // An earlier life's spawner may still be cleaning up: 10 s.
    let path = home.join(format!("flint-lock-{}", options.data_id));
    let lock = wait_for(2000, || lock_directory(&path)).map_err(|e| format!("{}: {e}", path.display()))?;
    let lock = lock.ok_or("another spawner of this data directory is still running")?;
    locks.hold(path, lock);
    sweep(layout, &top_name(&options.data_id))?;
    remove_marks(home, &options.data_id);
    tidy_dead(layout, home);
    let first = lease_range(layout, home, options, &mut locks)?;
    Ok((locks, first))
}

/// Tries until there is a result, 5 ms apart.
fn wait_for<T>(tries: u32, mut one: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    for _ in 0..tries {
        if let Some(done) = one()? {
            return Ok(Some(done));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(None)
}

/// Makes and locks a directory; none when someone else holds it.
fn lock_directory(path: &Path) -> io::Result<Option<OwnedFd>> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let fd = match fds::open(&cgroup::c_path(path)?, libc::O_DIRECTORY | libc::O_RDONLY) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !fds::try_lock(fd.as_fd())? {
        return Ok(None);
    }
    // The former holder may have removed it between our open and our lock; then the name is another directory's, or none.
    let same =
        std::fs::metadata(path).is_ok_and(|now| fds::stat(fd.as_raw_fd()).is_ok_and(|st| now.ino() == st.st_ino));
    Ok(same.then_some(fd))
}

/// Ends and removes what an earlier life of this name has left in its cgroups.
pub fn sweep(layout: &Layout, name: &str) -> Result<(), String> {
    for path in cgroup::find_tops(layout, name) {
        let gone = wait_for(2000, || Ok(cgroup::sweep_once(&path).then_some(())));
        if !matches!(gone, Ok(Some(()))) {
            return Err(format!("processes in {} do not die", path.display()));
        }
    }
    Ok(())
}

/// Removes the empty cgroups of servers that died with their spawner and were never started again.
fn tidy_dead(layout: &Layout, home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|n| n.strip_prefix("flint-lock-")) else { continue };
        // Held while we look, so that a server that starts now waits for us.
        let Ok(Some(_lock)) = lock_directory(&entry.path()) else { continue };
        let tops = cgroup::find_tops(layout, &top_name(id));
        if tops.iter().all(|top| !cgroup::populated(top) && cgroup::sweep_once(top)) {
            remove_marks(home, id);
            std::fs::remove_dir(entry.path()).ok();
        }
    }
}

/// Removes what a server without processes has left in the ranges that it used.
fn remove_marks(home: &Path, id: &str) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(b"flint-range-") {
            std::fs::remove_dir(entry.path().join(format!("flint-user-{id}"))).ok();
        }
    }
}

/// Leases `uid_count` ids; returns the first.
fn lease_range(layout: &Layout, home: &Path, options: &Options, locks: &mut Locks) -> Result<u32, String> {
    let subordinate = subordinate_ranges();
    for k in 0..MAX_RANGES {
        let Some(first) = k.checked_mul(options.uid_count).and_then(|n| n.checked_add(options.uid_base)) else { break };
        let Some(end) = first.checked_add(options.uid_count).filter(|&end| end < u32::MAX) else { break };
        if let Some((file, from, to)) = subordinate.iter().find(|(_, from, to)| first < *to && *from < end) {
            return Err(format!(
                "host user ids {first} to {} overlap {from} to {} of {file}; set uid_base to a free range",
                end - 1,
                to - 1
            ));
        }
        // The name carries the bounds: servers with other settings must not share them either.
        let path = home.join(format!("flint-range-{first}-{}", options.uid_count));
        if overlaps_other(home, first, end, &path) {
            continue;
        }
        let Some(lock) = lock_directory(&path).map_err(|e| format!("{}: {e}", path.display()))? else { continue };
        if let Some(user) = former_user(layout, &path, &options.data_id) {
            tracing::warn!(
                range = first,
                user,
                "skipped a range of user ids: a dead server's processes still run in it"
            );
            continue;
        }
        locks.hold(path.clone(), lock);
        // Who uses it, for the next one who finds the lock free but processes alive.
        let mark = path.join(format!("flint-user-{}", options.data_id));
        std::fs::create_dir(&mark).ok();
        if let Ok(fd) = cgroup::c_path(&mark).and_then(|p| fds::open(&p, libc::O_DIRECTORY | libc::O_RDONLY)) {
            locks.hold(mark, fd);
        }
        return Ok(first);
    }
    Err(format!("no free range of {} host user ids from {} on", options.uid_count, options.uid_base))
}

/// A live lease of other bounds overlaps this one.
fn overlaps_other(home: &Path, first: u32, end: u32, own: &Path) -> bool {
    std::fs::read_dir(home).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let bounds = name.to_str().and_then(|n| n.strip_prefix("flint-range-")).and_then(|n| n.split_once('-'));
        let Some((Ok(from), Ok(count))) = bounds.map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>())) else {
            return false;
        };
        let path = entry.path();
        path != own
            && first < from.saturating_add(count)
            && from < end
            && cgroup::c_path(&path)
                .and_then(|p| fds::open(&p, libc::O_DIRECTORY | libc::O_RDONLY))
                .is_ok_and(|fd| !fds::try_lock(fd.as_fd()).unwrap_or(false))
    })
}

/// Another data directory whose spawner died, with processes that still run under this range's ids. Marks without
/// processes behind them are removed.
fn former_user(layout: &Layout, range: &Path, own: &str) -> Option<String> {
    for entry in std::fs::read_dir(range).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(user) = name.to_str().and_then(|n| n.strip_prefix("flint-user-")) else { continue };
        if user != own && cgroup::find_tops(layout, &top_name(user)).iter().any(|top| cgroup::populated(top)) {
            return Some(user.to_owned());
        }
        std::fs::remove_dir(entry.path()).ok();
    }
    None
}

/// (file, first, end) of every range that `/etc/subuid` and `/etc/subgid` give away.
fn subordinate_ranges() -> Vec<(&'static str, u32, u32)> {
    let mut ranges = Vec::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        ranges.extend(parse_subordinate(&text).map(|(from, to)| (file, from, to)));
    }
    ranges
}

fn parse_subordinate(text: &str) -> impl Iterator<Item = (u32, u32)> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        let from: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        Some((from, from.saturating_add(count)))
    })
}

/// Waits for nothing, only asks: is this process the only one with the right to be here?
pub fn is_root() -> bool {
    // SAFETY: no pointers.
    check_int(unsafe { libc::geteuid() } as libc::c_int).is_ok_and(|uid| uid == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_files_are_read_and_nonsense_in_them_skipped() {
        let text = "user:100000:65536\n# a comment\nbroken:x:1\nlast:4294967290:100\n";
        assert_eq!(parse_subordinate(text).collect::<Vec<_>>(), [(100_000, 165_536), (4_294_967_290, u32::MAX)]);
    }

    #[test]
    fn options_are_checked() {
        let good = Options::new("0af9", 990, 990);
        assert!(check_options(&good).is_ok());
        for bad in [
            Options { data_id: "../x".into(), ..good.clone() },
            Options { data_id: String::new(), ..good.clone() },
            Options { uid_count: 0, ..good.clone() },
            Options { uid_base: 0, ..good.clone() },
            Options { uid_base: u32::MAX, ..good.clone() },
            Options { service_uid: 0, ..good.clone() },
            Options { idle_slots: 10_000, ..good },
        ] {
            assert!(matches!(check_options(&bad), Err(Error::Option { .. })), "{bad:?}");
        }
    }
}
