//! Listeners inside execution environments: the same front, with bounds for each environment.

use std::sync::Arc;
use std::time::Duration;

use flint_kit::Running;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Front;
use super::request::Door;

/// Connections that one environment may have open; more wait until one of them ends.
pub const CONNECTIONS: usize = 32;

/// Connections that one environment may make in a second; SDKs keep theirs, so that who makes more has something else in mind.
const PER_SECOND: u32 = 1000;

impl Front {
    /// Serves the listener of one execution environment until dropped, with all its connections; a call that runs goes on to its
    /// end. What comes in is held to the same gate and limits as from outside and counts against this front's connections, and
    /// against [`CONNECTIONS`] of its own; its bodies have a share of the front's. Its place in a chain is that of the event that runs, whatever it says.
    ///
    /// [`Front::watch`] has to run beside it.
    pub async fn serve_inside(self: Arc<Self>, listener: TcpListener, running: Arc<dyn Running>) {
        let Ok(address) = listener.local_addr() else { return };
        let door = Arc::new(Door { port: address.port(), inside: Some(running), budget: self.budget.share() });
        let own = Arc::new(Semaphore::new(CONNECTIONS));
        // Nothing is ever sent: an environment's connections end with it.
        let (_stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut pace = Pace::default();
        loop {
            let own = Arc::clone(&own).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let place = self.place().await;
                    let (front, door, stopping) = (Arc::clone(&self), Arc::clone(&door), stopping.clone());
                    connections.spawn(async move {
                        front.connection(stream, &door, stopping).await;
                        drop((place, own));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection from inside an environment");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
            pace.one().await;
        }
    }

    /// Ends the connections that wait too long, until dropped. For fronts whose listeners are all inside.
    pub async fn watch(self: Arc<Self>) {
        Arc::clone(&self.roll).watch().await;
    }
}

/// Slows down who connects over and over.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    count: u32,
}

impl Pace {
    async fn one(&mut self) {
        self.count += 1;
        if self.count < PER_SECOND {
            return;
        }
        let began = self.since.replace(Instant::now());
        self.count = 0;
        if let Some(rest) = began.and_then(|began| Duration::from_secs(1).checked_sub(began.elapsed())) {
            tokio::time::sleep(rest).await;
        }
    }
}
