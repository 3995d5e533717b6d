//! `flint deploy`: folders become functions.

use std::process::ExitCode;
use std::time::Duration;

use flint_dev::deploy::Action;
use flint_dev::{App, Client, Deployed, Deployer, Project};
use flint_model::ByteCount;
use futures_util::{StreamExt as _, stream};

use crate::cli::Deploy;
use crate::surroundings;
use crate::ui::{self, Paint, Spinner, Tone};

/// Functions that are deployed side by side.
const SIDE_BY_SIDE: usize = 8;

pub(super) async fn run(flags: Deploy) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let project = Project::read(flags.dirs, flags.name)?;
    project.skipped.iter().for_each(|line| warn(line));
    let deployer = Deployer::new(surroundings::python_search());
    let mut results = deploy(&client, &deployer, &project.apps.iter().collect::<Vec<_>>()).await;
    if results.len() == 1 {
        let deployed = results.remove(0)?;
        deployed.warnings.iter().for_each(|line| warn(line));
        if flags.json {
            ui::json(&deployed)?;
        } else {
            ui::line(closing(&deployed, Paint::stdout()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = results.len();
    let mut deployed = Vec::new();
    for (app, result) in project.apps.iter().zip(results) {
        match result {
            Ok(done) => {
                done.warnings.iter().for_each(|line| warn(line));
                deployed.push(done);
            }
            Err(e) => drop(ui::report(&anyhow::Error::new(e).context(app.name.clone()))),
        }
    }
    if flags.json {
        ui::json(&deployed)?;
    } else {
        deployed.iter().try_for_each(|done| ui::line(closing(done, Paint::stdout())))?;
    }
    Ok(if deployed.len() == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line on standard error of what is not as it was meant, perhaps.
pub(super) fn warn(line: &str) {
    ui::note(format_args!("{}: {line}", Paint::stderr().text(Tone::Warn, "warning")));
}

/// Deploys with progress on standard error; a result for each, in their order.
pub(super) async fn deploy(
    client: &Client,
    deployer: &Deployer,
    apps: &[&App],
) -> Vec<Result<Deployed, flint_dev::Error>> {
    let spinner = Spinner::new();
    let each = apps.iter().map(|app| deployer.deploy(client, app, &spinner));
    stream::iter(each).buffered(SIDE_BY_SIDE).collect().await
}

/// The fact in a line: what was done, what it is, how long it took.
pub(super) fn closing(d: &Deployed, paint: Paint) -> String {
    let verb = match d.action {
        Action::Created => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
    };
    let files = ui::count(d.files as u64, "file");
    format!(
        "{} {}: {}, {}, {} MiB, {} s timeout, package {} in {files}, took {}",
        paint.text(Tone::Good, verb),
        paint.text(Tone::Strong, &d.name),
        d.runtime,
        d.handler,
        d.memory_mb,
        d.timeout_s,
        ByteCount(d.package_bytes as u64),
        ui::span(Duration::from_millis(d.took_ms)),
    )
}
