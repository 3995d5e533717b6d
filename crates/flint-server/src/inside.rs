//! The way from inside an execution environment to the front.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use flint_iam::Residents;
use flint_kit::{Credentials, Endpoint, Running};
use flint_model::{FunctionName, Place};
use flint_sandbox::RUNTIME_API;
use flint_wire::front::{Front, FrontOptions, Limits};
use tokio::sync::watch;

/// The port inside where the server's own can't be had: privileged, or the Runtime API's.
const OTHER_PORT: u16 = 4566;

/// Connections from all environments together, apart from those from outside: neither can take the other's.
const CONNECTIONS: usize = 4096;

/// Bytes of request bodies from inside that are held at a time.
const BUFFERED: usize = 512 << 20;

/// The port on an environment's loopback: the server's own, so that an address means the same inside and outside (queues' URLs).
pub(crate) fn port(listen: SocketAddr) -> u16 {
    match listen.port() {
        port if port < 1024 || port == RUNTIME_API.port() => OTHER_PORT,
        port => port,
    }
}

/// [`Endpoint`] over a front that comes later: environments are made by what the front needs to serve.
#[derive(Debug)]
pub(crate) struct Inside {
    url: String,
    residents: Residents,
    front: watch::Sender<Option<Arc<Front>>>,
}

impl Inside {
    pub fn new(port: u16, residents: Residents) -> Arc<Self> {
        Arc::new(Self { url: format!("http://127.0.0.1:{port}"), residents, front: watch::Sender::new(None) })
    }

    /// Opens: from now on calls are served, those that wait first.
    pub fn open(&self, options: FrontOptions) {
        let limits = Limits { connections: CONNECTIONS, buffered_bytes: BUFFERED, ..options.limits };
        let front = Front::new(FrontOptions { limits, ..options });
        tokio::spawn(Arc::clone(&front).watch());
        self.front.send_replace(Some(front));
    }
}

impl Endpoint for Inside {
    fn url(&self) -> &str {
        &self.url
    }

    fn admit(&self, place: &Place, function: &FunctionName, role: &str) -> Credentials {
        self.residents.admit(place, function, role)
    }

    fn serve(&self, listener: TcpListener, running: Arc<dyn Running>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut front = self.front.subscribe();
        Box::pin(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let front = front.wait_for(Option::is_some).await.ok().and_then(|front| front.clone());
            if let Some(front) = front {
                front.serve_inside(listener, running).await;
            }
        })
    }
}
