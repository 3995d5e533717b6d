//! Functions at rest: key layout and the versioned record. The only file that knows these bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_model::{FunctionName, Place};
use flint_store::{Key, KeyRange, Keyspace, record};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::function::{Config, Function, Package};

/// Key: place, name. Value: [`Record`].
pub(crate) const FUNCTIONS: Keyspace = Keyspace::new("functions");

const LAYOUT: u8 = 1;

/// A function as stored. Separate from [`Function`] on purpose: what is written here is read for ever.
#[derive(Serialize, Deserialize)]
struct Record {
    place: Place,
    name: FunctionName,
    runtime: String,
    handler: String,
    role: String,
    description: String,
    timeout_s: u32,
    memory_mb: u32,
    ephemeral_mb: u32,
    variables: BTreeMap<String, String>,
    log_group: Option<String>,
    code_sha256: String,
    code_size: u64,
    tags: BTreeMap<String, String>,
    modified_ms: i64,
    revision: String,
    incarnation: String,
}

pub(crate) fn key(place: &Place, name: &FunctionName) -> Key {
    Key::for_place(place).text(name.as_str())
}

pub(crate) fn all() -> KeyRange {
    KeyRange::all()
}

pub(crate) fn encode(function: &Function) -> Bytes {
    let Function { place, name, config, package, tags, modified, revision, incarnation } = function.clone();
    let record = Record {
        place,
        name,
        runtime: config.runtime,
        handler: config.handler,
        role: config.role,
        description: config.description,
        timeout_s: config.timeout_s,
        memory_mb: config.memory_mb,
        ephemeral_mb: config.ephemeral_mb,
        variables: config.variables,
        log_group: config.log_group,
        code_sha256: package.sha256,
        code_size: package.size,
        tags,
        modified_ms: modified.as_millis(),
        revision,
        incarnation,
    };
    record::encode(LAYOUT, &record)
}

pub(crate) fn decode(key: &Key, bytes: &[u8]) -> Result<Function, Error> {
    let damaged = |why: record::Error| Error::Record { key: format!("{key:?}"), why: why.to_string() };
    let record: Record = record::decode(LAYOUT, bytes).map_err(damaged)?;
    Ok(Function {
        place: record.place,
        name: record.name,
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
        },
        package: Package { sha256: record.code_sha256, size: record.code_size },
        tags: record.tags,
        modified: Timestamp::from_millis(record.modified_ms),
        revision: record.revision,
        incarnation: record.incarnation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips() {
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        let function = Function {
            name: "f".parse().expect("legal"),
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
            },
            package: Package { sha256: "00".repeat(32), size: 7 },
            tags: BTreeMap::new(),
            modified: Timestamp::from_millis(5),
            revision: "r".into(),
            incarnation: "i".into(),
            place,
        };
        let key = key(&function.place, &function.name);
        let back = decode(&key, &encode(&function)).expect("decodes");
        assert_eq!(format!("{back:?}"), format!("{function:?}"));
        assert!(decode(&key, b"\x01{}").is_err());
    }
}
