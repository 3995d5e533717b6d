//! One process in one sandbox: started, listened to, read from, and ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::Clock;
use flint_model::ByteCount;
use flint_sandbox::{Exit, Launch, Sandbox};
use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;

use crate::api::{self, Api};
use crate::bootstrap;
use crate::environment::Shared;
use crate::error::Error;
use crate::output::{Log, Pipes};
use crate::spec::EnvironmentSpec;
use crate::variables;

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
    _server: Task,
    _pump: Task,
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
    ) -> Result<Self, Error> {
        let clock = &shared.clock;
        let began = clock.monotonic();
        let code = open_code(&spec.code)?;
        let opened = clock.monotonic();
        let root = shared.root(&spec.runtime).await?;
        let mut argv = bootstrap::argv(&spec.runtime, root.compiled);
        argv.splice(0..0, bootstrap::wrapper(spec));
        let mut launch = Launch::new(root.id, argv, ByteCount::from_mib(u64::from(spec.memory_mb)));
        launch.env = variables::inside(spec, log_stream);
        launch.code = Some(Arc::new(code));
        launch.tmp = ByteCount::from_mib(u64::from(spec.ephemeral_mb));
        // As many files as there would be in a file system of that size with the usual 16 KiB per inode.
        launch.tmp_inodes = u64::from(spec.ephemeral_mb) * 64;
        let mut sandbox = shared.sandboxes.launch(launch).await?;
        let since = clock.monotonic();
        let (Some(listener), Some(output)) = (sandbox.take_listener(), sandbox.take_output()) else {
            return Err(Error::Gone);
        };
        let api = Arc::new(Api::new(clock.clone()));
        let pipes = Arc::new(Pipes::new(output));
        let server = tokio::spawn(api::serve(api.clone(), listener));
        let pump = tokio::spawn({
            let (log, pipes) = (log.clone(), pipes.clone());
            async move { log.pump(&pipes).await }
        });
        let took = Took { sandbox: since.saturating_sub(opened), code: opened.saturating_sub(began) };
        Ok(Self { sandbox, api, pipes, clock: clock.clone(), since, took, _server: Task(server), _pump: Task(pump) })
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
            ready = self.api.ready() => match ready {
                Ok(at) => Started::Ready { took: at.saturating_sub(self.since) },
                Err(failure) => self.failed(failure.error_type, Cause::Document(failure.document)),
            },
            exit = self.sandbox.exited() => match self.api.init_failure() {
                Some(failure) => self.failed(failure.error_type, Cause::Document(failure.document)),
                None => self.failed(crate::documents::exit_type(exit).to_owned(), Cause::Exit(exit)),
            },
            () = tokio::time::sleep(left) => Started::TimedOut { took: self.elapsed() },
        }
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

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
