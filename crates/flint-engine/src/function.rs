//! What a function is: `$LATEST`, its published versions, its aliases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flint_base::Timestamp;
use flint_model::{FunctionName, Place, Qualifier};
use flint_runtime::{LogFormat, LogLevel, Logging};

use crate::api;
use crate::pool::Pool;
use crate::room::Reservation;
use crate::stats::FunctionStats;
use crate::variables::Variables;

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
    pub variables: Variables,
    /// `None`: `/aws/lambda/NAME`.
    pub log_group: Option<String>,
    pub logging: Logging,
    /// Lowest first. A layer version that is deleted lives on in the functions that use it.
    pub layers: Vec<LayerUse>,
    /// ARN of the queue for events that nobody waits for and that failed for good.
    pub dead_letter: Option<String>,
}

/// A layer version as a function uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerUse {
    pub arn: String,
    pub package: Package,
}

/// A package at rest, named by the SHA-256 of its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// A function as of one version.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub place: Place,
    pub name: FunctionName,
    /// `None`: `$LATEST`. Versions count from 1 and never change.
    pub version: Option<u64>,
    pub config: Config,
    pub package: Package,
    pub modified: Timestamp,
    pub revision: String,
}

/// What belongs to the function as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Tells two functions of one name apart, one deleted before the other was made.
    pub incarnation: String,
    pub tags: BTreeMap<String, String>,
    /// Reserved concurrency.
    pub reserved: Option<u64>,
    /// Chains of events may pass through it any number of times.
    pub recursion_allowed: bool,
    /// The number that the next published version gets; never used twice.
    pub next_version: u64,
    /// Seals the variables of every version; itself sealed by the vault.
    pub data_key: Vec<u8>,
}

/// A name for a version, or for two by weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alias {
    pub name: String,
    /// `None`: `$LATEST`.
    pub version: Option<u64>,
    /// The share of calls, 0 to 1, that another version gets.
    pub weights: BTreeMap<u64, f64>,
    pub description: String,
    pub revision: String,
}

/// One version with the pool that runs it.
#[derive(Debug)]
pub(crate) struct Runnable {
    pub function: Function,
    pub pool: Arc<Pool>,
    pub stats: Arc<FunctionStats>,
}

/// A function in the snapshot. A change makes a new one; what did not change is shared.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub head: Head,
    pub latest: Arc<Runnable>,
    pub versions: BTreeMap<u64, Arc<Runnable>>,
    pub aliases: BTreeMap<String, Alias>,
    pub reservation: Arc<Reservation>,
}

impl Config {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }
}

impl Live {
    /// What a qualifier stands for; `draw`, 0 to 1, decides between the versions of an alias.
    pub(crate) fn resolve(&self, qualifier: Option<&Qualifier>, draw: impl FnOnce() -> f64) -> Option<&Arc<Runnable>> {
        let version = match qualifier {
            None | Some(Qualifier::Latest) => None,
            Some(Qualifier::Version(n)) => Some(*n),
            Some(Qualifier::Alias(name)) => {
                let alias = self.aliases.get(name)?;
                if alias.weights.is_empty() { alias.version } else { alias.choose(draw()) }
            }
        };
        self.version(version)
    }

    /// `None` is `$LATEST`.
    pub(crate) fn version(&self, version: Option<u64>) -> Option<&Arc<Runnable>> {
        match version {
            None => Some(&self.latest),
            Some(number) => self.versions.get(&number),
        }
    }

    pub(crate) fn runnables(&self) -> impl Iterator<Item = &Arc<Runnable>> {
        std::iter::once(&self.latest).chain(self.versions.values())
    }

    pub(crate) fn name(&self) -> &FunctionName {
        &self.latest.function.name
    }

    pub(crate) fn place(&self) -> &Place {
        &self.latest.function.place
    }

    /// The function's ARN without a qualifier.
    pub(crate) fn arn(&self) -> String {
        self.name().arn(self.place()).to_string()
    }
}

impl Alias {
    /// The version for a draw in 0..1: the additional versions own the low end, by their weights.
    pub(crate) fn choose(&self, draw: f64) -> Option<u64> {
        let mut below = 0.0;
        for (version, weight) in &self.weights {
            below += weight;
            if draw < below {
                return Some(*version);
            }
        }
        self.version
    }

    pub(crate) fn configuration(&self, function_arn: &str) -> api::AliasConfiguration {
        let weights = self.weights.iter().map(|(version, weight)| (version.to_string(), *weight)).collect();
        api::AliasConfiguration {
            alias_arn: format!("{function_arn}:{}", self.name),
            name: self.name.clone(),
            function_version: label(self.version),
            description: self.description.clone(),
            routing_config: (!self.weights.is_empty())
                .then_some(api::AliasRoutingConfiguration { additional_version_weights: weights }),
            revision_id: self.revision.clone(),
        }
    }
}

