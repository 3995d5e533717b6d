//! The spawner: a tiny single-threaded process with privilege that makes sandboxes for the server.

use std::os::fd::OwnedFd;

use crate::api::Options;
use crate::error::Error;

/// The server's end of the channel to the spawner. When it is closed the spawner kills every sandbox and exits.
#[derive(Debug)]
pub struct SpawnerChannel {
    pub(crate) fd: OwnedFd,
    pub(crate) pid: u32,
}

impl SpawnerChannel {
    /// Host pid of the spawner.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Forks the spawner and waits until it has leased its uid range and swept what an earlier life left.
///
/// Must be called while the process is root and has one thread, before privileges are dropped.
///
/// Errors: `Threaded`, `Missing` (not root, no cgroups), `Option`, `Start`.
pub fn start(_options: &Options) -> Result<SpawnerChannel, Error> {
    unimplemented!()
}
