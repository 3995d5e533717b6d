//! What happens between `clone3` and `execve`, as the first process of the new pid namespace.
//!
//! Everything is mounted and joined with privilege first; the user namespace comes last, so that no capability inside,
//! even a regained one, reaches mounts or network. Then this process forks: it stays as the sandbox's init, the child
//! becomes the function. Nothing here returns or unwinds into the spawner's code.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use super::filter::{self, Program};
use super::{init, landlock, proc, root, setup};
use crate::api::INSIDE_ID;
use crate::error::Stage;
use crate::message::{At as _, Failure, Status, UnpackRequest};
use crate::sys::{fds, monotonic_ns, mount, process};
use crate::walls::{Wall, Walls};

/// What every child of the spawner goes through.
pub struct Confinement<'a> {
    /// The mount namespace of the root.
    pub root: RawFd,
    pub tasks: &'a [OwnedFd],
    pub net: RawFd,
    /// User and group to become; none where there are only those of the spawner.
    pub user: Option<(u32, u32)>,
    /// User and group that it is then.
    pub ids: (u32, u32),
    /// Processes and threads where no cgroup counts them.
    pub processes: Option<u32>,
    /// Write end of the status pipe.
    pub status: RawFd,
    /// (read end, write end)
    pub lifeline: (RawFd, RawFd),
    pub open_files: u64,
    pub hostname: &'a [u8],
    /// None where the kernel has no Landlock.
    pub landlock: Option<landlock::Abi>,
    /// The trees inside and what may be done in them.
    pub rules: &'static [landlock::Rule],
    pub walls: Walls,
}

/// A function's sandbox.
pub struct Plan<'a> {
    pub confinement: Confinement<'a>,
    pub code: Option<RawFd>,
    pub layer: Option<RawFd>,
    /// The file system of `/tmp`, detached; a tmpfs with these options where there is none.
    pub tmp: Option<RawFd>,
    pub tmp_options: CString,
    pub shm_options: CString,
    pub null: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    /// Null-terminated, into `message`.
    pub argv: Vec<*const libc::c_char>,
    pub env: Vec<*const libc::c_char>,
    pub cwd: &'a CStr,
    pub filters: &'a [Program],
    pub survey: &'a proc::Survey,
    /// The directory inside with the files of `/proc` for the function's memory.
    pub sizes: CString,
    /// Init stops and continues the sandbox when it gets a signal: there is no freezer.
    pub signals: bool,
    /// The request's bytes, wiped in init as soon as they are not needed.
    pub message: (*const u8, usize),
    pub cloned_ns: u64,
}

/// The unpack helper's sandbox.
pub struct UnpackPlan<'a> {
    pub confinement: Confinement<'a>,
    pub archive: RawFd,
    pub staging: RawFd,
    pub request: UnpackRequest,
    pub filters: &'a [Program],
}

/// Numbers at which init keeps its descriptors: 0 to 2 are the function's.
pub(super) const STATUS: RawFd = 3;
/// Above every number that is a target of `dup2`.
const ABOVE: RawFd = 64;

pub extern "C" fn run(plan: &Plan<'_>) -> ! {
    let mut stamps = [plan.cloned_ns, monotonic_ns(), 0, 0, 0, 0];
    let failed = match become_sandbox(plan, &mut stamps) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    fds::write_all(plan.confinement.status, &Status::Failed(failed).encode()).ok();
    process::exit(127)
}

