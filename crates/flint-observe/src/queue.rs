//! What waits for the writer: bounded, fair between groups, and never a reason to wait for those who append lines.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::LogEvent;
use flint_model::{ByteCount, Place};
use tokio::sync::oneshot;

use crate::Error;

/// Requests of callers that may wait at once. Each has a caller that waits for its answer, so this bounds a burst, not
/// a backlog.
const REQUESTS_MAX: usize = 4096;
/// How long output may wait for company. A writer that woke for every call would cost each of them a switch of threads.
/// Whoever reads or writes by request is served at once, and takes along what waits.
const LINGER: Duration = Duration::from_millis(20);
/// Output that is worth a write of its own.
const LINGER_BYTES: usize = 256 * 1024;
/// Bytes that a line costs beside its message, so that empty lines fill the queue too.
pub const LINE_COST: usize = 64;
/// Groups for which dropped lines are counted one by one; more are counted as the last one's.
const LOST_GROUPS_MAX: usize = 1024;

/// A group by its place and name.
pub type GroupKey = (Place, Arc<str>);
/// Where the answer to a request goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Work for the writer.
#[derive(Debug)]
pub enum Command {
    /// Output of functions: the group and the stream are made if they are missing.
    Output {
        group: GroupKey,
        stream: Arc<str>,
        events: Vec<LogEvent>,
    },
    Request(Request),
}

/// Work that somebody waits for.
#[derive(Debug)]
pub enum Request {
    Put {
        group: GroupKey,
        stream: Arc<str>,
        events: Vec<(Timestamp, Bytes)>,
        reply: Reply<()>,
    },
    CreateGroup {
        group: GroupKey,
        tags: BTreeMap<String, String>,
        reply: Reply<()>,
    },
    DeleteGroup {
        group: GroupKey,
        reply: Reply<()>,
    },
    SetRetention {
        group: GroupKey,
        days: Option<u32>,
        reply: Reply<()>,
    },
    CreateStream {
        group: GroupKey,
        stream: Arc<str>,
        reply: Reply<()>,
    },
    DeleteStream {
        group: GroupKey,
        stream: Arc<str>,
        reply: Reply<()>,
    },
    /// Answered when all that was queued before is in the files.
    Barrier {
        reply: Reply<()>,
    },
    /// Removes what has expired now instead of at the next round.
    Sweep {
        reply: Reply<()>,
    },
    Stop,
}

/// Lines that were dropped, and the stream of the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub stream: Arc<str>,
    pub lines: u64,
    pub bytes: u64,
}

impl Lost {
    pub fn none(stream: Arc<str>) -> Self {
        Self { stream, lines: 0, bytes: 0 }
    }

    pub fn add(&mut self, stream: &Arc<str>, lines: u64, bytes: u64) {
        self.stream = stream.clone();
        self.lines += lines;
        self.bytes += bytes;
    }
}

/// Dropped lines by group.
pub type LostLines = HashMap<GroupKey, Lost>;

/// Everything that waited.
#[derive(Debug, Default)]
pub struct Batch {
    pub commands: VecDeque<Command>,
    pub lost: LostLines,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.lost.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    requests: usize,
    bytes: usize,
    bytes_of: HashMap<GroupKey, usize>,
    closed: bool,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    bytes_max: usize,
    group_bytes_max: usize,
}

