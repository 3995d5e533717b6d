//! Why a server does not start, or had to stop. Each message is the one line that a person sees.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Option(String),
    #[error("flint can not isolate functions here (missing: {0}); started as root it drops its privileges itself")]
    Missing(String),
    #[error("--multi-tenant needs every wall and every limit, and here is no {0}")]
    MultiTenant(String),
    #[error("cannot use the data directory {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error("the data directory {0} is in use by another flint; stop that one or choose another with --data")]
    InUse(PathBuf),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot drop privileges: {0}")]
    Privilege(io::Error),
    #[error(transparent)]
    Sandbox(#[from] flint_sandbox::Error),
    #[error(transparent)]
    Store(#[from] flint_store::Error),
    #[error(transparent)]
    Keys(#[from] flint_iam::Error),
    #[error(transparent)]
    Vault(#[from] flint_iam::vault::Error),
    #[error(transparent)]
    Observe(#[from] flint_observe::Error),
    #[error(transparent)]
    Engine(#[from] flint_engine::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the store stopped ({0}): nothing more is acknowledged; start again to recover from the log")]
    StoreStopped(String),
    #[error("the spawner is gone: nothing more is acknowledged; start again")]
    SpawnerGone,
}
