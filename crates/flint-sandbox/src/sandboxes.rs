//! The server's asynchronous handle to the spawner: roots, the pool of slots, launches.
//!
//! One task, the driver, owns the channel. It keeps a few slots ready; a launch takes one and is a single message to the
//! spawner and back. Making and taking down slots yields to launches.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{Census, Launch, Options, RootId, RootSpec, UnpackLimits, Unpacked};
use crate::codec::MAX_MESSAGE;
use crate::error::{Error, Stage, UnpackError};
use crate::measure::Held;
use crate::message::{
    self, Failure, MAX_ROOT_BINDS, MAX_ROOT_BYTES, MAX_ROOT_FILES, MAX_STRINGS, Reply, SLOT_FILES, SlotForm,
    UnpackRequest,
};
use crate::sandbox::{Inner, Sandbox, SlotFiles, Started};
use crate::spawner::SpawnerChannel;
use crate::sys::{fds, socket};
use crate::watchdog::Allowed;

/// Memory of the unpack helper: the archive's directory, and pages on their way to the disk.
const UNPACK_MEMORY: u64 = 512 << 20;

/// How long the end of a helper that failed is waited for.
const HELPER_END: Duration = Duration::from_secs(10);

/// Requests that the spawner has not answered yet. Their answers must fit the socket's buffer, else both could wait.
const IN_FLIGHT_MAX: usize = 64;

/// What the handles ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Root {
        message: Message,
        contents: OwnedFd,
        reply: oneshot::Sender<Result<RootId, Error>>,
    },
    Start(Job),
    /// `done` hears whether the slot is taken down by now.
    Destroy {
        slot: u32,
        done: Option<oneshot::Sender<bool>>,
    },
    /// The same question about a slot that was given back before.
    Settle {
        slot: u32,
        done: oneshot::Sender<bool>,
    },
    Kill {
        slot: u32,
    },
    Socket {
        slot: u32,
        reply: oneshot::Sender<Result<OwnedFd, Error>>,
    },
    Measure {
        slot: u32,
        reply: oneshot::Sender<Option<Held>>,
    },
}

/// A message whose id is not filled in yet.
type Message = Vec<u8>;

/// What wants a slot.
#[derive(Debug)]
pub(crate) struct Job {
    what: What,
    reply: oneshot::Sender<Result<Begun, Error>>,
}

#[derive(Debug)]
enum What {
    Launch(Box<Launch>),
    Unpack { archive: OwnedFd, staging: OwnedFd, limits: UnpackLimits },
}

/// A sandbox, and for the unpack helper the pipe with its answer.
type Begun = (Sandbox, Option<pipe::Receiver>);

/// What handles, driver and sandboxes share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub live: AtomicUsize,
    pub idle: AtomicUsize,
    pub leaving: AtomicUsize,
    next_id: AtomicU64,
    /// The channel once more, to ask whether its other end is still there.
    channel: OnceLock<OwnedFd>,
    /// Who to kill when the spawner is gone.
    sandboxes: Mutex<HashMap<u64, Weak<Inner>>>,
}

impl Shared {
    pub fn register(&self, inner: &Arc<Inner>) {
        let mut all = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= 64 && all.len().is_power_of_two() {
            all.retain(|_, weak| weak.strong_count() > 0);
        }
        all.insert(inner.id, Arc::downgrade(inner));
    }

    /// Whether the spawner has died, as the kernel knows it at this moment.
    pub fn spawner_is_gone(&self) -> bool {
        let Some(channel) = self.channel.get() else { return false };
        fds::poll_one(channel.as_raw_fd(), libc::POLLRDHUP, 0)
            .is_ok_and(|seen| seen & (libc::POLLRDHUP | libc::POLLHUP) != 0)
    }

    fn abandon_all(&self) {
        let all = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(Weak::upgrade).for_each(|inner| inner.abandon());
    }
}

/// Makes sandboxes. Cheap to clone; every clone speaks to the same spawner.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    gone: watch::Receiver<bool>,
}

