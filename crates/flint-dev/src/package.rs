//! A folder becomes a deployment package: the bytes of a zip archive that depend on nothing but the files' contents,
//! so that unchanged code is recognised by its hash and not deployed again.

mod archive;
mod cache;
mod npm;
mod program;
mod requirements;
mod tree;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::app::Build;
use crate::python::{Interpreter, Search};
use crate::{App, Error, tool};

pub use tree::{Entry, Kind, Tree, is_left_out};

/// The reference's limits of a package uploaded directly, zipped and unzipped.
///
/// Reference: Lambda Developer Guide, "Lambda quotas".
pub const ZIPPED_BYTES_MAX: u64 = 50 * 1024 * 1024;
pub const UNZIPPED_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// A deployment package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub zip: Vec<u8>,
    /// As in `CodeSha256`.
    pub sha256_base64: String,
    pub files: usize,
    pub unzipped_bytes: u64,
}

/// What a package may be built with.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// The Python that installs requirements.
    pub interpreter: Option<Interpreter>,
    /// Where npm, cargo and go are looked for.
    pub search: Search,
}

/// Packages the app, after building it or installing what it requires.
///
/// Blocks: reads files and runs tools.
///
/// Errors: [`Error::Requirements`], [`Error::Build`], [`Error::NoTool`], [`Error::Package`] if it breaks a limit of the
/// service, [`Error::File`].
pub fn build(app: &App, tools: &Tools) -> Result<Package, Error> {
    let mut tree = Tree::new();
    // What is built or installed is held until the archive is written: it may live in a temporary folder.
    match (&app.build, &tools.interpreter) {
        (Build::Pip(file), Some(interpreter)) => {
            let installed = requirements::installed(&app.dir, file, interpreter)?;
            tree.add_installed(installed.path())?;
            // The app's own files come last: they win over a dependency's file of the same name.
            tree.add_app(&app.dir, &app.exclude)?;
            archive::zip(&tree, archive::compressed(&installed)?)
        }
        (Build::Npm, _) => match npm::installed(&app.dir, &tools.search)? {
            Some(installed) => {
                tree.add_app(&app.dir, &app.exclude)?;
                tree.remove("node_modules");
                tree.add_installed(installed.path())?;
                archive::zip(&tree, archive::compressed(&installed)?)
            }
            None => {
                tree.add_app(&app.dir, &app.exclude)?;
                archive::zip(&tree, None)
            }
        },
        (Build::Cargo { binary }, _) => program(program::cargo(&app.dir, binary.as_deref(), &tools.search)?),
        (Build::Go, _) => program(program::go(&app.dir, &tools.search)?),
        (Build::AsIs | Build::Pip(_), _) => {
            tree.add_app(&app.dir, &app.exclude)?;
            archive::zip(&tree, None)
        }
    }
}

fn program(program: program::Program) -> Result<Package, Error> {
    let mut tree = Tree::new();
    tree.add_program(program.path.clone());
    archive::zip(&tree, None)
}

/// Runs a tool to its end; what it said on standard output.
fn run(command: &mut Command, what: &str) -> Result<String, Error> {
    let failed = |reason: String, output: String| Error::Build { what: what.to_owned(), reason, output };
    let output = tool::output(command).map_err(|e| failed(e.to_string(), String::new()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_error = |line: &&str| line.contains("error") || line.contains(".go:");
    let line = said.lines().find(is_error).or_else(|| said.lines().last());
    Err(failed(line.map_or_else(|| format!("it ended with {}", output.status), str::to_owned), said))
}

/// Whether a path can be executed by anyone.
fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o111 != 0
}

fn read_dir_sorted(dir: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let mut entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(Error::file(dir))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn app(dir: &Path) -> App {
        write(&dir.join("app.py"), "def handler(e, c): return e\n");
        App::read(dir, Some("f")).unwrap()
    }

    #[test]
    fn the_bytes_depend_on_the_contents_alone() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &two] {
            write(&dir.path().join("lib/b.py"), "b");
            write(&dir.path().join("lib/a.py"), "a");
        }
        let first = build(&app(one.path()), &Tools::default()).unwrap();
        let file = fs::File::open(two.path().join("lib/a.py")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
        fs::set_permissions(two.path().join("lib/a.py"), fs::Permissions::from_mode(0o600)).unwrap();
        let second = build(&app(two.path()), &Tools::default()).unwrap();
        assert_eq!(first, second);
        write(&two.path().join("lib/a.py"), "changed");
        assert_ne!(first.sha256_base64, build(&app(two.path()), &Tools::default()).unwrap().sha256_base64);
    }

    #[test]
    fn holds_what_it_should_with_its_modes() {
        let dir = tempfile::tempdir().unwrap();
        for junk in
            [".git/config", "__pycache__/a.pyc", ".venv/x", ".flint/log", "env/pyvenv.cfg", "a/__pycache__/b.pyc"]
        {
            write(&dir.path().join(junk), "junk");
        }
        write(&dir.path().join("run.sh"), "#!/bin/sh\n");
        fs::set_permissions(dir.path().join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("run.sh", dir.path().join("link")).unwrap();
        let package = build(&app(dir.path()), &Tools::default()).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(package.zip)).unwrap();
        let mut seen = Vec::new();
        for i in 0..archive.len() {
            let mut file = archive.by_index(i).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            seen.push((file.name().unwrap().into_owned(), file.unix_mode().unwrap() & 0o777, file.is_symlink()));
        }
        let expected = [("app.py", 0o644, false), ("link", 0o777, true), ("run.sh", 0o755, false)];
        assert_eq!(seen, expected.map(|(n, m, l)| (n.to_owned(), m, l)));
    }

    #[test]
    fn what_is_excluded_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["photo.png", "img/deep.png", "docs/a", "run", "lib/run", "flint.toml"] {
            write(&dir.path().join(file), "");
        }
        write(&dir.path().join("flint.toml"), "exclude = ['*.png', 'docs/', '/run']\n");
        let package = build(&app(dir.path()), &Tools::default()).unwrap();
        let archive = zip::ZipArchive::new(Cursor::new(package.zip)).unwrap();
        assert_eq!(archive.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["app.py", "lib/run"]);
    }

    #[test]
    fn a_link_that_leaves_the_folder_is_refused() {
        for to in ["/etc/passwd", "../outside", "lib/../../outside"] {
            let dir = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(to, dir.path().join("link")).unwrap();
            let error = build(&app(dir.path()), &Tools::default()).unwrap_err();
            assert!(error.to_string().contains("leaves the folder"), "{error}");
        }
    }
}
