//! The engine: its parts, how they are put together at start, and its background loops.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flint_base::Clock;
use flint_kit::{Links, Vault};
use flint_runtime::{Answer, Catalog, EnvironmentSpec, Environments, Match};
use flint_sandbox::Sandboxes;
use flint_store::{Batch, BlobHash, Blobs, Store};
use tokio::sync::Notify;

use crate::code::{Code, CodeStore, Trees};
use crate::error::Error;
use crate::function::{Draws, Function, Live, Runnable, label};
use crate::keys;
use crate::layers::{self, Layers};
use crate::pool::{EnvironmentView, Leased, Pool};
use crate::record::Recorder;
use crate::registry::Registry;
use crate::room::{Reservation, Room};
use crate::rules::Ceilings;
use crate::stats::{Stats, StatsView};

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Invocations that an account may have in flight (the reference's default is 1,000).
    pub concurrency: u64,
    /// Memory for all environments together, in MB.
    pub memory_budget_mb: u64,
    /// The most that a function may ask for.
    pub ceilings: Ceilings,
    /// How long an idle environment keeps running before it is frozen.
    pub freeze_after: Duration,
    /// How long an idle environment is kept.
    pub idle_timeout: Duration,
    /// How long an init may take (the reference: 10 s).
    pub init_limit: Duration,
    /// Whether a runtime identifier may be served by the nearest version that the host has.
    pub runtimes: Match,
}

/// What the engine is built from.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub blobs: Blobs,
    pub sandboxes: Sandboxes,
    pub environments: Environments,
    pub catalog: Arc<Catalog>,
    pub clock: Arc<dyn Clock>,
    /// Makes the addresses under which packages can be fetched.
    pub links: Arc<dyn Links>,
    /// Seals the functions' environment variables at rest.
    pub vault: Arc<dyn Vault>,
}

/// Functions and their execution environments. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) code: Arc<CodeStore>,
    pub(crate) environments: Environments,
    pub(crate) registry: Registry,
    pub(crate) layers: Layers,
    pub(crate) room: Arc<Room>,
    pub(crate) recorder: Recorder,
    pub(crate) draws: Draws,
    pub(crate) stats: Stats,
    /// Held from a control-plane commit until the snapshot shows it, so that both change in the same order.
    pub(crate) control: tokio::sync::Mutex<()>,
    /// Every pool that may hold environments, retired ones with a busy environment included.
    pools: Mutex<Vec<Arc<Pool>>>,
    gone_idle: Notify,
}

impl Engine {
    /// Loads every function from the store and removes packages that none refers to. Must run inside a tokio runtime.
    ///
    /// Errors: a record that can't be read, or a data directory that can't be.
    pub async fn open(dir: &Path, parts: Parts, options: Options) -> Result<Arc<Self>, Error> {
        let code = CodeStore::open(dir, parts.blobs, parts.sandboxes)?;
        let engine = Arc::new(Self {
            room: Room::new(options.concurrency, options.memory_budget_mb),
            recorder: Recorder::start(parts.store.clone()),
            draws: Draws::default(),
            stats: Stats::default(),
            options,
            clock: parts.clock,
            links: parts.links,
            store: parts.store,
            vault: parts.vault,
            catalog: parts.catalog,
            code,
            environments: parts.environments,
            registry: Registry::default(),
            layers: Layers::default(),
            control: tokio::sync::Mutex::default(),
            pools: Mutex::default(),
            gone_idle: Notify::new(),
        });
        engine.load().await?;
        Ok(engine)
    }

    /// Runs the background loops until the server ends: freeze, reap, sweep packages.
    pub async fn run(self: Arc<Self>) {
        let sweep = tokio::spawn(self.code.clone().sweep());
        let freeze = tokio::spawn(self.clone().freeze_loop());
        self.reap_loop().await;
        sweep.abort();
        freeze.abort();
    }

    /// The environments that exist now, by function, oldest first.
    pub fn environments(&self) -> Vec<EnvironmentView> {
        let mut views: Vec<_> = self.pools().iter().flat_map(|pool| pool.view()).collect();
        views.sort_by(|a, b| a.function.cmp(&b.function).then(a.started.cmp(&b.started)));
        views
    }

    /// What the functions have done since the server started, by name.
    pub fn stats(&self) -> Vec<StatsView> {
        self.stats.view()
    }

    /// Memory set aside for environments and the budget, in MB.
    pub fn memory_mb(&self) -> (u64, u64) {
        (self.room.memory_in_use_mb(), self.room.memory_budget_mb())
    }

