//! Python requirements: installed by pip into a folder of their own, kept by the hash of what was asked for.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::cache::{self, Installed};
use crate::Error;
use crate::python::Interpreter;
use crate::tool;

/// Changes when the way of installing does, so that older folders are not taken for new ones.
const RECIPE: &str = "2";
/// Installs `file` with `interpreter`, or finds it installed under `APP/.flint-cache/python`.
///
/// What depends on more than the file's text (local paths, editable installs) is installed each time. So is
/// everything if the cache cannot be written.
///
/// Errors: [`Error::Requirements`] with the end of what pip said.
pub fn installed(app_dir: &Path, file: &Path, interpreter: &Interpreter) -> Result<Installed, Error> {
    let mut text = String::new();
    let repeatable = gather(file, &mut text, 0)?;
    if !text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        return Installed::empty(file);
    }
    let key = repeatable.then(|| format!("{RECIPE}\n{}\n{text}", interpreter.tag));
    cache::installed(app_dir, "python", key, |dir| install(file, dir, interpreter))
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
        let output = tool::output(command).map_err(|e: io::Error| failed(format!("{what}: {e}")))?;
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
    drop(tool::output(&mut compile));
    Ok(())
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
        assert_eq!(fs::read_dir(app.path().join(".flint-cache/python")).unwrap().count(), 4);
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
        assert_eq!(fs::read_dir(app.path().join(".flint-cache/python")).unwrap().count(), 0);
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