fn become_sandbox(plan: &Plan<'_>, stamps: &mut [u64; 6]) -> Result<Infallible, Failure> {
    let confinement = &plan.confinement;
    let procs = enter(confinement)?;
    join(confinement)?;
    stamps[2] = monotonic_ns();
    for (tree, place) in [(plan.code, c"/var/task"), (plan.layer, c"/opt")] {
        if let Some(tree) = tree {
            attach_code(tree, place).at(Stage::Code)?;
        }
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    match plan.tmp {
        Some(tmp) => mount::attach(tmp, libc::AT_FDCWD, c"/tmp"),
        None => mount::mount_new(c"tmpfs", c"/tmp", flags, &plan.tmp_options),
    }
    .at(Stage::Tmp)?;
    mount::mount_new(c"tmpfs", c"/dev/shm", flags | libc::MS_NOEXEC, &plan.shm_options).at(Stage::Tmp)?;
    let covers = confinement.walls.stand(Wall::Proc).then_some((plan.survey, plan.sizes.as_c_str()));
    proc::mount(procs.inside, covers).at(Stage::Proc)?;
    stamps[3] = monotonic_ns();
    confine(confinement, procs.maps)?;

    arrange_descriptors(plan).at(Stage::Descriptors)?;
    // From here on failures go to the descriptor's new number.
    let failed = match enter_filter_and_fork(plan, stamps) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    fds::write_all(STATUS, &Status::Failed(failed).encode()).ok();
    process::exit(127)
}

/// Below an overlay, so that nobody inside can read where the data directory lies; as it is where the kernel can't do that.
fn attach_code(tree: RawFd, place: &CStr) -> io::Result<()> {
    let below = mount::clone_tree(libc::AT_FDCWD, root::EMPTY)?;
    match mount::overlay(tree, below.as_raw_fd(), root::FROM_HOST) {
        Ok(overlay) => mount::attach(overlay.as_raw_fd(), libc::AT_FDCWD, place),
        Err(_) => mount::attach(tree, libc::AT_FDCWD, place),
    }
}

fn enter_filter_and_fork(plan: &Plan<'_>, stamps: &mut [u64; 6]) -> Result<Infallible, Failure> {
    // The spawner ignores the end of its children; init has to hear of it.
    process::reset_signals();
    if plan.signals {
        process::block_signals(&init::signals());
    }
    if plan.confinement.walls.stand(Wall::Filter) {
        filter::install(plan.filters).at(Stage::Filter)?;
    }
    stamps[4] = monotonic_ns();
    // SAFETY: one thread; both sides leave through functions that do not return.
    match unsafe { process::fork() }.at(Stage::Fork)? {
        0 => Err(exec(plan, stamps)),
        main => init::run(main, plan.message, plan.signals),
    }
}

/// Two instances of `/proc` of this pid namespace, attached nowhere yet.
struct Procs {
    /// The one that is mounted: read-only.
    inside: OwnedFd,
    /// Writable, and gone with its descriptor: only for this process' own maps.
    maps: OwnedFd,
}

/// Goes into a copy of the root's mount namespace, with nothing of the host's behind it.
///
/// Where this process has rights over its own user namespace only, the kernel grants a new `/proc` just to those who see
/// one already: so both are made before.
fn enter(confinement: &Confinement<'_>) -> Result<Procs, Failure> {
    // This copy of the channel would hide the spawner's end from the server, so it goes first. The number stays taken: it
    // is that of the status later.
    fds::dup_onto(confinement.status, setup::CHANNEL).at(Stage::Enter)?;
    let attributes = mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let procs = Procs {
        inside: mount::new_fs(c"proc", &[], attributes | mount::RDONLY).at(Stage::Proc)?,
        maps: mount::new_fs(c"proc", &[], attributes).at(Stage::Proc)?,
    };
    process::set_ns(confinement.root, libc::CLONE_NEWNS).at(Stage::Enter)?;
    process::unshare(libc::CLONE_NEWNS).at(Stage::Enter)?;
    Ok(procs)
}

/// Cgroups, network and cgroup namespace.
fn join(confinement: &Confinement<'_>) -> Result<(), Failure> {
    // This copy would keep the lifeline open.
    // SAFETY: the number is the spawner's write end, whose owner does not exist in this process any more.
    unsafe { libc::close(confinement.lifeline.1) };
    for tasks in confinement.tasks {
        // "0" is the writer itself, and a single-threaded one needs no global lock for `tasks`.
        fds::write_all(tasks.as_raw_fd(), b"0").at(Stage::Join)?;
    }
    process::set_ns(confinement.net, libc::CLONE_NEWNET).at(Stage::Net)?;
    if confinement.walls.stand(Wall::Namespaces) {
        process::unshare(libc::CLONE_NEWCGROUP).at(Stage::Join)?;
    }
    Ok(())
}

/// Limits, identity, user namespace, capabilities, files. Afterwards this process has no right over anything but its own.
fn confine(confinement: &Confinement<'_>, proc: OwnedFd) -> Result<(), Failure> {
    let walls = confinement.walls;
    if walls.stand(Wall::Namespaces) {
        process::set_hostname(confinement.hostname).at(Stage::Host)?;
    }
    // A function that is woken does not push the server off its processor: it runs when that one is done or another is free.
    process::schedule_as_batch().at(Stage::Host)?;
    if walls.stand(Wall::Limits) {
        limit_resources().at(Stage::Host)?;
    }
    if let Some((uid, gid)) = confinement.user {
        process::become_user(uid, gid).at(Stage::Identity)?;
    }
    if walls.stand(Wall::Limits) {
        process::own_keyring().at(Stage::Identity)?;
    }
    if walls.stand(Wall::User) {
        enter_user_namespace(confinement, proc.as_raw_fd()).at(Stage::UserNamespace)?;
    }
    drop(proc);
    if let Some(most) = confinement.processes {
        // Counted in this user namespace, which is the sandbox's own.
        process::limit_resource(libc::RLIMIT_NPROC, most.into()).at(Stage::Host)?;
    }
    if walls.stand(Wall::Capabilities) {
        process::limit_bounding_set(0).at(Stage::Capabilities)?;
        process::limit_capabilities(0).at(Stage::Capabilities)?;
    }
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at(Stage::Capabilities)?;
    // Init is a copy of the spawner: nobody inside may look into it.
    process::prctl(libc::PR_SET_DUMPABLE, 0).at(Stage::Capabilities)?;
    if let Some(abi) = confinement.landlock.filter(|_| walls.stand(Wall::Landlock)) {
        landlock::restrict(abi, confinement.rules).at(Stage::Landlock)?;
    }
    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).at(Stage::Lifeline)?;
    // The spawner may have died before that took effect.
    match fds::poll_one(confinement.lifeline.0, libc::POLLIN, 0).at(Stage::Lifeline)? {
        0 => Ok(()),
        _ => Err(Failure { stage: Stage::Lifeline, errno: libc::EPIPE }),
    }
}

