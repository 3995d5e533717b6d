//! One segment ahead: made by a second thread, or in line where a simulation drives everything.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::DiskFile;
use crate::log::Shared;
use crate::log::segment::{Files, Shortage};
use crate::store::Health;

/// How long the maker waits before it looks for space again.
const RETRY: Duration = Duration::from_millis(200);

/// Where the writer gets its next segment from.
#[derive(Debug)]
pub(crate) enum Supply {
    Thread(Arc<Spare>),
    Inline { files: Files, ready: Option<(u64, Arc<dyn DiskFile>)> },
}

impl Supply {
    /// The segment of this number, ready to be written.
    pub fn take(&mut self, number: u64, shared: &Shared) -> Result<Arc<dyn DiskFile>, Shortage> {
        match self {
            Supply::Thread(spare) => spare.take(number, shared),
            Supply::Inline { files, ready } => match ready.take() {
                Some((made, file)) if made == number => Ok(file),
                _ => {
                    let made = files.prepare(number);
                    match &made {
                        Ok(_) => shared.set_health(Health::Serving),
                        Err(Shortage::NoSpace) => shared.set_health(Health::Full),
                        Err(Shortage::Failed(_)) => {}
                    }
                    made
                }
            },
        }
    }

    /// Makes the next segment in line, if that is how it is done and it is not there.
    pub fn ahead(&mut self, number: u64, shared: &Shared) {
        let Supply::Inline { files, ready } = self else { return };
        if ready.as_ref().is_some_and(|(made, _)| *made == number) || shared.failure().is_some() {
            return;
        }
        match files.prepare(number) {
            Ok(file) => {
                *ready = Some((number, file));
                shared.set_health(Health::Serving);
            }
            // Writes are refused when the present segment is used up, not before.
            Err(Shortage::NoSpace) => {}
            Err(Shortage::Failed(reason)) => shared.fail(&reason),
        }
    }
}

/// What the writer and the maker of segments share.
#[derive(Debug)]
pub(crate) struct Spare {
    state: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    ready: Option<Arc<dyn DiskFile>>,
    no_space: bool,
    closed: bool,
}

impl Spare {
    pub fn new(number: u64) -> Self {
        let wanted = Wanted { number, ready: None, no_space: false, closed: false };
        Self { state: Mutex::new(wanted), changed: Condvar::new() }
    }

    /// Waits for the maker if it is at work; does not wait for space.
    fn take(&self, number: u64, shared: &Shared) -> Result<Arc<dyn DiskFile>, Shortage> {
        let mut wanted = self.lock();
        loop {
            debug_assert_eq!(wanted.number, number, "the writer takes segments in order");
            if let Some(file) = wanted.ready.take() {
                wanted.number = number + 1;
                self.changed.notify_all();
                return Ok(file);
            }
            if wanted.no_space {
                // Said under the lock, so that the maker's word comes after it.
                shared.set_health(Health::Full);
                return Err(Shortage::NoSpace);
            }
            if wanted.closed {
                let reason = shared.failure().unwrap_or_else(|| "the store is closed".to_owned());
                return Err(Shortage::Failed(reason));
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The maker's thread: keeps one segment ready until closed or failed.
    pub fn run(&self, files: &Files, shared: &Shared) {
        let mut wanted = self.lock();
        while !wanted.closed {
            if wanted.ready.is_some() {
                wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = wanted.number;
            drop(wanted);
            let made = files.prepare(number);
            wanted = self.lock();
            match made {
                Ok(file) => {
                    wanted.ready = Some(file);
                    if std::mem::take(&mut wanted.no_space) {
                        shared.set_health(Health::Serving);
                    }
                    self.changed.notify_all();
                }
                Err(Shortage::NoSpace) => {
                    wanted.no_space = true;
                    self.changed.notify_all();
                    let waited = self.changed.wait_timeout(wanted, RETRY);
                    wanted = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Err(Shortage::Failed(reason)) => {
                    shared.fail(&reason);
                    wanted.closed = true;
                    self.changed.notify_all();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
