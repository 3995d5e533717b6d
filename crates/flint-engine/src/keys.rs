//! Functions at rest: key layouts and versioned records. The only file that knows these bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_model::{FunctionName, Place};
use flint_runtime::{LogFormat, LogLevel, Logging};
use flint_store::{Batch, Key, KeyRange, Keyspace, ReadError, Row, Store, record};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::function::{Alias, Config, Function, Head, LayerUse, Package};

/// Key: place, name. Value: [`FunctionRecord`]: what belongs to the function, and `$LATEST`.
pub(crate) const FUNCTIONS: Keyspace = Keyspace::new("functions");
/// Key: place, name, number. Value: [`VersionRecord`].
pub(crate) const VERSIONS: Keyspace = Keyspace::new("function-versions");
/// Key: place, name, alias. Value: [`AliasRecord`].
pub(crate) const ALIASES: Keyspace = Keyspace::new("function-aliases");

const LAYOUT: u8 = 1;

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
    variables: BTreeMap<String, String>,
    log_group: Option<String>,
    #[serde(default)]
    log_json: bool,
    #[serde(default)]
    application_log_level: Option<String>,
    #[serde(default)]
    system_log_level: Option<String>,
    #[serde(default)]
    layers: Vec<LayerUseRecord>,
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
    next_version: u64,
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
}

pub(crate) fn key(place: &Place, name: &FunctionName) -> Key {
    Key::for_place(place).text(name.as_str())
}

pub(crate) fn put_function(batch: Batch, head: &Head, latest: &Function) -> Batch {
    batch.put(FUNCTIONS, key(&latest.place, &latest.name), encode_function(head, latest))
}

/// As [`put_function`], for a name that must be free.
pub(crate) fn insert_function(batch: Batch, head: &Head, latest: &Function) -> Batch {
    batch.insert(FUNCTIONS, key(&latest.place, &latest.name), encode_function(head, latest))
}

pub(crate) fn put_version(batch: Batch, function: &Function) -> Batch {
    let key = version_key(&function.place, &function.name, function.version.unwrap_or(0));
    batch.put(VERSIONS, key, record::encode(LAYOUT, &VersionRecord::from(function.clone())))
}

pub(crate) fn delete_version(batch: Batch, place: &Place, name: &FunctionName, version: u64) -> Batch {
    batch.delete(VERSIONS, version_key(place, name, version))
}