fn limit_resources() -> io::Result<()> {
    [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
        (libc::RLIMIT_MSGQUEUE, 819_200),
        (libc::RLIMIT_RTPRIO, 0),
        (libc::RLIMIT_NICE, 0),
        (libc::RLIMIT_SIGPENDING, 1024),
    ]
    .into_iter()
    .try_for_each(|(resource, most)| process::limit_resource(resource, most))
}

/// `proc` is a writable one of this pid namespace.
fn enter_user_namespace(confinement: &Confinement<'_>, proc: RawFd) -> io::Result<()> {
    process::unshare(libc::CLONE_NEWUSER)?;
    // Only a dumpable process owns the files through which it sets its maps.
    process::prctl(libc::PR_SET_DUMPABLE, 1)?;
    let map = |id: u32| format!("{INSIDE_ID} {id} 1");
    fds::put(proc, c"self/setgroups", "deny")?;
    fds::put(proc, c"self/uid_map", &map(confinement.ids.0))?;
    fds::put(proc, c"self/gid_map", &map(confinement.ids.1))?;
    // When the whole host runs out of memory, functions go before the server.
    fds::put(proc, c"self/oom_score_adj", "500")
}

/// Leaves 0 (null), 1, 2 (pipes) and 3 (status) open, nothing else.
fn arrange_descriptors(plan: &Plan<'_>) -> io::Result<()> {
    let null = fds::dup_above(plan.null, ABOVE)?;
    let stdout = fds::dup_above(plan.stdout, ABOVE)?;
    let stderr = fds::dup_above(plan.stderr, ABOVE)?;
    let status = fds::dup_above(plan.confinement.status, ABOVE)?;
    fds::dup_onto(null.as_raw_fd(), 0)?;
    fds::dup_onto(stdout.as_raw_fd(), 1)?;
    fds::dup_onto(stderr.as_raw_fd(), 2)?;
    fds::dup_onto(status.as_raw_fd(), STATUS)?;
    // Their numbers are closed below.
    for fd in [null, stdout, stderr, status] {
        std::mem::forget(fd);
    }
    fds::close_from(STATUS + 1)?;
    limit_descriptors(&plan.confinement)
}

