//! `flint backup` and `flint restore`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flint_base::{Clock as _, SystemClock};
use flint_server::backup::{self, Summary};
use flint_server::holder;
use serde_json::json;

use crate::cli::{Backup, Restore, Where};
use crate::surroundings::{self, DATA_OF_DEV};
use crate::ui;

pub(super) fn take(flags: &Backup) -> anyhow::Result<ExitCode> {
    let clock = SystemClock::new();
    let data = flags.data.clone().map_or_else(usual, Ok)?;
    let summary = match holder::of(&data)? {
        Some(_) => {
            let server = Where { data: Some(data.clone()), ..Where::default() };
            // Staged by the server, which alone knows what is going on; copied by us, who may write there.
            super::waiting(async {
                super::client(&server)?.create_backup().await?;
                Ok(ExitCode::SUCCESS)
            })?;
            backup::of_staged(&data, &flags.out, clock.now())?
        }
        None => backup::of_stopped(&data, &flags.out, clock.now())?,
    };
    tell(&summary, flags.json, format_args!("backed {} up to {}", data.display(), flags.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(flags: &Restore) -> anyhow::Result<ExitCode> {
    if flags.verify {
        let summary = backup::verify(&flags.backup)?;
        tell(&summary, flags.json, format_args!("{} is whole", flags.backup.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let data = flags.data.clone().unwrap_or_else(surroundings::data_of_up);
    let summary = backup::restore(&flags.backup, &data)?;
    tell(&summary, flags.json, format_args!("restored {} into {}", flags.backup.display(), data.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The usual data directory that a server runs on; else that of `up`.
fn usual() -> anyhow::Result<PathBuf> {
    let dev = Path::new(DATA_OF_DEV);
    let runs = dev.is_dir() && holder::of(dev)?.is_some();
    Ok(if runs { dev.to_owned() } else { surroundings::data_of_up() })
}

fn tell(summary: &Summary, as_json: bool, done: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let Summary { store, version, made, files, bytes } = summary;
    if as_json {
        return ui::json(&json!({
            "store": store, "version": version, "made": made.to_iso8601(), "files": files, "bytes": bytes
        }));
    }
    let made = made.to_iso8601();
    ui::line(format_args!("{done}: state {version} of {made}, {files} files, {} MiB", bytes.div_ceil(1 << 20)))?;
    Ok(())
}
