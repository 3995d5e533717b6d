//! `flint remove`: deletes a function.

use std::path::Path;
use std::process::ExitCode;

use flint_dev::App;
use flint_dev::client::logs::group_of;
use serde_json::json;

use crate::cli::Remove;
use crate::ui;

pub(super) async fn run(flags: Remove) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    // A name never holds a slash or is a lone dot; a folder of the current one may look like a name, and then has to
    // hold a function to be meant.
    let path = Path::new(&flags.function);
    let is_folder = path.is_dir() && (flags.function.contains(['/', '.']) || App::is_in(path));
    let name = if is_folder { App::name_in(path)? } else { flags.function.clone() };
    client.delete_function(&name).await?;
    let logs = if flags.logs { Some(client.delete_log_group(&group_of(&name)).await?) } else { None };
    if flags.json {
        ui::json(&json!({ "name": name, "removed": true, "logsRemoved": logs.unwrap_or(false) }))?;
    } else {
        let logs = if logs == Some(true) { " and its log group" } else { "" };
        ui::line(format_args!("removed {name}{logs}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
