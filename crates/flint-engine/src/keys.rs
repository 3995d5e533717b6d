//! Functions at rest: key layouts and versioned records. The only file that knows these bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::Vault;
use flint_model::{FunctionName, Place};
use flint_runtime::{LogFormat, LogLevel, Logging};
use flint_store::{Batch, Key, KeyRange, Keyspace, ReadError, Row, Store, record};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::function::{Alias, Config, Function, Head, LayerUse, Package, label};
use crate::variables::{self, Variables};

/// Key: place, name. Value: [`FunctionRecord`]: what belongs to the function, and `$LATEST`.
pub(crate) const FUNCTIONS: Keyspace = Keyspace::new("functions");
/// Key: place, name, number. Value: [`VersionRecord`].
pub(crate) const VERSIONS: Keyspace = Keyspace::new("function-versions");
/// Key: place, name, alias. Value: [`AliasRecord`].
pub(crate) const ALIASES: Keyspace = Keyspace::new("function-aliases");

/// Layout 1 had the variables in the clear; of aliases there is one layout yet.
const LAYOUT: u8 = 2;
const ALIAS_LAYOUT: u8 = 1;

/// A version as stored. Separate from [`Function`] on purpose: what is written here is read for ever.
#[derive(Serialize, Deserialize)]
struct VersionRecord {
    place: Place,
    name: FunctionName,
    version: Option<u64>,
    runtime: String,
    handler: String,
    role: String,
    description: String,
    timeout_s: u32,
    memory_mb: u32,
    ephemeral_mb: u32,
    /// Of layout 1.
    #[serde(default, skip_serializing)]
    variables: BTreeMap<String, String>,
    /// The variables, sealed, in base64. `None` if there are none.
    #[serde(default)]
    sealed: Option<String>,
    log_group: Option<String>,
    #[serde(default)]
    log_json: bool,
    #[serde(default)]
    application_log_level: Option<String>,
    #[serde(default)]
    system_log_level: Option<String>,
    #[serde(default)]
    layers: Vec<LayerUseRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
    code_sha256: String,
    code_size: u64,
    modified_ms: i64,
    revision: String,
}

#[derive(Serialize, Deserialize)]
struct LayerUseRecord {
    arn: String,
    code_sha256: String,
    code_size: u64,
}

#[derive(Serialize, Deserialize)]
struct FunctionRecord {
    incarnation: String,
    tags: BTreeMap<String, String>,
    reserved: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    recursion_allowed: bool,
    next_version: u64,
    /// Wrapped, in base64.
    #[serde(default)]
    data_key: Option<String>,
    latest: VersionRecord,
}

#[derive(Serialize, Deserialize)]
struct AliasRecord {
    name: String,
    version: Option<u64>,
    weights: BTreeMap<u64, f64>,
    description: String,
    revision: String,
}

/// A function as read back.
#[derive(Debug)]
pub(crate) struct Stored {
    pub head: Head,
    pub latest: Function,
    pub versions: Vec<Function>,
    pub aliases: Vec<Alias>,
    /// Something of it lies in the store unsealed.
    pub plain: bool,
}

pub(crate) fn key(place: &Place, name: &FunctionName) -> Key {
    Key::for_place(place).text(name.as_str())
}

/// Errors: [`Error::Sealed`]; so all that write variables.
pub(crate) fn put_function(batch: Batch, vault: &dyn Vault, head: &Head, latest: &Function) -> Result<Batch, Error> {
    Ok(batch.put(FUNCTIONS, key(&latest.place, &latest.name), encode_function(vault, head, latest)?))
}

/// As [`put_function`], for a name that must be free.
pub(crate) fn insert_function(batch: Batch, vault: &dyn Vault, head: &Head, latest: &Function) -> Result<Batch, Error> {
    Ok(batch.insert(FUNCTIONS, key(&latest.place, &latest.name), encode_function(vault, head, latest)?))
}

