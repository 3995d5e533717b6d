//! `flint top`: what the functions do.

use std::process::ExitCode;
use std::time::Duration;

use flint_dev::client::platform::{FunctionStats, FunctionStatsList};
use flint_model::ByteCount;
use serde::Serialize;

use crate::cli::Top;
use crate::ui::{self, Screen};

/// Functions that fit on a screen.
const ROWS_MAX: usize = 30;

/// One look, with what happened since the one before.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    functions: Vec<Row>,
    memory_reserved_mb: u64,
    memory_budget_mb: u64,
    up_s: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    invocations: u64,
    rate_per_second: f64,
    errors: u64,
    throttles: u64,
    cold_starts: u64,
    cold_share: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    environments: u64,
    busy: u64,
    memory_used_bytes: u64,
    memory_reserved_mb: u64,
}

pub(super) async fn run(flags: Top) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let look = || client.function_stats(flags.function.as_deref());
    let mut before = look().await?;
    let mut screen = Screen::new(!flags.json);
    if screen.is_live() {
        screen.draw(&text(&View::new(&before, &before)))?;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(flags.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
        let now = look().await?;
        let view = View::new(&before, &now);
        if flags.json {
            ui::json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        screen.draw(&text(&view))?;
        if !screen.is_live() {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

impl View {
    fn new(before: &FunctionStatsList, now: &FunctionStatsList) -> Self {
        let seconds = now.at - before.at;
        let row = |f: &FunctionStats| {
            let nothing = FunctionStats::default();
            let earlier = before.functions.iter().find(|b| b.function_name == f.function_name).unwrap_or(&nothing);
            let between = f.since(earlier);
            let recent = if between.invocations > 0 { &between } else { f };
            Row {
                name: f.function_name.clone(),
                invocations: f.invocations,
                rate_per_second: if seconds > 0.0 { between.invocations as f64 / seconds } else { 0.0 },
                errors: f.errors,
                throttles: f.throttles,
                cold_starts: f.cold_starts,
                cold_share: if f.invocations > 0 { f.cold_starts as f64 / f.invocations as f64 } else { 0.0 },
                p50_ms: recent.percentile(0.5),
                p99_ms: recent.percentile(0.99),
                environments: f.environments,
                busy: f.busy,
                memory_used_bytes: f.memory_used_bytes,
                memory_reserved_mb: f.memory_reserved_mb,
            }
        };
        let mut functions: Vec<Row> = now.functions.iter().map(row).collect();
        functions.sort_by(|a, b| {
            let key = |r: &Row| (r.rate_per_second * 1000.0) as u64;
            key(b).cmp(&key(a)).then(b.invocations.cmp(&a.invocations)).then(a.name.cmp(&b.name))
        });
        Self {
            functions,
            memory_reserved_mb: now.memory_reserved_mb,
            memory_budget_mb: now.memory_budget_mb,
            up_s: (now.at - now.started_at).max(0.0),
        }
    }
}

fn text(view: &View) -> String {
    let sum = |of: fn(&Row) -> u64| view.functions.iter().map(of).sum::<u64>();
    let rate: f64 = view.functions.iter().map(|r| r.rate_per_second).sum();
    let heading = format!(
        "{}, {rate:.1} calls/s, {} ({} busy), {} of {} MiB reserved, up {}\n",
        ui::count(view.functions.len() as u64, "function"),
        ui::count(sum(|r| r.environments), "environment"),
        sum(|r| r.busy),
        view.memory_reserved_mb,
        view.memory_budget_mb,
        ui::span(Duration::try_from_secs_f64(view.up_s).unwrap_or_default()),
    );
    let is_shown = |r: &&Row| r.invocations + r.throttles + r.environments > 0;
    let shown: Vec<_> = view.functions.iter().filter(is_shown).take(ROWS_MAX).map(cells).collect();
    let quiet = view.functions.len() - shown.len();
    let head =
        ["FUNCTION", "CALLS", "RATE", "ERRORS", "THROTTLED", "P50", "P99", "COLD", "ENVIRONMENTS", "BUSY", "MEMORY"];
    let table = ui::table_text(head, &shown);
    let more =
        if quiet > 0 { format!("and {quiet} more, which were not called or are less busy\n") } else { String::new() };
    format!("{heading}{table}{more}")
}

fn cells(r: &Row) -> [String; 11] {
    let ms =
        |ms: Option<f64>| ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()).map_or("-".into(), ui::span);
    [
        r.name.clone(),
        r.invocations.to_string(),
        format!("{:.1}/s", r.rate_per_second),
        r.errors.to_string(),
        r.throttles.to_string(),
        ms(r.p50_ms),
        ms(r.p99_ms),
        format!("{:.1} %", r.cold_share * 100.0),
        r.environments.to_string(),
        r.busy.to_string(),
        format!("{} of {} MiB", ByteCount(r.memory_used_bytes), r.memory_reserved_mb),
    ]
}

#[cfg(test)]
mod tests {
    use flint_dev::client::platform::DurationBucket;

    use super::*;

    fn look(at: f64, calls: u64) -> FunctionStatsList {
        let f = FunctionStats {
            function_name: "f".into(),
            invocations: calls,
            cold_starts: 1,
            durations: vec![DurationBucket { up_to_ms: 2.0, count: calls }],
            environments: 1,
            ..Default::default()
        };
        FunctionStatsList { functions: vec![f], at, started_at: 1.0, memory_reserved_mb: 128, memory_budget_mb: 4096 }
    }

    #[test]
    fn a_rate_is_of_the_time_between_two_looks() {
        let view = View::new(&look(10.0, 5), &look(12.0, 25));
        let row = &view.functions[0];
        assert_eq!((row.rate_per_second, row.p50_ms, row.cold_share), (10.0, Some(2.0), 0.04));
        let shown = text(&view);
        assert!(shown.starts_with("1 function, 10.0 calls/s, 1 environment "), "{shown}");
        assert!(shown.contains("10.0/s") && shown.contains("4.0 %"), "{shown}");
        assert_eq!(View::new(&look(10.0, 5), &look(10.0, 5)).functions[0].rate_per_second, 0.0);
    }
}
