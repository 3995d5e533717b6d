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

/// What the functions have done since the server started, and what they hold now: `ListFunctionStats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FunctionStatsList {
    pub functions: Vec<FunctionStats>,
    /// Seconds since the epoch, by the server's clock.
    pub at: f64,
    /// Seconds since the epoch.
    pub started_at: f64,
    pub memory_reserved_mb: u64,
    pub memory_budget_mb: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FunctionStats {
    pub function_name: String,
    pub invocations: u64,
    pub errors: u64,
    pub throttles: u64,
    pub cold_starts: u64,
    /// A histogram, the shortest first.
    pub durations: Vec<DurationBucket>,
    pub environments: u64,
    pub busy: u64,
    pub memory_reserved_mb: u64,
    pub memory_used_bytes: u64,
}

/// How many calls took at most so long, and longer than the bucket before says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DurationBucket {
    pub up_to_ms: f64,
    pub count: u64,
}

impl FunctionStats {
    /// What happened between `before` and now.
    pub fn since(&self, before: &FunctionStats) -> FunctionStats {
        let earlier = |bucket: &DurationBucket| {
            before.durations.iter().find(|b| b.up_to_ms == bucket.up_to_ms).map_or(0, |b| b.count)
        };
        let durations = self.durations.iter().map(|bucket| DurationBucket {
            up_to_ms: bucket.up_to_ms,
            count: bucket.count.saturating_sub(earlier(bucket)),
        });
        FunctionStats {
            invocations: self.invocations.saturating_sub(before.invocations),
            errors: self.errors.saturating_sub(before.errors),
            throttles: self.throttles.saturating_sub(before.throttles),
            cold_starts: self.cold_starts.saturating_sub(before.cold_starts),
            durations: durations.filter(|bucket| bucket.count > 0).collect(),
            ..self.clone()
        }
    }

    /// The duration in milliseconds that this share (0 to 1) of the calls did not exceed, as far as the buckets tell.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.durations.iter().map(|b| b.count).sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.durations.iter().find_map(|bucket| {
            seen += bucket.count;
            (seen >= wanted).then_some(bucket.up_to_ms)
        })
    }
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

    /// `ListFunctionStats`, of one function or of all.
    pub async fn function_stats(&self, function: Option<&str>) -> Result<FunctionStatsList, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            function_name: Option<&'a str>,
        }
        self.json("flint", "Flint.ListFunctionStats", &Input { function_name: function }).await
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

    /// `CreateBackup`: the server stages its state beside its files; the version of the last commit in it.
    pub async fn create_backup(&self) -> Result<u64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Output {
            version: u64,
        }
        let output: Output = self.json("flint", "Flint.CreateBackup", &Nothing {}).await?;
        Ok(output.version)
    }

    /// `Status`.
    pub async fn status(&self) -> Result<Status, Error> {
        self.json("flint", "Flint.Status", &Nothing {}).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(invocations: u64, durations: &[(f64, u64)]) -> FunctionStats {
        let durations = durations.iter().map(|(up_to_ms, count)| DurationBucket { up_to_ms: *up_to_ms, count: *count });
        FunctionStats { invocations, durations: durations.collect(), ..Default::default() }
    }

    #[test]
    fn percentiles_come_from_the_buckets_between_two_looks() {
        let before = stats(10, &[(1.0, 10)]);
        let now = stats(110, &[(1.0, 60), (2.0, 49), (9.0, 1)]);
        let between = now.since(&before);
        assert_eq!(between.invocations, 100);
        assert_eq!(
            (between.percentile(0.5), between.percentile(0.99), between.percentile(1.0)),
            (Some(1.0), Some(2.0), Some(9.0))
        );
        assert_eq!(now.since(&now).percentile(0.5), None);
        // A server that was started again counts from zero.
        assert_eq!(before.since(&now).invocations, 0);
    }
}
