//! The life of a server process: root's part, the drop, serving, the end.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flint_base::{Clock, SystemClock};
use flint_delivery::{Bounds, Delivery};
use flint_engine::{Engine, Parts};
use flint_iam::{KeyRing, KeyVault, MasterKey, Residents, Sessions};
use flint_kit::Service;
use flint_observe::Observe;
use flint_queue::Queues;
use flint_runtime::{Catalog, Environments, Match, Search};
use flint_sandbox::{Capabilities, Sandboxes, SpawnerChannel, spawner};
use flint_store::{Blobs, LogStore, Store};
use flint_wire::front::{Front, FrontOptions, Limits};
use flint_wire::gate::{DevGate, Gate};
use flint_wire::links::{Downloads, SignedLinks};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::Stage;
use crate::data::{self, DataDir};
use crate::error::Error;
use crate::events::{self, Events};
use crate::inside::{self, Inside};
use crate::keys::AllKeys;
use crate::operator::Operator;
use crate::options::{DEFAULT_USER, Mode, Options};
use crate::{load, privilege, runtimes, services};

/// How long calls in flight may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// What root's part hands to the serving part.
struct Prepared {
    options: Options,
    data: DataDir,
    listener: TcpListener,
    channel: SpawnerChannel,
    sandbox: flint_sandbox::Options,
    catalog: Catalog,
    /// A master key from outside the data directory.
    master_key: Option<MasterKey>,
}

