//! `flint ps`: the execution environments that are alive.

use std::process::ExitCode;
use std::time::Duration;

use flint_base::Timestamp;
use flint_dev::client::platform::ExecutionEnvironment;
use flint_model::ByteCount;

use crate::cli::Ps;
use crate::ui::{self, Screen};

/// Between two looks with `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);
/// Width of a waterfall of phases.
const BAR: usize = 40;
/// The phases of a cold start: the wire's name, the column, the letter in the waterfall.
const PHASES: [(&str, &str, char); 5] = [
    ("SandboxMs", "SANDBOX", 's'),
    ("CodeMs", "CODE", 'c'),
    ("RuntimeMs", "RUNTIME", 'r'),
    ("InitMs", "INIT", 'i'),
    ("FirstInvokeMs", "FIRST CALL", 'f'),
];

pub(super) async fn run(flags: Ps) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let mut screen = Screen::new(flags.watch);
    loop {
        let environments = client.environments(flags.function.as_deref()).await?;
        if flags.json {
            ui::json(&environments)?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = client.clock().now();
        if environments.is_empty() && !flags.watch {
            ui::note("no execution environment is alive: the next invocation makes one");
            return Ok(ExitCode::SUCCESS);
        }
        screen.draw(&if flags.cold { cold(&environments) } else { alive(&environments, now) })?;
        if !flags.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn alive(environments: &[ExecutionEnvironment], now: Timestamp) -> String {
    let rows: Vec<_> = environments.iter().map(|e| row(e, now)).collect();
    ui::table_text(["ID", "FUNCTION", "VERSION", "STATE", "PID", "MEMORY", "AGE", "IDLE", "CALLS", "COLD START"], &rows)
}

fn row(e: &ExecutionEnvironment, now: Timestamp) -> [String; 10] {
    let ago =
        |at: Option<f64>| at.map_or("-".into(), |s| ui::span(now.since(Timestamp::from_millis((s * 1000.0) as i64))));
    let used = e.memory_used_bytes.map_or("-".into(), |b| ByteCount(b).to_string());
    [
        id(e),
        e.function_name.clone(),
        e.version.clone(),
        e.state.clone(),
        e.pid.map_or("-".into(), |p| p.to_string()),
        e.memory_mb.map_or(used.clone(), |limit| format!("{used} of {limit} MiB")),
        ago(e.started_at),
        ago(e.last_used_at),
        e.invocations.to_string(),
        phase(e, "TotalMs").map_or("-".into(), ms),
    ]
}

/// Where the time of each cold start went, as figures and as a bar; the longest takes the whole width.
fn cold(environments: &[ExecutionEnvironment]) -> String {
    let longest = environments.iter().filter_map(|e| phase(e, "TotalMs")).fold(0.0, f64::max);
    let rows: Vec<_> = environments
        .iter()
        .map(|e| {
            let cause = e.cold_start.as_ref().and_then(|c| c.get("Cause")).and_then(|c| c.as_str()).unwrap_or("-");
            let [s, c, r, i, f] = PHASES.map(|(name, ..)| phase(e, name).map_or("-".into(), ms));
            let total = phase(e, "TotalMs").map_or("-".into(), ms);
            [id(e), e.function_name.clone(), cause.to_owned(), s, c, r, i, f, total, bar(e, longest)]
        })
        .collect();
    let [s, c, r, i, f] = PHASES.map(|(_, column, _)| column);
    ui::table_text(["ID", "FUNCTION", "CAUSE", s, c, r, i, f, "TOTAL", "WATERFALL"], &rows)
}

fn bar(e: &ExecutionEnvironment, longest: f64) -> String {
    let mut bar = String::new();
    let mut until = 0.0;
    for (name, _, letter) in PHASES {
        until += phase(e, name).unwrap_or_default().max(0.0);
        let end = if longest > 0.0 { (until / longest * BAR as f64).round() as usize } else { 0 };
        while bar.len() < end.min(BAR) {
            bar.push(letter);
        }
    }
    bar
}

fn id(e: &ExecutionEnvironment) -> String {
    e.id.chars().take(12).collect()
}

/// Milliseconds of a phase.
fn phase(e: &ExecutionEnvironment, name: &str) -> Option<f64> {
    e.cold_start.as_ref()?.get(name)?.as_f64()
}

fn ms(ms: f64) -> String {
    ui::span(Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(phases: &[(&str, f64)]) -> ExecutionEnvironment {
        let cold_start = phases.iter().map(|(name, ms)| ((*name).to_owned(), (*ms).into())).collect();
        ExecutionEnvironment { id: "e".into(), cold_start: Some(cold_start), ..Default::default() }
    }

    #[test]
    fn a_waterfall_is_as_long_as_its_time() {
        let half = [("SandboxMs", 1.0), ("InitMs", 8.0), ("FirstInvokeMs", 1.0), ("TotalMs", 10.0)];
        let whole = [("SandboxMs", 20.0), ("TotalMs", 20.0)];
        let all = [environment(&half), environment(&whole), ExecutionEnvironment::default()];
        let drawn = |e| bar(e, 20.0);
        assert_eq!(drawn(&all[0]), format!("ss{}ff", "i".repeat(16)));
        assert_eq!(drawn(&all[1]).len(), BAR);
        assert_eq!(drawn(&all[2]), "");
        assert!(cold(&all).contains("FIRST CALL"));
    }
}
