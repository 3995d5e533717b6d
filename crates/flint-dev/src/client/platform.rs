//! Flint's own service, `flint`: what runs, what could run, who am I.

use serde::{Deserialize, Serialize};

use super::Client;
use crate::Error;

/// One execution environment, as `ListEnvironments` shows it. What an older server does not say is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecutionEnvironment {
    pub id: String,
    pub function_name: String,
    pub version: String,
    pub state: String,
    pub pid: Option<i64>,
    pub memory_mb: Option<u64>,
    pub memory_used_bytes: Option<u64>,
    /// Seconds since the epoch.
    pub started_at: Option<f64>,
    /// Seconds since the epoch.
    pub last_used_at: Option<f64>,
    pub invocations: u64,
    /// Milliseconds by phase.
    pub cold_start: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A runtime identifier that the server can run, and the interpreter behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeInfo {
    pub identifier: String,
    pub version: Option<String>,
    pub source: Option<String>,
}

/// Who the caller is to the server, and which server it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    pub version: String,
    pub account: String,
    pub region: String,
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Nothing {}

impl Client {
    /// `ListEnvironments`, of one function or of all.
    pub async fn environments(&self, function: Option<&str>) -> Result<Vec<ExecutionEnvironment>, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            function_name: Option<&'a str>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Output {
            #[serde(default)]
            environments: Vec<ExecutionEnvironment>,
        }
        let output: Output = self.json("flint", "Flint.ListEnvironments", &Input { function_name: function }).await?;
        Ok(output.environments)
    }

    /// `ListRuntimes`.
    pub async fn runtimes(&self) -> Result<Vec<RuntimeInfo>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Output {
            #[serde(default)]
            runtimes: Vec<RuntimeInfo>,
        }
        let output: Output = self.json("flint", "Flint.ListRuntimes", &Nothing {}).await?;
        Ok(output.runtimes)
    }

    /// `Status`.
    pub async fn status(&self) -> Result<Status, Error> {
        self.json("flint", "Flint.Status", &Nothing {}).await
    }
}
