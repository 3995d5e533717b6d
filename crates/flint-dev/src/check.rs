//! Whether the handler's file can be read by its language: told before every call fails.
//!
//! The interpreters of this machine are asked. Where none of the right version answers, nothing is said: the server's own
//! will say it.

use std::path::Path;
use std::process::Command;

use crate::python::Search;
use crate::{App, tool};

/// Says `FILE:LINE: MESSAGE` on standard output if the file, its first argument, is no Python, and ends with 3.
const PYTHON: &str = "import sys
try:
    compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec', dont_inherit=True)
except SyntaxError as e:
    print('%s: %s' % (e.lineno, e.msg))
    sys.exit(3)";
/// Endings of a Node.js module, in the order in which the runtime looks for them.
const NODE_ENDINGS: [&str; 3] = ["js", "mjs", "cjs"];

/// What is wrong with the file of the handler, such as `app.py:3: invalid syntax`; `None` if nothing is, or nobody could tell.
///
/// Blocks: runs an interpreter.
pub(crate) fn syntax(app: &App, runtime: &str, search: &Search) -> Option<String> {
    let at = app.handler.rfind('/').map_or(0, |slash| slash + 1);
    let (path, found) = if runtime.starts_with("python") {
        let module = app.handler.rsplit_once('.')?.0.replace('.', "/");
        let path = app.dir.join(format!("{module}.py"));
        let found = search.candidates(runtime).iter().find_map(|binary| python(binary, &path))?;
        (path, found)
    } else if runtime.starts_with("nodejs") {
        let stem = &app.handler[..at + app.handler[at..].find('.')?];
        let path = NODE_ENDINGS.iter().map(|end| app.dir.join(format!("{stem}.{end}"))).find(|p| p.is_file())?;
        let found = node(&search.program("node")?, &path)?;
        (path, found)
    } else {
        return None;
    };
    let name = path.strip_prefix(&app.dir).unwrap_or(&path).display().to_string();
    found.map(|fault| format!("{name}:{fault}"))
}

/// `Some(None)`: nothing is wrong. `None`: this one could not tell.
fn python(binary: &Path, file: &Path) -> Option<Option<String>> {
    // Isolated (-I) and without site packages (-S): what lies in the current folder must not run, and nothing is needed.
    let output = tool::output(Command::new(binary).args(["-I", "-S", "-c", PYTHON]).arg(file)).ok()?;
    match output.status.code()? {
        0 => Some(None),
        3 => Some(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        _ => None,
    }
}

/// As [`python`]. Node.js says where in the first line, and what in the one that begins with `SyntaxError`.
fn node(binary: &Path, file: &Path) -> Option<Option<String>> {
    let output = tool::output(Command::new(binary).arg("--check").arg(file)).ok()?;
    if output.status.success() {
        return Some(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = said.lines().find_map(|line| line.strip_prefix("SyntaxError: "))?;
    let line = said.lines().next()?.rsplit_once(':')?.1.parse::<u32>().ok()?;
    Some(Some(format!("{line}: {what}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(dir: &Path, name: &str, script: &str) {
        let file = dir.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn check(tools: &[(&str, &str)], file: &str, handler: &str, runtime: &str, expected: Option<&str>) {
        let (bin, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tools.iter().for_each(|(name, script)| program(bin.path(), name, script));
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("flint.toml"), format!("handler = '{handler}'\n")).unwrap();
        let app = App::read(dir.path(), Some("f")).unwrap();
        let search = Search { path: vec![bin.path().to_owned()], versions: vec![] };
        assert_eq!(syntax(&app, runtime, &search).as_deref(), expected, "{handler}");
    }

    #[test]
    fn what_an_interpreter_says_is_told_with_its_place() {
        let python = [("python3.12", "echo '3: invalid syntax'; exit 3")];
        check(&python, "app.py", "app.handler", "python3.12", Some("app.py:3: invalid syntax"));
        check(&python, "a/b.py", "a.b.handler", "python3.12", Some("a/b.py:3: invalid syntax"));
        let node = [("node", "printf '%s:2\\n  x\\n\\nSyntaxError: Unexpected token\\n' \"$2\" >&2; exit 1")];
        check(&node, "src/i.mjs", "src/i.handler", "nodejs20.x", Some("src/i.mjs:2: Unexpected token"));
    }

    #[test]
    fn who_cannot_tell_is_not_believed() {
        for script in ["exit 0", "exit 127", "exit 1"] {
            check(&[("python3.12", script)], "app.py", "app.handler", "python3.12", None);
            check(&[("node", script)], "i.js", "i.handler", "nodejs20.x", None);
        }
        check(&[], "app.py", "app.handler", "python3.12", None);
        check(&[], "i.js", "i.handler", "nodejs20.x", None);
        check(&[], "bootstrap", "bootstrap", "provided.al2023", None);
    }
}
