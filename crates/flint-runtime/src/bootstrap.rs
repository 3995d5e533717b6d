//! The runtimes' own files, and the root file system and command line for each kind of runtime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;
use flint_sandbox::{Bind, CODE_DIR, How, Launch, RootFile, RootId, RootSpec, Sandboxes};
use tokio::io::AsyncReadExt;

use crate::catalog::{Kind, LANG_DIR, Resolved};
use crate::spec::EnvironmentSpec;
use crate::variables::RUNTIME_DIR;

/// Differs from the reference: named tuples are written as arrays (the standard library's way), the packages that the
/// host installed for itself are not seen, and no line warns of runtime updates, as there are none.
const PYTHON: &[(&str, &str)] = &[
    ("bootstrap.py", include_str!("../bootstrap/python/bootstrap.py")),
    ("_context.py", include_str!("../bootstrap/python/_context.py")),
    ("_errors.py", include_str!("../bootstrap/python/_errors.py")),
    ("_logging.py", include_str!("../bootstrap/python/_logging.py")),
];

/// Differs from the reference: the head of an HTTP answer (`HttpResponseStream.from`) is sent also where the handler ends
/// its stream without a write, and a handler that returns without ending its stream fails as soon as nothing else is left
/// to happen.
const NODE: &[(&str, &str)] = &[
    ("bootstrap.cjs", include_str!("../bootstrap/node/bootstrap.cjs")),
    ("_json_log.cjs", include_str!("../bootstrap/node/_json_log.cjs")),
    ("_streaming.cjs", include_str!("../bootstrap/node/_streaming.cjs")),
];

/// The compiled form of `bootstrap.py`, made by the interpreter that runs it.
const COMPILED: &str = "bootstrap.pyc";

/// Starts the external extensions, where there are any.
const EXTENSIONS: &str = "extensions.sh";

/// The function's variable that names a wrapper script.
const WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";

/// It has some 20 KB.
const COMPILED_LIMIT: u64 = 1024 * 1024;

const COMPILE_TIME: Duration = Duration::from_secs(10);

/// What makes two environments share a root: the kind and the tree at `/var/lang`.
pub(crate) type RootKey = (Kind, Option<PathBuf>);

pub(crate) fn root_key(runtime: &Resolved) -> RootKey {
    (runtime.kind, runtime.prefix.clone())
}

pub(crate) fn files(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Python => PYTHON,
        Kind::Node => NODE,
        Kind::Provided => &[],
    }
}

/// The root of a runtime; `compiled` is what [`compile`] gave.
pub(crate) fn root(runtime: &Resolved, compiled: Option<Vec<u8>>) -> RootSpec {
    let binds = runtime.prefix.iter().map(|source| Bind { source: source.clone(), target: LANG_DIR.into() }).collect();
    let file = |(name, text): &(&str, &str)| RootFile {
        path: Path::new(RUNTIME_DIR).join(name),
        mode: 0o644,
        content: Arc::from(text.as_bytes()),
    };
    let common = (EXTENSIONS, include_str!("../bootstrap/all/extensions.sh"));
    let mut files: Vec<RootFile> = files(runtime.kind).iter().chain([&common]).map(file).collect();
    if let Some(code) = compiled {
        files.push(RootFile { path: Path::new(RUNTIME_DIR).join(COMPILED), mode: 0o644, content: code.into() });
    }
    RootSpec { binds, files }
}