pub(crate) fn put_alias(batch: Batch, place: &Place, name: &FunctionName, alias: &Alias) -> Batch {
    let Alias { name: alias_name, version, weights, description, revision } = alias.clone();
    let record = AliasRecord { name: alias_name, version, weights, description, revision };
    batch.put(ALIASES, key(place, name).text(&alias.name), record::encode(LAYOUT, &record))
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
pub(crate) fn load(store: &dyn Store) -> Result<Vec<Stored>, Error> {
    let scan = |keyspace, range: &KeyRange| -> Result<Vec<Row>, Error> {
        let unreadable = |e: ReadError| Error::Record { key: "functions".into(), why: e.to_string() };
        store.scan(keyspace, range, usize::MAX, flint_store::Direction::Forward).map_err(unreadable)
    };
    let mut all = Vec::new();
    for row in scan(FUNCTIONS, &KeyRange::all())? {
        let record: FunctionRecord = decode(&row)?;
        let range = KeyRange::prefix(&row.key);
        let versions = scan(VERSIONS, &range)?;
        let aliases = scan(ALIASES, &range)?;
        all.push(Stored {
            head: Head {
                incarnation: record.incarnation,
                tags: record.tags,
                reserved: record.reserved,
                next_version: record.next_version,
            },
            latest: record.latest.into(),
            versions: versions
                .iter()
                .map(|row| decode::<VersionRecord>(row).map(Function::from))
                .collect::<Result<_, _>>()?,
            aliases: aliases.iter().map(|row| decode::<AliasRecord>(row).map(Alias::from)).collect::<Result<_, _>>()?,
        });
    }
    Ok(all)
}

fn version_key(place: &Place, name: &FunctionName, version: u64) -> Key {
    key(place, name).u64(version)
}

fn encode_function(head: &Head, latest: &Function) -> Bytes {
    let Head { incarnation, tags, reserved, next_version } = head.clone();
    let record = FunctionRecord { incarnation, tags, reserved, next_version, latest: latest.clone().into() };
    record::encode(LAYOUT, &record)
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(row: &Row) -> Result<T, Error> {
    let damaged = |why: record::Error| Error::Record { key: format!("{:?}", row.key), why: why.to_string() };
    record::decode(LAYOUT, &row.value).map_err(damaged)
}

impl From<Function> for VersionRecord {
    fn from(function: Function) -> Self {
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
            variables: config.variables,
            log_group: config.log_group,
            log_json: config.logging.format == LogFormat::Json,
            application_log_level: config.logging.application_level.map(|level| level.name().to_owned()),
            system_log_level: config.logging.system_level.map(|level| level.name().to_owned()),
            layers: config.layers.into_iter().map(LayerUseRecord::from).collect(),
            code_sha256: package.sha256,
            code_size: package.size,
            modified_ms: modified.as_millis(),
            revision,
        }
    }
}

impl From<VersionRecord> for Function {
    fn from(record: VersionRecord) -> Self {
        Self {
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
                variables: record.variables,
                log_group: record.log_group,
                logging: Logging {
                    format: if record.log_json { LogFormat::Json } else { LogFormat::Text },
                    application_level: level(record.application_log_level.as_deref()),
                    system_level: level(record.system_log_level.as_deref()),
                },
                layers: record.layers.into_iter().map(LayerUse::from).collect(),
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
mod tests {
    use flint_store::MemoryStore;

    use super::*;

    fn function(name: &str, version: Option<u64>) -> Function {
        Function {
            place: Place {
                account: "000000000000".parse().expect("legal"),
                region: "us-east-1".parse().expect("legal"),
            },
            name: name.parse().expect("legal"),
            version,
            config: Config {
                runtime: "python3.11".into(),
                handler: "app.handler".into(),
                role: "arn:aws:iam::000000000000:role/r".into(),
                description: String::new(),
                timeout_s: 3,
                memory_mb: 128,
                ephemeral_mb: 512,
                variables: [("A".to_owned(), "b".to_owned())].into(),
                log_group: None,
                logging: Logging::default(),
                layers: vec![LayerUse { arn: "a".into(), package: Package { sha256: "11".repeat(32), size: 1 } }],
            },
            package: Package { sha256: "00".repeat(32), size: 7 },
            modified: Timestamp::from_millis(5),
            revision: "r".into(),
        }
    }

    #[test]
    fn a_function_comes_back_with_its_own_versions_and_aliases() {
        let store = MemoryStore::default();
        let head = Head { incarnation: "i".into(), tags: BTreeMap::new(), reserved: Some(3), next_version: 3 };
        let alias = Alias {
            name: "live".into(),
            version: Some(1),
            weights: [(2, 0.25)].into(),
            description: "d".into(),
            revision: "r".into(),
        };
        let (latest, one) = (function("f", None), function("f", Some(1)));
        // A name that begins like another must not take its versions.
        let (other, other_one) = (function("f-2", None), function("f-2", Some(1)));
        let mut batch = insert_function(Batch::new(), &head, &latest);
        batch = put_version(batch, &one);
        batch = put_alias(batch, &latest.place, &latest.name, &alias);
        batch = put_version(insert_function(batch, &head, &other), &other_one);
        store.commit(batch).wait().expect("commits");
        let all = load(&store).expect("loads");
        assert_eq!(all.len(), 2);
        let f = all.iter().find(|stored| stored.latest.name == latest.name).expect("there");
        assert_eq!(format!("{:?}", f.latest), format!("{latest:?}"));
        assert_eq!(f.versions.len(), 1);
        assert_eq!(f.aliases, [alias]);
        assert_eq!(f.head.reserved, Some(3));

        store.commit(delete_function(Batch::new(), &latest.place, &latest.name)).wait().expect("commits");
        let all = load(&store).expect("loads");
        assert_eq!((all.len(), all[0].versions.len()), (1, 1));
    }
}
