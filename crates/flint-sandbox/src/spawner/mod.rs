//! The spawner: a tiny single-threaded process with privilege that makes sandboxes for the server.
//!
//! It stays in the host's mount namespace, because only there can it clone the trees that the server hands it, and never
//! mounts anything in it: roots are built in mount namespaces of their own. It never looks at tenants' bytes: arguments,
//! environment and paths are opaque, archives are opened by a sandboxed child. It holds no secret of the server: it is
//! forked at the start, and wipes its environment and every message.
//!
//! When the channel closes, it kills all its cgroups, removes them and exits.
//!
//! Reading order: this file (start and loop), `setup` (privilege, locks, uid range), `base` (what it is without root),
//! `root`, `proc` (what `/proc` shows), `slot`, `tmp`, `ext4` and `helper` (what is mounted at `/tmp`), `launch` (the
//! spawner's part of a launch), `child` (the steps between `clone3` and `execve`), `landlock` and `filter` (files and system
//! calls), `init` (the sandbox's first process afterwards).

mod base;
mod child;
mod ext4;
mod filter;
mod helper;
mod init;
mod landlock;
mod launch;
mod proc;
mod root;
mod setup;
mod slot;
mod tmp;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::api::Options;
use crate::cgroup::{self, Layout, Roles, Tops};
use crate::codec::{MAX_MESSAGE, Reader, Writer};
use crate::error::{Error, Stage};
use crate::message::{Failure, Reply, Request};
use crate::sys::{fds, process, socket};

pub use base::seclude;
pub(crate) use root::STAGING;
pub(crate) use setup::is_root;

/// The server's end of the channel to the spawner. When it is closed the spawner kills every sandbox and exits.
#[derive(Debug)]
pub struct SpawnerChannel {
    pub(crate) fd: OwnedFd,
    pub(crate) pid: u32,
}

impl SpawnerChannel {
    /// Host pid of the spawner.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// How long the spawner may take to start: it may have to wait until an earlier life's processes are dead.
const START_LIMIT_MS: i32 = 20_000;

/// Forks the spawner and waits until it has leased its uid range and swept what an earlier life left.
///
/// Must be called while the process has one thread: as root, before privileges are dropped; or, with `options.rootless`, as
/// a user, who calls [`seclude`] afterwards.
///
/// Errors: `Threaded`, `Missing` (the wrong user, no cgroups, no namespaces), `Option`, `Start`.
pub fn start(options: &Options) -> Result<SpawnerChannel, Error> {
    setup::check_options(options)?;
    let capabilities = crate::probe::probe();
    if capabilities.root == options.rootless {
        let who = if options.rootless { "a user who is not root" } else { "root at the start" };
        return Err(Error::Missing(who.to_owned()));
    }
    if !capabilities.missing.is_empty() {
        return Err(Error::Missing(capabilities.missing.join(", ")));
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Error::Threaded(threads));
    }
    let (server, spawner) = socket::pair().map_err(Error::Channel)?;
    // SAFETY: there is one thread, and the child never returns from `main`.
    let pid = unsafe { process::fork() }.map_err(|e| Error::Start(e.to_string()))?;
    if pid == 0 {
        main(spawner, options);
    }
    drop(spawner);
    match read_hello(server.as_raw_fd()) {
        Ok(()) => Ok(SpawnerChannel { fd: server, pid: pid as u32 }),
        Err(problem) => {
            drop(server);
            // SAFETY: no pointers; it is our own child, which exits when the channel closes.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            Err(Error::Start(problem))
        }
    }
}

fn read_hello(channel: RawFd) -> Result<(), String> {
    let events = fds::poll_one(channel, libc::POLLIN, START_LIMIT_MS).map_err(|e| e.to_string())?;
    if events == 0 {
        return Err("it did not answer in time".to_owned());
    }
    let mut buffer = vec![0; 4096];
    let (n, _) = socket::receive(channel, &mut buffer).map_err(|e| e.to_string())?;
    let mut reader = Reader::new(&buffer[..n]);
    match (reader.u8(), reader.bytes()) {
        (Ok(0), _) => Ok(()),
        (Ok(_), Ok(problem)) => Err(String::from_utf8_lossy(problem).into_owned()),
        _ => Err("it ended at once".to_owned()),
    }
}

/// The spawner's life. Unwinding out of here would run the server's code, so a panic aborts instead.
extern "C" fn main(channel: OwnedFd, options: &Options) -> ! {
    let status = match Spawner::new(channel, options) {
        Ok(mut spawner) => {
            spawner.serve();
            spawner.shut_down();
            0
        }
        Err(()) => 1,
    };
    process::exit(status)
}

