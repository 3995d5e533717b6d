//! `flint env`: the variables that let AWS tools find the server.

use std::process::ExitCode;

use flint_dev::Target;

use crate::cli::Env;
use crate::{surroundings, ui};

pub(super) fn run(flags: &Env) -> anyhow::Result<ExitCode> {
    let target = surroundings::wanted(&flags.server).target()?;
    let variables = variables(&target);
    if flags.json {
        let object: serde_json::Map<String, serde_json::Value> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        ui::json(&object)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in &variables {
        ui::line(format_args!("export {name}={}", quoted(value)))?;
    }
    // Last, so that an `eval` without quotes, which joins the lines, loses nothing to the comment.
    ui::line(format_args!(
        "# AWS CLIs before 2.13 do not know AWS_ENDPOINT_URL: pass --endpoint-url {}",
        target.endpoint
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn variables(target: &Target) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", target.endpoint.to_string()),
        ("AWS_ACCESS_KEY_ID", target.credentials.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", target.credentials.secret_key.clone()),
        ("AWS_REGION", target.region.clone()),
        ("AWS_DEFAULT_REGION", target.region.clone()),
    ]
}

/// As one word for a POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        for (value, expected) in [
            ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
            ("a/b+c=", "a/b+c="),
            ("", "''"),
            ("a b$(x)", "'a b$(x)'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(value), expected);
        }
    }
}
