//! Which files go into a package.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{is_executable, read_dir_sorted};
use crate::Error;
use crate::app::pattern::Pattern;

/// Folders and files of an application that never belong to what runs.
const LEFT_OUT: [&str; 14] = [
    ".hg",
    ".svn",
    "__pycache__",
    ".venv",
    ".flint",
    ".flint-cache",
    ".aws-sam",
    ".serverless",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".idea",
    ".DS_Store",
];

/// Whether a path is left out: given whole, relative to the folder that is added, and whether it is a folder.
type LeftOut<'a> = dyn Fn(&Path, &Path, bool) -> bool + 'a;

/// Whether a folder or file of this name never belongs to what runs.
pub fn is_left_out(name: &str) -> bool {
    // `.git` and `.github`, `.gitignore`, `.gitattributes`.
    let of_editor = name.ends_with('~') || (name.starts_with('.') && name.ends_with(".swp"));
    LEFT_OUT.contains(&name) || name.starts_with(".git") || of_editor
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub source: PathBuf,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File { executable: bool },
    Link { to: String },
}

/// The files of a package by their names in it, sorted.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Adds an application's folder without what is left out: version control, caches, virtual environments, its
    /// `flint.toml`, and what `exclude` means.
    pub fn add_app(&mut self, dir: &Path, exclude: &[Pattern]) -> Result<(), Error> {
        self.add(dir, Path::new(""), &|path, inside, is_folder| {
            let name = inside.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            is_left_out(name)
                || name.ends_with(".pyc")
                || inside == Path::new("flint.toml")
                || (is_folder && path.join("pyvenv.cfg").exists())
                || exclude.iter().any(|pattern| pattern.matches(&inside.to_string_lossy(), is_folder))
        })
    }

    /// Adds a folder that a package manager filled, whole.
    pub fn add_installed(&mut self, dir: &Path) -> Result<(), Error> {
        self.add(dir, Path::new(""), &|_, _, _| false)
    }

    /// Adds a program as `bootstrap`.
    pub fn add_program(&mut self, source: PathBuf) {
        self.put("bootstrap".into(), Entry { source, kind: Kind::File { executable: true } });
    }

    /// Takes out a folder, or a file, with all below it.
    pub fn remove(&mut self, name: &str) {
        let below = format!("{name}/");
        self.entries.retain(|other, _| other != name && !other.starts_with(&below));
    }

    fn add(&mut self, dir: &Path, below: &Path, left_out: &LeftOut<'_>) -> Result<(), Error> {
        for item in read_dir_sorted(dir)? {
            let path = item.path();
            let file_name = item.file_name();
            let Some(name) = file_name.to_str() else {
                let reason = format!("cannot hold {}: its name is not UTF-8", path.display());
                return Err(Error::Package { reason, hint: "rename it".into() });
            };
            let inside = below.join(name);
            let meta = fs::symlink_metadata(&path).map_err(Error::file(&path))?;
            if left_out(&path, &inside, meta.is_dir()) {
                continue;
            }
            let kind = if meta.is_dir() {
                self.add(&path, &inside, left_out)?;
                continue;
            } else if meta.is_symlink() {
                Kind::Link { to: link_target(&path, below)? }
            } else if meta.is_file() {
                Kind::File { executable: is_executable(&meta) }
            } else {
                let reason = format!("cannot hold {}: it is neither file nor folder", path.display());
                return Err(Error::Package { reason, hint: "remove it".into() });
            };
            self.put(inside.to_string_lossy().into_owned(), Entry { source: path, kind });
        }
        Ok(())
    }

    /// A file that takes a folder's place, or the other way round, replaces what was there.
    fn put(&mut self, name: String, entry: Entry) {
        let below = format!("{name}/");
        self.entries.retain(|other, _| !other.starts_with(&below) && !name.starts_with(&format!("{other}/")));
        self.entries.insert(name, entry);
    }
}

/// The target of a link, if it is relative and stays inside the package.
fn link_target(path: &Path, below: &Path) -> Result<String, Error> {
    let to = fs::read_link(path).map_err(Error::file(path))?;
    let mut depth = below.components().count();
    for component in to.components() {
        let stays = match component {
            Component::Normal(_) => {
                depth += 1;
                true
            }
            Component::CurDir => true,
            Component::ParentDir => depth.checked_sub(1).map(|d| depth = d).is_some(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !stays {
            let reason = format!("cannot hold {}: the link leaves the folder", path.display());
            return Err(Error::Package { reason, hint: "copy what it points to into the folder".into() });
        }
    }
    let text = to.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Package {
        reason: format!("cannot hold {}: its target is not UTF-8", path.display()),
        hint: "rename it".into(),
    })
}
