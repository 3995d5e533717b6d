//! Checkpoints: the frozen layer goes into the index, and the log before it is recycled.
//!
//! The writer freezes the layer between two groups and goes on; a thread of its own writes the index in one durable
//! transaction. At most two layers exist: if the new one grows too fast, acknowledgements are slowed down gradually.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::index::{Index, Mark, Room};
use crate::layer::Layer;
use crate::log::Shared;
use crate::log::segment::Files;
use crate::store::Health;

/// Longest pause of one group while a checkpoint lags.
const PAUSE: Duration = Duration::from_millis(4);

/// A frozen layer on its way to the index.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub layer: Arc<Layer>,
    pub mark: Mark,
}

/// Hands jobs from the writer to whoever writes the index.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    state: Mutex<State>,
    changed: Condvar,
    pub room: Arc<Room>,
}

#[derive(Debug, Default)]
struct State {
    job: Option<Job>,
    running: bool,
    closed: bool,
}

impl Checkpoints {
    pub fn new(room: Arc<Room>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), room }
    }

    pub fn start(&self, job: Job) {
        let mut state = self.lock();
        debug_assert!(state.job.is_none() && !state.running, "one checkpoint at a time");
        state.job = Some(job);
        self.changed.notify_all();
    }

    /// True from [`Self::start`] until the index is installed.
    pub fn is_running(&self) -> bool {
        let state = self.lock();
        state.running || state.job.is_some()
    }

    /// Holds the writer back while a checkpoint lags: not at all until the new layer has reached its limit too, then ever
    /// more, and beyond twice the limit until the checkpoint is done. False if that waits for space.
    pub fn hold_back(&self, bytes: usize, limit: usize) -> bool {
        let mut state = self.lock();
        if bytes <= limit || (!state.running && state.job.is_none()) {
            return true;
        }
        if bytes < limit * 2 {
            let pause = PAUSE.mul_f64((bytes - limit) as f64 / limit as f64);
            drop(self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner));
            return true;
        }
        while (state.running || state.job.is_some()) && !state.closed {
            if self.room.is_short() {
                return false;
            }
            state = self.changed.wait_timeout(state, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.changed.notify_all();
    }

    /// The thread's body.
    pub fn run(&self, index: &Index, files: &Files, shared: &Shared) {
        loop {
            let mut state = self.lock();
            while state.job.is_none() {
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                // The log has it all; the next start reads it from there.
                return;
            }
            drop(state);
            self.turn(index, files, shared);
        }
    }

    /// Writes the waiting layer to the index, if there is one.
    pub fn turn(&self, index: &Index, files: &Files, shared: &Shared) {
        let job = {
            let mut state = self.lock();
            state.running = state.job.is_some();
            state.job.take()
        };
        let Some(Job { layer, mark }) = job else { return };
        match index.checkpoint(&layer, mark) {
            Ok(snapshot) => {
                let old = shared.write().install(Arc::new(snapshot));
                drop((old, layer));
                files.recycle_below(mark.segment);
                shared.set_health(Health::Serving);
            }
            // Closed while it waited for space: the log has it all.
            Err(_) if self.lock().closed => {}
            Err(e) => shared.fail(&format!("cannot write the index: {e}")),
        }
        self.lock().running = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
