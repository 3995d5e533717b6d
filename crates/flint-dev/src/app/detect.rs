//! What a folder's files say: which language, which handler, what has to be built.

use std::fs;
use std::path::Path;

use super::{Build, Kind, Said, file};
use crate::Error;

/// Files that may hold a Python handler, in the order in which they are asked.
const PYTHON_FILES: [&str; 4] = ["app.py", "handler.py", "lambda_function.py", "main.py"];
/// Names that a Python handler may have, in the order in which they are asked.
const PYTHON_NAMES: [&str; 3] = ["handler", "lambda_handler", "main"];
/// The same of Node.js, after what `package.json` calls `main`.
const NODE_STEMS: [&str; 4] = ["index", "app", "handler", "main"];
const NODE_ENDINGS: [&str; 3] = ["mjs", "js", "cjs"];
const NODE_NAMES: [&str; 3] = ["handler", "lambdaHandler", "main"];
/// What runs a program.
const PROVIDED: &str = "provided.al2023";

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub kind: Kind,
    pub handler: String,
    pub build: Build,
}

pub(super) fn detect(dir: &Path, said: &Said) -> Result<Found, Error> {
    if let Some(runtime) = &said.runtime {
        return of_runtime(dir, said, runtime);
    }
    if dir.join("bootstrap").is_file() {
        return program(dir, said, PROVIDED);
    }
    if let Some(handler) = &said.handler {
        if program_build(dir, said).is_some() && !handler.contains('.') {
            return program(dir, said, PROVIDED);
        }
        let module = handler.rsplit_once('.').map_or(handler.as_str(), |(module, _)| module);
        let is_node = NODE_ENDINGS.iter().any(|ending| dir.join(format!("{module}.{ending}")).is_file());
        let handler = handler.clone();
        return if is_node {
            Ok(Found { kind: Kind::AnyNode, handler, build: npm(dir) })
        } else {
            Ok(Found { kind: Kind::AnyPython, handler, build: file::requirements(dir, said)? })
        };
    }
    let python = find_python(dir).map(|handler| (Kind::AnyPython, handler, "a Python function"));
    let node = find_node(dir).map(|handler| (Kind::AnyNode, handler, "a Node.js function"));
    let provided = Kind::Runtime(PROVIDED.into());
    let native = program_build(dir, said).map(|build| (provided, "bootstrap".to_owned(), program_of(&build)));
    let mut found: Vec<_> = [python, node, native].into_iter().flatten().collect();
    match found.len() {
        0 => Err(nothing(dir)),
        1 => {
            let (kind, handler, _) = found.remove(0);
            let build = match kind {
                Kind::AnyPython => file::requirements(dir, said)?,
                Kind::AnyNode => npm(dir),
                Kind::Runtime(_) => return program(dir, said, PROVIDED),
            };
            Ok(Found { kind, handler, build })
        }
        _ => Err(Error::App {
            dir: dir.to_owned(),
            reason: format!("holds {} and {}", found[0].2, found[1].2),
            hint: "say which one in flint.toml: runtime = \"python3.12\", \"nodejs20.x\" or \"provided.al2023\"".into(),
        }),
    }
}

/// Whether anything in the folder could be a function's.
pub(super) fn is_in(dir: &Path) -> bool {
    dir.join("bootstrap").is_file()
        || program_build(dir, &Said::default()).is_some()
        || find_node(dir).is_some()
        || find_python(dir).is_some()
}

fn of_runtime(dir: &Path, said: &Said, runtime: &str) -> Result<Found, Error> {
    if runtime.starts_with("provided") {
        return program(dir, said, runtime);
    }
    let (found, build) = if runtime.starts_with("python") {
        (find_python(dir), file::requirements(dir, said)?)
    } else if runtime.starts_with("nodejs") {
        (find_node(dir), npm(dir))
    } else {
        (None, Build::AsIs)
    };
    let handler = said.handler.clone().or(found).ok_or_else(|| nothing(dir))?;
    Ok(Found { kind: Kind::Runtime(runtime.to_owned()), handler, build })
}

/// A program that speaks the Runtime API: there, or to be built.
fn program(dir: &Path, said: &Said, runtime: &str) -> Result<Found, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("bootstrap");
    let app = |reason: &str, hint: String| Error::App { dir: dir.to_owned(), reason: reason.into(), hint };
    let build = match fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Build::AsIs,
        Ok(meta) if meta.is_file() => {
            return Err(app("its `bootstrap` is not executable", format!("chmod +x {}", path.display())));
        }
        _ => program_build(dir, said).ok_or_else(|| {
            let reason = "a provided runtime runs the file `bootstrap`, which is not there";
            app(reason, "put your program there, or a Cargo.toml or go.mod to build one from".into())
        })?,
    };
    let handler = said.handler.clone().unwrap_or_else(|| "bootstrap".into());
    Ok(Found { kind: Kind::Runtime(runtime.to_owned()), handler, build })
}