impl Sandboxes {
    /// Takes over the channel and starts to fill the pool of slots. Must be called inside a tokio runtime.
    ///
    /// `options` are those that the spawner was started with.
    pub fn new(channel: SpawnerChannel, options: Options) -> Result<Self, Error> {
        fds::set_nonblocking(channel.fd.as_raw_fd()).map_err(Error::Channel)?;
        let shared = Arc::new(Shared::default());
        shared.channel.set(channel.fd.try_clone().map_err(Error::Channel)?).expect("it was made just now");
        let socket = fds::watch(channel.fd, Interest::READABLE | Interest::WRITABLE).map_err(Error::Channel)?;
        // As many as launches can wait at once; more callers wait in `send`.
        let (commands, inbox) = mpsc::channel(1024);
        let (gone_sender, gone) = watch::channel(false);
        let driver = Driver {
            socket,
            inbox,
            commands: commands.downgrade(),
            shared: Arc::clone(&shared),
            idle_slots: options.idle_slots,
            uid_count: options.uid_count,
            next_request: 0,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            ready: Vec::new(),
            creating: 0,
            rest: false,
        };
        tokio::spawn(async move {
            let shared = Arc::clone(&driver.shared);
            let result = driver.run().await;
            if let Err(error) = &result {
                tracing::error!(%error, "the spawner is gone");
                shared.abandon_all();
                gone_sender.send_replace(true);
            }
        });
        Ok(Self { commands, shared, gone })
    }

    /// Builds a read-only root file system. Takes milliseconds; call it once for each runtime.
    ///
    /// Errors: `Invalid` for a path that is not absolute or has `..`, `Setup` for what the kernel refused.
    pub async fn define_root(&self, spec: RootSpec) -> Result<RootId, Error> {
        check_root(&spec)?;
        let contents = fds::memfd(c"root").map_err(Error::Channel)?;
        for file in &spec.files {
            fds::write_all(contents.as_raw_fd(), &file.content).map_err(Error::Channel)?;
        }
        let message = fits(message::encode_define_root(0, &spec), "a root's paths")?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Root { message, contents, reply }).await?;
        answer.await.map_err(|_| Error::SpawnerGone)?
    }

    /// Starts a process in a fresh sandbox.
    ///
    /// Returns as soon as the process is cloned; a failure of a later step shows in [`Sandbox::exited`].
    pub async fn launch(&self, launch: Launch) -> Result<Sandbox, Error> {
        check_launch(&launch)?;
        let (sandbox, _) = self.begin(What::Launch(Box::new(launch))).await?;
        Ok(sandbox)
    }

    /// Unpacks a zip archive in a sandboxed helper into `staging`, an empty directory that the service user owns.
    ///
    /// Files are 0644, or 0755 when any execute bit is set; directories 0755; owned by the service user. On an error the
    /// staging directory holds whatever was written by then: remove it.
    pub async fn unpack(
        &self,
        archive: OwnedFd,
        staging: OwnedFd,
        limits: UnpackLimits,
    ) -> Result<Unpacked, UnpackError> {
        let (sandbox, result) = self.begin(What::Unpack { archive, staging, limits }).await?;
        let result = result.ok_or(Error::SpawnerGone)?;
        let mut answer = Vec::new();
        // A record is a few hundred bytes.
        let mut bounded = result.take(4096);
        let read = tokio::time::timeout(limits.time, bounded.read_to_end(&mut answer)).await;
        let outcome = match read {
            Ok(Ok(_)) => crate::unpack::decode(&answer),
            Ok(Err(error)) => Err(UnpackError::Io(error)),
            Err(_) => Err(UnpackError::Helper(format!("it took longer than {:?}", limits.time))),
        };
        match &outcome {
            // It writes its record when all else is written.
            Ok(_) => drop(sandbox),
            // The caller removes what was written: nothing may be added meanwhile. One that does not die keeps nobody waiting.
            Err(_) => drop(tokio::time::timeout(HELPER_END, sandbox.gone()).await),
        }
        outcome
    }

    /// Resolves when the spawner has died; the server then has to stop acknowledging and exit.
    pub async fn spawner_gone(&self) {
        let mut gone = self.gone.clone();
        // An error means that the driver is gone with the runtime.
        gone.wait_for(|gone| *gone).await.ok();
    }

    /// How many sandboxes and slots there are now.
    pub fn census(&self) -> Census {
        let load = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        Census { live: load(&self.shared.live), idle: load(&self.shared.idle), leaving: load(&self.shared.leaving) }
    }

    async fn begin(&self, what: What) -> Result<Begun, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Start(Job { what, reply })).await?;
        answer.await.map_err(|_| Error::SpawnerGone)?
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::SpawnerGone)
    }
}

