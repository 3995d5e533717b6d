//! One running sandbox, seen from the server: open descriptors and what they tell.
//!
//! Freezing, thawing and killing are one write each to a cgroup file that was opened when the slot was made; none of them
//! goes through the spawner (except the kill on hosts without a version 2 tree).

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use flint_model::ByteCount;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{Exit, How, Phases, RuntimeListener};
use crate::cgroup::CPU_PERIOD_US;
use crate::message::{FREEZE_SIGNAL, Failure, SlotForm, Status, THAW_SIGNAL};
use crate::sandboxes::{Command, Shared};
use crate::sys::{fds, process};
use crate::watchdog::{self, Allowed, Watched};

/// Longest pause between two questions whether a slot is empty.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// The open files of a slot.
#[derive(Debug, Default)]
pub(crate) struct SlotFiles {
    pub form: SlotForm,
    pub freeze: Option<OwnedFd>,
    pub kill: Option<OwnedFd>,
    pub memory_usage: Option<OwnedFd>,
    pub memory_peak: Option<OwnedFd>,
    pub oom: Option<OwnedFd>,
    pub oom_event: Option<OwnedFd>,
    pub cpu: Option<OwnedFd>,
    pub cpu_quota: Option<OwnedFd>,
}

impl SlotFiles {
    fn number(file: &Option<OwnedFd>) -> u64 {
        let Some(file) = file else { return 0 };
        fds::read_small(file.as_raw_fd()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How many processes the memory limit has killed.
    fn oom_kills(&self) -> u64 {
        let Some(file) = &self.oom else { return 0 };
        let text = fds::read_small(file.as_raw_fd()).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }
}

/// What is known so far.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    phases: Option<Phases>,
    exit: Option<Exit>,
}

/// The part of a sandbox that its tasks share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub id: u64,
    pub pid: u32,
    pub slot: u32,
    pub files: SlotFiles,
    pidfd: AsyncFd<OwnedFd>,
    state: watch::Sender<State>,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    /// The slot is being given back; its number may soon be another sandbox's.
    leaving: Mutex<bool>,
    /// What was written last. Held over the write, so that both stay in the same order.
    frozen: Mutex<bool>,
    pub watched: Watched,
}

impl Inner {
    pub(crate) fn has_exited(&self) -> bool {
        self.state.borrow().exit.is_some()
    }