/// The function's head, with the data key that this is sealed with, is in the same batch or in the store.
pub(crate) fn put_version(batch: Batch, vault: &dyn Vault, head: &Head, function: &Function) -> Result<Batch, Error> {
    // What does not open was sealed for another version.
    function.config.variables.known().ok_or_else(|| Error::Sealed(function.arn()))?;
    let key = version_key(&function.place, &function.name, function.version.unwrap_or(0));
    let record = VersionRecord::new(function.clone(), variables::seal(vault, head, function)?);
    Ok(batch.put(VERSIONS, key, record::encode(LAYOUT, &record)))
}

pub(crate) fn delete_version(batch: Batch, place: &Place, name: &FunctionName, version: u64) -> Batch {
    batch.delete(VERSIONS, version_key(place, name, version))
}

pub(crate) fn put_alias(batch: Batch, place: &Place, name: &FunctionName, alias: &Alias) -> Batch {
    let Alias { name: alias_name, version, weights, description, revision } = alias.clone();
    let record = AliasRecord { name: alias_name, version, weights, description, revision };
    batch.put(ALIASES, key(place, name).text(&alias.name), record::encode(ALIAS_LAYOUT, &record))
}

pub(crate) fn delete_alias(batch: Batch, place: &Place, name: &FunctionName, alias: &str) -> Batch {
    batch.delete(ALIASES, key(place, name).text(alias))
}

/// A function with all its versions and aliases.
pub(crate) fn delete_function(batch: Batch, place: &Place, name: &FunctionName) -> Batch {
    let key = key(place, name);
    batch
        .delete(FUNCTIONS, key.clone())
        .delete_range(VERSIONS, KeyRange::prefix(&key))
        .delete_range(ALIASES, KeyRange::prefix(&key))
}

/// Every function of every place.
pub(crate) fn load(store: &dyn Store, vault: &dyn Vault) -> Result<Vec<Stored>, Error> {
    let scan = |keyspace, range: &KeyRange| -> Result<Vec<Row>, Error> {
        let unreadable = |e: ReadError| Error::Record { key: "functions".into(), why: e.to_string() };
        store.scan(keyspace, range, usize::MAX, flint_store::Direction::Forward).map_err(unreadable)
    };
    let mut all = Vec::new();
    for row in scan(FUNCTIONS, &KeyRange::all())? {
        let range = KeyRange::prefix(&row.key);
        all.push(stored(vault, &row, &scan(VERSIONS, &range)?, &scan(ALIASES, &range)?)?);
    }
    Ok(all)
}

fn stored(vault: &dyn Vault, row: &Row, versions: &[Row], aliases: &[Row]) -> Result<Stored, Error> {
    let record: FunctionRecord = decode(row)?;
    let arn = record.latest.name.arn(&record.latest.place).to_string();
    let mut head = Head {
        incarnation: record.incarnation,
        tags: record.tags,
        reserved: record.reserved,
        recursion_allowed: record.recursion_allowed,
        next_version: record.next_version,
        // One that is damaged opens nothing, which shows where it is used.
        data_key: record.data_key.and_then(|key| BASE64_STANDARD.decode(key).ok()).unwrap_or_default(),
    };
    if layout(row) == Some(1) {
        head.data_key = vault.data_key(&variables::owner(&arn, &head));
    }
    let function = |row: &Row, record: VersionRecord| {
        let mut expected = key(&record.place, &record.name);
        if let Some(number) = record.version {
            expected = expected.u64(number);
        }
        if expected != row.key {
            let why = format!("it is that of {} {}", record.name, label(record.version));
            return Err(Error::Record { key: format!("{:?}", row.key), why });
        }
        Ok(record.function(vault, &head, layout(row) == Some(1)))
    };
    let latest = function(row, record.latest)?;
    let versions_read = versions.iter().map(|row| function(row, decode(row)?)).collect::<Result<_, _>>()?;
    let aliases = aliases.iter().map(|row| decode::<AliasRecord>(row).map(Alias::from)).collect::<Result<_, _>>()?;
    let plain = std::iter::once(row).chain(versions).any(|row| layout(row) == Some(1));
    Ok(Stored { head, latest, versions: versions_read, aliases, plain })
}

