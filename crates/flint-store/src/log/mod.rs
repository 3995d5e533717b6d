//! The engine on disk: *the log is the commit point*.
//!
//! Callers encode their batches and queue them. One writer thread takes all that waits, checks preconditions, writes
//! one frame, syncs once, applies the group to the state in memory and answers; while it syncs, the next group gathers.
//! The first error of a write or a sync is final ([`Health::Stopped`]): the kernel may have dropped what it could not
//! write. Want of space for the next segment is not: writes are refused until there is some.
//!
//! Reading order: `frame`, `segment`, `recover`, `writer`, `spare`, `checkpoint`, `export`.

mod checkpoint;
mod export;
mod frame;
mod recover;
mod segment;
mod spare;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

use tokio::sync::{oneshot, watch};

pub use export::Extent;

use crate::batch::Batch;
use crate::codec;
use crate::disk::{Disk, DiskLock, RealDisk};
use crate::error::{CommitError, Error, ReadError};
use crate::index::{self, Index, Mark, Room};
use crate::journal::Written;
use crate::key::{Key, KeyRange, Keyspace};
use crate::log::checkpoint::Checkpoints;
use crate::log::segment::Files;
use crate::log::spare::{Spare, Supply};
use crate::log::writer::{Limits, Request, Writer, refuse_all};
use crate::state::{Prepared, State};
use crate::store::{Direction, Health, Pending, Row, Store, Versioned};

/// A group takes at most so many batches and bytes: what one sync of a few hundred microseconds is worth.
const GROUP_BATCHES: usize = 2048;
const GROUP_BYTES: usize = 1 << 20;
/// Batches that may wait for the writer: 8 full groups, a few milliseconds of work. Beyond that callers are told so.
const QUEUE_BATCHES: usize = 8 * GROUP_BATCHES;
const QUEUE_BYTES: usize = 64 << 20;

/// How to open a [`LogStore`].
#[derive(Clone, Debug)]
pub struct Options {
    pub disk: Arc<dyn Disk>,
    /// Size of the segments of a *new* store, in bytes (multiple of 4,096, 16 KiB to 1 GiB); an existing one keeps its own.
    pub segment_bytes: u64,
    /// Memory of changed rows, in bytes, at which they are written to the index.
    pub checkpoint_layer_bytes: usize,
    /// Log written since the last checkpoint, in bytes, at which the next is made; bounds the time to start.
    pub checkpoint_log_bytes: u64,
    /// Memory for pages of the index, in bytes.
    pub index_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            segment_bytes: 32 << 20,
            checkpoint_layer_bytes: 16 << 20,
            checkpoint_log_bytes: 64 << 20,
            index_cache_bytes: 32 << 20,
        }
    }
}

/// A durable [`Store`] in one data directory. Dropping it finishes what is queued and closes it.
#[derive(Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
    id: [u8; 16],
    segment: u64,
    spare: Option<Arc<Spare>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    files: Files,
    index: Arc<Index>,
    /// One export at a time.
    exporting: Mutex<()>,
    _lock: Box<dyn DiskLock>,
}

/// What callers, the writer and the maker of segments share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    checkpoints: Checkpoints,
    health: watch::Sender<Health>,
    /// The end of what is on stable storage.
    tail: Mutex<Mark>,
}

/// Where a store's life begins: the index's mark and the log's end.
#[derive(Debug)]
pub(crate) struct Start {
    mark: Mark,
    tail: recover::Tail,
}

/// What opening a store found.
struct Opened {
    store: LogStore,
    start: Start,
    limits: Limits,
}

#[derive(Debug)]
struct Queue {
    /// Bytes of a group at most: a frame fits a segment.
    group_bytes: usize,
    waiting: VecDeque<Request>,
    bytes: usize,
    /// The writer sleeps and wants to be woken.
    idle: bool,
    closed: bool,
}

/// Drives a store on the caller's thread, for simulations and tests.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    writer: Writer,
    index: Arc<Index>,
    files: Files,
}

