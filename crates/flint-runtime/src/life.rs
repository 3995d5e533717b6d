//! One process in one sandbox: started, listened to, read from, and ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::Clock;
use flint_kit::Credentials;
use flint_model::ByteCount;
use flint_sandbox::{Exit, Launch, Sandbox};
use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;

use crate::api::{self, Api, Failure};
use crate::bootstrap;
use crate::environment::Shared;
use crate::error::Error;
use crate::extensions::{self, Extensions, Facts, SHUTDOWN_LIMIT};
use crate::output::{Log, Pipes};
use crate::spec::EnvironmentSpec;
use crate::variables;

/// How often is looked whether the extensions have ended. Nobody waits for an environment's end.
const POLL: Duration = Duration::from_millis(5);

/// Memory that stands for one CPU.
///
/// Reference: Lambda Developer Guide, "Configure Lambda function memory".
const MB_FOR_ONE_CPU: u32 = 1769;

/// A process that speaks the Runtime API, in a sandbox. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) sandbox: Sandbox,
    pub(crate) api: Arc<Api>,
    pub(crate) pipes: Arc<Pipes>,
    clock: Arc<dyn Clock>,
    /// When the process was there (monotonic).
    pub(crate) since: Duration,
    pub(crate) took: Took,
    /// CPU time in a second of wall time once the init is over; none: as much as others leave.
    cpu: Option<Duration>,
    _server: Task,
    _pump: Task,
    /// Serves calls from inside.
    _endpoint: Option<Task>,
    /// What the process signs them with.
    _credentials: Option<Credentials>,
}

/// What starting took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) sandbox: Duration,
    pub(crate) code: Duration,
}

/// How an init ended, each with the time that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    Ready {
        took: Duration,
    },
    /// With the document that the runtime wrote, or how its process ended.
    Failed {
        took: Duration,
        error_type: String,
        cause: Cause,
    },
    TimedOut {
        took: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Document(Bytes),
    Exit(Exit),
}

impl Started {
    pub(crate) fn took(&self) -> Duration {
        match self {
            Self::Ready { took } | Self::Failed { took, .. } | Self::TimedOut { took } => *took,
        }
    }
}

impl Life {
    pub(crate) async fn start(
        shared: &Shared,
        spec: &EnvironmentSpec,
        log: &Arc<Log>,
        log_stream: &str,
        cause: Option<Arc<str>>,
    ) -> Result<Self, Error> {
        let clock = &shared.clock;
        let began = clock.monotonic();
        let code = open_code(&spec.code)?;
        let opened = clock.monotonic();
        let root = shared.root(&spec.runtime).await?;
        let mut argv = bootstrap::argv(spec, root.compiled);
        argv.splice(0..0, bootstrap::wrapper(spec));
        let external = spec.layers.as_deref().map(extensions::external_in).unwrap_or_default();
        if !external.is_empty() {
            argv.splice(0..0, bootstrap::starter());
        }
        let mut launch = Launch::new(root.id, argv, ByteCount::from_mib(u64::from(spec.memory_mb)));
        let endpoint = shared.endpoint.as_deref();
        let access = endpoint.map(|e| (e.url(), e.admit(&spec.place, &spec.function, &spec.role)));
        launch.env = variables::inside(spec, log_stream, access.as_ref().map(|(url, keys)| (*url, keys)));
        launch.code = Some(Arc::new(code));
        if let Some(layers) = &spec.layers {
            launch.layers.push(Arc::new(open_code(layers)?));
        }
        launch.tmp = ByteCount::from_mib(u64::from(spec.ephemeral_mb));
        // As many files as there would be in a file system of that size with the usual 16 KiB per inode.
        launch.tmp_inodes = u64::from(spec.ephemeral_mb) * 64;
        let mut sandbox = shared.sandboxes.launch(launch).await?;
        let since = clock.monotonic();
        let (Some(listener), Some(output)) = (sandbox.take_listener(), sandbox.take_output()) else {
            return Err(Error::Gone);
        };
        let facts = Facts {
            function: spec.function.to_string(),
            version: spec.version.to_string(),
            handler: spec.handler.clone(),
            account: spec.place.account.to_string(),
        };
        log.telemetry.begin(sandbox.reach(), !external.is_empty());
        let api = Api::new(clock.clone(), Extensions::new(facts, external));
        let api = Arc::new(api.with_telemetry(log.telemetry.clone()).made_for(cause));
        let pipes = Arc::new(Pipes::new(output));
        let server = tokio::spawn(api::serve(api.clone(), listener));
        let calls = endpoint.zip(sandbox.take_endpoint());
        let calls = calls.map(|(endpoint, listener)| Task(tokio::spawn(endpoint.serve(listener, api.clone()))));
        let pump = tokio::spawn({
            let (log, pipes) = (log.clone(), pipes.clone());
            async move { log.pump(&pipes).await }
        });
        let took = Took { sandbox: since.saturating_sub(opened), code: opened.saturating_sub(began) };
        let cpu = shared.options.cpu_quota.then(|| Duration::from_secs(spec.memory_mb.into()) / MB_FOR_ONE_CPU);
        let (clock, _server, _pump) = (clock.clone(), Task(server), Task(pump));
        let (_endpoint, _credentials) = (calls, access.map(|(_, credentials)| credentials));
        Ok(Self { sandbox, api, pipes, clock, since, took, cpu, _server, _pump, _endpoint, _credentials })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.sandbox.pid()
    }

