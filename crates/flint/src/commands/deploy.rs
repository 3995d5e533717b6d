//! `flint deploy`: a folder becomes a function.

use std::process::ExitCode;
use std::time::Duration;

use flint_dev::deploy::Action;
use flint_dev::{App, Client, Deployed};
use flint_model::ByteCount;

use crate::cli::Deploy;
use crate::surroundings;
use crate::ui::{self, Paint, Spinner, Tone};

pub(super) async fn run(flags: Deploy) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let app = App::read(&flags.dir, flags.name.as_deref())?;
    let deployed = deploy(&client, &app).await?;
    if flags.json {
        ui::json(&deployed)?;
    } else {
        ui::line(closing(&deployed, Paint::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Deploys with progress on standard error.
pub(super) async fn deploy(client: &Client, app: &App) -> Result<Deployed, flint_dev::Error> {
    flint_dev::deploy(client, app, &surroundings::python_search(), &Spinner::new()).await
}

/// The fact in a line: what was done, what it is, how long it took.
pub(super) fn closing(d: &Deployed, paint: Paint) -> String {
    let verb = match d.action {
        Action::Created => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
    };
    format!(
        "{} {}: {}, {}, {} MiB, {} s timeout, package {} in {} files, took {}",
        paint.text(Tone::Good, verb),
        paint.text(Tone::Strong, &d.name),
        d.runtime,
        d.handler,
        d.memory_mb,
        d.timeout_s,
        ByteCount(d.package_bytes as u64),
        d.files,
        ui::span(Duration::from_millis(d.took_ms)),
    )
}
