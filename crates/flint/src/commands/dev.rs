//! `flint dev`: a server that is this command's child, the folders' functions in it, their logs on standard output, and a new
//! deployment of what is saved.
//!
//! The server ends with this process however that ends: it watches its standard input, a pipe that only we hold, and
//! until it has dropped its privileges the kernel would end it with us.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flint_base::{Clock, SystemClock, Timestamp};
use flint_dev::client::logs::{LogFollower, LogQuery, group_of};
use flint_dev::deploy::Action;
use flint_dev::{App, Client, Credentials, Deployed, Deployer, Endpoint, Project, Source, Target, Watch};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use super::logs::Printer;
use super::{deploy, logs};
use crate::cli::{Dev, ServerFlags};
use crate::surroundings::{self, DATA_OF_DEV};
use crate::ui::{self, LogLook, Paint, Tone};

/// A `ready` line is no longer than this.
const READY_LINE_MAX: u64 = 4096;
/// The server gives calls in flight 30 s to end; what takes longer than this is stuck.
const END_WITHIN: Duration = Duration::from_secs(40);

pub(super) fn run(flags: Dev) -> anyhow::Result<ExitCode> {
    // What is wrong with the folders is said before anything is started.
    let project = if !flags.dirs.is_empty() {
        Some(Project::read(flags.dirs.clone(), flags.name.clone())?)
    } else if Project::is_in(Path::new(".")) {
        Some(Project::read(vec![".".into()], flags.name.clone())?)
    } else {
        None
    };
    super::waiting(serve(flags, project))
}

async fn serve(flags: Dev, project: Option<Project>) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let mut server = Server::start(&flags.server)?;
    let ready = tokio::select! {
        line = server.ready() => line?,
        () = stop.asked() => None,
    };
    let Some(endpoint) = ready else {
        // Asked to stop, or failed to start: then it has said why on our standard error.
        let status = server.end(&mut stop).await?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    let result = tokio::select! {
        result = develop(&flags, project, endpoint) => result,
        () = stop.asked() => Ok(()),
        gone = server.gone() => gone.map_err(Into::into).and_then(|status| bail!("the server ended on its own: {status}")),
    };
    let status = server.end(&mut stop).await?;
    result?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says that it serves, deploys, follows the logs, deploys again what is saved: until it fails.
async fn develop(flags: &Dev, project: Option<Project>, endpoint: Endpoint) -> anyhow::Result<()> {
    ui::line(format_args!("ready {endpoint}"))?;
    ui::note("functions may do everything in the account here; flint up asks their roles' policies");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let since = clock.now();
    // Any credentials do; a key that is not twelve digits means the server's own account.
    let credentials = Credentials { access_key: "test".into(), secret_key: "test".into() };
    let region = flags.server.region.to_string();
    let target = Target { endpoint, region, credentials, source: Source::Said };
    let client = Client::new(target, clock);
    let Some(project) = project else {
        ui::note("no function in this folder: serving what else is deployed");
        return pending().await;
    };
    project.skipped.iter().for_each(|line| deploy::warn(line));
    let names = Names(RefCell::new(project.apps.iter().map(|app| app.name.clone()).collect()));
    let developing = async {
        if flags.no_watch {
            let deployer = Deployer::new(surroundings::python_search());
            deploy_all(&client, &deployer, &project.apps.iter().collect::<Vec<_>>()).await;
            return pending().await;
        }
        redeploy(&client, project, &names).await
    };
    if flags.quiet {
        return developing.await;
    }
    tokio::select! {
        result = developing => result,
        result = follow(&client, &names, since) => result,
    }
}

/// The functions whose logs are followed. A save may add one.
struct Names(RefCell<Vec<String>>);

/// Deploys, and deploys again what is saved. A deployment that fails is said, and waits for the next save.
async fn redeploy(client: &Client, mut project: Project, names: &Names) -> anyhow::Result<()> {
    let deployer = Deployer::new(surroundings::python_search());
    // Before the first deployment: what is saved while it runs is not missed.
    let watch = Watch::start(&project);
    deploy_all(client, &deployer, &project.apps.iter().collect::<Vec<_>>()).await;
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(e) => {
            // Everything but the deployment on save goes on.
            ui::report(&e.into());
            return pending().await;
        }
    };
    loop {
        let changes = watch.changed().await;
        let now = match project.again() {
            Ok(now) => now,
            Err(e) => {
                ui::report(&e.into());
                continue;
            }
        };
        // Before anything is read: a change that comes while it is deployed is then noticed in a new folder too.
        if let Err(e) = watch.cover(&now) {
            ui::report(&e.into());
        }
        let touched = changes.touched(&project, &now);
        let results = deploy::deploy(client, &deployer, &touched).await;
        for (app, result) in touched.iter().zip(results) {
            match result {
                Ok(done) if done.action == Action::Unchanged => {}
                Ok(done) => {
                    done.warnings.iter().for_each(|line| deploy::warn(line));
                    ui::note(again(&done, &changes.names(app)));
                }
                // An editor's own file, gone while it was read: its end is the next change.
                Err(flint_dev::Error::File { path, source })
                    if source.kind() == io::ErrorKind::NotFound && !path.exists() => {}
                Err(e) => drop(ui::report(&e.into())),
            }
        }
        for gone in project.apps.iter().filter(|old| !now.apps.iter().any(|app| app.name == old.name)) {
            ui::note(format_args!("{} is not there any more; `flint remove {0}` deletes it", gone.name));
        }
        now.skipped.iter().filter(|line| !project.skipped.contains(line)).for_each(|line| deploy::warn(line));
        *names.0.borrow_mut() = now.apps.iter().map(|app| app.name.clone()).collect();
        project = now;
    }
}

