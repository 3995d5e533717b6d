//! What a function is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flint_base::Timestamp;
use flint_model::{FunctionName, Place};

use crate::api;
use crate::pool::Pool;
use crate::stats::FunctionStats;

/// The settings of a function, all legal (see [`crate::rules`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub runtime: String,
    pub handler: String,
    pub role: String,
    pub description: String,
    /// 1 to 900 seconds.
    pub timeout_s: u32,
    /// 128 to 10,240 MB.
    pub memory_mb: u32,
    /// 512 to 10,240 MB.
    pub ephemeral_mb: u32,
    pub variables: BTreeMap<String, String>,
    /// `None`: `/aws/lambda/NAME`.
    pub log_group: Option<String>,
}

/// A package at rest, named by the SHA-256 of its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// A function as it is now: `$LATEST`.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub place: Place,
    pub name: FunctionName,
    pub config: Config,
    pub package: Package,
    pub tags: BTreeMap<String, String>,
    pub modified: Timestamp,
    pub revision: String,
    /// Tells two functions of one name apart, one deleted before the other was made.
    pub incarnation: String,
}

/// A function in the snapshot, with the pool that runs this very configuration.
#[derive(Debug)]
pub(crate) struct Live {
    pub function: Function,
    pub pool: Arc<Pool>,
    pub stats: Arc<FunctionStats>,
}

impl Config {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }
}

impl Function {
    pub(crate) fn arn(&self) -> String {
        self.name.arn(&self.place).to_string()
    }

    pub(crate) fn log_group(&self) -> String {
        self.config.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{}", self.name))
    }

    /// The answer of the read and write operations.
    pub(crate) fn configuration(&self) -> api::FunctionConfiguration {
        let config = &self.config;
        api::FunctionConfiguration {
            function_name: self.name.to_string(),
            function_arn: self.arn(),
            runtime: Some(config.runtime.clone()),
            role: config.role.clone(),
            handler: Some(config.handler.clone()),
            code_size: self.package.size,
            description: config.description.clone(),
            timeout: config.timeout_s,
            memory_size: config.memory_mb,
            last_modified: self.modified.to_lambda(),
            code_sha256: crate::code::base64_of_hex(&self.package.sha256),
            version: "$LATEST".to_owned(),
            environment: (!config.variables.is_empty())
                .then(|| api::Environment { variables: config.variables.clone() }),
            tracing_config: api::TracingConfig { mode: "PassThrough" },
            revision_id: self.revision.clone(),
            state: "Active",
            last_update_status: "Successful",
            package_type: "Zip",
            architectures: vec!["x86_64"],
            ephemeral_storage: api::EphemeralStorage { size: config.ephemeral_mb },
            snap_start: api::SnapStart { apply_on: "None", optimization_status: "Off" },
            logging_config: api::LoggingConfig {
                log_format: Some("Text".to_owned()),
                log_group: Some(self.log_group()),
                ..Default::default()
            },
        }
    }
}