impl LogStore {
    /// Opens the store in `dir`, or makes one, and starts its three threads.
    ///
    /// Errors: [`Error::Locked`], [`Error::Newer`], [`Error::Format`], [`Error::Damaged`], [`Error::Full`], [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let opened = Self::recover(dir.as_ref(), options, Room::patient())?;
        let Opened { mut store, start, limits } = opened;
        let (files, index) = (store.files.clone(), Arc::clone(&store.index));
        let spare = Arc::new(Spare::new(start.tail.number + 1));
        store.spare = Some(Arc::clone(&spare));
        let supply = Supply::Thread(Arc::clone(&spare));
        let mut writer = Writer::new(Arc::clone(&store.shared), files.clone(), start, supply, limits);
        store.spawn("store-writer", move |shared| {
            writer.seal();
            while let Some(requests) = shared.next_group() {
                writer.turn(requests);
            }
            writer.seal();
        })?;
        let segments = files.clone();
        store.spawn("store-spare", move |shared| spare.run(&segments, shared))?;
        store.spawn("store-index", move |shared| {
            // Acknowledgements go first where cores are short; if the checkpoint lags, the writer is held back. On Linux
            // this concerns the calling thread alone.
            let _ = rustix::process::nice(10);
            shared.checkpoints.run(&index, &files, shared);
        })?;
        Ok(store)
    }

    /// Opens a store that does nothing by itself: commits wait until [`Driver::turn`].
    pub fn open_driven(dir: impl AsRef<Path>, options: Options) -> Result<(Self, Driver), Error> {
        let opened = Self::recover(dir.as_ref(), options, Room::impatient())?;
        let Opened { store, start, limits } = opened;
        let (files, index) = (store.files.clone(), Arc::clone(&store.index));
        let supply = Supply::Inline { files: files.clone(), ready: None };
        let shared = Arc::clone(&store.shared);
        let mut writer = Writer::new(Arc::clone(&shared), files.clone(), start, supply, limits);
        writer.idle();
        writer.seal();
        Ok((store, Driver { shared, writer, index, files }))
    }

    fn recover(dir: &Path, options: Options, room: Room) -> Result<Opened, Error> {
        let Options { disk, segment_bytes, index_cache_bytes: cache, .. } = options;
        segment::check_segment_size(segment_bytes).expect("Options.segment_bytes is within its documented range");
        disk.create_dir(dir).map_err(Error::io("cannot create", dir))?;
        let path = dir.join("lock");
        let lock = disk.lock(&path).map_err(Error::io("cannot lock", &path))?;
        let lock = lock.ok_or_else(|| Error::Locked(dir.to_owned()))?;
        let files = Files::open(disk, dir, segment_bytes, cache)?;
        let room = Arc::new(room);
        let (index, mark) = Index::open(&*files.disk, dir, cache, Arc::clone(&room))?;
        let unusable = |e: &dyn std::fmt::Display| index::damaged(&Index::path(dir), e);
        let base = index.snapshot().map_err(|e| unusable(&e))?;
        let state = State::over(Arc::new(base), mark.version);
        let mut state = state.map_err(|e| unusable(&e))?;
        let tail = recover::replay(&files, mark, &mut state)?;
        let version = state.version();
        let shared = Shared {
            state: RwLock::new(state),
            queue: Mutex::new(Queue::new(&files)),
            arrived: Condvar::new(),
            checkpoints: Checkpoints::new(room),
            health: watch::Sender::new(Health::Serving),
            tail: Mutex::new(Mark { version, segment: tail.number, offset: tail.offset }),
        };
        let store = Self {
            shared: Arc::new(shared),
            id: files.id,
            segment: files.segment,
            spare: None,
            threads: Mutex::default(),
            files,
            index: Arc::new(index),
            exporting: Mutex::default(),
            _lock: lock,
        };
        let limits = Limits { layer: options.checkpoint_layer_bytes, log: options.checkpoint_log_bytes };
        Ok(Opened { store, start: Start { mark, tail }, limits })
    }

    /// Starts a thread whose panic stops the store instead of leaving callers waiting.
    fn spawn(&self, name: &str, body: impl FnOnce(&Shared) + Send + 'static) -> Result<(), Error> {
        struct Guard(Arc<Shared>, Option<Arc<Spare>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.fail("a thread of the store panicked");
                    self.0.checkpoints.close();
                    if let Some(spare) = &self.1 {
                        spare.close();
                    }
                }
            }
        }
        let guard = Guard(Arc::clone(&self.shared), self.spare.clone());
        let run = move || {
            let guard = guard;
            body(&guard.0);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(Error::io("cannot start a thread for", name))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The store's id, made with it; for a data directory it is the id of the installation.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Version of the last commit that reads can see; 0 for an empty store.
    pub fn version(&self) -> u64 {
        self.shared.state().version()
    }

    /// True while rows are on their way to the index.
    pub(crate) fn is_checkpointing(&self) -> bool {
        self.shared.checkpoints.is_running()
    }

    /// Commits what is queued, refuses what comes later, and waits for the threads. Blocks.
    pub fn close(&self) {
        self.shared.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // The writer first: it may still need a segment or a checkpoint to finish the queue.
        for thread in threads {
            if thread.join().is_err() {
                self.shared.fail("a thread of the store panicked");
            }
            self.shared.checkpoints.close();
            if let Some(spare) = &self.spare {
                spare.close();
            }
        }
    }

    fn enqueue(&self, batch: Batch) -> Result<Pending, CommitError> {
        let batch = Prepared::new(batch)?;
        let mut encoded = Vec::with_capacity(batch.size);
        codec::encode(&batch.ops, &mut encoded);
        // A frame of this batch alone must fit a segment; matters for the tiny segments of tests only.
        let limit = frame_room(self.segment);
        if encoded.len() > limit {
            return Err(CommitError::TooLarge { what: "a batch", found: encoded.len(), limit });
        }
        let (reply, answer) = oneshot::channel();
        self.shared.push(Request { batch, encoded, reply })?;
        Ok(Pending::waiting(answer))
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for LogStore {
    fn commit(&self, batch: Batch) -> Pending {
        self.enqueue(batch).unwrap_or_else(|error| Pending::ready(Err(error)))
    }

    fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let beneath = match self.shared.state().look(keyspace, key) {
            Ok(found) => return Ok(found),
            Err(beneath) => beneath.clone(),
        };
        // Without the lock: the disk may be asked.
        beneath.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError> {
        self.shared.state().scan(keyspace, range, limit, direction)
    }

    fn journal_written(&self) -> Written {
        self.shared.state().written()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }
}

impl Driver {
    /// Decides one group of what waits, then makes the next segment if it is missing. False if nothing waited.
    ///
    /// A checkpoint that became due is written at the end of the *next* turn, so that one group meets both layers.
    pub fn turn(&mut self) -> bool {
        let due = self.shared.checkpoints.is_running();
        let requests = self.shared.lock_queue().take_group();
        let worked = !requests.is_empty();
        if worked {
            self.writer.turn(requests);
        }
        self.writer.idle();
        if due && self.shared.failure().is_none() {
            self.shared.checkpoints.turn(&self.index, &self.files, &self.shared);
        }
        worked
    }

    /// What a clean end writes.
    pub fn finish(mut self) {
        while self.turn() {}
        self.writer.seal();
    }
}

impl Shared {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Stopped(reason) => Some(reason.clone()),
            Health::Serving | Health::Full => None,
        }
    }

    fn tail(&self) -> MutexGuard<'_, Mark> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is acknowledged.
    pub(crate) fn fail(&self, reason: &str) {
        self.set_health(Health::Stopped(reason.to_owned()));
        let waiting = {
            let mut queue = self.lock_queue();
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        refuse_all(waiting.into(), &CommitError::Stopped(reason.to_owned()));
        self.arrived.notify_all();
    }

    /// Does nothing once the store has stopped.
    pub(crate) fn set_health(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let changes = *now != health && !matches!(now, Health::Stopped(_));
            if changes {
                *now = health;
            }
            changes
        });
    }

    fn push(&self, request: Request) -> Result<(), CommitError> {
        let mut queue = self.lock_queue();
        if let Some(reason) = self.failure() {
            return Err(CommitError::Stopped(reason));
        }
        if queue.closed {
            return Err(CommitError::Stopped("the store is closed".to_owned()));
        }
        if queue.waiting.len() >= QUEUE_BATCHES || queue.bytes >= QUEUE_BYTES {
            return Err(CommitError::Busy);
        }
        queue.bytes += request.encoded.len();
        queue.waiting.push_back(request);
        if std::mem::take(&mut queue.idle) {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for work; `None` once closed and drained.
    fn next_group(&self) -> Option<Vec<Request>> {
        let mut queue = self.lock_queue();
        loop {
            let group = queue.take_group();
            if !group.is_empty() {
                return Some(group);
            }
            if queue.closed || self.failure().is_some() {
                return None;
            }
            queue.idle = true;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock_queue().closed = true;
        self.arrived.notify_all();
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn new(files: &Files) -> Self {
        let group_bytes = frame_room(files.segment).min(GROUP_BYTES);
        Self { group_bytes, waiting: VecDeque::new(), bytes: 0, idle: false, closed: false }
    }

    fn take_group(&mut self) -> Vec<Request> {
        let mut bytes = 0;
        let mut count = 0;
        for request in self.waiting.iter().take(GROUP_BATCHES) {
            bytes += request.encoded.len();
            if count > 0 && bytes > self.group_bytes {
                break;
            }
            count += 1;
        }
        let group: Vec<Request> = self.waiting.drain(..count).collect();
        self.bytes -= group.iter().map(|r| r.encoded.len()).sum::<usize>();
        group
    }
}

/// Bytes of batches that fit the frame of an empty segment.
fn frame_room(segment: u64) -> usize {
    usize::try_from(segment).unwrap_or(usize::MAX) - frame::BLOCK
}
