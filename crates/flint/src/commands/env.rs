//! `flint env`: the variables that let AWS tools find the server.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use flint_base::{Clock as _, SystemClock};
use flint_dev::{Error, Source, Target, Wanted};

use crate::cli::Env;
use crate::commands::deploy::warn;
use crate::{surroundings, ui};

/// A server that was started a moment ago needs so long at most to say where it is.
const READY_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How long the AWS CLI may take to say its version: it is a Python program.
const VERSION_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn run(flags: &Env) -> anyhow::Result<ExitCode> {
    let target = target(&surroundings::wanted(&flags.server))?;
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
    if let Some(aws) = surroundings::python_search().program("aws")
        && let Some(version) = version_of(&aws).filter(|version| !reads_the_endpoint(*version))
    {
        let (major, minor) = version;
        warn(&format!(
            "your AWS CLI ({major}.{minor}) does not read AWS_ENDPOINT_URL: without --endpoint-url {} its requests, signed \
             with these keys, go to Amazon",
            target.endpoint
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's address and keys. A data directory that was named may be that of a server which is starting: it is waited for.
///
/// Errors: as of [`Wanted::target`], after the wait.
fn target(wanted: &Wanted) -> Result<Target, Error> {
    let clock = SystemClock::new();
    loop {
        let target = wanted.target();
        let is_starting = match &target {
            Err(Error::NotStarted { .. }) => true,
            // An address of an earlier life, perhaps.
            Ok(target) => wanted.data.is_some() && matches!(target.source, Source::Data(_)) && !answers(target),
            Err(_) => false,
        };
        if !is_starting {
            return target;
        }
        if clock.monotonic() > READY_WITHIN {
            if let Ok(target) = &target {
                warn(&format!("no Flint server answers at {}{} now", target.endpoint, target.source));
            }
            return target;
        }
        std::thread::sleep(POLL);
    }
}

fn answers(target: &Target) -> bool {
    let endpoint = target.endpoint.to_string();
    let authority = endpoint.trim_start_matches("http://");
    let address = authority.to_socket_addrs().or_else(|_| (authority, 80).to_socket_addrs());
    address.is_ok_and(|mut all| all.any(|at| TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok()))
}

/// What `aws --version` says, if it says it in time.
fn version_of(aws: &Path) -> Option<(u32, u32)> {
    let mut command = Command::new(aws);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let clock = SystemClock::new();
    while child.try_wait().ok()?.is_none() {
        if clock.monotonic() > VERSION_WITHIN {
            // It ended meanwhile, or ends now.
            drop(child.kill());
            drop(child.wait());
            return None;
        }
        std::thread::sleep(POLL);
    }
    // A line: less than a pipe holds, so that it was written whole. The oldest wrote it to standard error.
    let output = child.wait_with_output().ok()?;
    version(&String::from_utf8_lossy(&output.stdout)).or_else(|| version(&String::from_utf8_lossy(&output.stderr)))
}

/// `aws-cli/2.9.19 Python/3.11.2 ...`
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("aws-cli/")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Reference: AWS SDKs and Tools Reference Guide, "Service-specific endpoints" (AWS CLI v2 and v1 of July 2023).
fn reads_the_endpoint((major, minor): (u32, u32)) -> bool {
    match major {
        0 => false,
        1 => minor >= 29,
        2 => minor >= 13,
        _ => true,
    }
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

    #[test]
    fn old_tools_are_known() {
        for (text, reads) in [
            ("aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12\n", false),
            ("aws-cli/2.13.0 Python/3.11", true),
            ("aws-cli/2.31.2", true),
            ("aws-cli/1.22.34 Python/3.10", false),
            ("aws-cli/1.29.0 Python/3.10", true),
        ] {
            assert_eq!(version(text).map(reads_the_endpoint), Some(reads), "{text}");
        }
        assert_eq!(version("something else 2.9"), None);
    }
}