/// Has the interpreter compile the bootstrap, in a sandbox on `root`: 3 ms less of every cold start.
///
/// Only ever an improvement, so any failure is `None`. No tenant's code is in that sandbox.
pub(crate) async fn compile(sandboxes: &Sandboxes, runtime: &Resolved, root: RootId) -> Option<Vec<u8>> {
    if runtime.kind != Kind::Python || runtime.version.starts_with("3.6.") {
        return None;
    }
    let script = "import sys, marshal; from _frozen_importlib_external import MAGIC_NUMBER as magic; path = sys.argv[1]; \
                  code = compile(open(path, encoding='utf-8').read(), path, 'exec'); \
                  sys.stdout.buffer.write(magic + bytes(12) + marshal.dumps(code))";
    let source = format!("{RUNTIME_DIR}/bootstrap.py");
    let argv = [runtime.binary.as_os_str(), "-S".as_ref(), "-c".as_ref(), script.as_ref(), source.as_ref()];
    let argv = argv.map(OsString::from).to_vec();
    // An interpreter that was built with a shared library finds it there, as it does in an environment.
    let library = ("LD_LIBRARY_PATH".into(), format!("{LANG_DIR}/lib").into());
    let launch = Launch { env: vec![library], ..Launch::new(root, argv, ByteCount::from_mib(256)) };
    let mut sandbox = sandboxes.launch(launch).await.ok()?;
    let (stdout, _stderr) = sandbox.take_output()?;
    let read = async {
        let mut code = Vec::new();
        stdout.take(COMPILED_LIMIT).read_to_end(&mut code).await.ok()?;
        let exit = sandbox.exited().await;
        (exit.how == How::Code(0) && code.len() > 16).then_some(code)
    };
    let code = tokio::time::timeout(COMPILE_TIME, read).await.ok().flatten();
    sandbox.gone().await;
    if code.is_none() {
        tracing::warn!(
            runtime = runtime.identifier,
            "could not compile the bootstrap; cold starts are a little slower"
        );
    }
    code
}

/// The command line; `compiled` if the root has the compiled bootstrap. Python runs without `site`: the host's packages are not part of the function, and it is 2 ms faster.
pub(crate) fn argv(spec: &EnvironmentSpec, compiled: bool) -> Vec<OsString> {
    let runtime = &spec.runtime;
    let script = |name: &str| OsString::from(format!("{RUNTIME_DIR}/{name}"));
    let binary = runtime.binary.clone().into_os_string();
    match runtime.kind {
        Kind::Python => vec![binary, "-S".into(), script(if compiled { COMPILED } else { "bootstrap.py" })],
        Kind::Node => [Some(binary), heap(spec), Some(script("bootstrap.cjs"))].into_iter().flatten().collect(),
        Kind::Provided => vec![binary],
    }
}

/// The most that Node's heap may grow to, unless the function says it itself: nine tenths of the memory. V8 would take
/// half of what it sees as the machine's, and the rest of a function's memory has nobody else to use it.
fn heap(spec: &EnvironmentSpec) -> Option<OsString> {
    let own = |(name, value): &(String, String)| {
        name == "NODE_OPTIONS" && ["max-old-space", "max_old_space"].iter().any(|option| value.contains(option))
    };
    let most = u64::from(spec.memory_mb) * 9 / 10;
    (!spec.variables.iter().any(own)).then(|| format!("--max-old-space-size={most}").into())
}

/// The script that the function wants its runtime started by, with the command line as its arguments.
///
/// Reference: Lambda Developer Guide, "Modifying the runtime environment" (wrapper scripts; not for custom runtimes).
pub(crate) fn wrapper(spec: &EnvironmentSpec) -> Option<OsString> {
    if spec.runtime.kind == Kind::Provided {
        return None;
    }
    let wanted = spec.variables.iter().rfind(|(name, value)| name == WRAPPER && !value.is_empty());
    wanted.map(|(_, path)| Path::new(CODE_DIR).join(path).into_os_string())
}

/// What stands before the command line of a runtime with external extensions.
pub(crate) fn starter() -> [OsString; 2] {
    ["/bin/sh".into(), format!("{RUNTIME_DIR}/{EXTENSIONS}").into()]
}

/// The runtime's name in INIT_START: `python:3.12.1`, `provided:al2023`.
pub(crate) fn display(runtime: &Resolved) -> String {
    match runtime.kind {
        Kind::Python => format!("python:{}", runtime.version),
        Kind::Node => format!("nodejs:{}", runtime.version),
        Kind::Provided => runtime.identifier.replacen('.', ":", 1),
    }
}

#[cfg(test)]
mod tests;
