//! `flint dlq`: failures that wait for a person.

use std::process::ExitCode;
use std::time::Duration;

use flint_base::Timestamp;
use flint_dev::Client;
use flint_dev::client::events::{Chosen, FailureGroup, Redrive};
use serde_json::json;

use super::events::{short, time};
use super::logs::POLL;
use crate::cli::events::{Dlq, DlqAction, DropFlags, RedriveFlags, ShowGroup};
use crate::ui::{self, Paint, Tone};

/// Characters of a message in a table.
const MESSAGE: usize = 60;

pub(super) async fn run(flags: Dlq) -> anyhow::Result<ExitCode> {
    match flags.action {
        None => list(flags).await,
        Some(DlqAction::Show(flags)) => show(flags).await,
        Some(DlqAction::Redrive(flags)) => redrive(flags).await,
        Some(DlqAction::Drop(flags)) => discard(flags).await,
    }
}

async fn list(flags: Dlq) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let found = client.failures(flags.function.as_deref(), flags.source.as_deref()).await?;
    if flags.json {
        ui::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.groups.is_empty() {
        ui::note("nothing waits");
        return Ok(ExitCode::SUCCESS);
    }
    let now = client.clock().now();
    let rows: Vec<_> = found.groups.iter().map(|group| row(group, now)).collect();
    ui::table(["GROUP", "COUNT", "FIRST", "LAST", "FROM", "CAUSE"], &rows)?;
    let groups = ui::count(found.groups.len() as u64, "cause");
    ui::note(format_args!("{} of {groups}; `flint dlq show GROUP` shows them", ui::count(found.count, "failure")));
    Ok(ExitCode::SUCCESS)
}

fn row(group: &FailureGroup, now: Timestamp) -> [String; 6] {
    let ago = |at: f64| format!("{} ago", ui::span(now.since(Timestamp::from_millis((at * 1000.0) as i64))));
    let from: Vec<String> = group.sources.iter().map(|arn| short(arn)).collect();
    [
        group.group_id.clone(),
        group.count.to_string(),
        ago(group.first_seen_at),
        ago(group.last_seen_at),
        from.join(", "),
        group.signature.clone(),
    ]
}

async fn show(flags: ShowGroup) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let found = client.failure_group(&flags.group, flags.count).await?;
    if flags.json {
        ui::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let paint = Paint::stdout();
    let group = &found.group;
    ui::line(paint.text(Tone::Strong, ui::one_cell(&group.signature)))?;
    if !group.error_message.is_empty() {
        ui::line(format_args!("  {}", ui::one_cell(&group.error_message)))?;
    }
    let rows: Vec<_> = found
        .failures
        .iter()
        .map(|failure| {
            let message: String = failure.error_message.chars().take(MESSAGE).collect();
            let lies = failure.target.as_deref().filter(|_| failure.kind == "dead_lettered").map(short);
            [
                failure.event_id.clone(),
                time(failure.at),
                failure.source.as_deref().or(failure.target.as_deref()).map(short).unwrap_or_default(),
                lies.unwrap_or_else(|| "journal".to_owned()),
                failure.attempt.map(|n| n.to_string()).unwrap_or_default(),
                message,
            ]
        })
        .collect();
    ui::table(["EVENT", "SINCE", "FROM", "LIES IN", "TRIES", "MESSAGE"], &rows)?;
    let shown = found.failures.len() as u64;
    if shown < group.count {
        ui::note(format_args!("{shown} of {}; -n shows more", group.count));
    }
    ui::note(format_args!(
        "`flint events show EVENT` tells one's story, `flint replay EVENT` tries it, `flint dlq redrive {}` brings all back",
        group.group_id
    ));
    Ok(ExitCode::SUCCESS)
}

/// Eight digits name a group; everything else an event.
fn chosen(id: Option<&str>) -> Chosen {
    let is_group = |id: &&str| id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
    Chosen {
        group_id: id.filter(is_group).map(str::to_owned),
        event_id: id.filter(|id| !is_group(id)).map(str::to_owned),
        max_per_second: None,
    }
}

async fn redrive(flags: RedriveFlags) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let wanted = Chosen { max_per_second: Some(flags.rate), ..chosen(flags.id.as_deref()) };
    let task = client.redrive(&wanted).await?;
    let end = if flags.no_wait { client.redrive_state(&task.task_id).await? } else { wait(&client, &task).await? };
    if flags.json {
        ui::json(&end)?;
    } else {
        told(&end)?;
    }
    Ok(if end.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Until the end; Ctrl-C stops the redrive, and what was brought back stays so.
async fn wait(client: &Client, task: &Redrive) -> anyhow::Result<Redrive> {
    let spinner = ui::Spinner::new();
    loop {
        let now = client.redrive_state(&task.task_id).await?;
        if now.status != "Running" {
            return Ok(now);
        }
        flint_dev::Progress::step(&spinner, &format!("{} of {} brought back", now.done, now.count));
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => drop(client.stop_redrive(&task.task_id).await?),
        }
    }
}

fn told(end: &Redrive) -> anyhow::Result<()> {
    let span = end.ended_at.map(|ended| Duration::from_secs_f64((ended - end.started_at).clamp(0.0, 1e9)));
    let took = span.map(|span| format!(" in {}", ui::span(span))).unwrap_or_default();
    let word = if end.status == "Running" { "is on its way" } else { "brought back" };
    ui::line(format_args!("{} of {} {word}{took}", end.done, ui::count(end.count, "failure")))?;
    if end.status == "Stopped" {
        ui::note("stopped: the rest waits as before");
    }
    if end.skipped > 0 {
        ui::note(format_args!("{} waited no more, or were out with somebody", end.skipped));
    }
    if end.failed > 0 {
        let why = end.message.as_deref().unwrap_or("see the server's log");
        ui::note(format_args!("{} could not be brought back; the last: {why}", end.failed));
    }
    Ok(())
}

async fn discard(flags: DropFlags) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let end = client.drop_failures(&chosen(flags.id.as_deref())).await?;
    if flags.json {
        ui::json(&json!({ "dropped": end.dropped, "skipped": end.skipped }))?;
    } else {
        ui::line(format_args!("{} dropped", ui::count(end.dropped, "failure")))?;
    }
    Ok(ExitCode::SUCCESS)
}
