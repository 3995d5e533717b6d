//! A `flint up` that is killed, and started again on the same data and the same port.
//!
//! Who starts, kills or waits blocks a thread of the runtime, and says so: a task that is next on it would not run meanwhile.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flint_wire::signer::Credentials;
use flint_wire::sigv4::SecretKey;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::server::Access;
use serde_json::Value;
use tokio::task::block_in_place;

pub struct Node {
    binary: PathBuf,
    pub data: PathBuf,
    child: Option<Child>,
    /// The child is a program that runs the server.
    wrapped: bool,
    /// Looks on from outside; ends with the server.
    tracer: Option<Child>,
    /// Set by the first start.
    address: Option<String>,
    access: Option<Access>,
}

impl Node {
    /// A node on `data`, not started yet.
    pub fn new(binary: &Path, data: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            data: data.to_owned(),
            child: None,
            wrapped: false,
            tracer: None,
            address: None,
            access: None,
        }
    }

    /// Starts it; with `before`, by a program that becomes it (strace with its options). Milliseconds until it was ready;
    /// `None` if it ended before that.
    pub fn start(&mut self, before: &[String]) -> Result<Option<f64>> {
        block_in_place(|| self.start_now(before))
    }

    fn start_now(&mut self, before: &[String]) -> Result<Option<f64>> {
        ensure!(self.child.is_none(), "the node runs already");
        let log = self.data.with_extension("stderr");
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log)?;
        let mut command = match before {
            [] => Command::new(&self.binary),
            [program, options @ ..] => {
                let mut command = Command::new(program);
                command.args(options).arg(&self.binary);
                command
            }
        };
        let listen = self.address.as_deref().unwrap_or("127.0.0.1:0");
        command.arg("up").arg("--data").arg(&self.data).args(["--listen", listen]);
        let began = monotonic_ns();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        self.child = Some(child);
        self.wrapped = !before.is_empty();
        let Some(address) = line.trim().strip_prefix("ready http://") else {
            self.wait_now(Duration::from_secs(10))?.context("neither ready nor at an end")?;
            return Ok(None);
        };
        let ready = ms(began, monotonic_ns());
        self.address = Some(address.to_owned());
        if self.access.is_none() {
            self.access = Some(self.read_access(address)?);
        }
        Ok(Some(ready))
    }

    fn read_access(&self, address: &str) -> Result<Access> {
        let output = Command::new(&self.binary).args(["env", "--json", "--data"]).arg(&self.data).output()?;
        let env: Value = serde_json::from_slice(&output.stdout).context("flint env")?;
        let text = |name: &str| env[name].as_str().map(str::to_owned).with_context(|| format!("env has no {name}"));
        let credentials = Credentials {
            access_key: text("AWS_ACCESS_KEY_ID")?,
            secret_key: SecretKey::new(text("AWS_SECRET_ACCESS_KEY")?),
            session_token: None,
        };
        Ok(Access { address: address.to_owned(), credentials, region: text("AWS_REGION")? })
    }

    pub fn access(&self) -> Result<Access> {
        self.access.clone().context("the node was never ready")
    }

    /// Has the running server traced, all threads of it and nothing else: neither its spawner nor a function.
    pub fn attach(&mut self, strace: &[String]) -> Result<()> {
        let [program, options @ ..] = strace else { bail!("no tracer") };
        let pid = self.child.as_ref().context("the node does not run")?.id();
        self.tracer = Some(Command::new(program).args(options).arg("-p").arg(pid.to_string()).spawn()?);
        let began = monotonic_ns();
        block_in_place(|| {
            while !is_traced(pid) {
                ensure!(ms(began, monotonic_ns()) < 10_000.0, "strace does not get hold of the server");
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        })
    }

    /// kill -9 of the process that the server leans on; it is to end by itself.
    pub fn kill_spawner(&mut self) {
        if let Some(child) = &self.child {
            children(child.id()).into_iter().for_each(kill);
        }
    }

    /// kill -9 of the server process (of what runs under strace: of strace's child too).
    pub fn kill(&mut self) -> Result<()> {
        block_in_place(|| self.kill_now())
    }

    fn kill_now(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let children = if self.wrapped { children(child.id()) } else { Vec::new() };
        for pid in &children {
            kill(*pid);
        }
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
        // Not ours to wait for, and it holds the data directory until it is gone.
        let began = monotonic_ns();
        while children.iter().any(|pid| runs(*pid)) {
            ensure!(ms(began, monotonic_ns()) < 10_000.0, "a server that was killed is still there: {children:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.let_go();
        Ok(())
    }

    /// The tracer has nobody to look at any more.
    fn let_go(&mut self) {
        if let Some(mut tracer) = self.tracer.take() {
            let _ = tracer.kill();
            let _ = tracer.wait();
        }
    }

    /// Its end, if it comes within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        block_in_place(|| self.wait_now(limit))
    }

    fn wait_now(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let began = monotonic_ns();
        let Some(child) = &mut self.child else { bail!("the node does not run") };
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                self.let_go();
                return Ok(Some(status));
            }
            if ms(began, monotonic_ns()) > limit.as_secs_f64() * 1000.0 {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it still runs.
    pub fn is_up(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// SIGTERM and its end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let pid = rustix::process::Pid::from_child(child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if self.wait(Duration::from_secs(40))?.is_none() {
            self.kill()?;
            bail!("SIGTERM did not end the server");
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What is left of a run that failed.
        let _ = self.kill_now();
        self.let_go();
    }
}

/// Whether a status says killed or failed, and not a clean end.
pub fn is_bad(status: ExitStatus) -> bool {
    status.signal().is_some() || !status.success()
}

fn children(pid: u32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let is_server =
        |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "flint");
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_server).collect()
}

/// Whether every thread of a process has a tracer.
fn is_traced(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let status = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
    threads.map(status).all(|status| !status.lines().any(|line| line == "TracerPid:\t0"))
}

/// Whether any thread of it is left: a process whose first thread is a zombie still holds its files while another one ends.
fn runs(pid: i32) -> bool {
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().collect();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
    threads.len() > 1 || !zombie
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