async fn deploy_all(client: &Client, deployer: &Deployer, apps: &[&App]) {
    for result in deploy::deploy(client, deployer, apps).await {
        match result {
            Ok(done) => {
                done.warnings.iter().for_each(|line| deploy::warn(line));
                ui::note(deploy::closing(&done, Paint::stderr()));
            }
            Err(e) => drop(ui::report(&e.into())),
        }
    }
}

/// What a save did, in a line.
fn again(done: &Deployed, files: &[String]) -> String {
    let paint = Paint::stderr();
    let verb = if done.action == Action::Created { "created" } else { "updated" };
    // A folder's own name below itself is empty.
    let files: Vec<&String> = files.iter().filter(|name| !name.is_empty()).collect();
    let files = match files.as_slice() {
        [] => String::new(),
        [one] => format!(" ({one})"),
        [one, more @ ..] => format!(" ({one} and {} more)", more.len()),
    };
    let took = ui::span(Duration::from_millis(done.took_ms));
    format!("{} {}{files} in {took}", paint.text(Tone::Good, verb), paint.text(Tone::Strong, &done.name))
}

/// Prints the functions' logs, for ever: each line with its function's name where there are several.
async fn follow(client: &Client, names: &Names, since: Timestamp) -> anyhow::Result<()> {
    let mut followers: BTreeMap<String, LogFollower> = BTreeMap::new();
    loop {
        let wanted = names.0.borrow().clone();
        let width = wanted.iter().map(String::len).max().unwrap_or(0);
        for name in &wanted {
            let query = || LogQuery { group: group_of(name), since: Some(since), pattern: None };
            let follower = followers.entry(name.clone()).or_insert_with(|| LogFollower::new(query()));
            let label = (wanted.len() > 1).then(|| format!("{name:width$}"));
            Printer::new(LogLook { label, ..LogLook::stdout() }).poll(client, follower).await?;
        }
        tokio::time::sleep(logs::POLL).await;
    }
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The server below this process.
struct Server {
    child: Child,
    /// Some child of this process ended.
    ended: tokio::signal::unix::Signal,
    out: BufReader<tokio::io::Take<pipe::Receiver>>,
}

impl Server {
    fn start(flags: &ServerFlags) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = std::process::Command::new(program);
        command.args(arguments(flags));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: Ctrl-C reaches us alone, and we end it in order.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from)
            });
        }
        // Listened for before there is a child to miss.
        let ended = signal(SignalKind::child())?;
        let mut child = command.spawn().context("starting the server")?;
        let out = child.stdout.take().expect("standard output was asked for as a pipe");
        let out = pipe::Receiver::from_owned_fd(out.into())?;
        Ok(Self { child, ended, out: BufReader::new(out.take(READY_LINE_MAX)) })
    }

    /// The address from its `ready` line; `None` if it ended without one.
    async fn ready(&mut self) -> anyhow::Result<Option<Endpoint>> {
        let mut line = String::new();
        self.out.read_line(&mut line).await.context("the server's ready line")?;
        match line.trim_end().strip_prefix("ready ") {
            Some(url) => Ok(Some(url.parse()?)),
            None if line.is_empty() => Ok(None),
            None => bail!("the server said {line:?} instead of its ready line"),
        }
    }

    async fn gone(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.ended.recv().await;
        }
    }

    /// Ends the server: asked first; killed if asked a second time, or if it does not.
    async fn end(mut self, stop: &mut Stop) -> anyhow::Result<ExitStatus> {
        drop(self.child.stdin.take());
        if self.child.try_wait()?.is_none() {
            // Not waited for yet, so that the id is still its own; it may have ended meanwhile.
            drop(kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(io::Error::from));
        }
        tokio::select! {
            status = self.gone() => return Ok(status?),
            () = stop.asked() => {}
            () = tokio::time::sleep(END_WITHIN) => {}
        }
        self.child.kill()?;
        Ok(self.gone().await?)
    }
}

