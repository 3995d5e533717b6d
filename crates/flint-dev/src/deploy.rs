//! A folder becomes a function that is ready to be invoked: created, or updated where something changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::app::Kind;
use crate::client::lambda::{Environment, FunctionConfiguration, Settings};
use crate::client::platform::RuntimeInfo;
use crate::package::{self, Package};
use crate::python::{Interpreter, Search, minor};
use crate::{App, Client, Error};

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
/// placeholder of the caller's account, and stays as it is on an update.
///
/// Errors: those of packaging and of the service; [`Error::NotReady`] if the function failed to start up.
pub async fn deploy(client: &Client, app: &App, search: &Search, progress: &dyn Progress) -> Result<Deployed, Error> {
    let clock = client.clock().clone();
    let start = clock.monotonic();
    let (runtime, interpreter) = choose_runtime(client, app, search).await?;
    progress.step(if app.requirements.is_some() { "installing requirements and packaging" } else { "packaging" });
    let package = {
        let (app, interpreter) = (app.clone(), interpreter.clone());
        // Reading files and running pip block: signals are still heard meanwhile.
        let built = tokio::task::spawn_blocking(move || package::build(&app, interpreter.as_ref())).await;
        built.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?
    };
    let settings = Settings {
        runtime: runtime.clone(),
        handler: app.handler.clone(),
        memory_size: app.memory_mb,
        timeout: app.timeout_s,
        environment: Environment { variables: app.environment.clone() },
    };
    progress.step(&format!("deploying {}", app.name));
    let (function, action) = match client.function(&app.name).await? {
        None => (create(client, app, &settings, &package).await?, Action::Created),
        Some(there) => update(client, there, &settings, &package).await?,
    };
    Ok(Deployed {
        name: app.name.clone(),
        arn: function.function_arn,
        action,
        runtime,
        handler: settings.handler,
        memory_mb: settings.memory_size,
        timeout_s: settings.timeout,
        package_bytes: package.zip.len(),
        files: package.files,
        code_sha256: package.sha256_base64,
        took_ms: u64::try_from(clock.monotonic().saturating_sub(start).as_millis()).unwrap_or(u64::MAX),
    })
}

async fn create(
    client: &Client,
    app: &App,
    settings: &Settings,
    package: &Package,
) -> Result<FunctionConfiguration, Error> {
    let account = client.status().await?.account;
    let role = format!("arn:aws:iam::{account}:role/flint-default");
    client.create_function(&app.name, &role, settings, &package.zip).await?;
    ready(client, &app.name).await
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
        client.update_function_configuration(&name, settings).await?;
        now = ready(client, &name).await?;
        action = Action::Updated;
    }
    if failed || now.code_sha256 != package.sha256_base64 {
        client.update_function_code(&name, &package.zip).await?;
        now = ready(client, &name).await?;
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

/// The runtime's identifier and, where there are requirements, this machine's interpreter of that version.
async fn choose_runtime(client: &Client, app: &App, search: &Search) -> Result<(String, Option<Interpreter>), Error> {
    let needs_pip = app.requirements.is_some();
    if let Kind::Runtime(runtime) = &app.kind
        && !needs_pip
    {
        return Ok((runtime.clone(), None));
    }
    let runtimes = client.runtimes().await?;
    let candidates = match &app.kind {
        Kind::Runtime(runtime) => vec![runtime.clone()],
        Kind::AnyPython => pythons(&runtimes),
    };
    if !needs_pip {
        let newest = candidates.into_iter().next().ok_or_else(|| no_python(app))?;
        return Ok((newest, None));
    }
    let (app, search, local) = (app.clone(), search.clone(), runtimes);
    // Interpreters are asked by running them.
    let found = tokio::task::spawn_blocking(move || {
        for runtime in &candidates {
            let source = source_of(&local, runtime);
            if let Ok(interpreter) = search.interpreter(runtime, source.as_deref()) {
                return Ok((runtime.clone(), Some(interpreter)));
            }
        }
        match candidates.first() {
            None => Err(no_python(&app)),
            Some(runtime) => {
                Err(Error::NoInterpreter { runtime: runtime.clone(), found: available(&search, &local, runtime) })
            }
        }
    });
    found.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// The server's Pythons, newest first.
fn pythons(runtimes: &[RuntimeInfo]) -> Vec<String> {
    let mut found: Vec<(u32, String)> =
        runtimes.iter().filter_map(|r| Some((minor(&r.identifier)?, r.identifier.clone()))).collect();
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

fn no_python(app: &App) -> Error {
    Error::App {
        dir: app.dir.clone(),
        reason: "the server has no Python to run it".into(),
        hint: "install python3 on the server's host and start it again; `flint runtime list` shows what it has".into(),
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
    }
}