/// Everything that the spawner holds.
struct Spawner {
    channel: OwnedFd,
    locks: setup::Locks,
    tops: Tops,
    filters: filter::Filters,
    ids: setup::Ids,
    rootless: bool,
    strict: bool,
    service: (u32, u32),
    host_mounts: OwnedFd,
    host_net: OwnedFd,
    null: OwnedFd,
    /// (read end, write end): the read end shows end of file once the spawner is gone.
    lifeline: (OwnedFd, OwnedFd),
    survey: proc::Survey,
    landlock: Option<landlock::Abi>,
    roots: Vec<root::Root>,
    unpack_root: Option<OwnedFd>,
    slots: slot::Slots,
    /// None where `/tmp` is in memory.
    images: Option<tmp::Images>,
}

/// What the spawner has to get hold of before it can start.
struct Parts {
    locks: setup::Locks,
    tops: Tops,
    filters: filter::Filters,
    survey: proc::Survey,
    ids: setup::Ids,
    host_mounts: OwnedFd,
    host_net: OwnedFd,
    null: OwnedFd,
    lifeline: (OwnedFd, OwnedFd),
    images: Option<tmp::Images>,
}

impl Parts {
    fn make(options: &Options) -> Result<Self, String> {
        let what = |name: &'static str| move |e: io::Error| format!("{name}: {e}");
        let layout = Layout::detect();
        let name = setup::top_name(&options.data_id);
        let (locks, ids, tops) = if options.rootless {
            let layout = layout.delegated();
            setup::sweep(&layout, &name)?;
            base::enter()?;
            let ids = setup::Ids::Own { uid: options.service_uid, gid: options.service_gid };
            (setup::Locks::none(), ids, Tops::create_delegated(&layout, &name))
        } else {
            let (locks, first) = setup::lock_and_sweep(&layout, options)?;
            let tops = Tops::create(&layout, &name).map_err(what("cgroups"))?;
            if !(tops.have(Roles::MEMORY) && tops.have(Roles::PIDS)) {
                return Err("neither memory nor processes can be capped".to_owned());
            }
            (locks, setup::Ids::Leased { first }, tops)
        };
        let filters = filter::Filters::compile()?;
        let survey = proc::Survey::take().map_err(what("/proc"))?;
        let open = |path, name| fds::open(path, libc::O_RDONLY).map_err(what(name));
        let host_mounts = open(c"/proc/self/ns/mnt", "mount namespace")?;
        let host_net = open(c"/proc/self/ns/net", "network namespace")?;
        let null = fds::open(c"/dev/null", libc::O_RDWR).map_err(what("/dev/null"))?;
        if !fds::is_null_device(null.as_raw_fd()).map_err(what("/dev/null"))? {
            return Err("/dev/null is not the null device".to_owned());
        }
        let lifeline = fds::pipe().map_err(what("pipe"))?;
        setup::shed_capabilities(options.rootless).map_err(what("capabilities"))?;
        let images = match ids {
            setup::Ids::Leased { first } => open_images(options, &layout, first)?,
            // Who is not root has no loop devices.
            setup::Ids::Own { .. } => None,
        };
        Ok(Self { locks, tops, filters, survey, ids, host_mounts, host_net, null, lifeline, images })
    }
}

/// Roots that one server may define; there is one for each runtime.
const MAX_ROOTS: usize = 256;

impl Spawner {
    fn new(channel: OwnedFd, options: &Options) -> Result<Self, ()> {
        let channel = setup::shed(channel);
        let socket = channel.as_raw_fd();
        let mut hello = Writer::default();
        let made = match Self::make(channel, options) {
            Ok(spawner) => {
                hello.u8(0);
                hello.bytes(&[]);
                Ok(spawner)
            }
            Err((channel, problem)) => {
                hello.u8(1);
                hello.bytes(problem.as_bytes());
                Err(channel)
            }
        };
        socket::send(socket, &hello.finish(), &[]).ok();
        made.map_err(drop)
    }

    fn make(channel: OwnedFd, options: &Options) -> Result<Self, (OwnedFd, String)> {
        match Parts::make(options) {
            Ok(parts) => Ok(Self {
                channel,
                locks: parts.locks,
                tops: parts.tops,
                filters: parts.filters,
                survey: parts.survey,
                landlock: landlock::Abi::detect(),
                ids: parts.ids,
                rootless: options.rootless,
                strict: options.strict,
                service: (options.service_uid, options.service_gid),
                host_mounts: parts.host_mounts,
                host_net: parts.host_net,
                null: parts.null,
                lifeline: parts.lifeline,
                roots: Vec::new(),
                unpack_root: None,
                slots: slot::Slots::new(options),
                images: parts.images,
            }),
            Err(problem) => Err((channel, problem)),
        }
    }