    /// Time from the process's start to its first connection.
    pub(crate) fn contact_after(&self) -> Option<Duration> {
        self.api.contact().map(|at| at.saturating_sub(self.since))
    }

    /// Waits for the end of the init, at most until `limit` after the process's start.
    pub(crate) async fn init(&self, limit: Duration) -> Started {
        let left = limit.saturating_sub(self.elapsed());
        tokio::select! {
            biased;
            ready = self.ready() => match ready {
                Ok(at) => {
                    self.limit_cpu();
                    Started::Ready { took: at.saturating_sub(self.since) }
                }
                Err(failure) => self.failed(failure.error_type, Cause::Document(failure.document)),
            },
            exit = self.sandbox.exited() => match self.api.init_failure() {
                Some(failure) => self.failed(failure.error_type, Cause::Document(failure.document)),
                None => self.failed(crate::documents::exit_type(exit).to_owned(), Cause::Exit(exit)),
            },
            () = tokio::time::sleep(left) => Started::TimedOut { took: self.elapsed() },
        }
    }

    /// From the end of the init on; until then a runtime gets all that is free.
    fn limit_cpu(&self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = self.sandbox.limit_cpu(cpu)
        {
            tracing::warn!(%error, "no CPU quota can be set");
        }
    }

    /// The runtime and all extensions wait for an event; says since when.
    async fn ready(&self) -> Result<Duration, Failure> {
        let runtime = self.api.ready();
        let extensions = async {
            self.api.extensions.idle().await?;
            Ok(self.clock.monotonic())
        };
        let (runtime, extensions) = tokio::try_join!(runtime, extensions)?;
        let at = if self.api.extensions.is_empty() { runtime } else { runtime.max(extensions) };
        self.api.extensions.close_registration();
        self.api.telemetry.iter().for_each(|t| t.close());
        Ok(at)
    }

    /// Tells the extensions that the end has come and gives them their time. Without them at no cost.
    pub(crate) async fn shut_down(&self) {
        let extensions = &self.api.extensions;
        let telemetry = self.api.telemetry.as_ref().filter(|t| t.is_active());
        if !extensions.wants_shut_down() && telemetry.is_none() {
            return;
        }
        telemetry.iter().for_each(|t| t.no_freeze());
        if let Err(error) = self.sandbox.thaw() {
            tracing::warn!(%error, "could not thaw for the extensions' end");
        }
        if let Some(telemetry) = telemetry {
            telemetry.flush().await;
        }
        if !extensions.shut_down(self.clock.now().saturating_add(SHUTDOWN_LIMIT)) {
            return;
        }
        let pid = self.sandbox.pid();
        let gone = async {
            // The runtime is the one that stays.
            while self.api.extensions.undelivered() || processes_below(pid) > 1 {
                tokio::time::sleep(POLL).await;
            }
        };
        drop(tokio::time::timeout(SHUTDOWN_LIMIT, gone).await);
    }

    /// Whether the process has ended by now; does not wait.
    pub(crate) async fn has_ended(&self) -> bool {
        tokio::select! {
            biased;
            _ = self.sandbox.exited() => true,
            () = std::future::ready(()) => false,
        }
    }

    fn failed(&self, error_type: String, cause: Cause) -> Started {
        Started::Failed { took: self.elapsed(), error_type, cause }
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.since)
    }

    pub(crate) async fn gone(self) {
        let Self { sandbox, .. } = self;
        sandbox.gone().await;
    }
}

/// The descriptor goes to the spawner, which mounts it. The server must be able to read the directory itself.
fn open_code(path: &Path) -> Result<std::os::fd::OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::Code { path: path.display().to_string(), source: e.into() })
}

/// How many processes a sandbox's init has below it; those that have ended and are not yet reaped don't count.
fn processes_below(pid: u32) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let runs = |pid: &&str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in brackets, may hold anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    children.split_ascii_whitespace().filter(runs).count()
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
