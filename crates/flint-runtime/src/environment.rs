//! An execution environment from birth to end.
//!
//! `create` starts a process, `init` waits until it asks for its first event, `invoke` runs one event, `close` leaves
//! nothing behind. An init that failed is run again inside the next call, under that call's timeout, as is one whose
//! process ended between two calls; the process that runs now is a [`Life`].
//!
//! Reference: Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flint_base::Clock;
use flint_kit::{Endpoint, LogSink};
use flint_model::ByteCount;
use flint_sandbox::{RootId, Sandboxes};
use tokio::sync::OnceCell;

use crate::bootstrap::{self, RootKey};
use crate::call::{Answer, Call, ColdStart, InitEnd};
use crate::catalog::{Catalog, Resolved};
use crate::error::Error;
use crate::events::Event;
use crate::life::{Life, Started};
use crate::lines::{Phase, Status};
use crate::output::Log;
use crate::spec::EnvironmentSpec;
use crate::stream::StreamSender;

/// Settings that all environments share.
#[derive(Clone, Debug)]
pub struct Options {
    /// Log bytes that one environment may write per second before lines are dropped.
    pub log_rate: ByteCount,
    /// Log bytes that it may write at once.
    pub log_burst: ByteCount,
    /// Whether a function gets exactly the CPU time that goes with its memory, not only its share of what others leave.
    pub cpu_quota: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { log_rate: ByteCount::from_mib(1), log_burst: ByteCount::from_mib(4), cpu_quota: false }
    }
}

/// Makes environments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Environments {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    /// How functions call Flint; none: they can't.
    pub(crate) endpoint: Option<Arc<dyn Endpoint>>,
    /// Roots that are defined already. A root lives as long as the spawner; there are as many as runtimes in use.
    roots: Mutex<HashMap<RootKey, Arc<OnceCell<Root>>>>,
}

impl Environments {
    /// `endpoint` is how functions call Flint; without it they can't. The spawner's options name its port.
    pub fn new(
        sandboxes: Sandboxes,
        catalog: Arc<Catalog>,
        logs: Arc<dyn LogSink>,
        clock: Arc<dyn Clock>,
        options: Options,
        endpoint: Option<Arc<dyn Endpoint>>,
    ) -> Self {
        let roots = Mutex::default();
        Self { shared: Arc::new(Shared { sandboxes, catalog, logs, clock, options, endpoint, roots }) }
    }

    /// The interpreters that environments may run on.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.shared.catalog
    }

    /// Prepares what all environments of a runtime share, so that the first of them need not wait for it.
    ///
    /// Errors: [`Error::Sandbox`] where the root file system could not be built.
    pub async fn prepare(&self, runtime: &Resolved) -> Result<(), Error> {
        self.shared.root(runtime).await.map(drop)
    }

    /// Starts a sandbox with the runtime in it. Returns once the process runs; [`Environment::init`] comes next.
    ///
    /// `cause` is the trace header of the call that waits for it: what the init sends belongs to that call's chain.
    ///
    /// Errors: [`Error::Sandbox`] where no sandbox could be made, [`Error::Code`] where the code is gone.
    pub async fn create(&self, spec: Arc<EnvironmentSpec>, cause: Option<Arc<str>>) -> Result<Environment, Error> {
        let clock = &self.shared.clock;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let log_stream: Arc<str> = format!("{}[{}]{id}", clock.now().format("%Y/%m/%d/"), spec.version).into();
        let log = Arc::new(Log::new(
            self.shared.logs.clone(),
            clock.clone(),
            spec.place.clone(),
            spec.log_group.clone(),
            log_stream.clone(),
            spec.logging,
            &self.shared.options,
        ));
        log.platform_untailed(Event::InitStart(&bootstrap::display(&spec.runtime)));
        let mut environment = Environment {
            shared: self.shared.clone(),
            spec,
            id,
            log_stream,
            log,
            life: None,
            state: State::Starting,
            cold_start: ColdStart::default(),
            init_duration: None,
            called: false,
        };
        let life = environment.start(cause).await?;
        environment.cold_start.sandbox = life.took.sandbox;
        environment.cold_start.code = life.took.code;
        environment.life = Some(life);
        Ok(environment)
    }
}

