//! A `flint up` of our own, in a data directory that goes with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use flint_wire::signer::Credentials;
use flint_wire::sigv4::SecretKey;
use serde_json::Value;

pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    pub address: String,
    pub credentials: Credentials,
    pub region: String,
    binary: PathBuf,
}

impl Server {
    pub fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("flint-load-").tempdir()?;
        let log = std::fs::File::create(folder.path().join("stderr"))?;
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
        };
        let env = server.flint(&["env", "--json"], true)?;
        let text = |name: &str| env[name].as_str().map(str::to_owned).with_context(|| format!("env has no {name}"));
        server.credentials.access_key = text("AWS_ACCESS_KEY_ID")?;
        server.credentials.secret_key = SecretKey::new(text("AWS_SECRET_ACCESS_KEY")?);
        server.region = text("AWS_REGION")?;
        Ok(server)
    }

    /// Runs a command of the binary and parses what it printed.
    pub fn flint(&self, words: &[&str], data: bool) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(words);
        if data {
            command.arg("--data").arg(self.folder.path().join("data"));
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("flint {} ended with {}", words.join(" "), output.status);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// A Python that the server found on the host.
pub struct Python {
    /// `python3.12`
    pub identifier: String,
    pub interpreter: PathBuf,
}

impl Server {
    /// The newest Python runtime that the server offers.
    pub fn newest_python(&self) -> Result<Python> {
        let mut command = Command::new(&self.binary);
        command.args(["runtime", "list", "--json", "--endpoint"]).arg(format!("http://{}", self.address));
        command.env("AWS_ACCESS_KEY_ID", &self.credentials.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", self.credentials.secret_key.expose());
        command.env("AWS_REGION", &self.region);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let listed: Value = serde_json::from_slice(&output.stdout)?;
        let runtimes = listed["Runtimes"].as_array().or(listed.as_array()).context("a list of runtimes")?;
        let minor =
            |runtime: &Value| -> Option<u32> { runtime["Identifier"].as_str()?.strip_prefix("python3.")?.parse().ok() };
        let newest = runtimes.iter().max_by_key(|r| minor(r)).filter(|r| minor(r).is_some());
        let newest = newest.context("the host offers no Python")?;
        let text = |name: &str| newest[name].as_str().unwrap_or_default().to_owned();
        let identifier = text("Identifier");
        let interpreter = PathBuf::from(text("Source")).join("bin").join(&identifier);
        Ok(Python { identifier, interpreter })
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
