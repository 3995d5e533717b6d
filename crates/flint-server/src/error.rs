//! Why a server does not start, or had to stop. Each message is the one line that a person sees.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Option(String),
    #[error("flint can not isolate functions here (missing: {0}); started as root it drops its privileges itself")]
    Missing(String),
    #[error("--multi-tenant needs every wall and every limit, and here is no {0}")]
    MultiTenant(String),
    #[error("{0} is not a loopback address and TLS is not set up")]
    Public(IpAddr),
    #[error("cannot use the data directory {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error("the data directory {0} is in use by another flint")]
    InUse(PathBuf),
    /// A folder that cannot become a runtime.
    #[error("{} {reason}", folder.display())]
    Runtime { folder: PathBuf, reason: String, hint: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot drop privileges: {0}")]
    Privilege(io::Error),
    #[error(transparent)]
    Sandbox(#[from] flint_sandbox::Error),
    #[error(transparent)]
    Store(#[from] flint_store::Error),
    #[error(transparent)]
    Read(#[from] flint_store::ReadError),
    #[error(transparent)]
    Keys(#[from] flint_iam::Error),
    #[error(transparent)]
    Vault(#[from] flint_iam::vault::Error),
    #[error(transparent)]
    Observe(#[from] flint_observe::Error),
    #[error(transparent)]
    Engine(#[from] flint_engine::Error),
    #[error(transparent)]
    Delivery(#[from] flint_delivery::Error),
    #[error("the queues cannot be opened: {0}")]
    Queue(#[from] flint_queue::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the store stopped ({0}): nothing more is acknowledged; start again to recover from the log")]
    StoreStopped(String),
    #[error("the spawner is gone: nothing more is acknowledged; start again")]
    SpawnerGone,
}

impl Error {
    /// What to do next, in one line without a full stop.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::InUse(path) => {
                let path = path.display();
                format!(
                    "`flint ps --data {path}` talks to it, `flint stop --data {path}` stops it; or choose another --data"
                )
            }
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "choose another with --listen; port 0 takes a free one".into()
            }
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                "choose an address of this machine with --listen, such as 127.0.0.1:4566".into()
            }
            Error::Public(_) => {
                "listen on loopback behind a proxy with TLS, or say --plain-http if the network is yours alone".into()
            }
            Error::Data { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; `flint up --data DIR` makes a data directory".into()
            }
            Error::Data { .. } => "choose another directory with --data, or check who owns this one".into(),
            Error::Runtime { hint, .. } => hint.clone(),
            _ => return None,
        })
    }
}
