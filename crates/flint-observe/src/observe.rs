//! The room's one object: opens the data, starts the writer, hands out the service, the sink and the hub.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flint_base::Clock;
use flint_kit::{LogEvent, LogSink, Service};
use flint_model::{ByteCount, Place};
use tokio::sync::{Semaphore, oneshot};

use crate::hub::LogHub;
use crate::queue::{Queue, Reply, Request};
use crate::registry::Registry;
use crate::service::Logs;
use crate::writer::{Settings, Writer};
use crate::{Error, files};

/// Below the data directory.
const DIR_NAME: &str = "logs";
/// Reads that use the disk at once; each takes a few megabytes at most.
const READERS_MAX: usize = 4;
/// How long a read waits for lines that are on their way to the files. Then it reads what is there.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Settings of the logs.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment file takes this many bytes before the next one begins. Default 8 MiB.
    pub segment: ByteCount,
    /// Output that may wait for the disk; lines over it are dropped and counted. Default 32 MiB.
    pub queue: ByteCount,
    /// The part of it that one log group may take. Default 8 MiB.
    pub queue_per_group: ByteCount,
    /// Output is synced at most this long after it was written: what a power cut can cost. Default 1 s.
    pub sync_every: Duration,
    /// Events that a watcher of the log tail may be behind. Default 4,096.
    pub tail_events: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment: ByteCount::from_mib(8),
            queue: ByteCount::from_mib(32),
            queue_per_group: ByteCount::from_mib(8),
            sync_every: Duration::from_secs(1),
            tail_events: 4096,
        }
    }
}

/// The logs of a data directory.
#[derive(Debug)]
pub struct Observe {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
    hub: LogHub,
    readers: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Observe {
    /// Opens the logs below the data directory `dir` (which exists and is locked by the caller) and starts the thread
    /// that writes them. Reads one small file per log group; the rest is read when a group is first used.
    ///
    /// Errors: [`Error::Io`], [`Error::Damaged`], [`Error::Newer`].
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>, Error> {
        let root = dir.join(DIR_NAME);
        files::make_dirs(dir, &root)?;
        let registry = Arc::new(Registry::open(&root)?);
        let queue = Arc::new(Queue::new(options.queue, options.queue_per_group));
        let hub = LogHub::new(options.tail_events);
        let settings = Settings { segment_bytes: options.segment.bytes(), sync_every: options.sync_every };
        let writer = Writer::new(registry.clone(), queue.clone(), hub.clone(), clock.clone(), settings);
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(Error::io("start the writer of", &root))?;
        Ok(Arc::new(Self {
            registry,
            clock,
            queue,
            hub,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// The `logs` service.
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(Logs::new(self.clone()))
    }

    /// Where functions' output goes.
    pub fn sink(self: &Arc<Self>) -> Arc<dyn LogSink> {
        Arc::new(Sink(self.clone()))
    }

    /// Where events can be watched as they come in.
    pub fn hub(&self) -> LogHub {
        self.hub.clone()
    }

    /// Writes and syncs all that was appended, and ends the writer; later requests are refused. Blocks for as long as
    /// the disk takes. Dropping the last handle does the same.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Refused only if the writer has ended already.
            let _ = self.queue.request(Request::Stop);
            if thread.join().is_err() {
                tracing::error!("the log writer ended with a panic");
            }
        }
    }

    /// Removes what has expired now instead of at the next round, which comes every ten minutes.
    ///
    /// Errors: [`Error::Busy`], [`Error::Stopped`].
    pub async fn sweep(&self) -> Result<(), Error> {
        self.request(|reply| Request::Sweep { reply }).await
    }

    /// Waits until everything that was appended before is in the files.
    ///
    /// Errors: [`Error::Busy`], [`Error::Stopped`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.request(|reply| Request::Barrier { reply }).await
    }

    /// Has the writer do something and waits for its answer.
    pub(crate) async fn request<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.request(make(reply))?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Runs `work`, which may read files, where blocking is allowed, and sees to it that it finds what was appended
    /// before.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Observe) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // A disk that hangs must not keep what is written from being read, and a busy writer neither.
        let _ = tokio::time::timeout(SETTLE_TIME, self.flush()).await;
        let permit = self.readers.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let this = self.clone();
        let work = move || {
            let result = work(&this);
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)?
    }
}

impl Drop for Observe {
    fn drop(&mut self) {
        self.close();
    }
}

/// The sink of functions' output.
#[derive(Debug)]
struct Sink(Arc<Observe>);

impl LogSink for Sink {
    fn append(&self, place: &Place, group: &Arc<str>, stream: &Arc<str>, events: Vec<LogEvent>) {
        self.0.queue.output((place.clone(), group.clone()), stream, events);
    }
}
