//! `flint events`: what happened to events.

use flint_base::Timestamp;
use flint_dev::Client;
use flint_dev::client::events::{ChainEvent, EventQuery, JournalEntry};
use flint_dev::client::logs::{LogEvent, LogQuery, group_of};
use std::fmt::Write as _;
use std::process::ExitCode;

use super::logs::POLL;
use crate::cli::events::{Events, EventsAction, Look, ShowEvent};
use crate::ui::{self, LogLook, Paint, Tone};

/// Entries of one page.
const PAGE: u32 = 500;
/// The START line may be older than the start that the journal knows.
const EARLIER_MS: i64 = 15_000;
/// What is deeper stands no further to the right.
const DEEPEST: usize = 32;
/// Characters of a payload or an answer that are shown.
const SHOWN: usize = 2_000;

pub(super) async fn run(flags: Events) -> anyhow::Result<ExitCode> {
    match flags.action {
        None => list(flags.look).await,
        Some(EventsAction::Show(flags)) => show(flags).await,
    }
}

async fn list(flags: Look) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let now = client.clock().now();
    let seconds = |at: Timestamp| at.as_millis() as f64 / 1000.0;
    let query = EventQuery {
        function_name: flags.function.clone(),
        source: flags.source.clone(),
        outcome: flags.outcome.clone(),
        kind: flags.kind.clone(),
        event_id: flags.id.clone(),
        trace_id: flags.trace.clone(),
        since: flags.since.map(|since| seconds(since.instant(now))),
        until: flags.until.map(|until| seconds(until.instant(now))),
        ..EventQuery::default()
    };
    let (entries, mut newest) = newest_of(&client, &query, flags.tail as usize).await?;
    let paint = Paint::stdout();
    let print = |entry: &JournalEntry| match flags.json {
        true => ui::line(serde_json::to_string(entry)?),
        false => ui::line(line(entry, paint)),
    };
    entries.iter().rev().try_for_each(print)?;
    if entries.is_empty() && !flags.follow {
        ui::note("nothing of the kind is in the journal");
    }
    if !flags.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(POLL).await;
        let after = newest.clone().unwrap_or_else(|| "0.0".to_owned());
        let page = client.events(&EventQuery { after: Some(after), max_items: Some(PAGE), ..query.clone() }).await?;
        page.entries.iter().try_for_each(print)?;
        newest = page.newest;
    }
}

/// The newest entries, newest first, and the position behind which there is nothing yet.
async fn newest_of(
    client: &Client,
    query: &EventQuery,
    wanted: usize,
) -> anyhow::Result<(Vec<JournalEntry>, Option<String>)> {
    let (mut entries, mut token, mut newest) = (Vec::new(), None, None);
    loop {
        // With none wanted one call says from where on there is something new.
        let left = u32::try_from(wanted - entries.len()).unwrap_or(PAGE).clamp(1, PAGE);
        let page =
            client.events(&EventQuery { max_items: Some(left), next_token: token.take(), ..query.clone() }).await?;
        newest = newest.or(page.newest);
        entries.extend(page.entries);
        token = page.next_token;
        if token.is_none() || entries.len() >= wanted {
            break;
        }
    }
    entries.truncate(wanted);
    Ok((entries, newest))
}

/// An entry as a line: time, event, what happened, from where to where, how it ended.
fn line(entry: &JournalEntry, paint: Paint) -> String {
    let mut text = format!("{} {} ", paint.text(Tone::Quiet, time(entry.at)), entry.event_id);
    let kind = format!("{:<13}", entry.kind.replace('_', "-"));
    text.push_str(&paint.text(tone(entry), kind));
    text.push_str(&way(entry));
    text.push_str(&end(entry));
    text
}

fn tone(entry: &JournalEntry) -> Tone {
    match (entry.kind.as_str(), entry.outcome.as_deref()) {
        ("dead_lettered" | "discarded", _) => Tone::Bad,
        (_, Some("succeeded")) | ("settled", _) => Tone::Good,
        (_, Some(_)) | ("retried", _) => Tone::Warn,
        _ => Tone::Strong,
    }
}

fn way(entry: &JournalEntry) -> String {
    match (&entry.source, &entry.target) {
        (Some(source), Some(target)) => format!(" {} -> {}", short(source), short(target)),
        (Some(source), None) => format!(" {}", short(source)),
        (None, Some(target)) => format!(" {}", short(target)),
        (None, None) => String::new(),
    }
}

/// What is known of the attempt and of the error.
fn end(entry: &JournalEntry) -> String {
    let mut text = String::new();
    // Writing to a text can't fail.
    if let Some(attempt) = entry.attempt {
        let _ = write!(text, "  try {attempt}");
    }
    if let Some(outcome) = entry.outcome.as_deref().filter(|outcome| *outcome != "succeeded") {
        let _ = write!(text, "  {}", outcome.replace('_', " "));
    }
    if let Some(error) = &entry.error_type {
        let place = entry.frame.as_ref().map(|frame| format!(" at {frame}")).unwrap_or_default();
        let _ = write!(text, "  {}", ui::one_cell(&format!("{error}{place}")));
    }
    if let Some(ms) = entry.billed_ms {
        let _ = write!(text, "  {ms} ms");
    }
    if let Some(id) = &entry.replay_of {
        let _ = write!(text, "  replay of {id}");
    }
    text
}

