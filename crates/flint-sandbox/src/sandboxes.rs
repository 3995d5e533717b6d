//! The server's asynchronous handle to the spawner: roots, the pool of slots, launches.

use std::os::fd::OwnedFd;

use crate::api::{Census, Launch, Options, RootId, RootSpec, UnpackLimits, Unpacked};
use crate::error::{Error, UnpackError};
use crate::sandbox::Sandbox;
use crate::spawner::SpawnerChannel;

/// Makes sandboxes. Cheap to clone; every clone speaks to the same spawner.
#[derive(Clone, Debug)]
pub struct Sandboxes {}

impl Sandboxes {
    /// Takes over the channel and starts to fill the pool of slots. Must be called inside a tokio runtime.
    pub fn new(_channel: SpawnerChannel, _options: Options) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Builds a read-only root file system. Takes milliseconds; call it once for each runtime.
    ///
    /// Errors: `Invalid` for a path that is not absolute or has `..`, `Setup` for what the kernel refused.
    pub async fn define_root(&self, _spec: RootSpec) -> Result<RootId, Error> {
        unimplemented!()
    }

    /// Starts a process in a fresh sandbox.
    ///
    /// Returns as soon as the process is cloned; a failure of a later step shows in [`Sandbox::exited`].
    pub async fn launch(&self, _launch: Launch) -> Result<Sandbox, Error> {
        unimplemented!()
    }

    /// Unpacks a zip archive in a sandboxed helper into `staging`, an empty directory that the service user owns.
    ///
    /// Files are 0644, or 0755 when any execute bit is set; directories 0755; owned by the service user. On an error the
    /// staging directory holds whatever was written by then: remove it.
    pub async fn unpack(
        &self,
        _archive: OwnedFd,
        _staging: OwnedFd,
        _limits: UnpackLimits,
    ) -> Result<Unpacked, UnpackError> {
        unimplemented!()
    }

    /// Resolves when the spawner has died; the server then has to stop acknowledging and exit.
    pub async fn spawner_gone(&self) {
        unimplemented!()
    }

    /// How many sandboxes and slots there are now.
    pub fn census(&self) -> Census {
        unimplemented!()
    }
}
