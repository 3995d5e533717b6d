//! The interpreters of this host run inside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flint_model::ByteCount;
use flint_sandbox::{Bind, How, RootSpec};

use crate::{World, launch, run, tests};

tests! {
    node_runs,
    java_runs,
    an_interpreter_below_a_closed_directory_runs,
}

async fn node_runs(world: Arc<World>) {
    if !Path::new("/usr/bin/node").exists() {
        println!("  (no node on this host)");
        return;
    }
    let script = r#"
const { Worker } = require("worker_threads"); const http = require("http"); const os = require("os");
const fs = require("fs"); const zlib = require("zlib"); const { execFileSync } = require("child_process");
fs.writeFileSync("/tmp/a", zlib.gzipSync("x".repeat(1000)));
const nets = Object.keys(os.networkInterfaces());
const hi = execFileSync("/bin/echo", ["hi"]).toString().trim();
new Worker("require('worker_threads').parentPort.postMessage(1)", { eval: true }).on("message", () => {
  const server = http.createServer((_, r) => r.end("ok")).listen(0, "127.0.0.1", () => {
    http.get({ port: server.address().port, host: "127.0.0.1" }, (r) => { r.resume(); r.on("end", () => {
      console.log(hi, nets.join(), r.statusCode); process.exit(0); }); });
  });
});
"#;
    let mut launch = launch(world.root, &["/usr/bin/node", "-e", script]);
    launch.memory = ByteCount::from_mib(512);
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!((exit.how, out.as_str()), (How::Code(0), "hi lo 200\n"), "{err}");
}

async fn java_runs(world: Arc<World>) {
    if !Path::new("/usr/bin/java").exists() {
        println!("  (no java on this host)");
        return;
    }
    let mut launch = launch(world.root, &["/usr/bin/java", "-version"]);
    launch.memory = ByteCount::from_mib(512);
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
}

async fn an_interpreter_below_a_closed_directory_runs(world: Arc<World>) {
    let Some(prefix) = pyenv_prefix() else {
        println!("  (no interpreter of its own prefix on this host)");
        return;
    };
    let spec = RootSpec { binds: vec![Bind { source: prefix, target: "/var/lang".into() }], files: Vec::new() };
    let root = world.sandboxes.define_root(spec).await.unwrap();
    let script = "import sys, json, ssl, hashlib; print(sys.prefix, sys.version_info[0])";
    let mut launch = launch(root, &["/var/lang/bin/python3", "-I", "-c", script]);
    launch.memory = ByteCount::from_mib(256);
    // A shared libpython is looked for where it was built.
    launch.env.push(("LD_LIBRARY_PATH".into(), "/var/lang/lib".into()));
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!((exit.how, out.as_str()), (How::Code(0), "/var/lang 3\n"), "{err}");
}

/// The newest Python 3 under the user's pyenv, if there is one.
fn pyenv_prefix() -> Option<PathBuf> {
    let home = std::fs::read_to_string("/etc/passwd").ok()?.lines().next()?.split(':').nth(5)?.to_owned();
    let mut found: Vec<PathBuf> = std::fs::read_dir(Path::new(&home).join(".pyenv/versions"))
        .ok()?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join("bin/python3").exists())
        .collect();
    found.sort_by_key(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').map(|n| n.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>()
    });
    found.pop()
}