    /// Kills every environment and waits until nothing is left of them. New calls would make new ones, so stop those first.
    pub async fn drain(&self) {
        let idle: Vec<_> = self.pools().iter().flat_map(|pool| pool.retire()).collect();
        close_all(idle).await;
    }

    async fn load(&self) -> Result<(), Error> {
        let stored = keys::load(&*self.store, &*self.vault)?;
        self.seal_what_is_plain(&stored).await?;
        let stored_layers = layers::load(&*self.store, &self.layers)?;
        let functions = stored.iter().flat_map(|one| std::iter::once(&one.latest).chain(&one.versions));
        let packages = functions.flat_map(Function::packages).map(|package| package.sha256.clone());
        let of_layers = stored_layers.iter().map(|layer| layer.package().sha256);
        let wanted: std::collections::HashSet<BlobHash> =
            packages.chain(of_layers).filter_map(|sha256| sha256.parse().ok()).collect();
        self.code.keep_only(|hash| wanted.contains(hash)).await?;
        for layer in stored_layers {
            match self.code.load(&layer.package()).await {
                Ok(code) => self.layers.put(layer.with(code)),
                Err(error) => tracing::error!(%error, "a layer's package is lost; publish it again"),
            }
        }
        for one in stored {
            let name = one.latest.name.clone();
            if let Err(error) = self.load_one(one).await {
                tracing::error!(function = %name, %error, "a function's package is lost; deploy it again");
            }
        }
        Ok(())
    }

    /// Rewrites the functions that an earlier release stored with their variables in the clear.
    async fn seal_what_is_plain(&self, stored: &[keys::Stored]) -> Result<(), Error> {
        let mut commits = Vec::new();
        for one in stored.iter().filter(|one| one.plain) {
            let mut batch = keys::put_function(Batch::new(), &*self.vault, &one.head, &one.latest)?;
            for version in &one.versions {
                batch = keys::put_version(batch, &*self.vault, &one.head, version)?;
            }
            commits.push(self.store.commit(batch));
        }
        for commit in commits {
            if let Err(error) = commit.await {
                tracing::warn!(%error, "environment variables stay unencrypted until the next start");
            }
        }
        let sealed = |f: &&Function| f.config.variables.known().is_none();
        for function in stored.iter().flat_map(|one| std::iter::once(&one.latest).chain(&one.versions)).filter(sealed) {
            let (arn, version) = (function.arn(), label(function.version));
            tracing::error!(function = arn, version, "environment variables cannot be decrypted; set them anew");
        }
        Ok(())
    }

    async fn load_one(&self, stored: keys::Stored) -> Result<(), Error> {
        let account = stored.latest.place.account.clone();
        let latest = self.runnable(stored.latest).await?;
        let mut versions = BTreeMap::new();
        for function in stored.versions {
            let number = function.version.unwrap_or(0);
            versions.insert(number, self.runnable(function).await?);
        }
        let reservation = Reservation::new(stored.head.reserved);
        self.room.reserve_concurrency(&account, None, stored.head.reserved);
        let aliases = stored.aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect();
        self.swap(Live { head: stored.head, latest, versions, aliases, reservation });
        Ok(())
    }

    /// One version with its package unpacked and a pool of its own.
    pub(crate) async fn runnable(&self, function: Function) -> Result<Arc<Runnable>, Error> {
        let code = self.code.load(&function.package).await?;
        let trees = self.trees(code, &function).await?;
        Ok(self.runnable_of(function, trees))
    }

    /// The code of `function` and the merged tree of its layers.
    pub(crate) async fn trees(&self, code: Arc<Code>, function: &Function) -> Result<Trees, Error> {
        let mut layers = Vec::new();
        for layer in &function.config.layers {
            layers.push(self.code.load(&layer.package).await?);
        }
        Ok(Trees { code, layers: self.code.merge(layers).await? })
    }

    pub(crate) fn runnable_of(&self, function: Function, trees: Trees) -> Arc<Runnable> {
        let pool = Pool::new(self.spec(&function, &trees), trees);
        self.prepare(&pool);
        self.with_pools(|pools| pools.push(pool.clone()));
        let stats = self.stats.of(&function.place, &function.name);
        Arc::new(Runnable { function, pool, stats })
    }

