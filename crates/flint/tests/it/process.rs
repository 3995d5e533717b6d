//! Starts the binary in surroundings of its own, and ends what it started.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// No wait in these tests is longer.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The binary with arguments, away from the variables and the folder of whoever runs the tests.
pub fn flint(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flint"));
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    for name in ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"] {
        command.env_remove(name);
    }
    // What an invocation remembers is not the caller's.
    command.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    for name in ["ENDPOINT", "DATA", "REGION", "LISTEN", "ACCOUNT", "LOG", "USER"] {
        command.env_remove(format!("FLINT_{name}"));
    }
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that goes on, and what it says on standard output.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it with its data in `data`, on a free port. Standard error goes to the file `data`.log.
    pub fn start(arguments: &[&str], data: &Path) -> Self {
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let mut command = flint(arguments);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        // A test reads what it waits for; a function that says more than this blocks its reader, not the test.
        let (send, lines) = sync_channel(10_000);
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line on standard output")
    }

    /// The URL of the `ready` line, which is the first.
    pub fn ready(&self) -> String {
        let line = self.line();
        line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line:?} is no ready line")).to_owned()
    }

    /// Reads lines until one contains `part`.
    pub fn line_with(&self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Polls until `done`, or fails the test at the deadline.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let pause = Duration::from_millis(20);
    for _ in 0..DEADLINE.as_millis() / pause.as_millis() {
        if done() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("within {DEADLINE:?}: {what}");
}
