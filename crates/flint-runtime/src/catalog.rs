//! Which interpreters the host has, and which of them serves a runtime identifier.

use std::path::PathBuf;

/// Where to look. Nothing is read from the environment: the caller says it all.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The file system's root; `/` outside tests.
    pub root: PathBuf,
    /// Home directories in which version managers (pyenv, nvm, ...) keep what they install.
    pub homes: Vec<PathBuf>,
    /// Further directories laid out like a pyenv root (`$PYENV_ROOT`).
    pub pyenv_roots: Vec<PathBuf>,
    /// Further directories laid out like nvm's (`$NVM_DIR`).
    pub nvm_roots: Vec<PathBuf>,
}

/// What runs the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Python,
    Node,
    /// The package's own `bootstrap`.
    Provided,
}

/// How far an identifier may be from what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The very version.
    Exact,
    /// The nearest version of the same language, later ones first.
    Nearest,
}

/// An interpreter on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub kind: Kind,
    /// Major, minor, patch (0 where it could not be told).
    pub version: (u32, u32, u32),
    /// Where it is on the host: a real executable, no shim and no link.
    pub binary: PathBuf,
    /// The tree to mount at `/var/lang`; `None` where it is part of `/usr`, which every root has.
    pub prefix: Option<PathBuf>,
}

/// What serves a runtime identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The identifier that was asked for: `python3.12`.
    pub identifier: String,
    /// What serves it: `3.12.1`; empty for a custom runtime.
    pub version: String,
    pub kind: Kind,
    /// The tree on the host that is mounted at `/var/lang`, if any.
    pub prefix: Option<PathBuf>,
    /// The interpreter as seen inside the sandbox.
    pub binary: PathBuf,
    /// Whether the version served is not the one asked for (only with [`Match::Nearest`]).
    pub approximate: bool,
}

/// The host has nothing that serves an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runtime {asked} is not available here; available: {}", available.join(", "))]
pub struct Unavailable {
    pub asked: String,
    /// Identifiers that would be served.
    pub available: Vec<String>,
}

/// The interpreters of this host.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    found: Vec<Interpreter>,
}

impl Catalog {
    /// Looks for interpreters. Reads directories and file headers; runs an interpreter with `--version` only where
    /// nothing else tells its version.
    pub fn discover(_search: &Search) -> Self {
        Self::default()
    }

    /// What was found, best first within a version.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.found
    }

    /// The interpreter for a runtime identifier such as `python3.12`, `nodejs20.x` or `provided.al2023`.
    ///
    /// Errors: [`Unavailable`], with the identifiers that would do.
    pub fn resolve(&self, identifier: &str, _how: Match) -> Result<Resolved, Unavailable> {
        Err(Unavailable { asked: identifier.to_owned(), available: self.available() })
    }

    /// The identifiers that [`Match::Exact`] resolves, sorted.
    pub fn available(&self) -> Vec<String> {
        vec!["provided.al2023".to_owned()]
    }
}
