//! The runtimes' own files, and the root file system and command line for each kind of runtime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flint_sandbox::{Bind, RootFile, RootSpec};

use crate::catalog::{Kind, LANG_DIR, Resolved};
use crate::variables::RUNTIME_DIR;

const PYTHON: &[(&str, &str)] = &[
    ("bootstrap.py", include_str!("../bootstrap/python/bootstrap.py")),
    ("_context.py", include_str!("../bootstrap/python/_context.py")),
    ("_errors.py", include_str!("../bootstrap/python/_errors.py")),
    ("_logging.py", include_str!("../bootstrap/python/_logging.py")),
];

const NODE: &[(&str, &str)] = &[("bootstrap.cjs", include_str!("../bootstrap/node/bootstrap.cjs"))];

/// What makes two environments share a root: the kind and the tree at `/var/lang`.
pub(crate) type RootKey = (Kind, Option<PathBuf>);

pub(crate) fn root_key(runtime: &Resolved) -> RootKey {
    (runtime.kind, runtime.prefix.clone())
}

pub(crate) fn files(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Python => PYTHON,
        Kind::Node => NODE,
        Kind::Provided => &[],
    }
}

pub(crate) fn root(runtime: &Resolved) -> RootSpec {
    let binds = runtime.prefix.iter().map(|source| Bind { source: source.clone(), target: LANG_DIR.into() }).collect();
    let file = |(name, text): &(&str, &str)| RootFile {
        path: Path::new(RUNTIME_DIR).join(name),
        mode: 0o644,
        content: Arc::from(text.as_bytes()),
    };
    RootSpec { binds, files: files(runtime.kind).iter().map(file).collect() }
}

/// The command line. Python runs without `site`: the host's packages are not part of the function, and it is 2 ms faster.
pub(crate) fn argv(runtime: &Resolved) -> Vec<OsString> {
    let script = |name: &str| OsString::from(format!("{RUNTIME_DIR}/{name}"));
    let binary = runtime.binary.clone().into_os_string();
    match runtime.kind {
        Kind::Python => vec![binary, "-S".into(), script("bootstrap.py")],
        Kind::Node => vec![binary, script("bootstrap.cjs")],
        Kind::Provided => vec![binary],
    }
}

/// The runtime's name in INIT_START: `python:3.12.1`, `provided:al2023`.
pub(crate) fn display(runtime: &Resolved) -> String {
    match runtime.kind {
        Kind::Python => format!("python:{}", runtime.version),
        Kind::Node => format!("nodejs:{}", runtime.version),
        Kind::Provided => runtime.identifier.replacen('.', ":", 1),
    }
}

#[cfg(test)]
mod tests;