    /// Puts a committed function into the snapshot and retires the pools of what it replaces.
    pub(crate) fn swap(&self, live: Live) {
        let live = Arc::new(live);
        let replaced = self.registry.put(live.clone());
        self.retire(replaced, Some(&live));
    }

    /// Ends the pools of `gone` that `kept` does not have.
    pub(crate) fn retire(&self, gone: Option<Arc<Live>>, kept: Option<&Live>) {
        let Some(gone) = gone else { return };
        let keeps =
            |pool: &Arc<Pool>| kept.is_some_and(|live| live.runnables().any(|other| Arc::ptr_eq(&other.pool, pool)));
        for runnable in gone.runnables().filter(|runnable| !keeps(&runnable.pool)) {
            tokio::spawn(close_all(runnable.pool.retire()));
        }
    }

    /// Takes an environment back after a call.
    pub(crate) fn release(&self, pool: &Pool, leased: Leased, answer: &Answer) {
        leased.note_call(self.clock.now(), answer.memory_used);
        let unwanted = if answer.reusable { pool.give_back(leased, self.clock.monotonic()) } else { Some(leased) };
        match unwanted {
            Some(leased) => {
                tokio::spawn(leased.close());
            }
            None => self.gone_idle.notify_one(),
        }
    }

    /// Closes the environment that has been idle longest, of whatever function. False if none is idle.
    pub(crate) async fn evict_one(&self) -> bool {
        let pools = self.pools();
        let oldest = pools.iter().filter_map(|pool| Some((pool.oldest()?, pool))).min_by_key(|(since, _)| *since);
        match oldest.and_then(|(_, pool)| pool.evict()) {
            Some(leased) => {
                leased.close().await;
                true
            }
            None => false,
        }
    }

    /// Builds what all environments of a runtime share before the first one is wanted.
    fn prepare(&self, pool: &Pool) {
        let (environments, spec) = (self.environments.clone(), pool.spec.clone());
        tokio::spawn(async move {
            if let Err(error) = environments.prepare(&spec.runtime).await {
                tracing::warn!(runtime = spec.runtime.identifier, %error, "a runtime could not be prepared");
            }
        });
    }

    fn spec(&self, function: &Function, trees: &Trees) -> EnvironmentSpec {
        let config = &function.config;
        // Checked at create and update; a host that lost the interpreter since answers when an environment is made.
        let runtime = self.catalog.resolve(&config.runtime, self.options.runtimes).ok();
        EnvironmentSpec {
            place: function.place.clone(),
            function: function.name.clone(),
            version: label(function.version).into(),
            arn: function.arn().into(),
            role: config.role.as_str().into(),
            runtime: runtime.unwrap_or_else(|| crate::rules::missing_runtime(&config.runtime)),
            handler: config.handler.clone(),
            code: trees.code.path().clone(),
            // A function whose variables can't be read gets no environment, see `invoke`.
            variables: config.variables.known().cloned().unwrap_or_default().into_iter().collect(),
            memory_mb: config.memory_mb,
            timeout: config.timeout(),
            ephemeral_mb: config.ephemeral_mb,
            log_group: function.log_group().into(),
            logging: config.logging,
            layers: trees.layers.as_ref().map(|layers| layers.path().clone()),
            init_limit: self.options.init_limit,
        }
    }

    async fn freeze_loop(self: Arc<Self>) {
        loop {
            self.gone_idle.notified().await;
            loop {
                tokio::time::sleep(self.options.freeze_after).await;
                let now = self.clock.monotonic();
                let cutoff = now.saturating_sub(self.options.freeze_after);
                // Every pool is looked at, so no short cut at the first that still waits.
                let waiting = self.pools().iter().filter(|pool| pool.freeze_idle(cutoff)).count();
                if waiting == 0 {
                    break;
                }
            }
        }
    }

    async fn reap_loop(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let cutoff = self.clock.monotonic().checked_sub(self.options.idle_timeout);
            let now = self.clock.now();
            let gone: Vec<_> = self.pools().iter().flat_map(|pool| pool.reap(cutoff, now)).collect();
            close_all(gone).await;
            // A pool that nothing else holds is neither in the snapshot nor running anything.
            self.with_pools(|pools| pools.retain(|pool| Arc::strong_count(pool) > 1));
        }
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.with_pools(|pools| pools.clone())
    }

    fn with_pools<T>(&self, work: impl FnOnce(&mut Vec<Arc<Pool>>) -> T) -> T {
        work(&mut self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn close_all(leased: Vec<Leased>) {
    for leased in leased {
        leased.close().await;
    }
}