/// Runs a server until SIGTERM, SIGINT or a failure that ends it. Must be called while the process has one thread.
///
/// Prints `ready URL` on standard output once it serves.
///
/// Errors: whatever kept it from starting, or ended it.
pub fn run(options: Options) -> Result<(), Error> {
    let prepared = prepare(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(prepared));
    // Whatever still blocks (a write to a dead disk) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// All that needs root, or the rights of the user who starts it: lock, look for interpreters, bind, make the spawner; then
/// give those up.
fn prepare(options: Options) -> Result<Prepared, Error> {
    options.check()?;
    start_log(&options.log);
    let host = flint_sandbox::probe();
    check_host(&host, &options)?;
    let data = DataDir::open(&options.data)?;
    let search = Search { installations: runtimes::read(&data.path)?, ..Search::host(options.homes.clone()) };
    let catalog = Catalog::discover(&search);
    let address = options.listen;
    let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
    listener.set_nonblocking(true)?;
    let user = options.user.unwrap_or(DEFAULT_USER);
    let sandbox = flint_sandbox::Options {
        uid_base: options.uid_base,
        image_dir: Some(data.path.clone()),
        cpu_quota: options.parity,
        endpoint_port: Some(inside::port(listener.local_addr()?)),
        strict: options.multi_tenant,
        ..if host.root {
            flint_sandbox::Options::new(data.id()?, user, user)
        } else {
            flint_sandbox::Options::rootless(data.id()?)
        }
    };
    privilege::no_core_dumps();
    let channel = spawner::start(&sandbox)?;
    privilege::no_huge_pages();
    // Root may have to read it, and the spawner has no use for it.
    let master_key = master_key(&options)?;
    if host.root {
        data.give_to(user)?;
    }
    data.enter()?;
    privilege::raise_descriptor_limit();
    if host.root {
        privilege::drop_to(user)?;
    } else {
        spawner::seclude().map_err(Error::Privilege)?;
    }
    Ok(Prepared { options, data, listener, channel, sandbox, catalog, master_key })
}

/// Refuses a host that can't do what is asked for; says what is not enforced where that is accepted.
fn check_host(host: &Capabilities, options: &Options) -> Result<(), Error> {
    let against = host.against_tenants();
    if options.multi_tenant && !against.is_empty() {
        return Err(Error::MultiTenant(against.join("; no ")));
    }
    if !host.missing.is_empty() {
        return Err(Error::Missing(host.missing.join(", ")));
    }
    if !host.root && options.user.is_some() {
        let why = "only root can choose a --user: without it the server stays who it is";
        return Err(Error::Option(why.to_owned()));
    }
    if options.parity && !host.cpu_weight {
        let why = "--parity sets CPU quotas, and there is no cpu cgroup controller for them here";
        return Err(Error::Option(why.to_owned()));
    }
    if !host.exceptions.is_empty() {
        let names: Vec<_> = host.exceptions.iter().map(|e| e.name).collect();
        let what = if host.root { "" } else { "started without root, for your own functions only; " };
        tracing::warn!("{what}not enforced here: {} (flint doctor says what each means)", names.join(", "));
    }
    Ok(())
}

async fn serve(prepared: Prepared) -> Result<(), Error> {
    let Prepared { options, data, listener, channel, sandbox, catalog, master_key } = prepared;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let dir = Path::new(".");
    let mut end = End::listen(options.end_with_stdin)?;

    let log_store = Arc::new(LogStore::open(dir, flint_store::Options::default())?);
    let store: Arc<dyn Store> = log_store.clone();
    let vault = Arc::new(KeyVault::open(dir, &*store, master_key).await?);
    let ring = KeyRing::load_or_create(dir, &options.place.account)?;
    let links = SignedLinks::new(ring.derive("links"));
    let sessions = Sessions::new(&ring);
    let keys = AllKeys { ring, sessions: sessions.clone() };
    let residents = Residents::new(store.clone(), sessions.clone(), clock.clone());
    let inside = Inside::new(inside::port(listener.local_addr()?), residents);
    let blobs = Blobs::open(dir)?;
    let stage = Arc::new(Stage::open(log_store.clone(), blobs.clone())?);
    let observe = Observe::open(dir, clock.clone(), flint_observe::Options::default())?;
    let sandboxes = Sandboxes::new(channel, sandbox)?;
    let catalog = Arc::new(catalog);
    let environments = Environments::new(
        sandboxes.clone(),
        catalog.clone(),
        observe.sink(),
        clock.clone(),
        flint_runtime::Options { cpu_quota: options.parity, ..flint_runtime::Options::default() },
        Some(inside.clone()),
    );
    let parts = Parts {
        store: store.clone(),
        blobs: blobs.clone(),
        sandboxes: sandboxes.clone(),
        environments,
        catalog: catalog.clone(),
        clock: clock.clone(),
        links: Arc::new(links.clone()),
        vault,
    };
    let engine = Engine::open(dir, parts, engine_options(&options)).await?;
    let loops = tokio::spawn(engine.clone().run());
    let queues = Queues::open(store.clone(), clock.clone(), flint_queue::Options::default()).await?;
    let queueing = tokio::spawn({
        let queues = queues.clone();
        async move { queues.run().await }
    });
    let delivery = Delivery::open(
        flint_delivery::Parts {
            store: store.clone(),
            clock: clock.clone(),
            invoker: engine.invoker(),
            targets: vec![("sqs", queues.clone())],
            sources: vec![("sqs", queues.clone())],
            load: options.background.is_none().then(load::probe),
        },
        delivery_options(&options),
    )
    .await?;
    let moving = tokio::spawn({
        let delivery = delivery.clone();
        async move { delivery.run().await }
    });

    let operator = Operator {
        engine: engine.clone(),
        catalog,
        mode: options.mode,
        started: clock.now(),
        clock: clock.clone(),
        stage,
    };
    let events = Events {
        store: store.clone(),
        clock: clock.clone(),
        invoker: engine.invoker(),
        async_invoker: delivery.async_invoker(),
        dead_letters: queues.clone(),
    };
    let sweeping = tokio::spawn(events::sweeper::run(store.clone(), clock.clone(), options.journal));
    let own: [Arc<dyn Service>; 2] = [Arc::new(operator), events::service(events)?];
    let access = services::Access { sessions, authorizer: services::authorizer(options.mode, &store) };
    let switchboard = services::switchboard(&engine, &delivery, &queues, &observe, &store, access, own);
    let address = listener.local_addr()?;
    let health = services::health(&switchboard);
    let front_options = FrontOptions {
        switchboard,
        gate: gate(&options, keys),
        region: options.place.region.clone(),
        clock: clock.clone(),
        health,
        downloads: Some(Downloads { links, open: Arc::new(move |sha256| open_blob(&blobs, sha256)) }),
        limits: Limits { drain: DRAIN, ..Limits::default() },
    };
    inside.open(front_options.clone());
    let front = Front::new(front_options);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let until = async {
            // Sent, or dropped with the server: both mean the end.
            let _ = stopped.await;
        };
        front.serve(listener, until).await
    });
    announce(address, &options)?;

    let result = tokio::select! {
        () = end.asked() => Ok(()),
        () = sandboxes.spawner_gone() => Err(Error::SpawnerGone),
        reason = flint_store::stopped(&*store) => Err(Error::StoreStopped(reason)),
    };
    if result.is_ok() {
        let _ = stop.send(());
        // Together with the calls that somebody waits for, which may wait for such an event's function to be free.
        let draining = tokio::spawn({
            let delivery = delivery.clone();
            async move { delivery.drain(DRAIN).await }
        });
        if tokio::time::timeout(DRAIN, serving).await.is_err() {
            tracing::warn!("calls were still in flight when the drain time was over");
        }
        let _ = draining.await;
        engine.drain().await;
    }
    moving.abort();
    queueing.abort();
    sweeping.abort();
    loops.abort();
    let _ = tokio::task::spawn_blocking(move || observe.close()).await;
    if result.is_ok() {
        queues.close().await;
        tokio::task::spawn_blocking(move || log_store.close()).await.map_err(std::io::Error::other)?;
    }
    drop(data);
    result
}