    /// Hands the driver a command about the slot.
    ///
    /// Errors: `NotConnected` once the slot is being given back, `WouldBlock` where too much waits already.
    pub(crate) fn command(&self, command: Command) -> io::Result<()> {
        // Held while the command is sent, so that it can't come after the one that gives the slot back.
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if *leaving {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.commands.try_send(command).map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// The memory limit has killed something.
    fn starved(&self) -> bool {
        self.watched.over.load(Ordering::Acquire) || self.files.oom_kills() > 0
    }

    pub(crate) fn kill(&self) {
        match &self.files.kill {
            // The end of init is the end of everything in its pid namespace.
            None if self.files.form.signals => drop(process::kill(self.pidfd.get_ref().as_raw_fd())),
            Some(file) => {
                if let Err(error) = fds::write_all(file.as_raw_fd(), b"1") {
                    tracing::debug!(sandbox = self.id, %error, "cgroup.kill");
                }
            }
            None => {
                self.commands.try_send(Command::Kill { slot: self.slot }).ok();
            }
        }
    }

    /// Writes only what changes something: every call thaws, and a write takes a lock that all cgroups share.
    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let mut was = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if *was == frozen {
            return Ok(());
        }
        self.stop_or_go(frozen)?;
        self.watched.frozen.store(frozen, Ordering::Release);
        *was = frozen;
        Ok(())
    }

    fn stop_or_go(&self, frozen: bool) -> io::Result<()> {
        let files = &self.files;
        let Some(file) = &files.freeze else {
            if !files.form.signals {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let number = if frozen { FREEZE_SIGNAL } else { THAW_SIGNAL };
            return process::signal(self.pidfd.get_ref().as_raw_fd(), number).or_else(ended_is_fine);
        };
        let text: &[u8] = match (files.form.freezer_v1, frozen) {
            (true, true) => b"FROZEN",
            (true, false) => b"THAWED",
            (false, true) => b"1",
            (false, false) => b"0",
        };
        fds::write_all(file.as_raw_fd(), text)
    }

    /// The spawner is gone and its children have been killed; what an old freezer holds has to be let go to die.
    pub(crate) fn abandon(&self) {
        self.kill();
        if let (true, Some(file)) = (self.files.form.freezer_v1, &self.files.freeze) {
            fds::write_all(file.as_raw_fd(), b"THAWED").ok();
        }
    }

    /// Kills, waits for the end of init, which comes after the end of everything else, gives the slot back, and waits until its
    /// cgroups are empty and gone.
    async fn retire(self: Arc<Self>) {
        match self.files.kill {
            Some(_) => self.kill(),
            // Not `try_send`: this one must not get lost.
            None => drop(self.commands.send(Command::Kill { slot: self.slot }).await),
        }
        *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = true;
        // An error means that the runtime shuts down, and the spawner soon after.
        drop(self.pidfd.readable().await);
        self.shared.live.fetch_sub(1, Ordering::Relaxed);
        self.shared.leaving.fetch_add(1, Ordering::Relaxed);
        let slot = self.slot;
        let mut taken_down = self.ask(|done| Command::Destroy { slot, done: Some(done) }).await;
        let mut pause = Duration::from_millis(1);
        while taken_down == Some(false) {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(SETTLE_PAUSE);
            taken_down = self.ask(|done| Command::Settle { slot, done }).await;
        }
        self.shared.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nothing where the spawner is gone, and with it whatever there was to wait for.
    async fn ask(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> Option<bool> {
        let (done, wait) = oneshot::channel();
        self.commands.send(command(done)).await.ok()?;
        wait.await.ok()
    }
}

/// One sandbox. Dropping it kills it and gives its slot back in the background; [`Sandbox::gone`] waits for that.
#[derive(Debug)]
pub struct Sandbox {
    /// None only inside `gone` and `drop`.
    inner: Option<Arc<Inner>>,
    listener: Option<RuntimeListener>,
    endpoint: Option<TcpListener>,
    output: Option<(pipe::Receiver, pipe::Receiver)>,
}

/// What the spawner gave for a launch, before it is a [`Sandbox`].
pub(crate) struct Started {
    pub id: u64,
    pub pid: u32,
    pub slot: u32,
    pub files: SlotFiles,
    pub listener: Option<OwnedFd>,
    pub endpoint: Option<OwnedFd>,
    pub pidfd: OwnedFd,
    pub commands: mpsc::Sender<Command>,
    pub shared: Arc<Shared>,
    /// What it may hold, for where no cgroup limits it.
    pub allowed: Option<Allowed>,
}

impl Sandbox {
    /// Wraps what was started; must run inside the runtime.
    pub(crate) fn new(started: Started, output: Option<(OwnedFd, OwnedFd)>) -> io::Result<Self> {
        let listener = match started.listener {
            Some(fd) => Some(RuntimeListener::from_std(fd.into())?),
            None => None,
        };
        let output = match output {
            Some((out, err)) => Some((pipe::Receiver::from_owned_fd(out)?, pipe::Receiver::from_owned_fd(err)?)),
            None => None,
        };
        let pidfd = fds::watch(started.pidfd, Interest::READABLE)?;
        started.shared.live.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::new(Inner {
            id: started.id,
            pid: started.pid,
            slot: started.slot,
            files: started.files,
            pidfd,
            state: watch::Sender::new(State::default()),
            commands: started.commands,
            shared: started.shared,
            leaving: Mutex::new(false),
            frozen: Mutex::new(false),
            watched: Watched::default(),
        });
        inner.shared.register(&inner);
        if let Some(allowed) = started.allowed.filter(|_| inner.files.oom.is_none()) {
            tokio::spawn(watchdog::watch(Arc::downgrade(&inner), allowed));
        }
        Ok(Self { inner: Some(inner), listener, endpoint: started.endpoint.map(Into::into), output })
    }

    /// Follows the status pipe until the main process has ended. `began_ns` is when the spawner took up the request.
    pub(crate) fn watch(&self, status: OwnedFd, began_ns: u64) -> io::Result<()> {
        let status = pipe::Receiver::from_owned_fd(status)?;
        let inner = Arc::clone(self.inner());
        let oom_event = match &inner.files.oom_event {
            Some(fd) => Some(fds::watch(fd.try_clone()?, Interest::READABLE)?),
            None => None,
        };
        tokio::spawn(follow(inner, status, oom_event, began_ns));
        Ok(())
    }

    fn inner(&self) -> &Arc<Inner> {
        self.inner.as_ref().expect("only gone and drop take it, and both end the sandbox")
    }

    /// Unique in the life of this server.
    pub fn id(&self) -> u64 {
        self.inner().id
    }

    /// Host pid of the sandbox's init.
    pub fn pid(&self) -> u32 {
        self.inner().pid
    }

    /// What tasks need that may outlive the sandbox. Does not keep it.
    pub fn reach(&self) -> Reach {
        Reach(Arc::downgrade(self.inner()))
    }

    /// The listener at 127.0.0.1:9001 inside; once.
    pub fn take_listener(&mut self) -> Option<RuntimeListener> {
        self.listener.take()
    }

    /// The listener at [`crate::Options::endpoint_port`] inside, non-blocking; once.
    pub fn take_endpoint(&mut self) -> Option<TcpListener> {
        self.endpoint.take()
    }

    /// Standard output and standard error; once. End of file comes when the last process that holds them is gone.
    pub fn take_output(&mut self) -> Option<(pipe::Receiver, pipe::Receiver)> {
        self.output.take()
    }

    /// Stops every process until [`Sandbox::thaw`]. One write, microseconds; idempotent.
    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)
    }

    /// Lets every process go on. One write, microseconds; idempotent.
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        self.inner().set_frozen(frozen)
    }

    /// From now on all processes together get this much CPU time in a second and no more. One write, microseconds.
    ///
    /// Errors: `Unsupported` without [`crate::Options::cpu_quota`] or without a controller for it.
    pub fn limit_cpu(&self, in_a_second: Duration) -> io::Result<()> {
        let files = &self.inner().files;
        let Some(file) = &files.cpu_quota else { return Err(io::ErrorKind::Unsupported.into()) };
        let quota = in_a_second.as_micros() * u128::from(CPU_PERIOD_US) / 1_000_000;
        // The kernel takes no quota below a millisecond.
        let quota = quota.max(1000);
        let text = if files.form.cpu_max { format!("{quota} {CPU_PERIOD_US}") } else { quota.to_string() };
        fds::write_all(file.as_raw_fd(), text.as_bytes())
    }

    /// Kills every process, frozen or not. Does not wait for their end; idempotent.
    pub fn kill(&self) {
        self.inner().kill();
    }

    /// Waits until the main process has ended. May be called from several tasks, before and after the end.
    pub async fn exited(&self) -> Exit {
        let mut state = self.inner().state.subscribe();
        let ended = state.wait_for(|s| s.exit.is_some()).await;
        ended.ok().and_then(|s| s.exit).unwrap_or(Exit { how: How::Signal(libc::SIGKILL), oom: false })
    }

    /// The memory limit has killed something in this sandbox.
    pub fn oom_killed(&self) -> bool {
        self.inner().starved()
    }

    /// The most memory that the sandbox has used so far, page cache and `/tmp` included; zero when unknown.
    pub fn memory_peak(&self) -> ByteCount {
        let inner = self.inner();
        let watched = inner.watched.peak.load(Ordering::Relaxed);
        ByteCount(if watched > 0 { watched } else { SlotFiles::number(&inner.files.memory_peak) })
    }

    /// The memory that the sandbox uses now; zero when unknown.
    pub fn memory_now(&self) -> ByteCount {
        let inner = self.inner();
        let watched = inner.watched.now.load(Ordering::Relaxed);
        ByteCount(if watched > 0 { watched } else { SlotFiles::number(&inner.files.memory_usage) })
    }

    /// CPU time used by all of its processes so far; zero when unknown.
    pub fn cpu_time(&self) -> Duration {
        let files = &self.inner().files;
        if !files.form.cpu_stat {
            return Duration::from_nanos(SlotFiles::number(&files.cpu));
        }
        let Some(file) = &files.cpu else { return Duration::ZERO };
        let text = fds::read_small(file.as_raw_fd()).unwrap_or_default();
        let used = text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.trim().parse().ok());
        Duration::from_micros(used.unwrap_or(0))
    }

