//! `flint replay`: a recorded event once more.

use std::process::ExitCode;

use flint_dev::client::events::Replay as Replayed;

use super::events::time;
use crate::cli::events::Replay;
use crate::ui::{self, Paint, Tone};

pub(super) async fn run(flags: Replay) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let replayed = client.replay(&flags.id, flags.version.as_deref()).await?;
    if flags.json {
        ui::json(&replayed)?;
    } else {
        print(&replayed)?;
    }
    Ok(if replayed.function_error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(replayed: &Replayed) -> anyhow::Result<()> {
    let paint = Paint::stdout();
    let quiet = |text: &str| paint.text(Tone::Quiet, text);
    ui::note(replayed.log.trim_end());
    ui::line(format_args!("{}  {}", quiet("event "), ui::harmless(replayed.payload.trim_end())))?;
    let former = match (&replayed.former_answer, &replayed.former_error) {
        (Some(answer), _) => Some(ui::harmless(answer.trim_end())),
        (None, Some(error)) => Some(paint.text(Tone::Bad, ui::one_cell(error))),
        (None, None) => None,
    };
    match former {
        Some(former) => {
            let at = replayed.former_at.map(|at| format!(" at {}", time(at))).unwrap_or_default();
            ui::line(format_args!("{}  {former}{}", quiet("before"), quiet(&at)))?;
        }
        None => ui::line(format_args!("{}  {}", quiet("before"), quiet("not known")))?,
    }
    let answer = ui::harmless(replayed.answer.trim_end());
    let answer = if replayed.function_error.is_some() { paint.text(Tone::Bad, answer) } else { answer };
    ui::line(format_args!("{}  {answer}", quiet("now   ")))?;
    ui::line(match replayed.differs {
        Some(true) if replayed.function_error.is_none() && replayed.former_error.is_some() => {
            paint.text(Tone::Good, "it failed, and does not any more")
        }
        Some(true) => paint.text(Tone::Warn, "the answer differs"),
        Some(false) if replayed.function_error.is_some() => paint.text(Tone::Bad, "it fails as before"),
        Some(false) => paint.text(Tone::Good, "the answer is the same"),
        None => quiet("what it answered before is not known"),
    })?;
    ui::note(format_args!(
        "{}:{} as {}, {} ms",
        replayed.function_name, replayed.executed_version, replayed.replay_id, replayed.billed_ms
    ));
    Ok(())
}