/// What asks the server to end.
struct End {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    stdin: Option<tokio::net::unix::pipe::Receiver>,
}

impl End {
    fn listen(with_stdin: bool) -> Result<Self, Error> {
        let stdin = if with_stdin {
            let pipe: std::os::fd::OwnedFd = rustix::io::dup(std::io::stdin()).map_err(std::io::Error::from)?;
            Some(tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?)
        } else {
            None
        };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, stdin })
    }

    async fn asked(&mut self) {
        let stdin = &mut self.stdin;
        let closed = async {
            match stdin {
                Some(pipe) => {
                    let mut byte = [0];
                    // Anything but data is the end; data is not expected and ignored.
                    while matches!(pipe.read(&mut byte).await, Ok(1)) {}
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = closed => {}
        }
    }
}

/// The master key that the options name, if it does not lie in the data directory.
fn master_key(options: &Options) -> Result<Option<MasterKey>, Error> {
    let file = options.master_key_file.as_deref().map(MasterKey::read);
    let text = options.master_key.as_ref().map(|secret| MasterKey::parse(secret.expose(), "FLINT_MASTER_KEY"));
    Ok(file.or(text).transpose()?)
}

fn engine_options(options: &Options) -> flint_engine::Options {
    flint_engine::Options {
        concurrency: options.concurrency,
        memory_budget_mb: options.memory_budget_mb.unwrap_or_else(privilege::memory_budget_mb),
        ceilings: options.ceilings,
        // Longer than the gaps between calls of a busy function, so that its environments are not frozen in between.
        freeze_after: Duration::from_millis(20),
        idle_timeout: options.idle_timeout,
        init_limit: options.init_limit,
        runtimes: match options.mode {
            Mode::Up => Match::Exact,
            Mode::Dev => Match::Nearest,
        },
    }
}

fn delivery_options(options: &Options) -> flint_delivery::Options {
    let account = usize::try_from(options.concurrency).unwrap_or(usize::MAX);
    let background = match options.background {
        Some(n) => Bounds { least: n, most: n },
        None => Bounds { least: load::processors(), most: account },
    };
    flint_delivery::Options { background, parity: options.parity }
}

fn gate(options: &Options, keys: AllKeys) -> Gate {
    let keys = Arc::new(keys);
    match options.mode {
        Mode::Up => Gate::Signed { keys, regions: Vec::new() },
        Mode::Dev => Gate::Dev(DevGate { account: options.place.account.clone(), hosts: Vec::new(), keys: Some(keys) }),
    }
}

fn open_blob(blobs: &Blobs, sha256: &str) -> std::io::Result<std::fs::File> {
    use std::io::{Error, ErrorKind};
    let hash = sha256.parse().map_err(|_| Error::from(ErrorKind::NotFound))?;
    blobs.open_file(&hash).map_err(|error| match error {
        flint_store::Error::NoBlob(_) => ErrorKind::NotFound.into(),
        other => Error::other(other),
    })
}

/// The one line that whoever started the server waits for.
fn announce(address: SocketAddr, options: &Options) -> Result<(), Error> {
    let url = format!("http://{address}");
    data::write_endpoint(&url, options.place.region.as_str())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {url}")?;
    out.flush()?;
    Ok(())
}

fn start_log(filter: &str) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "warn".into());
    let colours = std::io::stderr().is_terminal();
    // A second server in one process (tests) keeps the first one's log.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}