fn program_build(dir: &Path, said: &Said) -> Option<Build> {
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    if manifest.lines().any(|line| line.trim() == "[package]") {
        return Some(Build::Cargo { binary: said.binary.clone() });
    }
    dir.join("go.mod").is_file().then_some(Build::Go)
}

fn program_of(build: &Build) -> &'static str {
    if *build == Build::Go { "a Go program" } else { "a Rust program" }
}

fn npm(dir: &Path) -> Build {
    if dir.join("package.json").is_file() { Build::Npm } else { Build::AsIs }
}

/// Why a folder that looks like a function's is none, and what to say in its `flint.toml`.
pub(super) fn near_miss(dir: &Path) -> Option<(String, String)> {
    let hint = |file: &str, name: &str| format!("handler = \"{}.{name}\"", stem(file));
    if let Some(file) = PYTHON_FILES.into_iter().find(|file| dir.join(file).is_file()) {
        return Some((format!("{file} defines none of {}", PYTHON_NAMES.join(", ")), hint(file, "NAME")));
    }
    if let Some(file) = node_files().find(|file| dir.join(file).is_file()) {
        return Some((format!("{file} exports none of {}", NODE_NAMES.join(", ")), hint(&file, "NAME")));
    }
    // A handler in a file of another name.
    let mut files: Vec<String> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    files.sort();
    files.into_iter().find_map(|file| {
        let (is_python, is_node) =
            (file.ends_with(".py"), NODE_ENDINGS.iter().any(|e| file.ends_with(&format!(".{e}"))));
        let source = if is_python || is_node { fs::read_to_string(dir.join(&file)).ok()? } else { return None };
        let name = if is_python {
            PYTHON_NAMES.into_iter().find(|name| source.lines().any(|line| python_defines(line, name)))
        } else {
            NODE_NAMES.into_iter().find(|name| node_exports(&source, name))
        }?;
        Some((format!("the handler in {file} is not looked for there"), hint(&file, name)))
    })
}

/// A file's name without its ending.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

fn node_files() -> impl Iterator<Item = String> {
    NODE_STEMS.iter().flat_map(|stem| NODE_ENDINGS.iter().map(move |ending| format!("{stem}.{ending}")))
}

fn nothing(dir: &Path) -> Error {
    let typescript = ["index.ts", "app.ts", "handler.ts", "main.ts"].iter().find(|f| dir.join(f).is_file());
    let dir = dir.to_owned();
    if let Some(file) = typescript {
        let reason = format!("{file} is TypeScript, which no runtime here runs as it is");
        return Error::App {
            dir,
            reason,
            hint: "compile it to JavaScript and deploy the folder with the result".into(),
        };
    }
    if let Some((reason, handler)) = near_miss(&dir) {
        let reason = format!("no function found: {reason}");
        return Error::App { dir, reason, hint: format!("say {handler} in a flint.toml there") };
    }
    Error::App {
        dir,
        reason: format!(
            "no function found: expected {} with a function {}; index.mjs or index.js that exports one; \
             a Cargo.toml or go.mod; or an executable `bootstrap`",
            PYTHON_FILES.join(", "),
            PYTHON_NAMES.join(", ")
        ),
        hint: "say where it is in flint.toml: handler = \"FILE.FUNCTION\"".into(),
    }
}

/// `MODULE.FUNCTION` of the first file that defines one of the known names at its top level.
fn find_python(dir: &Path) -> Option<String> {
    PYTHON_FILES.iter().find_map(|file| {
        let source = fs::read_to_string(dir.join(file)).ok()?;
        let defines = |name: &str| source.lines().any(|line| python_defines(line, name));
        PYTHON_NAMES.iter().find(|name| defines(name)).map(|name| format!("{}.{name}", file.trim_end_matches(".py")))
    })
}

/// `def NAME(` or `NAME =` at the start of a line.
fn python_defines(line: &str, name: &str) -> bool {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let of = |rest: &str, next: &[char]| {
        rest.strip_prefix(name)
            .is_some_and(|after| after.trim_start().starts_with(next) && !after.trim_start().starts_with("=="))
    };
    match line.strip_prefix("def ") {
        Some(rest) => of(rest.trim_start(), &['(']),
        None => of(line, &['=', ':']),
    }
}

