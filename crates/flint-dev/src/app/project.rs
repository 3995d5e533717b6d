//! Several functions: from the folders that were named, from `[functions.NAME]` tables in a folder's `flint.toml`, from a
//! `template.yaml`, or from the folders below one that holds no function itself.
//!
//! ```toml
//! runtime = "python3.13"        # holds for all
//! [functions.orders]            # in the folder orders, or else beside this file
//! timeout = "10 s"
//! [functions.mails]
//! dir = "services/mail"
//! handler = "send.handler"
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{App, detect, file, folder, template};
use crate::Error;
use crate::package::is_left_out;

/// Names that a template may have.
const TEMPLATES: [&str; 2] = ["template.yaml", "template.yml"];

/// The functions of some folders.
#[derive(Clone, Debug)]
pub struct Project {
    /// What was named: folders, or template files. Never empty.
    roots: Vec<PathBuf>,
    name: Option<String>,
    pub apps: Vec<App>,
    /// Folders beside functions that look like one and are none, each in a line that says why.
    pub skipped: Vec<String>,
}

impl Project {
    /// Reads folders and template files. `name` is for a single function.
    ///
    /// Errors: as of [`App::read`]; [`Error::App`] if two functions have one name.
    pub fn read(roots: Vec<PathBuf>, name: Option<String>) -> Result<Project, Error> {
        let mut apps: Vec<App> = Vec::new();
        let mut skipped = Vec::new();
        for root in &roots {
            apps.extend(read(root, name.as_deref(), &mut skipped)?);
        }
        if let Some(name) = name.as_ref().filter(|_| apps.len() > 1) {
            return Err(Error::App {
                dir: roots[0].clone(),
                reason: format!("holds {} functions: they cannot all be called {name}", apps.len()),
                hint: "leave out --name, or name one function's folder".into(),
            });
        }
        let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
        for app in &apps {
            if let Some(other) = seen.insert(&app.name, &app.dir) {
                let reason = format!("is the second function that is called {}, after {}", app.name, other.display());
                let hint = "say a `name` in the flint.toml of one of them".to_owned();
                return Err(Error::App { dir: app.dir.clone(), reason, hint });
            }
        }
        Ok(Project { roots, name, apps, skipped })
    }

    /// Reads the same folders once more.
    pub fn again(&self) -> Result<Project, Error> {
        Project::read(self.roots.clone(), self.name.clone())
    }

    /// Folders whose own files (not those below) say which functions there are.
    pub fn root_folders(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| if root.is_dir() { root } else { root.parent().unwrap_or(root) }).map(|dir| {
            // The parent of a bare file name is the current folder.
            if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
        })
    }

    /// Whether a folder holds anything that [`Project::read`] would take for functions.
    pub fn is_in(dir: &Path) -> bool {
        App::is_in(dir) || template_in(dir).is_some() || !below(dir).is_empty()
    }
}

fn read(root: &Path, name: Option<&str>, skipped: &mut Vec<String>) -> Result<Vec<App>, Error> {
    if root.is_file() {
        let is_template = |end: &std::ffi::OsStr| ["yaml", "yml", "json", "template"].iter().any(|known| end == *known);
        if root.extension().is_some_and(is_template) {
            return template::read(root);
        }
        let folder = root.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let hint = format!("give the folder: {}", folder.display());
        return Err(Error::App { dir: root.to_owned(), reason: "that is a file".into(), hint });
    }
    let dir = folder(root)?;
    if dir.join("flint.toml").is_file() {
        let file = file::read(&dir)?;
        if file.functions.is_empty() {
            return Ok(vec![App::new(&dir, file.said(), name)?]);
        }
        let one = |(key, table): (&String, &file::Table)| {
            let own = dir.join(key);
            let place = match &table.dir {
                Some(said) => dir.join(said),
                None if own.is_dir() => own,
                None => dir.clone(),
            };
            App::new(&place, file.said_of(key, table), None)
        };
        return file.functions.iter().map(one).collect();
    }
    if let Some(path) = template_in(&dir) {
        return template::read(&path);
    }
    if detect::is_in(&dir) {
        return Ok(vec![App::read(&dir, name)?]);
    }
    let folders = below(&dir);
    if folders.is_empty() {
        // Says what was expected in it.
        return Ok(vec![App::read(&dir, name)?]);
    }
    skipped.extend(folders_in(&dir).filter(|dir| !folders.contains(dir)).filter_map(|dir| why_skipped(&dir)));
    folders.iter().map(|dir| App::read(dir, name)).collect()
}

