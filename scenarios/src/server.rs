//! A `flint up` of our own, in a data directory that goes with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use flint_wire::signer::Credentials;
use flint_wire::sigv4::SecretKey;
use serde_json::Value;

use crate::clock::{monotonic_ns, ms};

pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    pub address: String,
    pub credentials: Credentials,
    pub region: String,
    binary: PathBuf,
    ready_ns: u64,
}

/// What a client needs to know of a server.
#[derive(Clone)]
pub struct Access {
    pub address: String,
    pub credentials: Credentials,
    pub region: String,
}

/// What a restart took.
pub struct Restart {
    pub ready_ms: f64,
}

impl Server {
    pub fn start(binary: &Path) -> Result<Self> {
        Self::start_in(binary, tempfile::Builder::new().prefix("flint-load-").tempdir()?)
    }

    /// Stops the server and starts it again on its data; `ready` is the time from the start to the line that says so.
    pub fn restart(mut self) -> Result<(Self, Restart)> {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir()?);
        let binary = self.binary.clone();
        drop(self);
        let began = monotonic_ns();
        let server = Self::start_in(&binary, folder)?;
        let ready_ms = ms(began, server.ready_ns);
        Ok((server, Restart { ready_ms }))
    }

    /// Kills the server and starts it again on its data. Answers when the start began, and when it said that it serves.
    pub fn kill_and_start(mut self) -> Result<(Self, u64, u64)> {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir()?);
        let binary = self.binary.clone();
        self.child.kill()?;
        drop(self);
        let began = monotonic_ns();
        let server = Self::start_in(&binary, folder)?;
        let ready_ns = server.ready_ns;
        Ok((server, began, ready_ns))
    }

    fn start_in(binary: &Path, folder: tempfile::TempDir) -> Result<Self> {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.path().join("stderr"))?;
        let mut child = Command::new(binary)
            .arg("up")
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let ready_ns = monotonic_ns();
        let Some(url) = line.trim().strip_prefix("ready http://") else {
            let told = std::fs::read_to_string(folder.path().join("stderr"))?;
            bail!("the server did not come up: {line}{told}");
        };
        let address = url.trim_end_matches('/').to_owned();
        let mut server = Server {
            child,
            folder,
            address,
            credentials: Credentials { access_key: String::new(), secret_key: SecretKey::new(""), session_token: None },
            region: String::new(),
            binary: binary.to_owned(),
            ready_ns,
        };
        let env = server.flint(&["env", "--json"], true)?;
        let text = |name: &str| env[name].as_str().map(str::to_owned).with_context(|| format!("env has no {name}"));
        server.credentials.access_key = text("AWS_ACCESS_KEY_ID")?;
        server.credentials.secret_key = SecretKey::new(text("AWS_SECRET_ACCESS_KEY")?);
        server.region = text("AWS_REGION")?;
        Ok(server)
    }

    pub fn access(&self) -> Access {
        let (address, region) = (self.address.clone(), self.region.clone());
        Access { address, credentials: self.credentials.clone(), region }
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a command of the binary and parses what it printed.
    pub fn flint(&self, words: &[&str], data: bool) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(words);
        if data {
            command.arg("--data").arg(self.data());
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("flint {} ended with {}", words.join(" "), output.status);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// An interpreter that the server found on the host.
pub struct Interpreter {
    /// `python3.12`
    pub identifier: String,
    pub program: PathBuf,
}

impl Server {
    /// Asks the server by a command of the binary that prints JSON.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(words).args(["--json", "--endpoint"]).arg(format!("http://{}", self.address));
        command.env("AWS_ACCESS_KEY_ID", &self.credentials.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", self.credentials.secret_key.expose());
        command.env("AWS_REGION", &self.region);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("flint {} ended with {}", words.join(" "), output.status);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The newest runtime that the server offers whose name begins with `prefix` and ends with `suffix`.
    pub fn newest(&self, prefix: &str, suffix: &str) -> Result<Interpreter> {
        let listed = self.ask(&["runtime", "list"])?;
        let runtimes = listed.as_array().context("a list of runtimes")?;
        let version = |runtime: &Value| -> Option<u32> {
            runtime["Identifier"].as_str()?.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok()
        };
        let newest = runtimes.iter().max_by_key(|r| version(r)).filter(|r| version(r).is_some());
        let newest = newest.with_context(|| format!("the host offers no {prefix}"))?;
        let text = |name: &str| newest[name].as_str().unwrap_or_default().to_owned();
        let identifier = text("Identifier");
        let name = if prefix.starts_with("node") { "node" } else { identifier.as_str() };
        let program = PathBuf::from(text("Source")).join("bin").join(name);
        Ok(Interpreter { identifier, program })
    }

    /// The execution environments that are alive.
    pub fn environments(&self) -> Result<Vec<Value>> {
        Ok(self.ask(&["ps"])?.as_array().context("a list of environments")?.clone())
    }

    /// The server's own processes: itself and its spawner.
    pub fn pids(&self) -> Result<[u32; 2]> {
        let pid = self.child.id();
        Ok([pid, crate::usage::child(pid, "flint-spawner")?])
    }
}

impl Drop for Server {
    /// SIGTERM, so that it cleans up what it mounted, then waits.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It may have ended by itself already; there is nobody left to tell.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
