//! The writer: turns waiting batches into one durable frame, then applies and acknowledges them.
//!
//! A plain state machine. [`Writer::turn`] is driven by a thread of its own, or by a simulation.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::batch::Commit;
use crate::disk::{DiskFile, write_all};
use crate::error::CommitError;
use crate::index::Mark;
use crate::log::checkpoint::Job;
use crate::log::frame::{Builder, Lsn};
use crate::log::recover::Tail;
use crate::log::segment::{Files, Shortage};
use crate::log::spare::Supply;
use crate::log::{Shared, Start};
use crate::state::{Op, Overlay, Prepared};
use crate::store::Health;

type Reply = oneshot::Sender<Result<Commit, CommitError>>;

/// A batch that waits to be decided.
#[derive(Debug)]
pub(crate) struct Request {
    pub batch: Prepared,
    pub encoded: Vec<u8>,
    pub reply: Reply,
}

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    files: Files,
    supply: Supply,
    number: u64,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// End of what is on stable storage.
    durable: Lsn,
    /// Version of the last commit in the log.
    version: u64,
    frame: Builder,
    limits: Limits,
    /// Position of the last freeze.
    frozen_at: Lsn,
}

/// When a checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the layer.
    pub layer: usize,
    /// Bytes of log since the last one.
    pub log: u64,
}

/// A group between its check and its acknowledgement.
#[derive(Default)]
struct Group {
    accepted: Vec<(Vec<Op>, Reply)>,
    /// Answered with the others: what they conflict with may be in this group.
    refused: Vec<(CommitError, Reply)>,
}

/// Why a frame was not written.
enum Trouble {
    Full,
    Failed(String),
}

impl Writer {
    pub fn new(shared: Arc<Shared>, files: Files, start: Start, supply: Supply, limits: Limits) -> Self {
        let version = shared.state().version();
        let Start { tail: Tail { number, file, offset }, mark } = start;
        let durable = files.lsn(number, offset);
        let frozen_at = files.lsn(mark.segment, mark.offset);
        let frame = Builder::new();
        Self { shared, files, supply, number, file, offset, durable, version, frame, limits, frozen_at }
    }

    /// Decides a group: checks, writes, syncs, applies, answers. After a failure it only refuses.
    pub fn turn(&mut self, requests: Vec<Request>) {
        if let Some(reason) = self.shared.failure() {
            return refuse_all(requests, &CommitError::Stopped(reason));
        }
        // A statement of its own: the state's lock must be free while this waits.
        let layer_bytes = self.shared.state().layer_bytes();
        if !self.shared.checkpoints.hold_back(layer_bytes, self.limits.layer) {
            self.shared.set_health(Health::Full);
            return refuse_all(requests, &CommitError::Full);
        }
        let mut group = self.check(requests);
        if !group.accepted.is_empty() {
            match self.write_frame() {
                Ok(()) => {}
                Err(Trouble::Full) => return group.refuse(&CommitError::Full),
                Err(Trouble::Failed(reason)) => return group.refuse(&CommitError::Stopped(reason)),
            }
        }
        let accepted = std::mem::take(&mut group.accepted);
        let replies = match self.apply(accepted) {
            Ok(replies) => replies,
            Err(reason) => return group.refuse(&CommitError::Stopped(reason)),
        };
        for (error, reply) in group.refused {
            answer(reply, Err(error));
        }
        for (version, reply) in replies {
            answer(reply, Ok(Commit { version }));
        }
        self.freeze_if_due();
    }

    /// Starts a checkpoint if there is enough to write and none is under way.
    fn freeze_if_due(&mut self) {
        let due =
            self.shared.state().layer_bytes() >= self.limits.layer || self.durable - self.frozen_at >= self.limits.log;
        if !due || self.shared.checkpoints.is_running() || self.shared.failure().is_some() {
            return;
        }
        let layer = self.shared.write().freeze();
        self.frozen_at = self.durable;
        self.shared.checkpoints.start(Job { layer, mark: self.mark() });
    }