    /// The set-up steps and their spans; none until the main process is about to `execve`.
    pub fn started(&self) -> Option<Phases> {
        self.inner().state.borrow().phases
    }

    /// Kills what is left, waits until the cgroup is empty, and gives the slot back.
    pub async fn gone(mut self) {
        // They hold the network namespace and the pipes.
        self.listener = None;
        self.endpoint = None;
        self.output = None;
        if let Some(inner) = self.inner.take() {
            inner.retire().await;
        }
    }
}

/// A sandbox as seen by a task that must not keep it alive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reach(Weak<Inner>);

impl Reach {
    /// Connects to what listens on a port of the sandbox's own loopback. A frozen process's listener takes connections too.
    ///
    /// Errors: `NotConnected` where the sandbox is gone, `ConnectionRefused` where nobody listens, `InvalidInput` for port 0.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        if port == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let (reply, answer) = oneshot::channel();
        {
            let inner = self.0.upgrade().ok_or_else(gone)?;
            inner.command(Command::Socket { slot: inner.slot, reply })?;
        }
        let socket = answer.await.map_err(|_| gone())?.map_err(io::Error::other)?;
        TcpSocket::from_std_stream(socket.into()).connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// As [`Sandbox::freeze`]; without effect where the sandbox is gone.
    pub fn freeze(&self) -> io::Result<()> {
        self.0.upgrade().map_or(Ok(()), |inner| inner.set_frozen(true))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // Without a runtime the server is ending, and the spawner takes everything down.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(inner.retire())),
            Err(_) => inner.kill(),
        }
    }
}