fn layout(row: &Row) -> Option<u8> {
    record::version(&row.value).ok()
}

fn version_key(place: &Place, name: &FunctionName, version: u64) -> Key {
    key(place, name).u64(version)
}

fn encode_function(vault: &dyn Vault, head: &Head, latest: &Function) -> Result<Bytes, Error> {
    let sealed = variables::seal(vault, head, latest)?;
    let Head { incarnation, tags, reserved, recursion_allowed, next_version, data_key } = head.clone();
    let data_key = Some(BASE64_STANDARD.encode(data_key));
    let latest = VersionRecord::new(latest.clone(), sealed);
    let record = FunctionRecord { incarnation, tags, reserved, recursion_allowed, next_version, data_key, latest };
    Ok(record::encode(LAYOUT, &record))
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(row: &Row) -> Result<T, Error> {
    let damaged = |why: record::Error| Error::Record { key: format!("{:?}", row.key), why: why.to_string() };
    record::decode(LAYOUT, &row.value).map_err(damaged)
}

impl VersionRecord {
    fn new(function: Function, sealed: Option<String>) -> Self {
        let Function { place, name, version, config, package, modified, revision } = function;
        Self {
            place,
            name,
            version,
            runtime: config.runtime,
            handler: config.handler,
            role: config.role,
            description: config.description,
            timeout_s: config.timeout_s,
            memory_mb: config.memory_mb,
            ephemeral_mb: config.ephemeral_mb,
            variables: BTreeMap::new(),
            sealed,
            log_group: config.log_group,
            log_json: config.logging.format == LogFormat::Json,
            application_log_level: config.logging.application_level.map(|level| level.name().to_owned()),
            system_log_level: config.logging.system_level.map(|level| level.name().to_owned()),
            layers: config.layers.into_iter().map(LayerUseRecord::from).collect(),
            dead_letter: config.dead_letter,
            code_sha256: package.sha256,
            code_size: package.size,
            modified_ms: modified.as_millis(),
            revision,
        }
    }

    /// `plain`: a record of layout 1.
    fn function(self, vault: &dyn Vault, head: &Head, plain: bool) -> Function {
        let record = self;
        let arn = record.name.arn(&record.place).to_string();
        let variables = if plain {
            Variables::Known(record.variables)
        } else {
            variables::open(vault, head, &arn, record.version, record.sealed)
        };
        Function {
            place: record.place,
            name: record.name,
            version: record.version,
            config: Config {
                runtime: record.runtime,
                handler: record.handler,
                role: record.role,
                description: record.description,
                timeout_s: record.timeout_s,
                memory_mb: record.memory_mb,
                ephemeral_mb: record.ephemeral_mb,
                variables,
                log_group: record.log_group,
                logging: Logging {
                    format: if record.log_json { LogFormat::Json } else { LogFormat::Text },
                    application_level: level(record.application_log_level.as_deref()),
                    system_level: level(record.system_log_level.as_deref()),
                },
                layers: record.layers.into_iter().map(LayerUse::from).collect(),
                dead_letter: record.dead_letter,
            },
            package: Package { sha256: record.code_sha256, size: record.code_size },
            modified: Timestamp::from_millis(record.modified_ms),
            revision: record.revision,
        }
    }
}

fn level(name: Option<&str>) -> Option<LogLevel> {
    crate::rules::LEVELS.into_iter().find(|level| Some(level.name()) == name)
}

impl From<LayerUse> for LayerUseRecord {
    fn from(layer: LayerUse) -> Self {
        Self { arn: layer.arn, code_sha256: layer.package.sha256, code_size: layer.package.size }
    }
}

impl From<LayerUseRecord> for LayerUse {
    fn from(record: LayerUseRecord) -> Self {
        Self { arn: record.arn, package: Package { sha256: record.code_sha256, size: record.code_size } }
    }
}

impl From<AliasRecord> for Alias {
    fn from(record: AliasRecord) -> Self {
        let AliasRecord { name, version, weights, description, revision } = record;
        Self { name, version, weights, description, revision }
    }
}

#[cfg(test)]
mod tests;
