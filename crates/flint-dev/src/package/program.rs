//! Programs: built by their language's own tool, then the only file of the package, as `bootstrap`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::run;
use crate::Error;
use crate::python::Search;

/// A program, and the folder that holds it until it is packaged, where it is not cargo's.
#[derive(Debug)]
pub(super) struct Program {
    pub path: PathBuf,
    _folder: Option<TempDir>,
}

/// `cargo build --release`. Without a name the package must have one binary.
///
/// Errors: [`Error::NoTool`], [`Error::Build`] with the compiler's words, [`Error::App`] if it is not clear which binary.
pub(super) fn cargo(dir: &Path, binary: Option<&str>, search: &Search) -> Result<Program, Error> {
    let cargo = search.program("cargo").ok_or_else(|| Error::NoTool {
        tool: "cargo",
        hint: "install Rust from https://rustup.rs, or put a built program named `bootstrap` into the folder".into(),
    })?;
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--message-format=json-render-diagnostics"]).current_dir(dir);
    if let Some(binary) = binary {
        command.args(["--bin", binary]);
    }
    let said = run(&mut command, "cargo build")?;
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for message in said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let kinds = message["target"]["kind"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !kinds.iter().any(|kind| kind == "bin") {
            continue;
        }
        if let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str()) {
            found.push((name.to_owned(), path.into()));
        }
    }
    let app = |reason: String, hint: &str| Error::App { dir: dir.to_owned(), reason, hint: hint.into() };
    match found.len() {
        1 => Ok(Program { path: found.remove(0).1, _folder: None }),
        0 => Err(app("its Cargo package has no program".into(), "add src/main.rs: a function is a program")),
        _ => {
            let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
            let reason = format!("its Cargo package has several programs: {}", names.join(", "));
            Err(app(reason, "say which one in flint.toml: binary = \"NAME\""))
        }
    }
}

/// `go build`, without C so that the program needs nothing of the system it runs on.
///
/// Errors: [`Error::NoTool`], [`Error::Build`] with the compiler's words.
pub(super) fn go(dir: &Path, search: &Search) -> Result<Program, Error> {
    let go = search.program("go").ok_or_else(|| Error::NoTool {
        tool: "go",
        hint: "install Go from https://go.dev/dl, or put a built program named `bootstrap` into the folder".into(),
    })?;
    let folder = tempfile::tempdir().map_err(Error::file(dir))?;
    let path = folder.path().join("bootstrap");
    let mut command = Command::new(go);
    // The tag leaves out what only the retired go1.x runtime needs.
    command.args(["build", "-trimpath", "-tags", "lambda.norpc", "-o"]).arg(&path).arg(".").current_dir(dir);
    command.env("GOOS", "linux").env("GOARCH", "amd64").env("CGO_ENABLED", "0");
    run(&mut command, "go build")?;
    fs::metadata(&path).map_err(Error::file(&path))?;
    Ok(Program { path, _folder: Some(folder) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, script: &str) -> (TempDir, Search) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let search = Search { path: vec![dir.path().to_owned()], versions: vec![] };
        (dir, search)
    }

    fn artifact(name: &str) -> String {
        format!(r#"echo '{{"target":{{"kind":["bin"],"name":"{name}"}},"executable":"/x/{name}"}}'"#)
    }

    #[test]
    fn cargos_only_program_is_taken() {
        let app = tempfile::tempdir().unwrap();
        let library = r#"echo '{"target":{"kind":["lib"],"name":"l"},"executable":null}'"#;
        let (_tools, search) = tool("cargo", &format!("{library}\n{}", artifact("api")));
        assert_eq!(cargo(app.path(), None, &search).unwrap().path, Path::new("/x/api"));
        let (_tools, search) = tool("cargo", &format!("{}\n{}", artifact("a"), artifact("b")));
        assert!(cargo(app.path(), None, &search).unwrap_err().to_string().contains("several programs: a, b"));
        let (_tools, search) = tool("cargo", library);
        assert!(cargo(app.path(), None, &search).unwrap_err().to_string().contains("no program"));
    }

    #[test]
    fn a_compilers_words_are_kept() {
        let app = tempfile::tempdir().unwrap();
        let (_tools, search) = tool("cargo", "echo 'error: expected `;`' >&2; echo ' --> src/main.rs:1' >&2; exit 101");
        match cargo(app.path(), None, &search).unwrap_err() {
            Error::Build { reason, output, .. } => {
                assert_eq!(reason, "error: expected `;`");
                assert!(output.contains("src/main.rs:1"));
            }
            other => panic!("{other}"),
        }
        assert!(matches!(cargo(app.path(), None, &Search::default()), Err(Error::NoTool { tool: "cargo", .. })));
    }

    #[test]
    fn gos_program_is_taken() {
        let app = tempfile::tempdir().unwrap();
        let (_tools, search) = tool("go", r#"[ "$GOOS$CGO_ENABLED" = linux0 ] || exit 1; echo elf > "$6""#);
        let program = go(app.path(), &search).unwrap();
        assert_eq!(fs::read_to_string(&program.path).unwrap(), "elf\n");
        assert!(matches!(go(app.path(), &Search::default()), Err(Error::NoTool { tool: "go", .. })));
    }
}
