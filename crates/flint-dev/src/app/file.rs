//! `flint.toml`: its keys, and which of them a function of several takes over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::pattern::Pattern;
use super::units::{Megabytes, Seconds};
use super::{Build, Said};
use crate::Error;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub name: Option<String>,
    handler: Option<String>,
    runtime: Option<String>,
    memory: Option<Megabytes>,
    timeout: Option<Seconds>,
    environment: BTreeMap<String, String>,
    requirements: Option<PathBuf>,
    binary: Option<String>,
    exclude: Vec<Pattern>,
    /// Several functions, each with its name. What stands outside of the tables holds for all of them.
    pub functions: BTreeMap<String, Table>,
}

/// One function of several.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    /// Default: the folder of the function's name, or else that of the file.
    pub dir: Option<PathBuf>,
    handler: Option<String>,
    runtime: Option<String>,
    memory: Option<Megabytes>,
    timeout: Option<Seconds>,
    environment: BTreeMap<String, String>,
    requirements: Option<PathBuf>,
    binary: Option<String>,
    exclude: Vec<Pattern>,
}

/// Reads the folder's file; an empty one if it has none.
pub(super) fn read(dir: &Path) -> Result<File, Error> {
    let path = dir.join("flint.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(e) => return Err(Error::File { path, source: e }),
    };
    let file: File = toml::from_str(&text).map_err(|e| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |l| format!("line {l}: "));
        Error::Settings { path: path.clone(), reason: format!("{place}{}", e.message().replace('\n', " ")) }
    })?;
    match file.of_one() {
        Some(key) if !file.functions.is_empty() => {
            let reason = format!("`{key}` belongs into a [functions.NAME] table where there are several functions");
            Err(Error::Settings { path, reason })
        }
        _ => Ok(file),
    }
}

impl File {
    pub(super) fn said(self) -> Said {
        Said {
            name: self.name,
            handler: self.handler,
            runtime: self.runtime,
            memory_mb: self.memory.map(|m| m.0),
            timeout_s: self.timeout.map(|t| t.0),
            environment: self.environment,
            role: None,
            requirements: self.requirements,
            binary: self.binary,
            exclude: self.exclude,
        }
    }

    /// What is said of one of several functions: its table, over what holds for all.
    pub(super) fn said_of(&self, name: &str, table: &Table) -> Said {
        let mut environment = self.environment.clone();
        environment.extend(table.environment.clone());
        Said {
            name: Some(name.to_owned()),
            handler: table.handler.clone(),
            runtime: table.runtime.clone().or_else(|| self.runtime.clone()),
            memory_mb: table.memory.or(self.memory).map(|m| m.0),
            timeout_s: table.timeout.or(self.timeout).map(|t| t.0),
            environment,
            role: None,
            requirements: table.requirements.clone(),
            binary: table.binary.clone(),
            exclude: self.exclude.iter().chain(&table.exclude).cloned().collect(),
        }
    }

    /// A key that cannot hold for several functions.
    fn of_one(&self) -> Option<&'static str> {
        [
            ("name", self.name.is_some()),
            ("handler", self.handler.is_some()),
            ("requirements", self.requirements.is_some()),
            ("binary", self.binary.is_some()),
        ]
        .into_iter()
        .find_map(|(key, said)| said.then_some(key))
    }
}

/// The requirements file that was said, or the usual one of a Python function.
pub(super) fn requirements(dir: &Path, said: &Said) -> Result<Build, Error> {
    if let Some(said) = &said.requirements {
        let path = dir.join(said);
        return fs::metadata(&path).map(|_| Build::Pip(path.clone())).map_err(Error::file(path));
    }
    let path = dir.join("requirements.txt");
    Ok(if path.is_file() { Build::Pip(path) } else { Build::AsIs })
}
