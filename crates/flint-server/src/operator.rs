//! Flint's own API, service `flint`: what `flint ps` and `flint runtime` ask.

use std::sync::Arc;

use async_trait::async_trait;
use flint_base::{Clock, Timestamp};
use flint_engine::{Engine, EnvironmentView, StatsView};
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};
use flint_runtime::{Catalog, ColdStart, Kind};
use serde::{Deserialize, Serialize};

use crate::backup::Stage;
use crate::options::Mode;

/// The service.
#[derive(Debug)]
pub(crate) struct Operator {
    pub engine: Arc<Engine>,
    pub catalog: Arc<Catalog>,
    pub mode: Mode,
    pub started: Timestamp,
    pub clock: Arc<dyn Clock>,
    pub stage: Arc<Stage>,
}

const OPERATIONS: &[OperationSpec] = &[
    OperationSpec { name: "CreateBackup", action: "flint:CreateBackup", resource: everything },
    OperationSpec { name: "ListEnvironments", action: "flint:ListEnvironments", resource: everything },
    OperationSpec { name: "ListFunctionStats", action: "flint:ListFunctionStats", resource: everything },
    OperationSpec { name: "ListRuntimes", action: "flint:ListRuntimes", resource: everything },
    OperationSpec { name: "Status", action: "flint:Status", resource: everything },
];

