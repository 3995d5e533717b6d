//! Bends what is sealed in a stopped server's store, as someone would who can write to its disk and mends the checksums.
//!
//! `bend DATA flip NAME`: one bit of the function's variables. `bend DATA swap NAME OTHER`: those of another function, with
//! that one's data key.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flint_store::{Batch, Direction, KeyRange, Keyspace, LogStore, Options, Row, Store as _};
use serde_json::Value;

const FUNCTIONS: Keyspace = Keyspace::new("functions");

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [data, verb, name, rest @ ..] = &words[..] else { bail!("bend DATA flip NAME | DATA swap NAME OTHER") };
    let store = LogStore::open(data, Options::default())?;
    let rows = store.scan(FUNCTIONS, &KeyRange::all(), usize::MAX, Direction::Forward)?;
    let (row, mut record) = find(&rows, name)?;
    match (*verb, rest) {
        ("flip", []) => {
            let sealed = record["latest"]["sealed"].as_str().context("it has no variables")?;
            let mut bytes = BASE64_STANDARD.decode(sealed)?;
            *bytes.last_mut().context("it is empty")? ^= 1;
            record["latest"]["sealed"] = BASE64_STANDARD.encode(bytes).into();
        }
        ("swap", [other]) => {
            let (_, other) = find(&rows, other)?;
            record["latest"]["sealed"] = other["latest"]["sealed"].clone();
            record["data_key"] = other["data_key"].clone();
        }
        _ => bail!("no such way to bend: {verb}"),
    }
    let mut value = vec![row.value[0]];
    serde_json::to_writer(&mut value, &record)?;
    store.commit(Batch::new().put(FUNCTIONS, row.key.clone(), value)).wait()?;
    store.close();
    Ok(())
}

/// The stored function of this name: a version byte, then JSON.
fn find<'a>(rows: &'a [Row], name: &str) -> anyhow::Result<(&'a Row, Value)> {
    for row in rows {
        let record: Value = serde_json::from_slice(&row.value[1..])?;
        if record["latest"]["name"] == *name {
            return Ok((row, record));
        }
    }
    bail!("no function {name}")
}