fn check_root(spec: &RootSpec) -> Result<(), Error> {
    let invalid = |problem: String| Err(Error::Invalid(problem));
    if spec.binds.len() > MAX_ROOT_BINDS || spec.files.len() > MAX_ROOT_FILES {
        return invalid(format!("a root has at most {MAX_ROOT_BINDS} binds and {MAX_ROOT_FILES} files"));
    }
    if spec.files.iter().map(|f| f.content.len() as u64).sum::<u64>() > MAX_ROOT_BYTES {
        return invalid(format!("a root's files have at most {MAX_ROOT_BYTES} bytes"));
    }
    for bind in &spec.binds {
        if !bind.source.is_absolute() || bind.source.as_os_str().as_bytes().contains(&0) {
            return invalid(format!("{} is no absolute path", bind.source.display()));
        }
    }
    for path in spec.binds.iter().map(|b| &b.target).chain(spec.files.iter().map(|f| &f.path)) {
        let bytes = path.as_os_str().as_bytes();
        let plain = bytes.strip_prefix(b"/").is_some_and(|rest| {
            rest.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0))
        });
        if !plain {
            return invalid(format!("{} is no plain absolute path inside a root", path.display()));
        }
    }
    Ok(())
}

fn check_launch(launch: &Launch) -> Result<(), Error> {
    let invalid = |problem: &str| Err(Error::Invalid(problem.to_owned()));
    let clean = |text: &std::ffi::OsStr| !text.as_bytes().contains(&0);
    if launch.argv.is_empty() || launch.argv.len() > MAX_STRINGS || launch.env.len() > MAX_STRINGS {
        return invalid("a launch takes a program and at most 8192 arguments and variables");
    }
    if !launch.argv.iter().all(|a| clean(a)) || !clean(&launch.cwd) {
        return invalid("an argument holds a NUL");
    }
    let good = |name: &std::ffi::OsStr| !name.is_empty() && clean(name) && !name.as_bytes().contains(&b'=');
    if !launch.env.iter().all(|(name, value)| good(name) && clean(value)) {
        return invalid("an environment variable has no name, or = in its name, or holds a NUL");
    }
    if launch.hostname.len() > 64 {
        return invalid("a host name has at most 64 bytes");
    }
    if launch.layers.len() > 1 {
        return invalid("at most one layer directory can be mounted");
    }
    fits(message::encode_launch(0, 0, launch), "arguments and environment").map(drop)
}

fn fits(message: Message, what: &str) -> Result<Message, Error> {
    if message.len() > MAX_MESSAGE {
        return Err(Error::Invalid(format!("{what} take {} bytes, at most {MAX_MESSAGE} fit", message.len())));
    }
    Ok(message)
}

/// A slot that is ready for a launch.
struct Ready {
    slot: u32,
    listener: Option<OwnedFd>,
    endpoint: Option<OwnedFd>,
    files: SlotFiles,
}

enum Pending {
    Root(oneshot::Sender<Result<RootId, Error>>),
    Slot,
    Start { ready: Ready, kind: Kind, reply: oneshot::Sender<Result<Begun, Error>> },
    Destroy(Option<oneshot::Sender<bool>>),
    Kill,
    Socket(oneshot::Sender<Result<OwnedFd, Error>>),
    Measure(oneshot::Sender<Option<Held>>),
}