impl Queue {
    /// `bytes` bounds all that waits, `group_bytes` the output of one group among it.
    pub fn new(bytes: ByteCount, group_bytes: ByteCount) -> Self {
        let size = |n: ByteCount| usize::try_from(n.bytes()).unwrap_or(usize::MAX);
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            bytes_max: size(bytes),
            group_bytes_max: size(group_bytes),
        }
    }

    /// Queues lines of output. Lines over a bound are dropped and counted; this never waits for the disk.
    pub fn output(&self, group: GroupKey, stream: &Arc<str>, mut events: Vec<LogEvent>) {
        let mut state = self.lock();
        if state.closed || events.is_empty() {
            return;
        }
        let first = state.batch.is_empty();
        let used = state.bytes_of.get(&group).copied().unwrap_or(0);
        let room = self.bytes_max.saturating_sub(state.bytes).min(self.group_bytes_max.saturating_sub(used));
        let mut cost = 0;
        let kept = events.iter().take_while(|event| {
            let with = cost + event.message.len() + LINE_COST;
            let fits = with <= room;
            if fits {
                cost = with;
            }
            fits
        });
        let kept = kept.count();
        if kept < events.len() {
            let bytes = events[kept..].iter().map(|e| e.message.len() as u64).sum();
            let lines = (events.len() - kept) as u64;
            note_lost(&mut state.batch.lost, &group, stream, lines, bytes);
            events.truncate(kept);
        }
        state.bytes += cost;
        if !events.is_empty() {
            *state.bytes_of.entry(group.clone()).or_default() += cost;
            state.batch.commands.push_back(Command::Output { group, stream: stream.clone(), events });
        }
        let wake = first || state.bytes >= LINGER_BYTES;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Queues a request.
    ///
    /// Errors: [`Error::Busy`] over a bound, [`Error::Stopped`] after the end.
    pub fn request(&self, request: Request) -> Result<(), Error> {
        let cost = match &request {
            Request::Put { events, .. } => events.iter().map(|(_, message)| message.len() + LINE_COST).sum(),
            _ => 0,
        };
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Stopped);
        }
        let stop = matches!(request, Request::Stop);
        if !stop && (state.requests >= REQUESTS_MAX || (cost > 0 && state.bytes + cost > self.bytes_max)) {
            return Err(Error::Busy);
        }
        state.requests += 1;
        state.bytes += cost;
        state.batch.commands.push_back(Command::Request(request));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes all that waits; waits up to `patience` for something.
    ///
    /// What was taken no longer counts: with the writer at work on one batch, at most twice the bounds are in memory.
    pub fn take(&self, patience: Duration) -> Batch {
        let mut state = self.lock();
        if state.batch.is_empty() && !state.closed {
            state = self.filled.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let lingers = |state: &mut State| {
            !state.batch.is_empty() && state.requests == 0 && state.bytes < LINGER_BYTES && !state.closed
        };
        state = self.filled.wait_timeout_while(state, LINGER, lingers).unwrap_or_else(PoisonError::into_inner).0;
        state.requests = 0;
        state.bytes = 0;
        state.bytes_of.clear();
        std::mem::take(&mut state.batch)
    }

    /// Refuses everything from now on, and answers those who wait by dropping their requests.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.batch = Batch::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts dropped lines of a group.
pub fn note_lost(lost: &mut LostLines, group: &GroupKey, stream: &Arc<str>, lines: u64, bytes: u64) {
    if lines == 0 {
        return;
    }
    if lost.len() >= LOST_GROUPS_MAX && !lost.contains_key(group) {
        return;
    }
    lost.entry(group.clone()).or_insert_with(|| Lost::none(stream.clone())).add(stream, lines, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str) -> GroupKey {
        let place =
            Place { account: "000000000000".parse().expect("account"), region: "us-east-1".parse().expect("region") };
        (place, group.into())
    }

    fn lines(n: usize, bytes: usize) -> Vec<LogEvent> {
        let event = LogEvent { at: Timestamp::from_millis(1), message: vec![b'x'; bytes].into() };
        vec![event; n]
    }

    #[test]
    fn one_noisy_group_leaves_room_for_others() {
        let line = 1000 + LINE_COST;
        let queue = Queue::new(ByteCount((line * 10) as u64), ByteCount((line * 4) as u64));
        let stream: Arc<str> = "s".into();
        queue.output(key("noisy"), &stream, lines(3, 1000));
        queue.output(key("noisy"), &stream, lines(5, 1000));
        queue.output(key("quiet"), &stream, lines(2, 1000));
        let batch = queue.take(Duration::ZERO);
        let kept: Vec<_> = batch
            .commands
            .iter()
            .map(|c| match c {
                Command::Output { group, events, .. } => (group.1.to_string(), events.len()),
                Command::Request(_) => panic!("no request was made"),
            })
            .collect();
        assert_eq!(kept, [("noisy".into(), 3), ("noisy".into(), 1), ("quiet".into(), 2)]);
        assert_eq!(batch.lost[&key("noisy")], Lost { stream: stream.clone(), lines: 4, bytes: 4000 });
        // What was taken makes room.
        queue.output(key("noisy"), &stream, lines(4, 1000));
        assert!(queue.take(Duration::ZERO).lost.is_empty());
    }

    #[test]
    fn requests_are_bounded_and_end_with_the_queue() {
        let queue = Queue::new(ByteCount(1000), ByteCount(1000));
        let put = |bytes: usize| {
            let (reply, answer) = oneshot::channel();
            let events = vec![(Timestamp::from_millis(1), Bytes::from(vec![0; bytes]))];
            (Request::Put { group: key("g"), stream: "s".into(), events, reply }, answer)
        };
        let (small, mut answer) = put(10);
        queue.request(small).expect("fits");
        assert!(matches!(queue.request(put(2000).0), Err(Error::Busy)));
        queue.close();
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(queue.request(put(1).0), Err(Error::Stopped)));
        queue.output(key("g"), &"s".into(), lines(1, 1));
        assert!(queue.take(Duration::from_secs(5)).commands.is_empty());
    }
}