async fn follow(inner: Arc<Inner>, status: pipe::Receiver, oom_event: Option<AsyncFd<OwnedFd>>, began_ns: u64) {
    let watch_oom = async {
        if let Some(event) = &oom_event {
            kill_on_oom(&inner, event).await;
        }
        std::future::pending::<()>().await;
    };
    let how = tokio::select! {
        how = read_status(&inner, status, began_ns) => how,
        () = watch_oom => return,
    };
    let oom = inner.starved();
    inner.state.send_modify(|s| s.exit = Some(Exit { how, oom }));
}

/// Who has ended hears no signal.
fn ended_is_fine(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Reads records until one tells the end, or the pipe's end does: then init was killed.
async fn read_status(inner: &Inner, mut status: pipe::Receiver, began_ns: u64) -> How {
    use tokio::io::AsyncReadExt as _;
    let mut record = [0; Status::SIZE];
    while status.read_exact(&mut record).await.is_ok() {
        match Status::decode(&record) {
            Some(Status::Running { stamps }) => {
                let phases = phases(began_ns, stamps);
                inner.state.send_modify(|s| s.phases = Some(phases));
            }
            Some(Status::Failed(Failure { stage, errno })) => return How::SetupFailed { stage, errno },
            Some(Status::Code(code)) => return How::Code(code),
            Some(Status::Signal(signal)) => return How::Signal(signal),
            None => break,
        }
    }
    // The kernel closes a dying spawner's channel before it kills the spawner's children, so this can't come too early.
    if inner.shared.spawner_is_gone() { How::Abandoned } else { How::Signal(libc::SIGKILL) }
}

fn phases(began_ns: u64, stamps: [u64; 6]) -> Phases {
    let span = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    Phases {
        prepare: span(began_ns, stamps[0]),
        clone: span(stamps[0], stamps[1]),
        join: span(stamps[1], stamps[2]),
        mount: span(stamps[2], stamps[3]),
        confine: span(stamps[3], stamps[4]),
        exec: span(stamps[4], stamps[5]),
    }
}

/// Version 1 kills one process; the rule is that the whole sandbox goes.
async fn kill_on_oom(inner: &Inner, event: &AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = event.readable().await else { return };
        let mut count = [0; 8];
        // SAFETY: the pointer and length describe `count`.
        unsafe { libc::read(event.get_ref().as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        ready.clear_ready();
        drop(ready);
        // The event comes when the limit is hit, the kill a moment later; on a busy host that moment is long.
        for round in 0..600 {
            if inner.files.oom_kills() > 0 {
                inner.kill();
                return;
            }
            tokio::time::sleep(Duration::from_millis(if round < 100 { 1 } else { 10 })).await;
        }
    }
}