impl Shared {
    pub(crate) async fn root(&self, runtime: &Resolved) -> Result<Root, Error> {
        let cell = {
            let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
            roots.entry(bootstrap::root_key(runtime)).or_default().clone()
        };
        let define = || async {
            let plain = self.sandboxes.define_root(bootstrap::root(runtime, None)).await?;
            match bootstrap::compile(&self.sandboxes, runtime, plain).await {
                Some(code) => {
                    let id = self.sandboxes.define_root(bootstrap::root(runtime, Some(code))).await?;
                    Ok(Root { id, compiled: true })
                }
                None => Ok(Root { id: plain, compiled: false }),
            }
        };
        cell.get_or_try_init(define).await.copied()
    }
}

/// A runtime's root file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    pub(crate) id: RootId,
    /// Whether it holds the compiled bootstrap.
    pub(crate) compiled: bool,
}

/// Where an environment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The first init runs.
    Starting,
    /// Init is done.
    Ready,
    /// There is no process that could take an event; the next call starts one.
    Fallen,
}

/// One environment. Dropping it kills it in the background; [`Environment::close`] waits for its end.
#[derive(Debug)]
pub struct Environment {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: Arc<EnvironmentSpec>,
    id: String,
    pub(crate) log_stream: Arc<str>,
    pub(crate) log: Arc<Log>,
    pub(crate) life: Option<Life>,
    pub(crate) state: State,
    pub(crate) cold_start: ColdStart,
    /// What the first init took, until the call that is billed for it.
    pub(crate) init_duration: Option<Duration>,
    /// The first call is over.
    pub(crate) called: bool,
}

