//! `flint up`: becomes the server.

use std::process::ExitCode;

use flint_model::Place;
use flint_server::{Mode, Options, Secret};

use crate::cli::{ServerFlags, Up};
use crate::surroundings;

/// Called while the process has one thread, and starts none before the server has made its spawner.
pub(super) fn run(flags: &Up) -> anyhow::Result<ExitCode> {
    let mode = if flags.dev { Mode::Dev } else { Mode::Up };
    let mut options = options(mode, &flags.server);
    options.plain_http = flags.plain_http;
    options.master_key_file.clone_from(&flags.master_key_file);
    options.master_key = surroundings::master_key().map(Secret::new);
    options.end_with_stdin = flags.end_with_stdin;
    flint_server::run(options)?;
    Ok(ExitCode::SUCCESS)
}

fn options(mode: Mode, flags: &ServerFlags) -> Options {
    let usual = match mode {
        Mode::Up => surroundings::DATA_OF_UP,
        Mode::Dev => surroundings::DATA_OF_DEV,
    };
    let data = flags.data.clone().unwrap_or_else(|| usual.into());
    let place = Place { account: flags.account.clone(), region: flags.region.clone() };
    let defaults = Options::new(mode, data, flags.listen, place);
    Options {
        user: flags.user.unwrap_or(defaults.user),
        memory_budget_mb: flags.memory_budget.or(defaults.memory_budget_mb),
        concurrency: flags.concurrency.unwrap_or(defaults.concurrency),
        idle_timeout: flags.idle_timeout.unwrap_or(defaults.idle_timeout),
        homes: surroundings::homes(),
        log: flags.log.clone().unwrap_or_else(|| defaults.log.clone()),
        ..defaults
    }
}
