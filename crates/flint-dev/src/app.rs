//! What a folder says about the function in it: found out from its files, or said in its `flint.toml`.
//!
//! ```toml
//! name = "thumbnail"            # default: the folder's name
//! handler = "app.handler"       # default: found in app.py, handler.py, lambda_function.py or main.py
//! runtime = "python3.13"        # default: the newest Python of the server; provided.al2023 for a `bootstrap`
//! memory = "512 MiB"            # default: 128 MiB
//! timeout = "10 s"              # default: 3 s
//! requirements = "requirements.txt"
//! [environment]
//! GREETING = "hello"
//! ```
//!
//! A key that is not in this list is refused. What the file leaves out has its default: deploying the same folder
//! twice gives the same function.

mod units;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// Files that may hold a Python handler, in the order in which they are asked.
const PYTHON_FILES: [&str; 4] = ["app.py", "handler.py", "lambda_function.py", "main.py"];
/// Names that a handler may have, in the order in which they are asked.
const HANDLER_NAMES: [&str; 3] = ["handler", "lambda_handler", "main"];
/// What runs a folder with a `bootstrap`.
const PROVIDED: &str = "provided.al2023";
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
    /// A pip requirements file to be installed into the package.
    pub requirements: Option<PathBuf>,
}

/// What runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The newest Python that the server has.
    AnyPython,
    /// This runtime identifier.
    Runtime(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    name: Option<String>,
    handler: Option<String>,
    runtime: Option<String>,
    memory: Option<units::Megabytes>,
    timeout: Option<units::Seconds>,
    environment: BTreeMap<String, String>,
    requirements: Option<PathBuf>,
}

impl App {
    /// Reads the folder. `name` overrides what the folder says.
    ///
    /// Errors: [`Error::App`] if nothing in it can be run, [`Error::Settings`] if its `flint.toml` is wrong.
    pub fn read(dir: &Path, name: Option<&str>) -> Result<App, Error> {
        let dir = fs::canonicalize(dir).map_err(Error::file(dir))?;
        if !dir.is_dir() {
            let hint = "name the folder that holds the function".to_owned();
            return Err(Error::App { dir, reason: "is not a folder".into(), hint });
        }
        let file = read_file(&dir)?;
        let (kind, handler) = kind_and_handler(&dir, &file)?;
        let requirements = requirements(&dir, &file, &kind)?;
        let name = match name.map(str::to_owned).or_else(|| file.name.clone()) {
            Some(given) => checked_name(&dir, given)?,
            None => name_of(&dir)?,
        };
        Ok(App {
            name,
            kind,
            handler,
            memory_mb: file.memory.map_or(MEMORY_MB_DEFAULT, |m| m.0),
            timeout_s: file.timeout.map_or(TIMEOUT_S_DEFAULT, |t| t.0),
            environment: file.environment,
            requirements,
            dir,
        })
    }

    /// Whether the folder holds anything that [`App::read`] would take for a function.
    pub fn is_in(dir: &Path) -> bool {
        let named = ["flint.toml", "bootstrap"].iter().any(|f| dir.join(f).is_file());
        named || PYTHON_FILES.iter().any(|f| python_handler(&dir.join(f)).is_some())
    }

    /// The function's name if only that is wanted (to remove it): from `flint.toml` or the folder.
    pub fn name_in(dir: &Path) -> Result<String, Error> {
        let dir = fs::canonicalize(dir).map_err(Error::file(dir))?;
        match read_file(&dir)?.name {
            Some(name) => checked_name(&dir, name),
            None => name_of(&dir),
        }
    }
}

fn read_file(dir: &Path) -> Result<File, Error> {
    let path = dir.join("flint.toml");
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|e| {
            let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map_or(String::new(), |l| format!("line {l}: "));
            Error::Settings { path, reason: format!("{place}{}", e.message().replace('\n', " ")) }
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(e) => Err(Error::File { path, source: e }),
    }
}

fn kind_and_handler(dir: &Path, file: &File) -> Result<(Kind, String), Error> {
    if let Some(runtime) = &file.runtime {
        let handler = match &file.handler {
            Some(handler) => handler.clone(),
            None if runtime.starts_with("provided") => check_bootstrap(dir)?,
            None if runtime.starts_with("python") => find_python_handler(dir)?,
            None => return Err(no_handler(dir)),
        };
        return Ok((Kind::Runtime(runtime.clone()), handler));
    }
    if dir.join("bootstrap").is_file() {
        let handler = check_bootstrap(dir)?;
        return Ok((Kind::Runtime(PROVIDED.into()), file.handler.clone().unwrap_or(handler)));
    }
    match &file.handler {
        Some(handler) => Ok((Kind::AnyPython, handler.clone())),
        None => Ok((Kind::AnyPython, find_python_handler(dir)?)),
    }
}

fn check_bootstrap(dir: &Path) -> Result<String, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("bootstrap");
    let app = |reason: &str, hint: String| Error::App { dir: dir.to_owned(), reason: reason.into(), hint };
    match fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok("bootstrap".into()),
        Ok(meta) if meta.is_file() => {
            Err(app("its `bootstrap` is not executable", format!("chmod +x {}", path.display())))
        }
        _ => Err(app(
            "a provided runtime runs the file `bootstrap`, which is not there",
            "put your program there".into(),
        )),
    }
}

