//! The functions that the benches deploy, and how their processes are started by hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub use scenarios::archive::zipped;
use scenarios::server::Server;

/// They answer `"start"` with the moment (CLOCK_MONOTONIC, nanoseconds) before the first `next`, and echo the rest.
const PYTHON: &str = "import time\nREADY = time.monotonic_ns()\n\n\
    def handler(event, context):\n    return READY if event == 'start' else event\n";
const NODE: &str = "const ready = Number(process.hrtime.bigint());\n\
    exports.handler = async (event) => (event === 'start' ? ready : event);\n";

/// A kind of function.
pub struct Kind {
    pub name: &'static str,
    pub runtime: String,
    pub handler: &'static str,
    pub archive: Vec<u8>,
    /// Our bootstrap, started by hand.
    pub bare: Vec<PathBuf>,
    /// The interpreter with the smallest program there is: it writes one byte.
    pub start: Option<Vec<PathBuf>>,
}

/// The kinds; `folder` gets the handlers for those that are started by hand.
pub fn kinds(server: &Server, folder: &Path) -> Result<Vec<Kind>> {
    let echo = std::env::current_exe()?.with_file_name("echo-bootstrap");
    let bootstraps = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let bootstraps = bootstraps.join("crates/flint-runtime/bootstrap");
    let (python, node) = (server.newest("python3.", "")?, server.newest("nodejs", ".x")?);
    for (name, content) in [
        ("app.py", PYTHON),
        ("app.js", NODE),
        ("one.py", "import os\nos.write(1, b'x')\n"),
        ("one.js", "require('fs').writeSync(1, 'x');\n"),
    ] {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(vec![
        Kind {
            name: "bootstrap",
            runtime: "provided.al2023".to_owned(),
            handler: "none",
            archive: zipped("bootstrap", &std::fs::read(&echo)?)?,
            bare: vec![echo],
            start: None,
        },
        Kind {
            name: "python",
            runtime: python.identifier,
            handler: "app.handler",
            archive: zipped("app.py", PYTHON.as_bytes())?,
            bare: vec![python.program.clone(), bootstraps.join("python/bootstrap.py")],
            // Without `site`, as lean as it starts.
            start: Some(vec![python.program, "-I".into(), "-S".into(), folder.join("one.py")]),
        },
        Kind {
            name: "node",
            runtime: node.identifier,
            handler: "app.handler",
            archive: zipped("app.js", NODE.as_bytes())?,
            bare: vec![node.program.clone(), bootstraps.join("node/bootstrap.cjs")],
            start: Some(vec![node.program, folder.join("one.js")]),
        },
    ])
}
