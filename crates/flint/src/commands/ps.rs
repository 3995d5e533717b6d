//! `flint ps`: the execution environments that are alive.

use std::process::ExitCode;
use std::time::Duration;

use flint_base::Timestamp;
use flint_dev::client::platform::ExecutionEnvironment;
use flint_model::ByteCount;

use crate::cli::Ps;
use crate::ui;

pub(super) async fn run(flags: Ps) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let environments = client.environments(flags.function.as_deref()).await?;
    if flags.json {
        ui::json(&environments)?;
        return Ok(ExitCode::SUCCESS);
    }
    if environments.is_empty() {
        ui::note("no execution environment is alive: the next invocation makes one");
        return Ok(ExitCode::SUCCESS);
    }
    let now = client.clock().now();
    let rows: Vec<_> = environments.iter().map(|e| row(e, now)).collect();
    ui::table(["ID", "FUNCTION", "VERSION", "STATE", "PID", "MEMORY", "AGE", "IDLE", "CALLS", "COLD START"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(e: &ExecutionEnvironment, now: Timestamp) -> [String; 10] {
    let ago =
        |at: Option<f64>| at.map_or("-".into(), |s| ui::span(now.since(Timestamp::from_millis((s * 1000.0) as i64))));
    let cold = e.cold_start.as_ref().and_then(|c| c.get("TotalMs")).and_then(serde_json::Value::as_f64);
    let used = e.memory_used_bytes.map_or("-".into(), |b| ByteCount(b).to_string());
    [
        e.id.chars().take(12).collect(),
        e.function_name.clone(),
        e.version.clone(),
        e.state.clone(),
        e.pid.map_or("-".into(), |p| p.to_string()),
        e.memory_mb.map_or(used.clone(), |limit| format!("{used} of {limit} MiB")),
        ago(e.started_at),
        ago(e.last_used_at),
        e.invocations.to_string(),
        cold.map_or("-".into(), |ms| ui::span(Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 1e6)))),
    ]
}