impl Environment {
    /// 32 hex digits, unique.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn spec(&self) -> &Arc<EnvironmentSpec> {
        &self.spec
    }

    /// `2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef`
    pub fn log_stream(&self) -> &Arc<str> {
        &self.log_stream
    }

    /// Host pid of the sandbox's init; 0 where there is none at the moment.
    pub fn pid(&self) -> u32 {
        self.life.as_ref().map_or(0, Life::pid)
    }

    /// What the environment uses now.
    pub fn memory_used(&self) -> ByteCount {
        self.life.as_ref().map_or(ByteCount(0), |life| life.sandbox.memory_now())
    }

    /// How long its phases took; `first_invoke` is filled in by the first call.
    pub fn cold_start(&self) -> ColdStart {
        self.cold_start
    }

    /// Waits for the first init: until the runtime asks for an event, fails, or `init_limit` has passed.
    /// A failed init leaves the environment usable: the next call tries again, as the reference does.
    pub async fn init(&mut self) -> InitEnd {
        let Some(life) = &self.life else {
            return InitEnd::Failed { error_type: crate::documents::UNKNOWN.to_owned() };
        };
        if self.state == State::Ready {
            return InitEnd::Ready;
        }
        let end = life.init(self.spec.init_limit).await;
        self.note_phases(&end);
        match end {
            Started::Ready { took, .. } => {
                self.init_duration = Some(took);
                // What init wrote comes before the first START.
                self.life.iter().for_each(|life| self.log.drain(&life.pipes));
                self.log.platform_untailed(Event::InitReport { took, phase: Phase::Init, status: Status::Success });
                self.state = State::Ready;
                InitEnd::Ready
            }
            Started::Failed { took, error_type, .. } => {
                self.fall(took, Phase::Init, Status::Error(&error_type));
                InitEnd::Failed { error_type }
            }
            Started::TimedOut { took } => {
                self.fall(took, Phase::Init, Status::Timeout);
                InitEnd::TimedOut
            }
        }
    }

    /// Runs one event. Always answers; a function that fails is an [`Answer`].
    ///
    /// Dropping the future leaves the function running: such an environment can only be closed.
    pub async fn invoke(&mut self, call: Call) -> Answer {
        self.first_or_not(call, None).await
    }

    /// As [`Environment::invoke`], but an answer that the function streams goes through `to` while the function still
    /// runs; the [`Answer`] comes at its end and says how that was. A full stream holds the function up, so the caller reads
    /// (or drops) its [`crate::ResponseStream`] while this future runs, and after it until it gives `None`.
    ///
    /// A function that does not stream answers in one piece: then [`crate::ResponseStream::head`] gives `None` and
    /// [`Answer::payload`] has it all. [`Call::max_response`] bounds the stream.
    pub async fn invoke_stream(&mut self, call: Call, to: StreamSender) -> Answer {
        self.first_or_not(call, Some(to)).await
    }

    async fn first_or_not(&mut self, call: Call, stream: Option<StreamSender>) -> Answer {
        let began = self.shared.clock.monotonic();
        let answer = Box::pin(self.run(call, stream)).await;
        if !self.called {
            self.called = true;
            self.cold_start.first_invoke = self.shared.clock.monotonic().saturating_sub(began);
        }
        answer
    }

    /// Stops the processes until [`Environment::thaw`] or the next call, which thaws by itself. A microsecond's work.
    ///
    /// Where extensions have subscribed to telemetry it happens once they have what is due, at most a tenth of a second later.
    /// Needs the asynchronous runtime.
    pub fn freeze(&self) {
        if self.log.telemetry.is_due() {
            return self.log.telemetry.freeze_later();
        }
        if let Some(life) = &self.life
            && let Err(error) = life.sandbox.freeze()
        {
            tracing::warn!(environment = self.id, %error, "could not freeze");
        }
    }

    pub fn thaw(&self) {
        if self.log.telemetry.is_active() {
            self.log.telemetry.no_freeze();
        }
        if let Some(life) = &self.life
            && let Err(error) = life.sandbox.thaw()
        {
            tracing::warn!(environment = self.id, %error, "could not thaw");
        }
    }

    /// Completes when the environment's main process has ended by itself; never while there is none. For the pool, which
    /// drops such an environment instead of letting the next call repeat the init.
    pub async fn exited(&self) {
        match &self.life {
            Some(life) if self.state == State::Ready => drop(life.sandbox.exited().await),
            _ => std::future::pending().await,
        }
    }

    /// Gives extensions that want to know of it their time (at most two seconds), kills what is left, and waits until nothing
    /// is: no process, no mount, no cgroup.
    pub async fn close(mut self) {
        if let Some(life) = self.life.take() {
            if self.state == State::Ready {
                life.shut_down().await;
            }
            self.log.drain(&life.pipes);
            life.gone().await;
        }
    }

    pub(crate) async fn start(&self, cause: Option<Arc<str>>) -> Result<Life, Error> {
        Box::pin(Life::start(&self.shared, &self.spec, &self.log, &self.log_stream, cause)).await
    }

    /// The init failed: says so in the log and ends the process.
    pub(crate) fn fall(&mut self, took: Duration, phase: Phase, status: Status<'_>) {
        if let Some(life) = &self.life {
            life.sandbox.kill();
            self.log.drain(&life.pipes);
        }
        self.log.platform(Event::InitReport { took, phase, status });
        self.state = State::Fallen;
    }

    /// The process's start, split at the runtime's first contact.
    fn note_phases(&mut self, end: &Started) {
        let took = end.took();
        let contact = self.life.as_ref().and_then(Life::contact_after).unwrap_or(took).min(took);
        self.cold_start.runtime = contact;
        self.cold_start.init = took.saturating_sub(contact);
    }
}
