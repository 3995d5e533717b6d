//! Which interpreters the host has, and which of them serves a runtime identifier.

mod scan;

use std::path::{Path, PathBuf};

/// Where an interpreter's own tree is mounted inside.
pub(crate) const LANG_DIR: &str = "/var/lang";

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
    /// Further installations by their own folders, each with its interpreters in `bin`.
    pub installations: Vec<PathBuf>,
}

impl Search {
    /// The whole host, and these home directories.
    pub fn host(homes: Vec<PathBuf>) -> Self {
        Self { root: PathBuf::from("/"), homes, ..Self::default() }
    }
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
    /// Where it is seen from the search's root; the path inside a sandbox if there is no prefix.
    inside: PathBuf,
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
    /// nothing else tells its version and nobody but root could have put it there. Blocks; meant for start-up.
    pub fn discover(search: &Search) -> Self {
        Self { found: scan::scan(search) }
    }

    /// The interpreters of one installation: those whose tree is the folder itself, so that nothing around it is mounted.
    pub fn installation(folder: &Path, homes: Vec<PathBuf>) -> Self {
        let search = Search { root: "/".into(), homes, installations: vec![folder.to_owned()], ..Search::default() };
        Self { found: scan::installation(&search, folder) }
    }

    /// What was found: by kind and version, the preferred one first within a version.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.found
    }

    /// The interpreter for a runtime identifier such as `python3.12`, `nodejs20.x` or `provided.al2023`.
    ///
    /// Errors: [`Unavailable`], with the identifiers that would do.
    pub fn resolve(&self, identifier: &str, how: Match) -> Result<Resolved, Unavailable> {
        let unavailable = || Unavailable { asked: identifier.to_owned(), available: self.available() };
        match Wanted::parse(identifier).ok_or_else(unavailable)? {
            Wanted::Provided => Ok(Resolved {
                identifier: identifier.to_owned(),
                version: String::new(),
                kind: Kind::Provided,
                prefix: None,
                binary: PathBuf::from("/var/task/bootstrap"),
                approximate: false,
            }),
            Wanted::Interpreter(kind, number) => {
                let exact = self.of(kind).find(|i| number_of(i) == number);
                let nearest = || {
                    let later = self.of(kind).filter(|i| number_of(i) > number).min_by_key(|i| number_of(i));
                    later.or_else(|| self.of(kind).filter(|i| number_of(i) < number).max_by_key(|i| number_of(i)))
                };
                let chosen = match how {
                    Match::Exact => exact,
                    Match::Nearest => exact.or_else(nearest),
                };
                chosen.map(|i| resolved(identifier, i, number)).ok_or_else(unavailable)
            }
        }
    }

    /// The identifiers that [`Match::Exact`] resolves: Python's, Node's, then the custom runtimes.
    pub fn available(&self) -> Vec<String> {
        let mut numbers: Vec<_> = self.found.iter().map(|i| (i.kind as u8, number_of(i), i.kind)).collect();
        numbers.dedup();
        let mut names: Vec<String> = numbers
            .into_iter()
            .map(|(_, (major, minor), kind)| match kind {
                Kind::Node => format!("nodejs{major}.x"),
                _ => format!("python{major}.{minor}"),
            })
            .collect();
        names.extend(["provided.al2", "provided.al2023"].map(str::to_owned));
        names
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Interpreter> {
        self.found.iter().filter(move |i| i.kind == kind)
    }
}

/// What tells two runtimes of one language apart: major and minor for Python, the major alone for Node.
fn number_of(i: &Interpreter) -> (u32, u32) {
    match i.kind {
        Kind::Node => (i.version.0, 0),
        _ => (i.version.0, i.version.1),
    }
}

fn resolved(identifier: &str, found: &Interpreter, asked: (u32, u32)) -> Resolved {
    let (major, minor, patch) = found.version;
    let binary = match &found.prefix {
        Some(prefix) => {
            Path::new(LANG_DIR).join(found.binary.strip_prefix(prefix).expect("the prefix is the binary's ancestor"))
        }
        None => found.inside.clone(),
    };
    Resolved {
        identifier: identifier.to_owned(),
        version: format!("{major}.{minor}.{patch}"),
        kind: found.kind,
        prefix: found.prefix.clone(),
        binary,
        approximate: number_of(found) != asked,
    }
}

enum Wanted {
    Interpreter(Kind, (u32, u32)),
    Provided,
}

impl Wanted {
    /// Reference: Lambda Developer Guide, "Lambda runtimes" (identifiers).
    fn parse(identifier: &str) -> Option<Self> {
        let number = |s: &str| if s.starts_with('+') { None } else { s.parse().ok() };
        if let Some(version) = identifier.strip_prefix("python") {
            let (major, minor) = version.split_once('.')?;
            Some(Self::Interpreter(Kind::Python, (number(major)?, number(minor)?)))
        } else if let Some(version) = identifier.strip_prefix("nodejs") {
            Some(Self::Interpreter(Kind::Node, (number(version.strip_suffix(".x")?)?, 0)))
        } else {
            matches!(identifier, "provided" | "provided.al2" | "provided.al2023").then_some(Self::Provided)
        }
    }
}

#[cfg(test)]
mod tests;
