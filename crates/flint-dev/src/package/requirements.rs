//! Python requirements: installed by pip into a folder of their own, kept by the hash of what was asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Error;
use crate::python::Interpreter;

/// Changes when the way of installing does, so that older folders are not taken for new ones.
const RECIPE: &str = "2";
/// How many installed folders an application keeps: to go back to yesterday's requirements costs nothing.
const KEPT: usize = 4;
/// An installation that is not finished after this long was broken off.
const LEFT_BEHIND: std::time::Duration = std::time::Duration::from_secs(3600);

/// Installed requirements: in the application's cache, or in a folder that goes away with this.
#[derive(Debug)]
pub enum Installed {
    Cached(PathBuf),
    Temporary(TempDir),
}

impl Installed {
    pub fn path(&self) -> &Path {
        match self {
            Installed::Cached(path) => path,
            Installed::Temporary(dir) => dir.path(),
        }
    }
}

/// Installs `file` with `interpreter`, or finds it installed under `APP/.flint/cache/python`.
///
/// What depends on more than the file's text (local paths, editable installs) is installed each time. So is
/// everything if the cache cannot be written.
///
/// Errors: [`Error::Requirements`] with the end of what pip said.
pub fn installed(app_dir: &Path, file: &Path, interpreter: &Interpreter) -> Result<Installed, Error> {
    let mut text = String::new();
    let repeatable = gather(file, &mut text, 0)?;
    if !text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        return tempfile::tempdir().map(Installed::Temporary).map_err(Error::file(file));
    }
    let cache = app_dir.join(".flint").join("cache").join("python");
    if !repeatable || fs::create_dir_all(&cache).is_err() {
        let dir = tempfile::tempdir().map_err(Error::file(file))?;
        install(file, dir.path(), interpreter)?;
        return Ok(Installed::Temporary(dir));
    }
    let key = Sha256::digest(format!("{RECIPE}\n{}\n{text}", interpreter.tag));
    let ready = cache.join(&hex::encode(key)[..32]);
    if ready.is_dir() {
        // Its time is when it was last of use.
        if let Ok(dir) = fs::File::open(&ready) {
            drop(dir.set_times(fs::FileTimes::new().set_modified(now_of(&cache)?)));
        }
        return Ok(Installed::Cached(ready));
    }
    // Filled beside its place and renamed: a broken-off installation is never taken for a whole one.
    let work = tempfile::Builder::new().prefix(".new-").tempdir_in(&cache).map_err(Error::file(&cache))?;
    install(file, work.path(), interpreter)?;
    match fs::rename(work.path(), &ready) {
        Ok(()) => drop(work.keep()),
        // Another deploy of the same app was quicker.
        Err(_) if ready.is_dir() => {}
        Err(e) => return Err(Error::File { path: ready, source: e }),
    }
    prune(&cache, &ready);
    Ok(Installed::Cached(ready))
}

/// The file system's idea of now, from a file made in `dir`.
fn now_of(dir: &Path) -> Result<std::time::SystemTime, Error> {
    tempfile::tempfile_in(dir).and_then(|f| f.metadata()?.modified()).map_err(Error::file(dir))
}

/// Collects the text of a requirements file and of those that it includes. `false` if the result of installing
/// depends on something else of this machine.
fn gather(file: &Path, text: &mut String, depth: usize) -> Result<bool, Error> {
    let content = fs::read_to_string(file).map_err(Error::file(file))?;
    let mut repeatable = depth < 10;
    for line in content.lines().map(str::trim) {
        text.push_str(line);
        text.push('\n');
        let option =
            |names: &[&str]| names.iter().find_map(|n| line.strip_prefix(n)).map(|r| r.trim_start_matches(['=', ' ']));
        if let Some(included) = option(&["-r ", "--requirement", "-c ", "--constraint"]) {
            let path = file.parent().unwrap_or(Path::new(".")).join(included.trim());
            repeatable &= depth < 10 && gather(&path, text, depth + 1)?;
        }
        let local =
            line.starts_with(['.', '/']) || line.contains("file:") || line.contains("@ .") || line.contains("@ /");
        repeatable &= !local && option(&["-e", "--editable", "-f", "--find-links"]).is_none();
    }
    Ok(repeatable)
}

