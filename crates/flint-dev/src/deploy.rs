//! A folder becomes a function that is ready to be invoked: created, or updated where something changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::app::{Build, Kind};
use crate::client::lambda::{Environment, FunctionConfiguration, Settings};
use crate::client::platform::RuntimeInfo;
use crate::package::{self, Package, Tools};
use crate::python::{Interpreter, Search, minor};
use crate::{App, Client, Error, check};

/// How long a function may take to become ready. The reference's waiters give up after 5 minutes.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Told what is being done, in a few words, as it begins.
pub trait Progress {
    fn step(&self, what: &str);
}

/// What a deployment did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    pub name: String,
    pub arn: String,
    pub action: Action,
    pub runtime: String,
    pub handler: String,
    pub memory_mb: u32,
    pub timeout_s: u32,
    /// Of the zip archive.
    pub package_bytes: usize,
    pub files: usize,
    pub code_sha256: String,
    pub took_ms: u64,
    /// What will fail although it was deployed, in lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    Created,
    Updated,
    /// Neither code nor configuration differ from what is deployed.
    Unchanged,
}

/// Packages the app and creates or updates its function; returns when it is ready.
///
/// The function ends up as the folder says: what `flint.toml` leaves out is set to its default. The role is a
/// placeholder of the caller's account, and stays as it is on an update, unless the folder names one.
///
/// Errors: those of packaging and of the service; [`Error::NotReady`] if the function failed to start up.
pub async fn deploy(client: &Client, app: &App, search: &Search, progress: &dyn Progress) -> Result<Deployed, Error> {
    Deployer::new(search.clone()).deploy(client, app, progress).await
}

/// Deploys again and again: remembers what it learned about the server, so that a change of code alone is one request.
#[derive(Debug)]
pub struct Deployer {
    search: Arc<Search>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    runtimes: HashMap<(Kind, bool), (String, Option<Interpreter>)>,
    account: Option<String>,
    /// What this deployer left of each function.
    functions: HashMap<String, (FunctionConfiguration, Settings)>,
}

impl Deployer {
    /// `search` is where this machine's interpreters and tools are looked for.
    pub fn new(search: Search) -> Self {
        Self { search: Arc::new(search), known: Mutex::default() }
    }

