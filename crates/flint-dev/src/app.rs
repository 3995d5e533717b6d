//! What a folder says about the functions in it: found out from its files, or said in its `flint.toml`.
//!
//! ```toml
//! name = "thumbnail"            # default: the folder's name
//! handler = "app.handler"       # default: found in the folder's files
//! runtime = "python3.13"        # default: the newest of its language that the server has; provided.al2023 for programs
//! memory = "512 MiB"            # default: 128 MiB
//! timeout = "10 s"              # default: 3 s
//! requirements = "requirements.txt"
//! binary = "api"                # which program of a Cargo package
//! exclude = ["*.png", "docs/"]  # files that don't belong into the package, as in a .gitignore
//! [environment]
//! GREETING = "hello"
//! ```
//!
//! A key that is not in this list is refused. What the file leaves out has its default: deploying the same folder
//! twice gives the same function. Several functions: see [`project`].

mod detect;
mod file;
pub mod pattern;
pub mod project;
mod template;
mod units;

#[cfg(test)]
mod properties;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use pattern::Pattern;

/// The reference's defaults of `MemorySize` (MiB) and `Timeout` (seconds).
const MEMORY_MB_DEFAULT: u32 = 128;
const TIMEOUT_S_DEFAULT: u32 = 3;

/// A function in a folder, ready to be packaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub dir: PathBuf,
    pub name: String,
    pub kind: Kind,
    pub handler: String,
    pub memory_mb: u32,
    pub timeout_s: u32,
    pub environment: BTreeMap<String, String>,
    /// The function's role; a placeholder of the caller's account if the folder names none.
    pub role: Option<String>,
    pub build: Build,
    /// Files that stay out of the package.
    pub exclude: Vec<Pattern>,
}

/// What runs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The newest Python that the server has.
    AnyPython,
    /// The newest Node.js that the server has.
    AnyNode,
    /// This runtime identifier.
    Runtime(String),
}

/// What has to be done to the folder to make a package of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    /// Its files are the package.
    AsIs,
    /// pip installs this requirements file into the package.
    Pip(PathBuf),
    /// npm installs what `package.json` names into the package.
    Npm,
    /// `cargo build --release`; this binary of the package, or its only one, becomes `bootstrap`.
    Cargo { binary: Option<String> },
    /// `go build`; the program becomes `bootstrap`.
    Go,
}

/// What was said about a function, in whichever file. What was not said is found out.
#[derive(Clone, Debug, Default)]
struct Said {
    name: Option<String>,
    handler: Option<String>,
    runtime: Option<String>,
    memory_mb: Option<u32>,
    timeout_s: Option<u32>,
    environment: BTreeMap<String, String>,
    role: Option<String>,
    requirements: Option<PathBuf>,
    binary: Option<String>,
    exclude: Vec<Pattern>,
}

impl App {
    /// Reads a folder with one function. `name` overrides what the folder says.
    ///
    /// Errors: [`Error::App`] if nothing in it can be run, [`Error::Settings`] if its `flint.toml` is wrong.
    pub fn read(dir: &Path, name: Option<&str>) -> Result<App, Error> {
        let dir = folder(dir)?;
        let file = file::read(&dir)?;
        if !file.functions.is_empty() {
            let names = file.functions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let hint = "deploy the folder without a name".to_owned();
            return Err(Error::App { dir, reason: format!("holds several functions: {names}"), hint });
        }
        App::new(&dir, file.said(), name)
    }

    /// A function of a folder of which something was said.
    fn new(dir: &Path, said: Said, name: Option<&str>) -> Result<App, Error> {
        let dir = folder(dir)?;
        let found = detect::detect(&dir, &said)?;
        let name = match name.map(str::to_owned).or(said.name) {
            Some(given) => checked_name(&dir, given)?,
            None => name_of(&dir)?,
        };
        Ok(App {
            name,
            kind: found.kind,
            handler: found.handler,
            memory_mb: said.memory_mb.unwrap_or(MEMORY_MB_DEFAULT),
            timeout_s: said.timeout_s.unwrap_or(TIMEOUT_S_DEFAULT),
            environment: said.environment,
            role: said.role,
            build: found.build,
            exclude: said.exclude,
            dir,
        })
    }

    /// Whether the folder holds anything that [`App::read`] would take for a function.
    pub fn is_in(dir: &Path) -> bool {
        dir.join("flint.toml").is_file() || detect::is_in(dir)
    }

    /// The function's name if only that is wanted (to remove it): from `flint.toml` or the folder.
    pub fn name_in(dir: &Path) -> Result<String, Error> {
        let dir = folder(dir)?;
        match file::read(&dir)?.name {
            Some(name) => checked_name(&dir, name),
            None => name_of(&dir),
        }
    }
}

/// The folder by its full path.
fn folder(dir: &Path) -> Result<PathBuf, Error> {
    let dir = fs::canonicalize(dir).map_err(Error::file(dir))?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let hint = "name the folder that holds the function".to_owned();
    Err(Error::App { dir, reason: "is not a folder".into(), hint })
}

fn checked_name(dir: &Path, name: String) -> Result<String, Error> {
    match name.parse::<flint_model::function::FunctionName>() {
        Ok(_) => Ok(name),
        Err(_) => Err(Error::App {
            dir: dir.to_owned(),
            reason: format!("{name:?} is no function name: 1 to 64 letters, digits, - and _"),
            hint: "say another with --name, or as `name` in flint.toml".into(),
        }),
    }
}

/// The folder's name, with what a function's name cannot hold replaced.
fn name_of(dir: &Path) -> Result<String, Error> {
    let base = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let name: String = base.chars().map(legal).take(64).collect();
    checked_name(dir, name.trim_matches('-').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_it_all() {
        let dir = tempfile::tempdir().unwrap();
        let toml = "name = 'n'\nhandler = 'a.b'\nruntime = 'python3.12'\nmemory = '1 GiB'\ntimeout = 10\n\
                    requirements = 'deps.txt'\nexclude = ['*.png']\n[environment]\nA = 'b'\n";
        fs::write(dir.path().join("flint.toml"), toml).unwrap();
        fs::write(dir.path().join("deps.txt"), "").unwrap();
        let app = App::read(dir.path(), None).unwrap();
        assert_eq!((app.name.as_str(), app.memory_mb, app.timeout_s), ("n", 1024, 10));
        assert_eq!((app.environment["A"].as_str(), app.exclude.len()), ("b", 1));
        assert!(matches!(app.build, Build::Pip(file) if file.ends_with("deps.txt")));
    }

    #[test]
    fn names_come_from_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("my app (1)");
        fs::create_dir(&sub).unwrap();
        assert_eq!(App::name_in(&sub).unwrap(), "my-app--1");
        assert!(App::read(&sub, Some("no/good")).is_err());
        assert!(!App::is_in(&sub));
    }
}