    /// Answers requests until the channel closes.
    fn serve(&mut self) {
        let mut buffer = vec![0_u8; MAX_MESSAGE];
        loop {
            let busy = self.slots.has_work() || self.images.as_ref().is_some_and(tmp::Images::has_work);
            match fds::poll_one(self.channel.as_raw_fd(), libc::POLLIN, if busy { 20 } else { -1 }) {
                Ok(0) => {
                    self.slots.work(&self.tops);
                    self.images.iter_mut().for_each(tmp::Images::work);
                    continue;
                }
                Ok(_) => {}
                Err(_) => return,
            }
            let began_ns = crate::sys::monotonic_ns();
            let (n, given) = match socket::receive(self.channel.as_raw_fd(), &mut buffer) {
                Ok((0, _)) => return,
                Ok(message) => message,
                // A server that breaks the protocol is no server.
                Err(_) => return,
            };
            let Ok((id, request)) = Request::decode(&buffer[..n]) else { return };
            let (reply, back) = self.answer(request, given, began_ns, &buffer[..n]);
            wipe(&mut buffer[..n]);
            let back: Vec<RawFd> = back.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
            if socket::send(self.channel.as_raw_fd(), &reply.encode(id), &back).is_err() {
                return;
            }
        }
    }

    fn answer(
        &mut self,
        request: Request<'_>,
        given: Vec<OwnedFd>,
        began_ns: u64,
        message: &[u8],
    ) -> (Reply, Vec<OwnedFd>) {
        let outcome = match request {
            Request::DefineRoot { binds, files } => self.define_root(&binds, &files, given),
            Request::CreateSlot => self.slots.create(&self.tops, self.host_net.as_raw_fd(), self.images.as_mut()),
            Request::Launch(launch) => self.launch(&launch, given, began_ns, message),
            Request::Unpack(unpack) => self.unpack(&unpack, given, began_ns),
            Request::DestroySlot { slot } => self.slots.destroy(slot, &self.tops, self.images.as_mut()),
            Request::KillSlot { slot } => self.slots.kill(slot, &self.tops),
            Request::SettleSlot { slot } => self.slots.settle(slot, &self.tops),
            Request::Measure { slot } => self.slots.measure(slot),
            Request::Socket { slot } => self.slots.socket(slot, self.host_net.as_raw_fd()),
        };
        outcome.unwrap_or_else(|failure| (Reply::Failed(failure), Vec::new()))
    }

    fn define_root(
        &mut self,
        binds: &[(&std::ffi::CStr, &std::ffi::CStr)],
        files: &[crate::message::FileHead<'_>],
        given: Vec<OwnedFd>,
    ) -> slot::Answer {
        let [contents] = &given[..] else { return Err(Failure { stage: Stage::Request, errno: libc::EINVAL }) };
        if self.roots.len() >= MAX_ROOTS {
            return Err(Failure { stage: Stage::Root, errno: libc::EMFILE });
        }
        let root = self.builder().build(binds, files, contents.as_raw_fd())?;
        self.roots.push(root);
        Ok((Reply::Root { root: self.roots.len() as u32 - 1 }, Vec::new()))
    }

    fn builder(&self) -> root::Builder {
        root::Builder { host_mounts: self.host_mounts.as_raw_fd(), rootless: self.rootless }
    }

    /// The server is gone: nothing that it started may live on.
    fn shut_down(&mut self) {
        self.slots.kill_all(&self.tops);
        let mut left: Vec<_> = self.tops.0.iter().map(|top| top.path.clone()).collect();
        // 10 s: the kernel may take a while to tear down hundreds of processes; whatever is left is swept next time.
        for _ in 0..2000 {
            left.retain(|path| !cgroup::sweep_once(path));
            if left.is_empty() && self.slots.have_ended() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if let Some(images) = &mut self.images {
            images.close(self.slots.take_tmps());
        }
        if left.is_empty() {
            self.locks.release();
        }
    }
}

/// What `/tmp` is made from, where the host can; said where it can't.
fn open_images(options: &Options, layout: &Layout, first_uid: u32) -> Result<Option<tmp::Images>, String> {
    let Some(folder) = options.image_dir.as_deref() else { return Ok(None) };
    let range = first_uid.saturating_sub(options.uid_base) / options.uid_count;
    match tmp::Images::open(folder, range, layout.write_throttle.as_deref()) {
        Ok(images) => Ok(Some(images)),
        Err(error) if options.strict => Err(format!("no loop devices for /tmp: {error}")),
        Err(error) => {
            tracing::warn!(%error, "no loop devices: /tmp is in memory, on the account of the function");
            Ok(None)
        }
    }
}

/// Overwrites what held arguments and environment, in a way that the compiler may not leave out.
fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and length describe `bytes`.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
}
