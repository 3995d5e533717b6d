//! What an environment is made from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flint_model::{FunctionName, Place};

use crate::catalog::Resolved;

/// `LoggingConfig.LogFormat`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `LoggingConfig.ApplicationLogLevel`, from the most talkative on. `SystemLogLevel` takes the middle three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
    /// As the reference spells it: `INFO`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// `LoggingConfig` as far as an environment cares. The default is the reference's: text, nothing filtered.
///
/// Reference: Lambda Developer Guide, "Configuring advanced logging controls for Lambda functions".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    pub format: LogFormat,
    /// What the runtime drops; only with [`LogFormat::Json`]. None is the reference's default, `INFO`.
    pub application_level: Option<LogLevel>,
    /// Which lines of the platform are written; only with [`LogFormat::Json`]. None is the default, `INFO`.
    pub system_level: Option<LogLevel>,
}

/// Everything that decides how an environment looks from inside. Equal specs make interchangeable environments.
/// Its debug form has the variables' names only.
#[derive(Clone)]
pub struct EnvironmentSpec {
    pub place: Place,
    pub function: FunctionName,
    /// `$LATEST` or a version number.
    pub version: Arc<str>,
    /// The function's ARN as the function sees it when a call names no other.
    pub arn: Arc<str>,
    /// The ARN of the function's role.
    pub role: Arc<str>,
    pub runtime: Resolved,
    /// As configured: `pkg/module.function` for Python, anything for a custom runtime.
    pub handler: String,
    /// The unpacked code, mounted read-only at `/var/task`.
    pub code: Arc<Path>,
    /// The function's own variables. The engine has refused reserved names.
    pub variables: Vec<(String, String)>,
    /// Memory limit in MiB, 128..=10,240.
    pub memory_mb: u32,
    /// The function's timeout, also the limit of an init that is repeated inside a call.
    pub timeout: Duration,
    /// Size of `/tmp` in MiB, 512..=10,240.
    pub ephemeral_mb: u32,
    pub log_group: Arc<str>,
    /// What the function's log looks like.
    pub logging: Logging,
    /// The merged tree of the function's layers, mounted read-only at `/opt`.
    pub layers: Option<Arc<Path>>,
    /// How long the first init may take; the reference's 10 s.
    pub init_limit: Duration,
}

impl fmt::Debug for EnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("EnvironmentSpec")
            .field("arn", &self.arn)
            .field("version", &self.version)
            .field("runtime", &self.runtime)
            .field("handler", &self.handler)
            .field("code", &self.code)
            .field("variables", &names)
            .field("memory_mb", &self.memory_mb)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
