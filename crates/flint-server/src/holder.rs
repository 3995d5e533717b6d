//! Who runs on a data directory: the process that wrote its id into the lock file and holds the lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::data::LOCK_FILE;
use crate::error::Error;

/// A server gives calls in flight 30 s to end, and its environments some more.
const END_WITHIN: Duration = Duration::from_secs(40);

/// A server's process, held by a descriptor: its id cannot become another's.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    process: OwnedFd,
}

/// The server that runs on a data directory; `None` if none does.
///
/// Errors: [`Error::Data`] if the directory or its lock cannot be read, or if the lock is held by a process that is no
/// Flint server that this one can see (another container's, an older version's).
pub fn of(data: &Path) -> Result<Option<Holder>, Error> {
    let failed = |source: io::Error| Error::Data { path: data.to_owned(), source };
    fs::metadata(data).map_err(failed)?;
    let path = data.join(LOCK_FILE);
    // Never made here: whoever asks changes nothing.
    let lock = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if !is_held(&lock).map_err(failed)? {
        return Ok(None);
    }
    let unseen = || failed(io::Error::other("the server that runs on it cannot be seen from here"));
    let pid = fs::read_to_string(&path).map_err(failed)?.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(unseen)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| unseen())?;
    // After the descriptor: if this is a Flint that holds the lock, so is what the descriptor names.
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).map_err(|_| unseen())?;
    if !name.starts_with("flint") || !is_held(&lock).map_err(failed)? {
        return Err(unseen());
    }
    Ok(Some(Holder { pid, process }))
}

fn is_held(lock: &File) -> io::Result<bool> {
    match flock(lock.as_fd(), FlockOperation::NonBlockingLockShared) {
        Ok(()) => flock(lock.as_fd(), FlockOperation::Unlock).map(|()| false).map_err(Into::into),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

impl Holder {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends SIGTERM. A server that ended meanwhile is no error.
    pub fn terminate(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.process, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for its end, 40 s at most; whether it came.
    pub fn wait(&self) -> io::Result<bool> {
        let limit = Timespec { tv_sec: END_WITHIN.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.process, PollFlags::IN)];
        loop {
            match poll(&mut polled, Some(&limit)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