    /// Writes a frame without batches. What is before it is then known to have been durable, so that later damage
    /// there cannot pass for a torn tail. Best effort: without space there is no seal.
    pub fn seal(&mut self) {
        if self.shared.failure().is_none() {
            self.frame.clear();
            // Failures are recorded where they happen.
            let _ = self.write_frame();
        }
    }

    /// Called between turns: where no thread makes segments, makes the next one now.
    pub fn idle(&mut self) {
        self.supply.ahead(self.number + 1, &self.shared);
    }

    fn check(&mut self, requests: Vec<Request>) -> Group {
        self.frame.clear();
        let mut group = Group::default();
        let mut overlay = Overlay::default();
        let mut expecting = requests.iter().filter(|r| !r.batch.expect.is_empty()).count();
        let state = self.shared.state();
        for Request { batch, encoded, reply } in requests {
            expecting -= usize::from(!batch.expect.is_empty());
            match overlay.check(&state, &batch.expect) {
                Ok(()) => {
                    self.frame.push(&encoded);
                    if expecting > 0 {
                        overlay.add(self.version + u64::from(self.frame.count()), &batch.ops);
                    }
                    group.accepted.push((batch.ops, reply));
                }
                Err(conflict) => group.refused.push((conflict, reply)),
            }
        }
        group
    }

    fn write_frame(&mut self) -> Result<(), Trouble> {
        let len = self.frame.padded_len();
        if self.offset + len > self.files.segment {
            self.next_segment()?;
        }
        let lsn = self.files.lsn(self.number, self.offset);
        let bytes = self.frame.finish(self.files.seed(), lsn, self.durable, self.version + 1);
        let written = write_all(&*self.file, bytes, self.offset).and_then(|()| self.file.sync());
        if let Err(e) = written {
            // The kernel may have dropped the dirty pages: a second sync would succeed and mean nothing.
            let reason = format!("cannot write log segment {} at byte {}: {e}", self.number, self.offset);
            self.shared.fail(&reason);
            return Err(Trouble::Failed(reason));
        }
        self.offset += len;
        self.durable = lsn + len;
        self.version += u64::from(self.frame.count());
        *self.shared.tail() = self.mark();
        Ok(())
    }

    /// Where the log ends: everything before is on stable storage.
    fn mark(&self) -> Mark {
        Mark { version: self.version, segment: self.number, offset: self.offset }
    }

    fn next_segment(&mut self) -> Result<(), Trouble> {
        match self.supply.take(self.number + 1, &self.shared) {
            Ok(file) => {
                self.number += 1;
                self.offset = 0;
                self.file = file;
                Ok(())
            }
            Err(Shortage::NoSpace) => Err(Trouble::Full),
            Err(Shortage::Failed(reason)) => {
                self.shared.fail(&reason);
                Err(Trouble::Failed(reason))
            }
        }
    }

    fn apply(&self, accepted: Vec<(Vec<Op>, Reply)>) -> Result<Vec<(u64, Reply)>, String> {
        if accepted.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.shared.write();
        let mut replies = Vec::with_capacity(accepted.len());
        for (ops, reply) in accepted {
            let version = state.version() + 1;
            if let Err(e) = state.apply(version, ops) {
                drop(state);
                self.shared.fail(&e.to_string());
                return Err(e.to_string());
            }
            replies.push((version, reply));
        }
        Ok(replies)
    }
}

impl Group {
    fn refuse(self, error: &CommitError) {
        let accepted = self.accepted.into_iter().map(|(_, reply)| reply);
        for reply in accepted.chain(self.refused.into_iter().map(|(_, reply)| reply)) {
            answer(reply, Err(error.clone()));
        }
    }
}

pub(crate) fn refuse_all(requests: Vec<Request>, error: &CommitError) {
    for request in requests {
        answer(request.reply, Err(error.clone()));
    }
}

fn answer(reply: Reply, result: Result<Commit, CommitError>) {
    // A caller that went away does not want to know.
    let _ = reply.send(result);
}