/// What was started in a slot.
enum Kind {
    Launch(Allowed),
    Unpack,
}

struct Driver {
    socket: AsyncFd<OwnedFd>,
    inbox: mpsc::Receiver<Command>,
    /// Weak, so that the driver ends when the last handle and sandbox are gone.
    commands: mpsc::WeakSender<Command>,
    shared: Arc<Shared>,
    idle_slots: usize,
    uid_count: u32,
    next_request: u64,
    pending: VecDeque<(u64, Pending)>,
    waiting: VecDeque<Job>,
    ready: Vec<Ready>,
    creating: usize,
    /// The pool could not be filled; the next slot that comes back starts it again.
    rest: bool,
}

impl Driver {
    /// Runs until the handles are gone (`Ok`) or the spawner is (`Err`).
    async fn run(mut self) -> Result<(), Error> {
        let mut buffer = vec![0; 4096];
        loop {
            self.refill().await?;
            self.shared.idle.store(self.ready.len(), Ordering::Relaxed);
            let room = self.pending.len() < IN_FLIGHT_MAX && self.waiting.len() < IN_FLIGHT_MAX;
            tokio::select! {
                command = self.inbox.recv(), if room => match command {
                    Some(command) => self.take(command).await?,
                    None => return Ok(()),
                },
                ready = self.socket.readable() => {
                    let mut ready = ready.map_err(Error::Channel)?;
                    match ready.try_io(|socket| socket::receive(socket.as_raw_fd(), &mut buffer)) {
                        Err(_would_block) => {}
                        Ok(Ok((0, _))) => return Err(Error::SpawnerGone),
                        Ok(Ok((n, given))) => {
                            drop(ready);
                            self.answered(&buffer[..n], given).await?;
                        }
                        Ok(Err(error)) => return Err(Error::Channel(error)),
                    }
                }
            }
        }
    }