    /// As [`deploy`]. Functions may be deployed side by side.
    pub async fn deploy(&self, client: &Client, app: &App, progress: &dyn Progress) -> Result<Deployed, Error> {
        let clock = client.clock().clone();
        let start = clock.monotonic();
        let (runtime, interpreter) = self.runtime(client, app).await?;
        progress.step(&format!("{} {}", doing(&app.build), app.name));
        let package = {
            let (app, search) = (app.clone(), self.search.clone());
            // Reading files and running tools block: signals are still heard meanwhile.
            blocking(move || package::build(&app, &Tools { interpreter, search: (*search).clone() })).await?
        };
        let settings = Settings {
            runtime,
            handler: app.handler.clone(),
            memory_size: app.memory_mb,
            timeout: app.timeout_s,
            environment: Environment { variables: app.environment.clone() },
            role: app.role.clone(),
        };
        progress.step(&format!("deploying {}", app.name));
        // Looked at beside the deployment, which need not wait for it.
        let syntax = {
            let (app, runtime, search) = (app.clone(), settings.runtime.clone(), self.search.clone());
            tokio::task::spawn_blocking(move || check::syntax(&app, &runtime, &search))
        };
        let (function, action) = match self.again(client, app, &settings, &package).await? {
            Some(done) => done,
            None => match client.function(&app.name).await? {
                None => (self.create(client, app, &settings, &package).await?, Action::Created),
                Some(there) => update(client, there, &settings, &package).await?,
            },
        };
        self.known().functions.insert(app.name.clone(), (function.clone(), settings.clone()));
        let syntax = syntax.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let warnings = syntax.map(|fault| format!("{fault}: every call of {} will fail", app.name));
        Ok(Deployed {
            warnings: warnings.into_iter().collect(),
            name: app.name.clone(),
            arn: function.function_arn,
            action,
            runtime: settings.runtime,
            handler: settings.handler,
            memory_mb: settings.memory_size,
            timeout_s: settings.timeout,
            package_bytes: package.zip.len(),
            files: package.files,
            code_sha256: package.sha256_base64,
            took_ms: u64::try_from(clock.monotonic().saturating_sub(start).as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The short way: this deployer deployed the function before, with the same settings. `None` if it did not, or if the
    /// function is not there any more.
    async fn again(
        &self,
        client: &Client,
        app: &App,
        settings: &Settings,
        package: &Package,
    ) -> Result<Option<(FunctionConfiguration, Action)>, Error> {
        let known = self.known().functions.remove(&app.name);
        let Some((there, _)) = known.filter(|(_, before)| before == settings) else { return Ok(None) };
        if there.code_sha256 == package.sha256_base64 {
            return Ok(Some((there, Action::Unchanged)));
        }
        match client.update_function_code(&app.name, &package.zip).await {
            Ok(now) => Ok(Some((settled(client, now).await?, Action::Updated))),
            Err(e) if e.is_not_found() || e.code() == Some("ResourceConflictException") => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn create(
        &self,
        client: &Client,
        app: &App,
        settings: &Settings,
        package: &Package,
    ) -> Result<FunctionConfiguration, Error> {
        let role = match &settings.role {
            Some(role) => role.clone(),
            None => format!("arn:aws:iam::{}:role/flint-default", self.account(client).await?),
        };
        // The role is a parameter of its own there.
        let settings = Settings { role: None, ..settings.clone() };
        let made = client.create_function(&app.name, &role, &settings, &package.zip).await?;
        settled(client, made).await
    }

    async fn account(&self, client: &Client) -> Result<String, Error> {
        let known = self.known().account.clone();
        if let Some(account) = known {
            return Ok(account);
        }
        let account = client.status().await?.account;
        self.known().account = Some(account.clone());
        Ok(account)
    }

    /// The runtime's identifier and, where pip is needed, this machine's interpreter of that version.
    async fn runtime(&self, client: &Client, app: &App) -> Result<(String, Option<Interpreter>), Error> {
        let key = (app.kind.clone(), matches!(app.build, Build::Pip(_)));
        let known = self.known().runtimes.get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = choose_runtime(client, app, &self.search).await?;
        self.known().runtimes.insert(key, found.clone());
        Ok(found)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doing(build: &Build) -> &'static str {
    match build {
        Build::AsIs => "packaging",
        Build::Pip(_) => "installing requirements and packaging",
        Build::Npm => "installing dependencies and packaging",
        Build::Cargo { .. } => "cargo build --release of",
        Build::Go => "go build of",
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Waits for what an answer says is under way.
async fn settled(client: &Client, answer: FunctionConfiguration) -> Result<FunctionConfiguration, Error> {
    let failed = answer.state.as_deref() == Some("Failed") || answer.last_update_status.as_deref() == Some("Failed");
    if failed || answer.state.is_none() || is_pending(&answer) {
        return ready(client, &answer.function_name).await;
    }
    Ok(answer)
}

async fn update(
    client: &Client,
    there: FunctionConfiguration,
    settings: &Settings,
    package: &Package,
) -> Result<(FunctionConfiguration, Action), Error> {
    let name = there.function_name.clone();
    // An update under way (another deploy, a create that was broken off) ends first: the service refuses a second.
    let mut now = if is_pending(&there) { ready(client, &name).await? } else { there };
    let mut action = Action::Unchanged;
    // A function that failed is deployed again, even with the same code.
    let failed = now.state.as_deref() == Some("Failed") || now.last_update_status.as_deref() == Some("Failed");
    if failed || differs(&now, settings) {
        now = settled(client, client.update_function_configuration(&name, settings).await?).await?;
        action = Action::Updated;
    }
    if failed || now.code_sha256 != package.sha256_base64 {
        now = settled(client, client.update_function_code(&name, &package.zip).await?).await?;
        action = Action::Updated;
    }
    Ok((now, action))
}

fn differs(there: &FunctionConfiguration, settings: &Settings) -> bool {
    let variables = there.environment.clone().unwrap_or_default();
    there.runtime.as_deref() != Some(&settings.runtime)
        || there.handler.as_deref() != Some(&settings.handler)
        || there.memory_size != settings.memory_size
        || there.timeout != settings.timeout
        || variables != settings.environment
        || settings.role.as_ref().is_some_and(|role| *role != there.role)
}

fn is_pending(f: &FunctionConfiguration) -> bool {
    f.state.as_deref() == Some("Pending") || f.last_update_status.as_deref() == Some("InProgress")
}

/// Waits until the function is `Active` and its last update `Successful`.
async fn ready(client: &Client, name: &str) -> Result<FunctionConfiguration, Error> {
    let start = client.clock().monotonic();
    let mut pause = Duration::from_millis(10);
    let not_ready = |reason: String| Error::NotReady { name: name.to_owned(), reason };
    loop {
        let f = client.function(name).await?.ok_or_else(|| not_ready("it was deleted meanwhile".into()))?;
        if f.state.as_deref() == Some("Failed") {
            return Err(not_ready(f.state_reason.unwrap_or_else(|| "its state is Failed".into())));
        }
        if f.last_update_status.as_deref() == Some("Failed") {
            return Err(not_ready(f.last_update_status_reason.unwrap_or_else(|| "its last update failed".into())));
        }
        if !is_pending(&f) {
            return Ok(f);
        }
        if client.clock().monotonic().saturating_sub(start) > READY_WITHIN {
            return Err(not_ready(format!("it is still pending after {} s", READY_WITHIN.as_secs())));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

async fn choose_runtime(
    client: &Client,
    app: &App,
    search: &Arc<Search>,
) -> Result<(String, Option<Interpreter>), Error> {
    let needs_pip = matches!(app.build, Build::Pip(_));
    if let Kind::Runtime(runtime) = &app.kind
        && !needs_pip
    {
        return Ok((runtime.clone(), None));
    }
    let runtimes = client.runtimes().await?;
    let candidates = match &app.kind {
        Kind::Runtime(runtime) => vec![runtime.clone()],
        Kind::AnyPython => pythons(&runtimes),
        Kind::AnyNode => nodes(&runtimes),
    };
    if !needs_pip {
        let newest = candidates.into_iter().next().ok_or_else(|| no_runtime(app))?;
        return Ok((newest, None));
    }
    let (app, search) = (app.clone(), search.clone());
    // Interpreters are asked by running them.
    blocking(move || {
        for runtime in &candidates {
            let source = source_of(&runtimes, runtime);
            if let Ok(interpreter) = search.interpreter(runtime, source.as_deref()) {
                return Ok((runtime.clone(), Some(interpreter)));
            }
        }
        match candidates.first() {
            None => Err(no_runtime(&app)),
            Some(runtime) => {
                Err(Error::NoInterpreter { runtime: runtime.clone(), found: available(&search, &runtimes, runtime) })
            }
        }
    })
    .await
}

/// The server's Pythons, newest first.
fn pythons(runtimes: &[RuntimeInfo]) -> Vec<String> {
    newest(runtimes, minor)
}

/// The server's Node.js versions, newest first.
fn nodes(runtimes: &[RuntimeInfo]) -> Vec<String> {
    newest(runtimes, |identifier| identifier.strip_prefix("nodejs")?.strip_suffix(".x")?.parse().ok())
}

fn newest(runtimes: &[RuntimeInfo], version: impl Fn(&str) -> Option<u32>) -> Vec<String> {
    let mut found: Vec<(u32, String)> =
        runtimes.iter().filter_map(|r| Some((version(&r.identifier)?, r.identifier.clone()))).collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.0));
    found.dedup();
    found.into_iter().map(|(_, identifier)| identifier).collect()
}

/// The interpreter below the prefix that the server names, if that is a path. It may be another machine's.
fn source_of(runtimes: &[RuntimeInfo], runtime: &str) -> Option<PathBuf> {
    let prefix = runtimes.iter().find(|r| r.identifier == runtime)?.source.as_deref()?;
    Some(Path::new(prefix)).filter(|p| p.is_absolute()).map(|p| p.join("bin").join(runtime))
}

/// Which of the server's Pythons are on this machine, apart from the one that was asked for.
fn available(search: &Search, runtimes: &[RuntimeInfo], but: &str) -> Vec<String> {
    let has = |r: &String| {
        let source = source_of(runtimes, r);
        search.interpreter(r, source.as_deref()).is_ok()
    };
    pythons(runtimes).into_iter().filter(|r| r != but).filter(has).collect()
}

fn no_runtime(app: &App) -> Error {
    let (language, program) = if app.kind == Kind::AnyNode { ("Node.js", "node") } else { ("Python", "python3") };
    Error::App {
        dir: app.dir.clone(),
        reason: format!("the server has no {language} to run it"),
        hint: format!(
            "install {program} on the server's host and start it again; `flint runtime list` shows what it has"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_python_comes_first() {
        let of = |ids: &[&str]| {
            let infos: Vec<_> =
                ids.iter().map(|i| RuntimeInfo { identifier: (*i).into(), ..Default::default() }).collect();
            pythons(&infos)
        };
        assert_eq!(
            of(&["python3.9", "nodejs22.x", "python3.13", "python3.12"]),
            ["python3.13", "python3.12", "python3.9"]
        );
        assert!(of(&["provided.al2023"]).is_empty());
        let node = RuntimeInfo { identifier: "nodejs22.x".into(), ..Default::default() };
        assert_eq!(nodes(&[node]), ["nodejs22.x"]);
    }
}
