//! `flint runtime`: the runtimes that the server has.

use std::process::ExitCode;

use crate::cli::{Runtime, RuntimeCommand};
use crate::ui;

pub(super) async fn run(flags: Runtime) -> anyhow::Result<ExitCode> {
    let RuntimeCommand::List { json, server } = flags.command;
    let runtimes = super::client(&server)?.runtimes().await?;
    if json {
        ui::json(&runtimes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into());
    let rows: Vec<_> = runtimes.into_iter().map(|r| [r.identifier, or_dash(r.version), or_dash(r.source)]).collect();
    ui::table(["RUNTIME", "VERSION", "FROM"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