fn install(file: &Path, target: &Path, interpreter: &Interpreter) -> Result<(), Error> {
    let failed = |reason: String| Error::Requirements { requirements: file.to_owned(), reason };
    let run = |what: &str, command: &mut Command| -> Result<(), Error> {
        let output = command.stdin(Stdio::null()).output().map_err(|e: io::Error| failed(format!("{what}: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty() && !l.contains("[notice]")).collect();
        let errors: Vec<&str> = lines.iter().copied().filter(|l| l.starts_with("ERROR")).collect();
        if !errors.is_empty() {
            lines = errors;
        }
        let last = lines[lines.len().saturating_sub(2)..].join("; ");
        Err(failed(if last.is_empty() { format!("{what} ended with {}", output.status) } else { last }))
    };
    let dir = file.parent().unwrap_or(Path::new("."));
    let mut pip = Command::new(&interpreter.binary);
    pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--target"]).arg(target).arg("-r").arg(file);
    pip.current_dir(dir).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
    pip.env("PIP_ROOT_USER_ACTION", "ignore").env("PYTHONNOUSERSITE", "1");
    run("pip", &mut pip)?;
    // Compiled now, once: a function cannot write beside its code, so that every cold start would compile again.
    // Unchecked-hash files hold no times, and are not compared with their sources.
    let mut compile = Command::new(&interpreter.binary);
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-d", "/var/task", "."]);
    compile.current_dir(target);
    // Some packages ship files that are no Python of this version; what cannot be compiled stays as it is.
    drop(compile.stdin(Stdio::null()).output());
    Ok(())
}

/// Removes the installed folders that were not of use for longest, and what broken-off installations left.
fn prune(cache: &Path, current: &Path) {
    let now = fs::metadata(current).and_then(|m| m.modified());
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let Ok(time) = entry.metadata().and_then(|m| m.modified()) else { continue };
        let unfinished = entry.file_name().to_string_lossy().starts_with('.');
        if unfinished {
            let age = now.as_ref().ok().and_then(|now| now.duration_since(time).ok()).unwrap_or_default();
            if age > LEFT_BEHIND {
                drop(fs::remove_dir_all(entry.path()));
            }
        } else if entry.path() != current {
            found.push((time, entry.path()));
        }
    }
    found.sort();
    let surplus = (found.len() + 1).saturating_sub(KEPT);
    for (_, path) in found.into_iter().take(surplus) {
        // Left for the next time if it cannot be removed now.
        drop(fs::remove_dir_all(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interpreter that writes down its arguments and installs one file.
    fn fake(dir: &Path, script: &str) -> Interpreter {
        let binary = dir.join("python");
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Interpreter { binary, tag: "t".into() }
    }

    const INSTALLS: &str = r#"[ "$2" = pip ] || exit 0
echo run >> "$(dirname "$0")/runs"
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/pkg"; echo x > "$2/pkg/__init__.py""#;

    fn runs(dir: &Path) -> usize {
        fs::read_to_string(dir.join("runs")).unwrap_or_default().lines().count()
    }

    #[test]
    fn the_same_requirements_are_installed_once() {
        let (tools, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let python = fake(tools.path(), INSTALLS);
        let file = app.path().join("requirements.txt");
        fs::write(&file, "pillow==11\n").unwrap();
        let one = installed(app.path(), &file, &python).unwrap();
        let two = installed(app.path(), &file, &python).unwrap();
        assert_eq!((one.path(), runs(tools.path())), (two.path(), 1));
        assert!(one.path().join("pkg/__init__.py").is_file());
        fs::write(&file, "pillow==12\n").unwrap();
        assert_ne!(installed(app.path(), &file, &python).unwrap().path(), one.path());
        for n in 0..6 {
            fs::write(&file, format!("pillow=={n}\n")).unwrap();
            installed(app.path(), &file, &python).unwrap();
        }
        assert_eq!(fs::read_dir(app.path().join(".flint/cache/python")).unwrap().count(), KEPT);
    }

    #[test]
    fn an_included_file_counts() {
        let (tools, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let python = fake(tools.path(), INSTALLS);
        let file = app.path().join("requirements.txt");
        fs::write(&file, "-r more.txt\n").unwrap();
        fs::write(app.path().join("more.txt"), "a\n").unwrap();
        let one = installed(app.path(), &file, &python).unwrap();
        fs::write(app.path().join("more.txt"), "b\n").unwrap();
        assert_ne!(one.path(), installed(app.path(), &file, &python).unwrap().path());
        fs::write(&file, "./local\n").unwrap();
        assert!(matches!(installed(app.path(), &file, &python).unwrap(), Installed::Temporary(_)));
        fs::write(&file, "-r requirements.txt\n").unwrap();
        installed(app.path(), &file, &python).unwrap();
    }

    #[test]
    fn a_failure_says_what_pip_said_and_leaves_nothing() {
        let (tools, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let python =
            fake(tools.path(), "echo noise >&2; echo 'ERROR: No matching distribution found for nope' >&2; exit 1");
        let file = app.path().join("requirements.txt");
        fs::write(&file, "nope\n").unwrap();
        let error = installed(app.path(), &file, &python).unwrap_err().to_string();
        assert!(error.ends_with("failed: ERROR: No matching distribution found for nope"), "{error}");
        assert_eq!(fs::read_dir(app.path().join(".flint/cache/python")).unwrap().count(), 0);
    }

    #[test]
    fn comments_alone_install_nothing() {
        let (tools, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let python = fake(tools.path(), INSTALLS);
        let file = app.path().join("requirements.txt");
        fs::write(&file, "# nothing\n\n").unwrap();
        installed(app.path(), &file, &python).unwrap();
        assert_eq!(runs(tools.path()), 0);
    }
}
