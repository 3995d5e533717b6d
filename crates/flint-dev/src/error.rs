//! What goes wrong for a person at a terminal: one line of cause, one line of what to do next.

use std::io;
use std::path::PathBuf;

use crate::client::Source;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Flint server answers at {endpoint}{named_by}: {reason}")]
    Unreachable { endpoint: String, named_by: Source, reason: String },
    /// The data directory that was named holds no address, or no keys.
    #[error("no Flint server has started with the data directory {}: it holds no {missing}", dir.display())]
    NotStarted { dir: PathBuf, missing: &'static str },
    #[error("the connection to {endpoint} broke off: {reason}")]
    Broken { endpoint: String, reason: String },
    #[error("{operation} got no answer from {endpoint} within {seconds} s")]
    Late { operation: &'static str, endpoint: String, seconds: u64 },
    #[error("the request cannot be signed: {0}")]
    Unusable(String),
    /// The service refused. `code` and `message` are the service's own.
    #[error("{operation}: {code}: {message}")]
    Service { operation: &'static str, status: u16, code: String, message: String },
    #[error("{operation} got an answer that cannot be read: {reason}")]
    Answer { operation: &'static str, reason: String },
    #[error("{0:?} is not an endpoint: expected http://HOST[:PORT]")]
    Endpoint(String),
    #[error("{}: {}", path.display(), plain(source))]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Settings { path: PathBuf, reason: String },
    /// The folder says nothing that can be run.
    #[error("{}: {reason}", dir.display())]
    App { dir: PathBuf, reason: String, hint: String },
    #[error("no {runtime} with pip is on this machine")]
    NoInterpreter { runtime: String, found: Vec<String> },
    #[error("installing {} failed: {reason}", requirements.display())]
    Requirements { requirements: PathBuf, reason: String },
    /// A tool that builds a function failed. `output` is all that it said.
    #[error("{what} failed: {reason}")]
    Build { what: String, reason: String, output: String },
    #[error("{tool} is not on this machine")]
    NoTool { tool: &'static str, hint: String },
    #[error("{}: its files cannot be watched: {reason}", dir.display())]
    Watch { dir: PathBuf, reason: String },
    #[error("the package {reason}")]
    Package { reason: String, hint: String },
    #[error("function {name} did not become ready: {reason}")]
    NotReady { name: String, reason: String },
}

impl Error {
    /// A file operation's error with the file's name.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { path, source }
    }

    /// The service's error code, where a service answered.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the thing that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some("ResourceNotFoundException")
    }

    /// What to do next, in one line without a full stop.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Unreachable { .. } => {
                "start one with `flint up` or `flint dev`, or name a running one with --endpoint URL or --data DIR"
                    .into()
            }
            Error::NotStarted { dir, .. } => {
                format!("start one with `flint up --data {}`, and wait for its line `ready`", dir.display())
            }
            Error::Unusable(_) => "check the region and the keys: --region, AWS_REGION, AWS_ACCESS_KEY_ID".into(),
            Error::Broken { .. } => "see the server's log; the request may or may not have been done".into(),
            Error::Late { .. } => "see what runs with `flint ps`, and the server's log".into(),
            Error::Service { operation: "FilterLogEvents", code, .. } if code == "InvalidParameterException" => {
                FILTER_HINT.into()
            }
            Error::Service { operation, code, status, .. } => {
                return of_events(operation, code).or_else(|| service_hint(code, *status));
            }
            Error::Answer { .. } => "check that --endpoint names a Flint server of this version".into(),
            Error::Endpoint(_) => "for example --endpoint http://127.0.0.1:4566".into(),
            Error::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "check the path".into(),
                io::ErrorKind::PermissionDenied => "check who owns the file, or run as its owner".into(),
                _ => return None,
            },
            Error::Settings { path, .. } if path.extension().is_some_and(|e| e == "yaml" || e == "yml") => {
                "functions with plain values of CodeUri, Handler, Runtime, MemorySize, Timeout, Environment, FunctionName and \
                 Role are served; say the rest with your deployment tool"
                    .into()
            }
            Error::Settings { path, .. } if path.extension().is_some_and(|e| e == "json") => {
                format!("mend {}", path.display())
            }
            Error::Settings { .. } => {
                "the keys of a flint.toml are name, handler, runtime, memory, timeout, environment, requirements, binary, \
                 exclude and [functions.NAME]"
                    .into()
            }
            Error::App { hint, .. } | Error::Package { hint, .. } | Error::NoTool { hint, .. } => hint.clone(),
            Error::Build { .. } => "mend what it says above, then deploy again".into(),
            Error::Watch { .. } => "raise fs.inotify.max_user_watches, or exclude large folders in flint.toml".into(),
            Error::NoInterpreter { found, .. } if found.is_empty() => {
                "install it with pip (Debian: python3-pip); it installs the requirements into the package".into()
            }
            Error::NoInterpreter { found, .. } => {
                format!("install it, or say `runtime = \"{}\"` in flint.toml", found[0])
            }
            Error::Requirements { reason, .. } if reason.contains("No matching distribution") => {
                "check the name and the version, as they are on pypi.org: what is imported is often called otherwise there"
                    .into()
            }
            Error::Requirements { .. } => "pin versions that have a wheel for this interpreter".into(),
            Error::NotReady { name, .. } => format!("flint logs {name}"),
        })
    }
}

/// How a filter pattern is written, for who wrote it otherwise.
const FILTER_HINT: &str = "a pattern is words (all of them), ?a ?b (one of them), -word (none), \"a phrase\" in double quotes, or \
                           { $.level = \"ERROR\" }; what holds other signs goes in double quotes: --filter '\"a:b\"'";

/// An I/O error without the operating system's number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Where an event or a group of failures is found that the caller did not name well.
fn of_events(operation: &str, code: &str) -> Option<String> {
    if !matches!(code, "ResourceNotFoundException" | "ValidationException") {
        return None;
    }
    match operation {
        "GetFailureGroup" | "RedriveFailures" | "DropFailures" => {
            Some("`flint dlq` lists the groups of what waits, `flint dlq show GROUP` their events".into())
        }
        "GetEvent" | "ReplayEvent" => {
            Some("`flint events` lists the newest; the ids of failures are in `flint dlq show GROUP`".into())
        }
        _ => None,
    }
}

fn service_hint(code: &str, status: u16) -> Option<String> {
    Some(match code {
        "ResourceNotFoundException" => "`flint list` names what is deployed; `flint deploy DIR` deploys".into(),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken" => {
            "use the server's own keys: pass --data DIR of the server, or eval \"$(flint env --data DIR)\"".into()
        }
        "AccessDeniedException" => "use the keys of the account that owns it".into(),
        "RequestEntityTooLargeException" | "RequestTooLargeException" => {
            "send less: large data goes through a store, and the event names it".into()
        }
        "ResourceConflictException" => "something else changes this function right now: try again in a moment".into(),
        "TooManyRequestsException" => "try again in a moment; `flint ps` shows what is busy".into(),
        _ if status == 501 => "this version of Flint does not serve it".into(),
        _ if status >= 500 => "see the server's log; `flint doctor` checks the host".into(),
        _ => return None,
    })
}
