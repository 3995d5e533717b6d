//! What `package.json` names: installed by npm into a folder of its own, without what only development needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::cache::{self, Installed};
use super::run;
use crate::Error;
use crate::python::Search;

/// Changes when the way of installing does, so that older folders are not taken for new ones.
const RECIPE: &str = "1";
/// Files that npm reads.
const INPUTS: [&str; 4] = ["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"];

/// The folder with `node_modules` in it, or `None` if the app's own is to be taken: because nothing is required, or because
/// what is required lies elsewhere on this machine and only the app's own installation knows where.
///
/// Errors: [`Error::NoTool`] without npm; [`Error::Build`] with what npm said.
pub(super) fn installed(app_dir: &Path, search: &Search) -> Result<Option<Installed>, Error> {
    let path = app_dir.join("package.json");
    let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    let manifest: Value = serde_json::from_str(&text)
        .map_err(|e| Error::Settings { path: path.clone(), reason: format!("is not JSON: {e}") })?;
    let required = |key: &str| manifest.get(key).and_then(Value::as_object).into_iter().flatten();
    let mut wanted = required("dependencies").chain(required("optionalDependencies")).peekable();
    if wanted.peek().is_none() {
        return Ok(None);
    }
    let is_local = |version: &Value| {
        let version = version.as_str().unwrap_or_default();
        ["file:", "link:", "workspace:", "."].iter().any(|p| version.starts_with(p))
    };
    if wanted.any(|(_, version)| is_local(version)) {
        if app_dir.join("node_modules").is_dir() {
            return Ok(None);
        }
        return Err(Error::App {
            dir: app_dir.to_owned(),
            reason: "package.json requires folders of this machine, and there is no node_modules".into(),
            hint: format!("run npm install in {}", app_dir.display()),
        });
    }
    let npm = search.program("npm").ok_or_else(|| Error::NoTool {
        tool: "npm",
        hint: "install Node.js with npm; it installs the dependencies into the package".into(),
    })?;
    // Another npm, and with it another Node.js, may install other files.
    let mut key = format!("{RECIPE}\n{}\n", fs::canonicalize(&npm).unwrap_or_else(|_| npm.clone()).display());
    for name in INPUTS {
        if let Ok(text) = fs::read_to_string(app_dir.join(name)) {
            key.push_str(&format!("{name} {}\n{text}\n", text.len()));
        }
    }
    let install = |dir: &Path| {
        for name in INPUTS {
            let from = app_dir.join(name);
            if from.is_file() {
                fs::copy(&from, dir.join(name)).map_err(Error::file(from))?;
            }
        }
        let locked = INPUTS[1..3].iter().any(|name| dir.join(name).is_file());
        let mut command = Command::new(&npm);
        command.arg(if locked { "ci" } else { "install" });
        command.args(["--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(dir);
        run(&mut command, "npm")?;
        for name in INPUTS {
            drop(fs::remove_file(dir.join(name)));
        }
        Ok(())
    };
    cache::installed(app_dir, "node", Some(key), install).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NPM: &str = "#!/bin/sh\necho \"$1\" >> \"$(dirname \"$0\")/runs\"\n[ -f package.json ] || exit 1\n\
                       if grep -q broken package.json; then echo 'npm error 404 Not Found' >&2; exit 1; fi\n\
                       mkdir -p node_modules/dep && echo x > node_modules/dep/index.js\n";

    #[test]
    fn the_same_dependencies_are_installed_once() {
        let (tools, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let npm = tools.path().join("npm");
        fs::write(&npm, NPM).unwrap();
        fs::set_permissions(&npm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let search = Search { path: vec![tools.path().to_owned()], versions: vec![] };
        let say = |text: &str| fs::write(app.path().join("package.json"), text).unwrap();
        let runs = || fs::read_to_string(tools.path().join("runs")).unwrap_or_default();

        say(r#"{"devDependencies":{"x":"1"}}"#);
        assert!(installed(app.path(), &search).unwrap().is_none());
        say(r#"{"dependencies":{"x":"1"}}"#);
        let one = installed(app.path(), &search).unwrap().unwrap();
        let two = installed(app.path(), &search).unwrap().unwrap();
        assert_eq!((one.path(), runs().as_str()), (two.path(), "install\n"));
        assert!(one.path().join("node_modules/dep/index.js").is_file());
        assert!(!one.path().join("package.json").exists());
        fs::write(app.path().join("package-lock.json"), "{}").unwrap();
        assert_ne!(installed(app.path(), &search).unwrap().unwrap().path(), one.path());
        assert_eq!(runs(), "install\nci\n");

        say(r#"{"dependencies":{"broken":"1"}}"#);
        let error = installed(app.path(), &search).unwrap_err();
        assert_eq!(error.to_string(), "npm failed: npm error 404 Not Found");
        say(r#"{"dependencies":{"x":"file:../x"}}"#);
        assert!(installed(app.path(), &search).unwrap_err().to_string().contains("no node_modules"));
        say(r#"{"dependencies":{"x":"1"}}"#);
        assert!(matches!(installed(app.path(), &Search::default()), Err(Error::NoTool { .. })));
        say("{");
        assert!(matches!(installed(app.path(), &search), Err(Error::Settings { .. })));
    }
}