/// Numbers in 0..1 that decide between the versions of an alias.
///
/// Multiples of the golden ratio instead of random numbers: they are spread so evenly that a tenth of the calls is a
/// tenth after a few dozen already, whatever else is called in between.
#[derive(Debug, Default)]
pub(crate) struct Draws(AtomicU64);

impl Draws {
    pub(crate) fn next(&self) -> f64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let n = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        // The upper 53 bits are what a float holds exactly.
        (n >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `$LATEST`, or the number.
pub(crate) fn label(version: Option<u64>) -> String {
    version.map_or_else(|| "$LATEST".to_owned(), |number| number.to_string())
}

impl Function {
    /// The ARN without a qualifier.
    pub(crate) fn arn(&self) -> String {
        self.name.arn(&self.place).to_string()
    }

    /// Every package that running this needs.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        std::iter::once(&self.package).chain(self.config.layers.iter().map(|layer| &layer.package))
    }

    pub(crate) fn log_group(&self) -> String {
        self.config.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{}", self.name))
    }

    fn logging_config(&self) -> api::LoggingConfig {
        let Logging { format, application_level, system_level } = self.config.logging;
        let json = format == LogFormat::Json;
        // With JSON the levels have defaults that are shown; text has none.
        let level = |level: Option<LogLevel>| json.then(|| level.unwrap_or_default().name().to_owned());
        api::LoggingConfig {
            log_format: Some(if json { "JSON" } else { "Text" }.to_owned()),
            log_group: Some(self.log_group()),
            application_log_level: level(application_level),
            system_log_level: level(system_level),
        }
    }

    /// Whether publishing this after `last` would give the same version again.
    pub(crate) fn same_as(&self, last: &Function) -> bool {
        let description = |function: &Function| Config { description: String::new(), ..function.config.clone() };
        self.package == last.package && description(self) == description(last)
    }

    /// The answer of the read and write operations. A published version's ARN is qualified.
    pub(crate) fn configuration(&self) -> api::FunctionConfiguration {
        let config = &self.config;
        let mut function_arn = self.arn();
        if let Some(number) = self.version {
            function_arn.push_str(&format!(":{number}"));
        }
        api::FunctionConfiguration {
            function_name: self.name.to_string(),
            function_arn,
            runtime: Some(config.runtime.clone()),
            role: config.role.clone(),
            handler: Some(config.handler.clone()),
            code_size: self.package.size,
            description: config.description.clone(),
            timeout: config.timeout_s,
            memory_size: config.memory_mb,
            last_modified: self.modified.to_lambda(),
            code_sha256: crate::code::base64_of_hex(&self.package.sha256),
            version: label(self.version),
            environment: environment(&config.variables),
            tracing_config: api::TracingConfig { mode: "PassThrough" },
            revision_id: self.revision.clone(),
            state: "Active",
            last_update_status: "Successful",
            package_type: "Zip",
            architectures: vec!["x86_64"],
            ephemeral_storage: api::EphemeralStorage { size: config.ephemeral_mb },
            snap_start: api::SnapStart { apply_on: "None", optimization_status: "Off" },
            logging_config: self.logging_config(),
            layers: (!config.layers.is_empty()).then(|| {
                let shown = |layer: &LayerUse| api::Layer { arn: layer.arn.clone(), code_size: layer.package.size };
                config.layers.iter().map(shown).collect()
            }),
            dead_letter_config: config
                .dead_letter
                .clone()
                .map(|target| api::DeadLetterConfig { target_arn: Some(target) }),
        }
    }
}

/// As the reference shows them: nothing if there are none, an error if they can't be read.
fn environment(variables: &Variables) -> Option<api::EnvironmentResponse> {
    match variables {
        Variables::Known(map) if map.is_empty() => None,
        Variables::Known(map) => Some(api::EnvironmentResponse { variables: Some(map.clone()), error: None }),
        Variables::Sealed(_) => {
            let message = "the environment variables cannot be decrypted: set them anew".to_owned();
            let error = api::EnvironmentError { error_code: "KMSInvalidStateException", message };
            Some(api::EnvironmentResponse { variables: None, error: Some(error) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_however_they_are_dealt_out() {
        let draws = Draws::default();
        let mut low = [0_u32; 3];
        for n in 0..3_000 {
            low[n % 3] += u32::from(draws.next() < 0.1);
        }
        assert!(low.iter().all(|hits| (95..=105).contains(hits)), "{low:?}");
    }

    #[test]
    fn weights_own_their_share_of_the_draws() {
        let alias = Alias {
            name: "live".into(),
            version: Some(1),
            weights: [(2, 0.1)].into(),
            description: String::new(),
            revision: String::new(),
        };
        assert_eq!(alias.choose(0.0), Some(2));
        assert_eq!(alias.choose(0.0999), Some(2));
        assert_eq!(alias.choose(0.1), Some(1));
        assert_eq!(alias.choose(0.9999), Some(1));
        let none = Alias { weights: BTreeMap::new(), version: None, ..alias };
        assert_eq!(none.choose(0.0), None);
    }
}