fn why_skipped(dir: &Path) -> Option<String> {
    let (reason, handler) = detect::near_miss(dir)?;
    let name = dir.file_name()?.to_string_lossy();
    Some(format!("skipped {name}: {reason}; say {handler} in {name}/flint.toml"))
}

fn template_in(dir: &Path) -> Option<PathBuf> {
    TEMPLATES.iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

/// The folders right below one that hold functions, by name.
fn below(dir: &Path) -> Vec<PathBuf> {
    folders_in(dir).filter(|dir| App::is_in(dir)).collect()
}

/// The folders right below one that may hold a person's own files, by name.
fn folders_in(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|e| e.path().is_dir() && !is_left_out(&e.file_name().to_string_lossy()));
    let mut found: Vec<PathBuf> = folders.map(|e| e.path()).collect();
    found.sort();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = "def handler(e, c): pass\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("apps-").tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Result<Vec<String>, String> {
        let project = Project::read(vec![dir.to_owned()], None).map_err(|e| e.to_string())?;
        Ok(project.apps.into_iter().map(|a| format!("{} {}", a.name, a.handler)).collect())
    }

    #[test]
    fn folders_below_are_functions() {
        let dir = tree(&[
            ("one/app.py", HANDLER),
            ("two/index.mjs", "export const handler = 1"),
            ("docs/readme.md", ""),
            ("node_modules/x/index.js", "exports.handler = 1"),
            (".venv/app.py", HANDLER),
        ]);
        assert_eq!(names(dir.path()).unwrap(), ["one app.handler", "two index.handler"]);
        assert!(Project::is_in(dir.path()));
        let error = Project::read(vec![dir.path().to_owned()], Some("x".into())).unwrap_err();
        assert!(error.to_string().contains("2 functions"), "{error}");
        assert!(names(&dir.path().join("docs")).unwrap_err().contains("no function found"));
    }

    #[test]
    fn a_folder_that_looks_like_a_function_is_not_left_out_in_silence() {
        let dir = tree(&[
            ("good/app.py", HANDLER),
            ("badname/app.py", "def go(e, c): pass\n"),
            ("docs/readme.md", ""),
            ("lib/util.py", "def help(): pass\n"),
        ]);
        let project = Project::read(vec![dir.path().to_owned()], None).unwrap();
        assert_eq!(
            project.skipped,
            ["skipped badname: app.py defines none of handler, lambda_handler, main; say handler = \"app.NAME\" in \
              badname/flint.toml"]
        );
        let file = dir.path().join("good/app.py");
        let Error::App { reason, hint, .. } = Project::read(vec![file], None).unwrap_err() else { panic!() };
        assert_eq!((reason.as_str(), hint.ends_with("/good")), ("that is a file", true), "{hint}");
    }

    #[test]
    fn tables_are_functions() {
        let toml = "memory = 256\n[environment]\nA = '1'\nB = '1'\n[functions.one]\n[functions.two]\ndir = 'shared'\n\
                    handler = 'x.go'\nmemory = 512\nenvironment = { B = '2' }\n";
        let dir = tree(&[("flint.toml", toml), ("one/app.py", HANDLER), ("shared/x.py", "")]);
        assert_eq!(names(dir.path()).unwrap(), ["one app.handler", "two x.go"]);
        let apps = Project::read(vec![dir.path().to_owned()], None).unwrap().apps;
        assert_eq!((apps[0].memory_mb, apps[1].memory_mb), (256, 512));
        assert_eq!((apps[0].environment["B"].as_str(), apps[1].environment["B"].as_str()), ("1", "2"));
        assert!(App::read(dir.path(), None).unwrap_err().to_string().contains("several functions: one, two"));

        let wrong = tree(&[("flint.toml", "handler = 'a.b'\n[functions.one]\n")]);
        assert!(names(wrong.path()).unwrap_err().contains("`handler` belongs into"));
    }

    #[test]
    fn two_functions_of_one_name_are_refused() {
        let dir = tree(&[("a/f/app.py", HANDLER), ("b/f/app.py", HANDLER)]);
        let error = Project::read(vec![dir.path().join("a/f"), dir.path().join("b/f")], None).unwrap_err();
        assert!(error.to_string().contains("second function that is called f"), "{error}");
    }
}
