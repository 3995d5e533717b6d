//! `flint up`: becomes the server.

use std::process::ExitCode;

use flint_model::Place;
use flint_server::{Ceilings, Limits, Mode, Options, Secret};

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

/// What does not fit the number is refused with the rest that is too large.
fn ceilings(flags: &ServerFlags, defaults: Ceilings) -> Ceilings {
    let number = |value: Option<u64>, default| value.map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX));
    Ceilings {
        memory_mb: number(flags.max_memory, defaults.memory_mb),
        ephemeral_mb: number(flags.max_tmp, defaults.ephemeral_mb),
        timeout_s: number(flags.max_timeout.map(|span| span.as_secs()), defaults.timeout_s),
    }
}

fn journal(flags: &ServerFlags, defaults: Limits) -> Limits {
    let age = flags.journal_age.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    Limits {
        well_ms: age.unwrap_or(defaults.well_ms),
        well_bytes: flags.journal_size.map_or(defaults.well_bytes, |mib| mib.saturating_mul(1 << 20)),
        ..defaults
    }
}

fn options(mode: Mode, flags: &ServerFlags) -> Options {
    let usual = || match mode {
        Mode::Up => surroundings::data_of_up(),
        Mode::Dev => surroundings::DATA_OF_DEV.into(),
    };
    let data = flags.data.clone().unwrap_or_else(usual);
    let place = Place { account: flags.account.clone(), region: flags.region.clone() };
    let defaults = Options::new(mode, data, flags.listen, place);
    Options {
        user: flags.user,
        multi_tenant: flags.multi_tenant,
        memory_budget_mb: flags.memory_budget.or(defaults.memory_budget_mb),
        ceilings: ceilings(flags, defaults.ceilings),
        parity: flags.parity,
        concurrency: flags.concurrency.unwrap_or(defaults.concurrency),
        background: flags.background.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        journal: journal(flags, defaults.journal),
        idle_timeout: flags.idle_timeout.unwrap_or(defaults.idle_timeout),
        homes: surroundings::homes(),
        log: flags.log.clone().unwrap_or_else(|| defaults.log.clone()),
        ..defaults
    }
}
