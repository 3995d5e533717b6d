//! What an environment is made from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flint_model::{FunctionName, Place};

use crate::catalog::Resolved;

/// Everything that decides how an environment looks from inside. Equal specs make interchangeable environments.
#[derive(Clone, Debug)]
pub struct EnvironmentSpec {
    pub place: Place,
    pub function: FunctionName,
    /// `$LATEST` or a version number.
    pub version: Arc<str>,
    /// The function's ARN as the function sees it when a call names no other.
    pub arn: Arc<str>,
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
    /// How long the first init may take; the reference's 10 s.
    pub init_limit: Duration,
}