/// `FILE.EXPORT` of the first file that exports one of the known names.
fn find_node(dir: &Path) -> Option<String> {
    let manifest = fs::read_to_string(dir.join("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    let main = manifest.get("main").and_then(|m| m.as_str()).map(|m| m.trim_start_matches("./").to_owned());
    main.into_iter().chain(node_files()).find_map(|file| {
        let source = fs::read_to_string(dir.join(&file)).ok()?;
        let stem = file.rsplit_once('.')?.0.to_owned();
        NODE_NAMES.iter().find(|name| node_exports(&source, name)).map(|name| format!("{stem}.{name}"))
    })
}

/// `export … NAME`, `exports.NAME =`, or NAME between the braces of `export {}` or `module.exports = {}`.
fn node_exports(source: &str, name: &str) -> bool {
    let declared = source.lines().any(|line| {
        let words: Vec<&str> = words(line).collect();
        match words.first() {
            Some(&"export") => {
                let is_keyword = |w: &&str| ["async", "function", "const", "let", "var", "class"].contains(w);
                words.len() > 1 && is_keyword(&words[1]) && words[1..].iter().find(|w| !is_keyword(w)) == Some(&name)
            }
            Some(&"exports") => words.get(1) == Some(&name) && line.contains('='),
            Some(&"module") => words.get(1) == Some(&"exports") && words.get(2) == Some(&name) && line.contains('='),
            _ => false,
        }
    });
    let listed = ["export {", "export{", "module.exports = {", "module.exports={"].iter().any(|opening| {
        source.match_indices(opening).any(|(at, _)| {
            let inside = &source[at + opening.len()..];
            words(inside.split('}').next().unwrap_or_default()).any(|w| w == name)
        })
    });
    declared || listed
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::App;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("app-").tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
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
    fn finds_the_python_handler() {
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
        check(&[("app.py", "def go(e, c): pass")], Err("app.py defines none of handler, lambda_handler, main"));
        check(&[("other.py", "def handler(e, c): pass")], Err("the handler in other.py is not looked for there"));
        check(&[("index.mjs", "export const go = 1;")], Err("index.mjs exports none of handler"));
    }

    #[test]
    fn finds_the_node_handler() {
        let node = || Kind::AnyNode;
        for source in [
            "export const handler = async (event) => event;",
            "export async function handler(event) {}",
            "exports.handler = async () => {};",
            "module.exports.handler = () => {};",
            "async function handler() {}\nmodule.exports = { handler };",
            "const h = 1;\nexport { h as handler };",
        ] {
            check(&[("index.mjs", source)], Ok(("index.handler", node())));
        }
        check(&[("app.js", "exports.lambdaHandler = 1")], Ok(("app.lambdaHandler", node())));
        check(&[("index.js", "const handler = 1; // not exported")], Err("no function found"));
        let main = [("package.json", r#"{"main":"./src/api.js"}"#), ("src/api.js", "exports.handler = 1")];
        check(&main, Ok(("src/api.handler", node())));
        check(&[("flint.toml", "handler = 'src/x.go'"), ("src/x.mjs", "")], Ok(("src/x.go", node())));
        check(&[("index.ts", "export const handler = 1")], Err("TypeScript"));
    }

    #[test]
    fn programs_are_built_or_there() {
        let provided = || Kind::Runtime(PROVIDED.into());
        check(&[("Cargo.toml", "[package]\nname = 'x'\n")], Ok(("bootstrap", provided())));
        check(&[("go.mod", "module x\n")], Ok(("bootstrap", provided())));
        check(&[("Cargo.toml", "[workspace]\n")], Err("no function found"));
        check(&[("bootstrap", "#!/bin/sh\n")], Err("not executable"));
        check(&[("flint.toml", "runtime = 'provided.al2023'")], Err("runs the file `bootstrap`"));
        let dir = folder(&[("bootstrap", "#!/bin/sh\n")]);
        let path = dir.path().join("bootstrap");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let app = App::read(dir.path(), Some("f")).unwrap();
        assert_eq!((app.kind, app.handler.as_str(), app.build), (provided(), "bootstrap", Build::AsIs));
    }

    #[test]
    fn two_languages_are_not_guessed_between() {
        let both = [("app.py", "def handler(e, c): pass"), ("index.js", "exports.handler = 1")];
        check(&both, Err("a Python function and a Node.js function"));
        let said = [both[0], both[1], ("flint.toml", "runtime = 'nodejs20.x'")];
        check(&said, Ok(("index.handler", Kind::Runtime("nodejs20.x".into()))));
    }

    #[test]
    fn a_wrong_file_is_refused_by_line() {
        check(&[("flint.toml", "handler = 'a.b'\ncolour = 1\n")], Err("line 2: unknown field `colour`"));
        check(&[("flint.toml", "timeout = '0 s'\n")], Err("1 to 900 s"));
        check(&[("flint.toml", "memory = 64\n")], Err("128 to 10240 MiB"));
        check(&[("flint.toml", "exclude = ['!x']\n")], Err("no pattern"));
        check(&[("flint.toml", "[")], Err("flint.toml"));
        check(&[("flint.toml", "handler='a.b'\nrequirements = 'no.txt'")], Err("no.txt"));
    }
}