fn arguments(flags: &ServerFlags) -> Vec<std::ffi::OsString> {
    let data = flags.data.clone().unwrap_or_else(|| PathBuf::from(DATA_OF_DEV));
    let mut arguments: Vec<std::ffi::OsString> = vec!["up".into(), "--dev".into(), "--end-with-stdin".into()];
    let mut say = |name: &str, value: std::ffi::OsString| arguments.extend([format!("--{name}").into(), value]);
    say("data", data.into());
    say("listen", flags.listen.to_string().into());
    say("account", flags.account.to_string().into());
    say("region", flags.region.to_string().into());
    let numbers = [
        ("user", flags.user.map(u64::from)),
        ("memory-budget", flags.memory_budget),
        ("concurrency", flags.concurrency),
        ("background", flags.background),
        ("max-memory", flags.max_memory),
        ("max-tmp", flags.max_tmp),
        ("journal-size", flags.journal_size),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            say(name, value.to_string().into());
        }
    }
    let spans =
        [("idle-timeout", flags.idle_timeout), ("max-timeout", flags.max_timeout), ("journal-age", flags.journal_age)];
    for (name, span) in spans {
        if let Some(span) = span {
            say(name, format!("{}ms", span.as_millis()).into());
        }
    }
    if let Some(filter) = &flags.log {
        say("log", filter.into());
    }
    if flags.parity {
        arguments.push("--parity".into());
    }
    if flags.multi_tenant {
        arguments.push("--multi-tenant".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_save_is_told_without_empty_parentheses() {
        let done = Deployed {
            name: "late".into(),
            arn: String::new(),
            action: Action::Created,
            runtime: String::new(),
            handler: String::new(),
            memory_mb: 128,
            timeout_s: 3,
            package_bytes: 0,
            files: 1,
            code_sha256: String::new(),
            took_ms: 58,
            warnings: vec![],
        };
        let said = |files: &[&str]| again(&done, &files.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert_eq!(said(&[""]), "created late in 58 ms");
        assert_eq!(said(&["", "app.py"]), "created late (app.py) in 58 ms");
        assert_eq!(said(&["a", "b", "c"]), "created late (a and 2 more) in 58 ms");
    }

    #[test]
    fn the_child_hears_every_flag() {
        let line = "flint dev app --data d --listen 127.0.0.1:0 --account 123456789012 --region eu-west-1 --user 7 \
                    --memory-budget 2GiB --concurrency 9 --background 3 --idle-timeout 1m --log debug \
                    --max-memory 2GiB --max-tmp 1GiB --max-timeout 30s --journal-age 2h --journal-size 5MiB --parity --multi-tenant";
        let Command::Dev(dev) = Cli::parse_from(line.split_whitespace()).command else { panic!() };
        let said = std::iter::once("flint".into()).chain(arguments(&dev.server));
        let Command::Up(up) = Cli::parse_from(said).command else { panic!() };
        assert!(up.dev && up.end_with_stdin && !up.plain_http);
        assert_eq!(format!("{:?}", up.server), format!("{:?}", dev.server));
    }
}