/// Only now: until here the spawner's numbers were in use, which may lie above the limit.
fn limit_descriptors(confinement: &Confinement<'_>) -> io::Result<()> {
    process::limit_resource(libc::RLIMIT_NOFILE, confinement.open_files)
}

/// The function's process. Returns only what went wrong.
fn exec(plan: &Plan<'_>, stamps: &mut [u64; 6]) -> Failure {
    let mut last = || -> Result<Infallible, Failure> {
        process::block_signals(&[]);
        // SAFETY: no pointers.
        unsafe { libc::setsid() };
        fds::cloexec_from(STATUS).at(Stage::Descriptors)?;
        // SAFETY: `cwd` is NUL-terminated.
        crate::sys::check_int(unsafe { libc::chdir(plan.cwd.as_ptr()) }).at(Stage::Cwd)?;
        stamps[5] = monotonic_ns();
        fds::write_all(STATUS, &Status::Running { stamps: *stamps }.encode()).at(Stage::Exec)?;
        let program = plan.argv[0];
        // SAFETY: program and strings are NUL-terminated and both arrays end with null; they lie in the request, which
        // this process has its own copy of.
        unsafe { libc::execve(program, plan.argv.as_ptr(), plan.env.as_ptr()) };
        Err(Failure::new(Stage::Exec, &io::Error::last_os_error()))
    };
    match last() {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

pub extern "C" fn run_unpack(plan: &UnpackPlan<'_>) -> ! {
    let failure = match confine_unpack(plan) {
        Ok(()) => {
            let outcome = crate::unpack::run(plan_archive(), &plan.request);
            crate::unpack::report(STATUS, &outcome);
            process::exit(0)
        }
        Err(failure) => failure,
    };
    crate::unpack::report_failure(plan.confinement.status, failure);
    process::exit(127)
}

/// The archive's number after the descriptors are arranged.
const ARCHIVE: RawFd = 4;

fn plan_archive() -> RawFd {
    ARCHIVE
}

fn confine_unpack(plan: &UnpackPlan<'_>) -> Result<(), Failure> {
    process::set_name(c"flint-unpack");
    let Procs { inside, maps } = enter(&plan.confinement)?;
    drop(inside);
    join(&plan.confinement)?;
    mount::attach(plan.staging, libc::AT_FDCWD, root::STAGING).at(Stage::Code)?;
    // Files are 0644 whatever the caller's mask was.
    // SAFETY: no pointers.
    unsafe { libc::umask(0o022) };
    process::limit_resource(libc::RLIMIT_CPU, plan.request.cpu_seconds).at(Stage::Host)?;
    confine(&plan.confinement, maps)?;
    let status = fds::dup_above(plan.confinement.status, ABOVE).at(Stage::Descriptors)?;
    let archive = fds::dup_above(plan.archive, ABOVE).at(Stage::Descriptors)?;
    fds::dup_onto(status.as_raw_fd(), STATUS).at(Stage::Descriptors)?;
    fds::dup_onto(archive.as_raw_fd(), ARCHIVE).at(Stage::Descriptors)?;
    std::mem::forget((status, archive));
    fds::close_from(ARCHIVE + 1).at(Stage::Descriptors)?;
    limit_descriptors(&plan.confinement).at(Stage::Descriptors)?;
    // The failure report above goes to the old number, which is closed by now; a refused filter ends silently, and the
    // server sees a helper that broke off.
    filter::install(plan.filters).at(Stage::Filter)
}