fn everything(_: &Ctx, _: &Doc) -> String {
    "*".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionInput {
    #[serde(default)]
    function_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListEnvironmentsOutput {
    environments: Vec<Environment>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    id: String,
    function_name: String,
    version: String,
    state: &'static str,
    pid: i64,
    memory_mb: i64,
    memory_used_bytes: i64,
    started_at: Timestamp,
    last_used_at: Timestamp,
    invocations: i64,
    cold_start: Phases,
}

/// Milliseconds, with microseconds as the fraction.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Phases {
    cause: String,
    sandbox_ms: f64,
    code_ms: f64,
    runtime_ms: f64,
    init_ms: f64,
    first_invoke_ms: f64,
    total_ms: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListFunctionStatsOutput {
    functions: Vec<FunctionStats>,
    at: Timestamp,
    started_at: Timestamp,
    memory_reserved_mb: i64,
    memory_budget_mb: i64,
}

/// Counters since the server started, and what the function's environments hold now.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionStats {
    function_name: String,
    invocations: i64,
    errors: i64,
    throttles: i64,
    cold_starts: i64,
    durations: Vec<DurationBucket>,
    environments: i64,
    busy: i64,
    memory_reserved_mb: i64,
    memory_used_bytes: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DurationBucket {
    up_to_ms: f64,
    count: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListRuntimesOutput {
    runtimes: Vec<Runtime>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Runtime {
    identifier: String,
    version: String,
    source: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateBackupOutput {
    version: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusOutput {
    version: &'static str,
    account: String,
    region: String,
    mode: &'static str,
    started_at: Timestamp,
    environments: i64,
}

#[async_trait]
impl Service for Operator {
    fn name(&self) -> &'static str {
        "flint"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        match operation {
            "CreateBackup" => Output::render(&self.create_backup().await?),
            "ListEnvironments" => Output::render(&self.list_environments(ctx, &input.parse()?)),
            "ListFunctionStats" => Output::render(&self.list_function_stats(ctx, &input.parse()?)),
            "ListRuntimes" => Output::render(&self.list_runtimes()),
            "Status" => Output::render(&self.status(ctx)),
            other => Err(Fault::not_served(format_args!("flint.{other}"))),
        }
    }
}

impl Operator {
    async fn create_backup(&self) -> Result<CreateBackupOutput, Fault> {
        let stage = self.stage.clone();
        let staged = tokio::task::spawn_blocking(move || stage.make()).await;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Fault::unavailable(format!("the backup could not be staged: {error}")).because(error)
        };
        let extent = staged.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))?;
        Ok(CreateBackupOutput { version: number(extent.version) })
    }

    fn list_environments(&self, ctx: &Ctx, input: &FunctionInput) -> ListEnvironmentsOutput {
        let wanted = |view: &EnvironmentView| {
            view.place == ctx.place && input.function_name.as_deref().is_none_or(|name| name == view.function.as_str())
        };
        let environments = self.engine.environments().into_iter().filter(wanted).map(Environment::from).collect();
        ListEnvironmentsOutput { environments }
    }

    fn list_function_stats(&self, ctx: &Ctx, input: &FunctionInput) -> ListFunctionStatsOutput {
        let environments = self.engine.environments();
        let wanted = |stats: &StatsView| {
            stats.place == ctx.place
                && input.function_name.as_deref().is_none_or(|name| name == stats.function.as_str())
        };
        let describe = |stats: StatsView| {
            let own = || environments.iter().filter(|e| e.place == stats.place && e.function == stats.function);
            FunctionStats {
                function_name: stats.function.to_string(),
                invocations: number(stats.invocations),
                errors: number(stats.errors),
                throttles: number(stats.throttles),
                cold_starts: number(stats.cold_starts),
                environments: number(own().count() as u64),
                busy: number(own().filter(|e| e.state == "Busy").count() as u64),
                memory_reserved_mb: own().map(|e| i64::from(e.memory_mb)).sum(),
                memory_used_bytes: number(own().map(|e| e.memory_used_bytes).sum()),
                durations: stats.durations.iter().map(DurationBucket::from).collect(),
            }
        };
        let (reserved, budget) = self.engine.memory_mb();
        ListFunctionStatsOutput {
            functions: self.engine.stats().into_iter().filter(wanted).map(describe).collect(),
            at: self.clock.now(),
            started_at: self.started,
            memory_reserved_mb: number(reserved),
            memory_budget_mb: number(budget),
        }
    }

    fn list_runtimes(&self) -> ListRuntimesOutput {
        let describe = |identifier: String| {
            let resolved = self.catalog.resolve(&identifier, flint_runtime::Match::Exact).ok();
            let version = resolved.as_ref().map(|r| r.version.clone()).unwrap_or_default();
            let source = match resolved.map(|r| (r.kind, r.prefix)) {
                Some((Kind::Provided, _)) => "the package's own bootstrap".to_owned(),
                Some((_, Some(prefix))) => prefix.display().to_string(),
                _ => "/usr".to_owned(),
            };
            Runtime { identifier, version, source }
        };
        ListRuntimesOutput { runtimes: self.catalog.available().into_iter().map(describe).collect() }
    }

    fn status(&self, ctx: &Ctx) -> StatusOutput {
        StatusOutput {
            version: env!("CARGO_PKG_VERSION"),
            account: ctx.place.account.to_string(),
            region: ctx.place.region.to_string(),
            mode: match self.mode {
                Mode::Up => "up",
                Mode::Dev => "dev",
            },
            started_at: self.started,
            environments: number(self.engine.environments().len() as u64),
        }
    }
}

impl From<EnvironmentView> for Environment {
    fn from(view: EnvironmentView) -> Self {
        Self {
            id: view.id,
            function_name: view.function.to_string(),
            version: view.version.to_string(),
            state: view.state,
            pid: view.pid.into(),
            memory_mb: view.memory_mb.into(),
            memory_used_bytes: number(view.memory_used_bytes),
            started_at: view.started,
            last_used_at: view.last_used,
            invocations: number(view.invocations),
            cold_start: Phases::new(format!("{:?}", view.cause), &view.cold_start),
        }
    }
}

impl From<&(std::time::Duration, u64)> for DurationBucket {
    fn from((up_to, count): &(std::time::Duration, u64)) -> Self {
        Self { up_to_ms: up_to.as_nanos() as f64 / 1e6, count: number(*count) }
    }
}

impl Phases {
    fn new(cause: String, phases: &ColdStart) -> Self {
        let ms = |span: std::time::Duration| span.as_micros() as f64 / 1000.0;
        Self {
            cause,
            sandbox_ms: ms(phases.sandbox),
            code_ms: ms(phases.code),
            runtime_ms: ms(phases.runtime),
            init_ms: ms(phases.init),
            first_invoke_ms: ms(phases.first_invoke),
            total_ms: ms(phases.sandbox + phases.code + phases.runtime + phases.init + phases.first_invoke),
        }
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