/// An ARN by its end: the name of the queue or the function, with its qualifier.
pub(super) fn short(arn: &str) -> String {
    let mut parts = arn.splitn(6, ':');
    match (parts.next(), parts.nth(4)) {
        (Some("arn"), Some(resource)) => resource.strip_prefix("function:").unwrap_or(resource).to_owned(),
        _ => arn.to_owned(),
    }
}

pub(super) fn time(seconds: f64) -> String {
    Timestamp::from_millis((seconds * 1000.0) as i64).to_iso8601()
}

async fn show(flags: ShowEvent) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let chain = client.event(&flags.id).await?;
    if flags.json {
        ui::json(&chain)?;
        return Ok(ExitCode::SUCCESS);
    }
    let paint = Paint::stdout();
    ui::line(format_args!("trace {}", paint.text(Tone::Strong, &chain.trace_id)))?;
    if !chain.complete {
        ui::line(paint.text(Tone::Quiet, "  (its first event came from outside, or is not in the journal any more)"))?;
    }
    let least = chain.events.iter().map(|event| event.depth).min().unwrap_or(0);
    for event in &chain.events {
        let asked = event.event_id == chain.event_id;
        let depth = usize::try_from(event.depth.saturating_sub(least)).unwrap_or(0).min(DEEPEST);
        let indent = "  ".repeat(depth + 1);
        let mark = if asked { paint.text(Tone::Strong, "*") } else { "-".to_owned() };
        let waits = if event.waiting { paint.text(Tone::Bad, "  waits: flint dlq") } else { String::new() };
        let replay = event.replay_of.as_ref().map(|id| format!("  replay of {id}")).unwrap_or_default();
        ui::line(format_args!("{indent}{mark} {}{replay}{waits}", event.event_id))?;
        for entry in &event.entries {
            let kind = paint.text(tone(entry), format!("{:<13}", entry.kind.replace('_', "-")));
            let end = JournalEntry { replay_of: None, ..entry.clone() };
            ui::line(format_args!("{indent}    {} {kind}{}{}", time(entry.at), way(entry), self::end(&end)))?;
        }
        if asked {
            detail(&client, event, &indent, paint).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Payload, answer and logs of the event that was asked for.
async fn detail(client: &Client, event: &ChainEvent, indent: &str, paint: Paint) -> anyhow::Result<()> {
    for (what, text) in [("payload", &event.payload), ("answer", &event.answer)] {
        if let Some(text) = text {
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            let shown = ui::harmless(&shown);
            ui::line(format_args!("{indent}    {}  {shown}{more}", paint.text(Tone::Quiet, what)))?;
        }
    }
    let look = LogLook { paint, ..LogLook::stdout() };
    for event in logs(client, event).await {
        ui::log_event(&event, &look)?;
    }
    Ok(())
}

/// What the function logged while it handled the event, as far as it is known which environment did.
async fn logs(client: &Client, event: &ChainEvent) -> Vec<LogEvent> {
    let mut found = Vec::new();
    let runs = event.entries.iter().filter(|entry| entry.kind == "finished" || entry.kind == "attempted");
    for run in runs {
        let (Some(target), Some(environment), Some(started)) = (&run.target, &run.environment_id, run.started_at)
        else {
            continue;
        };
        let id = run.request_id.as_ref().unwrap_or(&event.event_id);
        let since = Timestamp::from_millis((started * 1000.0) as i64 - EARLIER_MS);
        let query = LogQuery { group: group_of(target), since: Some(since), pattern: None };
        let mut within = false;
        let each = |line: LogEvent| {
            if !line.log_stream_name.ends_with(environment.as_str()) {
                return;
            }
            within |= line.message.starts_with(&format!("START RequestId: {id}"));
            let last = line.message.starts_with(&format!("REPORT RequestId: {id}"));
            if within {
                found.push(line);
            }
            within &= !last;
        };
        // A group that is gone has no lines to show.
        drop(client.log_events(&query, each).await);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_told_by_its_end() {
        for (arn, wanted) in [
            ("arn:aws:sqs:us-east-1:000000000000:orders", "orders"),
            ("arn:aws:lambda:us-east-1:000000000000:function:f:live", "f:live"),
            ("flint:replay", "flint:replay"),
        ] {
            assert_eq!(short(arn), wanted);
        }
    }

    #[test]
    fn an_entry_is_a_line() {
        let entry = JournalEntry {
            event_id: "e".into(),
            kind: "dead_lettered".into(),
            source: Some("arn:aws:sqs:us-east-1:000000000000:orders".into()),
            target: Some("arn:aws:sqs:us-east-1:000000000000:dead".into()),
            attempt: Some(3),
            error_type: Some("KeyError".into()),
            frame: Some("app.py:7 in handler".into()),
            ..JournalEntry::default()
        };
        let plain = line(&entry, Paint::plain());
        assert_eq!(
            plain,
            "1970-01-01T00:00:00.000Z e dead-lettered orders -> dead  try 3  KeyError at app.py:7 in handler"
        );
    }
}
