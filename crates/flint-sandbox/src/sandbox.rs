//! One running sandbox, seen from the server: open descriptors and what they tell.

use std::io;
use std::time::Duration;

use flint_model::ByteCount;
use tokio::net::unix::pipe;

use crate::api::{Exit, Phases, RuntimeListener};

/// One sandbox. Dropping it kills it and gives its slot back in the background; [`Sandbox::gone`] waits for that.
#[derive(Debug)]
pub struct Sandbox {}

impl Sandbox {
    /// Unique in the life of this server.
    pub fn id(&self) -> u64 {
        unimplemented!()
    }

    /// Host pid of the sandbox's init.
    pub fn pid(&self) -> u32 {
        unimplemented!()
    }

    /// The listener at 127.0.0.1:9001 inside; once.
    pub fn take_listener(&mut self) -> Option<RuntimeListener> {
        unimplemented!()
    }

    /// Standard output and standard error; once. End of file comes when the last process that holds them is gone.
    pub fn take_output(&mut self) -> Option<(pipe::Receiver, pipe::Receiver)> {
        unimplemented!()
    }

    /// Stops every process until [`Sandbox::thaw`]. One write, microseconds; idempotent.
    pub fn freeze(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Lets every process go on. One write, microseconds; idempotent.
    pub fn thaw(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Kills every process, frozen or not. Does not wait for their end; idempotent.
    pub fn kill(&self) {
        unimplemented!()
    }

    /// Waits until the main process has ended. May be called from several tasks, before and after the end.
    pub async fn exited(&self) -> Exit {
        unimplemented!()
    }

    /// The memory limit has killed something in this sandbox.
    pub fn oom_killed(&self) -> bool {
        unimplemented!()
    }

    /// The most memory that the sandbox has used so far, page cache and `/tmp` included; zero when unknown.
    pub fn memory_peak(&self) -> ByteCount {
        unimplemented!()
    }

    /// The memory that the sandbox uses now; zero when unknown.
    pub fn memory_now(&self) -> ByteCount {
        unimplemented!()
    }

    /// CPU time used by all of its processes so far; zero when unknown.
    pub fn cpu_time(&self) -> Duration {
        unimplemented!()
    }

    /// The set-up steps and their spans; none until the main process is about to `execve`.
    pub fn started(&self) -> Option<Phases> {
        unimplemented!()
    }

    /// Kills what is left, waits until the cgroup is empty, and gives the slot back.
    pub async fn gone(self) {
        unimplemented!()
    }
}