fn find_python_handler(dir: &Path) -> Result<String, Error> {
    PYTHON_FILES.iter().find_map(|f| python_handler(&dir.join(f))).ok_or_else(|| no_handler(dir))
}

fn no_handler(dir: &Path) -> Error {
    Error::App {
        dir: dir.to_owned(),
        reason: format!(
            "no function found: expected {} with a function {}, or an executable `bootstrap`",
            PYTHON_FILES.join(", "),
            HANDLER_NAMES.join(", ")
        ),
        hint: "say where it is in flint.toml: handler = \"FILE.FUNCTION\"".into(),
    }
}

/// `MODULE.FUNCTION` if the file defines one of the known names at its top level.
fn python_handler(path: &Path) -> Option<String> {
    let source = fs::read_to_string(path).ok()?;
    let module = path.file_stem()?.to_str()?;
    let defines = |name: &str| source.lines().any(|line| defines_at_top(line, name));
    HANDLER_NAMES.iter().find(|name| defines(name)).map(|name| format!("{module}.{name}"))
}

/// `def NAME(` or `NAME =` at the start of a line.
fn defines_at_top(line: &str, name: &str) -> bool {
    let of = |rest: &str, next: &[char]| {
        rest.strip_prefix(name)
            .is_some_and(|after| after.trim_start().starts_with(next) && !after.trim_start().starts_with("=="))
    };
    match line.strip_prefix("def ") {
        Some(rest) => of(rest.trim_start(), &['(']),
        None => of(line, &['=', ':']),
    }
}

fn requirements(dir: &Path, file: &File, kind: &Kind) -> Result<Option<PathBuf>, Error> {
    if let Some(said) = &file.requirements {
        let path = dir.join(said);
        return fs::metadata(&path).map(|_| Some(path.clone())).map_err(Error::file(path));
    }
    let python = !matches!(kind, Kind::Runtime(r) if !r.starts_with("python"));
    let path = dir.join("requirements.txt");
    Ok((python && path.is_file()).then_some(path))
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

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("app-").tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn check(files: &[(&str, &str)], expected: Result<(&str, Kind), &str>) {
        let dir = folder(files);
        match (App::read(dir.path(), Some("f")), expected) {
            (Ok(app), Ok((handler, kind))) => {
                assert_eq!((app.handler.as_str(), app.kind), (handler, kind), "{files:?}");
            }
            (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e} should say {part}"),
            (got, expected) => panic!("{files:?}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn finds_the_handler() {
        let python = || Kind::AnyPython;
        check(&[("app.py", "def handler(event, context):\n  pass\n")], Ok(("app.handler", python())));
        check(
            &[("lambda_function.py", "import x\ndef lambda_handler(e, c): pass")],
            Ok(("lambda_function.lambda_handler", python())),
        );
        check(&[("main.py", "def main (e, c): pass")], Ok(("main.main", python())));
        check(&[("app.py", "handler = make()\n")], Ok(("app.handler", python())));
        check(&[("app.py", "x = 1\n"), ("handler.py", "def handler(e, c): pass")], Ok(("handler.handler", python())));
        check(
            &[("app.py", "    def handler(e, c): pass\ndef handler2(): pass\nhandler == 1\n")],
            Err("no function found"),
        );
        check(&[], Err("no function found"));
    }

    #[test]
    fn a_bootstrap_must_be_executable() {
        check(&[("bootstrap", "#!/bin/sh\n")], Err("not executable"));
        let dir = folder(&[("bootstrap", "#!/bin/sh\n")]);
        let path = dir.path().join("bootstrap");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let app = App::read(dir.path(), Some("f")).unwrap();
        assert_eq!((app.kind, app.handler.as_str()), (Kind::Runtime(PROVIDED.into()), "bootstrap"));
    }

    #[test]
    fn the_file_says_it_all() {
        let toml = "name = 'n'\nhandler = 'a.b'\nruntime = 'python3.12'\nmemory = '1 GiB'\ntimeout = 10\n\
                    requirements = 'deps.txt'\n[environment]\nA = 'b'\n";
        let dir = folder(&[("flint.toml", toml), ("deps.txt", "")]);
        let app = App::read(dir.path(), None).unwrap();
        assert_eq!((app.name.as_str(), app.memory_mb, app.timeout_s), ("n", 1024, 10));
        assert_eq!(app.environment["A"], "b");
        assert!(app.requirements.unwrap().ends_with("deps.txt"));
    }

    #[test]
    fn a_wrong_file_is_refused_by_line() {
        check(&[("flint.toml", "handler = 'a.b'\ncolour = 1\n")], Err("line 2: unknown field `colour`"));
        check(&[("flint.toml", "timeout = '0 s'\n")], Err("1 to 900 s"));
        check(&[("flint.toml", "memory = 64\n")], Err("128 to 10240 MiB"));
        check(&[("flint.toml", "[")], Err("flint.toml"));
        check(&[("flint.toml", "handler='a.b'\nrequirements = 'no.txt'")], Err("no.txt"));
    }

    #[test]
    fn names_come_from_the_folder() {
        let dir = folder(&[]);
        let sub = dir.path().join("my app (1)");
        fs::create_dir(&sub).unwrap();
        assert_eq!(App::name_in(&sub).unwrap(), "my-app--1");
        assert!(App::read(&sub, Some("no/good")).is_err());
        assert!(!App::is_in(&sub));
    }
}
