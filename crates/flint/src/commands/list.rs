//! `flint list`: the functions that are deployed.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::List;
use crate::ui;

pub(super) async fn run(flags: List) -> anyhow::Result<ExitCode> {
    let mut functions = super::client(&flags.server)?.functions().await?;
    functions.sort_by(|a, b| a.function_name.cmp(&b.function_name));
    if flags.json {
        let all: Vec<Value> = functions
            .iter()
            .map(|f| {
                json!({
                    "name": f.function_name, "arn": f.function_arn, "runtime": f.runtime, "handler": f.handler,
                    "memoryMb": f.memory_size, "timeoutS": f.timeout, "codeBytes": f.code_size,
                    "lastModified": f.last_modified,
                })
            })
            .collect();
        ui::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    if functions.is_empty() {
        ui::note("no function is deployed: `flint deploy DIR` deploys one");
        return Ok(ExitCode::SUCCESS);
    }
    let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into());
    let rows: Vec<[String; 6]> = functions
        .into_iter()
        .map(|f| {
            // To the second is enough for people: 2026-11-21T09:00:00.000+0000.
            let modified = f.last_modified.split('.').next().unwrap_or_default().replace('T', " ");
            let (memory, timeout) = (format!("{} MiB", f.memory_size), format!("{} s", f.timeout));
            [f.function_name, or_dash(f.runtime), or_dash(f.handler), memory, timeout, modified]
        })
        .collect();
    ui::table(["FUNCTION", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "LAST MODIFIED (UTC)"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