    async fn take(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Root { message, contents, reply } => {
                self.request(message, &[contents.as_raw_fd()], Pending::Root(reply)).await
            }
            Command::Start(job) => {
                // One whose caller has left needs no sandbox.
                if job.reply.is_closed() {
                    return Ok(());
                }
                match self.ready.pop() {
                    Some(ready) => self.start(job, ready).await,
                    None => {
                        self.waiting.push_back(job);
                        Ok(())
                    }
                }
            }
            Command::Destroy { slot, done } => {
                self.rest = false;
                self.request(message::encode_destroy_slot(0, slot), &[], Pending::Destroy(done)).await
            }
            Command::Settle { slot, done } => {
                self.request(message::encode_settle_slot(0, slot), &[], Pending::Destroy(Some(done))).await
            }
            Command::Kill { slot } => self.request(message::encode_kill_slot(0, slot), &[], Pending::Kill).await,
            Command::Socket { slot, reply } => {
                self.request(message::encode_socket(0, slot), &[], Pending::Socket(reply)).await
            }
            Command::Measure { slot, reply } => {
                self.request(message::encode_measure(0, slot), &[], Pending::Measure(reply)).await
            }
        }
    }

    /// Asks for slots: at once for those who wait, else one at a time and only while no launch is under way.
    async fn refill(&mut self) -> Result<(), Error> {
        while self.creating < self.waiting.len() && self.pending.len() < IN_FLIGHT_MAX {
            self.create().await?;
        }
        let busy = self.creating > 0 || self.pending.iter().any(|(_, p)| matches!(p, Pending::Start { .. }));
        if !busy && !self.rest && self.ready.len() < self.idle_slots {
            self.create().await?;
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Error> {
        self.creating += 1;
        self.request(message::encode_create_slot(0), &[], Pending::Slot).await
    }

    async fn start(&mut self, job: Job, ready: Ready) -> Result<(), Error> {
        let Job { what, reply } = job;
        match what {
            What::Launch(launch) => {
                let dirs: Vec<RawFd> = launch.code.iter().chain(&launch.layers).map(|fd| fd.as_raw_fd()).collect();
                let message = message::encode_launch(0, ready.slot, &launch);
                let heap = launch.memory.bytes();
                let allowed = Allowed { heap, total: heap.saturating_add(launch.tmp.bytes()) };
                self.request(message, &dirs, Pending::Start { ready, kind: Kind::Launch(allowed), reply }).await
            }
            What::Unpack { archive, staging, limits } => {
                let request = UnpackRequest {
                    slot: ready.slot,
                    bytes: limits.bytes.bytes(),
                    entries: limits.entries,
                    depth: limits.depth,
                    memory: UNPACK_MEMORY,
                    cpu_seconds: limits.time.as_secs().max(1),
                };
                let given = [archive.as_raw_fd(), staging.as_raw_fd()];
                let message = message::encode_unpack(0, &request);
                self.request(message, &given, Pending::Start { ready, kind: Kind::Unpack, reply }).await
            }
        }
    }

    /// Sends a message under the next id.
    async fn request(&mut self, mut message: Message, given: &[RawFd], pending: Pending) -> Result<(), Error> {
        self.next_request += 1;
        message[..8].copy_from_slice(&self.next_request.to_le_bytes());
        loop {
            let mut ready = self.socket.writable().await.map_err(Error::Channel)?;
            match ready.try_io(|socket| socket::send(socket.as_raw_fd(), &message, given)) {
                Err(_would_block) => {}
                Ok(Ok(())) => break,
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EPIPE) => return Err(Error::SpawnerGone),
                Ok(Err(error)) => return Err(Error::Channel(error)),
            }
        }
        self.pending.push_back((self.next_request, pending));
        Ok(())
    }

    async fn answered(&mut self, bytes: &[u8], given: Vec<OwnedFd>) -> Result<(), Error> {
        let broken =
            || Error::Channel(io::Error::new(io::ErrorKind::InvalidData, "the spawner's answer is not readable"));
        let (id, reply) = Reply::decode(bytes).map_err(|_| broken())?;
        let (expected, pending) = self.pending.pop_front().ok_or_else(broken)?;
        if id != expected {
            return Err(broken());
        }
        match pending {
            Pending::Root(answer) => {
                let result = match reply {
                    Reply::Root { root } => Ok(RootId(root)),
                    other => Err(failed(other)),
                };
                answer.send(result).ok();
            }
            Pending::Slot => self.slot_made(reply, given).await?,
            Pending::Start { ready, kind, reply: answer } => self.begun(reply, given, ready, kind, answer).await?,
            Pending::Destroy(done) => {
                if let Some(done) = done {
                    done.send(reply != Reply::Leaving).ok();
                }
            }
            Pending::Kill => {}
            Pending::Measure(answer) => {
                let held = if let Reply::Measured(held) = reply { Some(held) } else { None };
                answer.send(held).ok();
            }
            Pending::Socket(answer) => {
                let result = match (reply, given.into_iter().next()) {
                    (Reply::Done, Some(socket)) => Ok(socket),
                    (other, _) => Err(failed(other)),
                };
                answer.send(result).ok();
            }
        }
        Ok(())
    }

    async fn slot_made(&mut self, reply: Reply, given: Vec<OwnedFd>) -> Result<(), Error> {
        self.creating = self.creating.saturating_sub(1);
        let ready = match reply {
            Reply::Slot { slot, mask, form } => sort_files(slot, mask, form, given),
            Reply::Full => {
                self.rest = true;
                return self.fail_waiting(Error::NoSlots(self.uid_count));
            }
            other => {
                self.rest = true;
                let error = failed(other);
                tracing::warn!(%error, "a sandbox slot could not be made");
                return self.fail_waiting(error);
            }
        };
        while let Some(job) = self.waiting.pop_front() {
            if !job.reply.is_closed() {
                return self.start(job, ready).await;
            }
        }
        // Asked for by those who have left since.
        if self.ready.len() >= self.idle_slots.max(1) {
            let message = message::encode_destroy_slot(0, ready.slot);
            return self.request(message, &[], Pending::Destroy(None)).await;
        }
        self.ready.push(ready);
        Ok(())
    }

    fn fail_waiting(&mut self, error: Error) -> Result<(), Error> {
        if let Some(job) = self.waiting.pop_front() {
            job.reply.send(Err(error)).ok();
        }
        Ok(())
    }

    async fn begun(
        &mut self,
        reply: Reply,
        given: Vec<OwnedFd>,
        ready: Ready,
        kind: Kind,
        answer: oneshot::Sender<Result<Begun, Error>>,
    ) -> Result<(), Error> {
        let slot = ready.slot;
        let began = match reply {
            Reply::Started { pid, began_ns } => self.wrap(pid, began_ns, given, ready, kind),
            other => Err(failed(other)),
        };
        let failed = began.is_err();
        // A caller that has left drops the sandbox here, which takes it down.
        answer.send(began).ok();
        if failed {
            self.request(message::encode_destroy_slot(0, slot), &[], Pending::Destroy(None)).await?;
        }
        Ok(())
    }

    fn wrap(&self, pid: u32, began_ns: u64, given: Vec<OwnedFd>, ready: Ready, kind: Kind) -> Result<Begun, Error> {
        let (unpack, allowed) = match kind {
            Kind::Launch(allowed) => (false, Some(allowed)),
            Kind::Unpack => (true, None),
        };
        let short = || Error::Channel(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        let mut given = given.into_iter();
        let mut next = || given.next().ok_or_else(short);
        let pidfd = next()?;
        let status = next()?;
        let output = if unpack { None } else { Some((next()?, next()?)) };
        let started = Started {
            id: self.shared.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            pid,
            slot: ready.slot,
            files: ready.files,
            listener: if unpack { None } else { ready.listener },
            endpoint: if unpack { None } else { ready.endpoint },
            pidfd,
            commands: self.commands.upgrade().ok_or(Error::SpawnerGone)?,
            shared: Arc::clone(&self.shared),
            allowed,
        };
        let sandbox = Sandbox::new(started, output).map_err(Error::Channel)?;
        if unpack {
            return Ok((sandbox, Some(pipe::Receiver::from_owned_fd(status).map_err(Error::Channel)?)));
        }
        sandbox.watch(status, began_ns).map_err(Error::Channel)?;
        Ok((sandbox, None))
    }
}

fn failed(reply: Reply) -> Error {
    match reply {
        Reply::Failed(Failure { stage, errno }) => Error::Setup { stage, source: io::Error::from_raw_os_error(errno) },
        _ => Error::Setup { stage: Stage::Unknown, source: io::ErrorKind::InvalidData.into() },
    }
}

/// Puts a slot's descriptors to their names; they come in the order of [`message::SlotFile`].
fn sort_files(slot: u32, mask: u32, form: SlotForm, given: Vec<OwnedFd>) -> Ready {
    let mut given = given.into_iter();
    let mut at: [Option<OwnedFd>; SLOT_FILES] =
        std::array::from_fn(|i| if mask >> i & 1 == 1 { given.next() } else { None });
    let mut take = |file: message::SlotFile| at[file as usize].take();
    Ready {
        slot,
        listener: take(message::SlotFile::Listener),
        endpoint: take(message::SlotFile::Endpoint),
        files: SlotFiles {
            form,
            freeze: take(message::SlotFile::Freeze),
            kill: take(message::SlotFile::Kill),
            memory_usage: take(message::SlotFile::MemoryUsage),
            memory_peak: take(message::SlotFile::MemoryPeak),
            oom: take(message::SlotFile::Oom),
            oom_event: take(message::SlotFile::OomEvent),
            cpu: take(message::SlotFile::Cpu),
            cpu_quota: take(message::SlotFile::CpuQuota),
        },
    }
}
