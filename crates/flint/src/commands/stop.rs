//! `flint stop`: asks the server of a data directory to end, as SIGTERM does, and waits until it has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flint_base::{Clock as _, SystemClock};
use flint_server::holder::{self, Holder};

use crate::cli::Stop;
use crate::surroundings::{self, DATA_OF_DEV};
use crate::ui::{self, Advised};

pub(super) fn run(flags: &Stop) -> anyhow::Result<ExitCode> {
    let (data, holder) = match &flags.data {
        Some(dir) => (dir.clone(), find(dir)?),
        None => usual()?,
    };
    let Some(holder) = holder else {
        ui::note(format_args!("no server runs on {}", data.display()));
        return Ok(ExitCode::SUCCESS);
    };
    let clock = SystemClock::new();
    holder.terminate()?;
    if !holder.wait()? {
        let message = format!("the server of {} (process {}) still runs", data.display(), holder.pid());
        let hint = "calls in flight may take 30 s to end; see its log, and run it again".into();
        return Err(Advised { message, hint }.into());
    }
    ui::line(format_args!("stopped the server of {} in {}", data.display(), ui::span(clock.monotonic())))?;
    Ok(ExitCode::SUCCESS)
}

fn find(dir: &Path) -> anyhow::Result<Option<Holder>> {
    holder::of(dir).map_err(|e| {
        let hint =
            "name the directory that the server was started with: --data DIR; stop it as the user who started it";
        Advised { message: e.to_string(), hint: hint.into() }.into()
    })
}

/// The usual data directory that a server runs on; else the last.
fn usual() -> anyhow::Result<(PathBuf, Option<Holder>)> {
    for dir in [PathBuf::from(DATA_OF_DEV), surroundings::data_of_up()] {
        if dir.is_dir()
            && let Some(holder) = find(&dir)?
        {
            return Ok((dir, Some(holder)));
        }
    }
    Ok((surroundings::data_of_up(), None))
}
