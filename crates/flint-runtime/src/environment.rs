//! An execution environment from birth to end.

use std::sync::Arc;

use flint_base::Clock;
use flint_kit::LogSink;
use flint_model::ByteCount;
use flint_sandbox::Sandboxes;

use crate::call::{Answer, Call, ColdStart, InitEnd};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::spec::EnvironmentSpec;

/// Settings that all environments share.
#[derive(Clone, Debug)]
pub struct Options {
    /// Log bytes that one environment may write per second before lines are dropped.
    pub log_rate: ByteCount,
    /// Log bytes that it may write at once.
    pub log_burst: ByteCount,
}

impl Default for Options {
    fn default() -> Self {
        Self { log_rate: ByteCount::from_mib(1), log_burst: ByteCount::from_mib(4) }
    }
}

/// Makes environments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Environments {
    #[expect(dead_code, reason = "bodies follow")]
    shared: Arc<Shared>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "bodies follow")]
struct Shared {
    sandboxes: Sandboxes,
    catalog: Arc<Catalog>,
    logs: Arc<dyn LogSink>,
    clock: Arc<dyn Clock>,
    options: Options,
}

impl Environments {
    pub fn new(
        sandboxes: Sandboxes,
        catalog: Arc<Catalog>,
        logs: Arc<dyn LogSink>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        Self { shared: Arc::new(Shared { sandboxes, catalog, logs, clock, options }) }
    }

    /// Starts a sandbox with the runtime in it. Returns once the process runs; [`Environment::init`] comes next.
    ///
    /// Errors: [`Error::Sandbox`] where no sandbox could be made, [`Error::Code`] where the code is gone.
    pub async fn create(&self, spec: Arc<EnvironmentSpec>) -> Result<Environment, Error> {
        Err(Error::Refused(spec.handler.clone()))
    }
}

/// One environment. Dropping it kills it in the background; [`Environment::close`] waits for its end.
#[derive(Debug)]
pub struct Environment {
    spec: Arc<EnvironmentSpec>,
    id: String,
    log_stream: Arc<str>,
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
        0
    }

    /// What the environment uses now.
    pub fn memory_used(&self) -> ByteCount {
        ByteCount(0)
    }

    pub fn cold_start(&self) -> ColdStart {
        ColdStart::default()
    }

    /// Waits for the first init: until the runtime asks for an event, fails, or `init_limit` has passed.
    /// A failed init leaves the environment usable: the next call tries again, as the reference does.
    pub async fn init(&mut self) -> InitEnd {
        InitEnd::TimedOut
    }

    /// Runs one event. Always answers; a function that fails is an [`Answer`].
    pub async fn invoke(&mut self, call: Call) -> Answer {
        unimplemented!("{call:?}")
    }

    /// Stops the processes until [`Environment::thaw`] (or the next call, which thaws by itself).
    pub fn freeze(&self) {}

    pub fn thaw(&self) {}

    /// Completes when the environment's main process has ended by itself (only meaningful between calls).
    pub async fn exited(&self) {}

    /// Kills what is left and waits until nothing is: no process, no mount, no cgroup.
    pub async fn close(self) {}
}
