//! How fast the log is against what the disk gives: a plain append with `fdatasync`, and the same into written zeros.
//!
//! Many callers, each waiting for its own answer; one writer that takes all that waits, writes once and syncs once. The
//! engines run in alternating short turns and are compared turn by turn, because a shared disk moves by a factor within
//! minutes. The log's store stays open between its turns, as a server's does, so that its segments are in use again and
//! its checkpoints are part of the turn; one that is under way at a turn's end is waited for. Absolute figures are this
//! machine's; the ratios are the measure.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use flint_base::{Clock, SystemClock};

use crate::batch::Batch;
use crate::key::{Key, KeyRange, Keyspace};
use crate::log::{LogStore, Options};
use crate::store::{Direction, Store};

const RECORD: usize = 512;
const ROW: usize = 16;
const TURN: Duration = Duration::from_millis(300);
const ZEROED: u64 = 64 << 20;

/// What one engine did, medians over its turns.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub engine: &'static str,
    pub sends_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Its rate over the plain append's in the same rotation, median.
    pub times_append: f64,
    /// The same over the zero-written floor.
    pub times_zeros: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub callers: usize,
    pub record_bytes: usize,
    pub rotations: usize,
    pub engines: Vec<Figures>,
}

impl Report {
    /// The log's rate over plain append and `fdatasync`, the median of all rotations.
    pub fn log_times_append(&self) -> f64 {
        self.engines.iter().find(|f| f.engine == LOG).map_or(0.0, |f| f.times_append)
    }
}

const APPEND: &str = "append+fdatasync";
const ZEROS: &str = "written-zeros";
const LOG: &str = "log";

/// Runs for about `seconds` in `dir`, which must lie on the disk in question; cleans up after itself.
pub fn run(dir: &Path, seconds: u32, callers: usize) -> io::Result<Report> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let rotations = (seconds as usize * 1000 / (3 * TURN.as_millis() as usize)).max(3);
    let mut turns: [Vec<Turn>; 3] = Default::default();
    let home = dir.join("log");
    let log = Arc::new(Log::start(&home)?);
    // Unmeasured: makes the segments that are used again and again.
    turn_of(&runtime, &clock, callers, Arc::clone(&log));
    log.settle();
    for rotation in 0..rotations {
        for place in 0..3 {
            // Another order each time, so that no engine always follows the same one.
            let engine = (place + rotation) % 3;
            let dir = dir.join("turn");
            std::fs::create_dir_all(&dir)?;
            let turn = match engine {
                0 => turn_of(&runtime, &clock, callers, Arc::new(Floor::start(&dir, None)?)),
                1 => turn_of(&runtime, &clock, callers, Arc::new(Floor::start(&dir, Some(ZEROED))?)),
                _ => turn_of(&runtime, &clock, callers, Arc::clone(&log)),
            };
            turns[engine].push(turn);
            log.settle();
            std::fs::remove_dir_all(&dir)?;
        }
    }
    drop(log);
    std::fs::remove_dir_all(&home)?;
    let times =
        |mine: &[Turn], floor: &[Turn]| median(mine.iter().zip(floor).map(|(mine, floor)| mine.rate / floor.rate));
    let figures = |(engine, mine): (&'static str, &Vec<Turn>)| Figures {
        engine,
        sends_per_second: median(mine.iter().map(|t| t.rate)),
        p50_ms: median(mine.iter().map(|t| t.p50_ms)),
        p99_ms: median(mine.iter().map(|t| t.p99_ms)),
        times_append: times(mine, &turns[0]),
        times_zeros: times(mine, &turns[1]),
    };
    let engines = [APPEND, ZEROS, LOG].into_iter().zip(&turns).map(figures).collect();
    Ok(Report { callers, record_bytes: RECORD, rotations, engines })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

struct Turn {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

trait Engine: Send + Sync + 'static {
    fn send(&self, caller: u64) -> impl Future<Output = ()> + Send;
}

fn turn_of(
    runtime: &tokio::runtime::Runtime,
    clock: &Arc<dyn Clock>,
    callers: usize,
    engine: Arc<impl Engine>,
) -> Turn {
    let start = clock.monotonic();
    let tasks: Vec<_> = (0..callers as u64)
        .map(|caller| {
            let (engine, clock) = (Arc::clone(&engine), Arc::clone(clock));
            runtime.spawn(async move {
                let mut spans = Vec::new();
                let mut now = clock.monotonic();
                while now - start < TURN {
                    engine.send(caller).await;
                    let then = std::mem::replace(&mut now, clock.monotonic());
                    spans.push(now - then);
                }
                spans
            })
        })
        .collect();
    let mut spans: Vec<Duration> =
        tasks.into_iter().flat_map(|task| runtime.block_on(task).expect("a caller does not panic")).collect();
    let elapsed = clock.monotonic() - start;
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() * percent / 100).min(spans.len() - 1)].as_secs_f64() * 1000.0;
    Turn { rate: spans.len() as f64 / elapsed.as_secs_f64(), p50_ms: at(50), p99_ms: at(99) }
}

struct Log {
    store: LogStore,
    sent: AtomicU64,
}

impl Log {
    const RECORDS: Keyspace = Keyspace::new("records");
    const ROWS: Keyspace = Keyspace::new("rows");

    fn start(dir: &Path) -> io::Result<Self> {
        let store = LogStore::open(dir, Options::default()).map_err(io::Error::other)?;
        Ok(Self { store, sent: AtomicU64::new(0) })
    }

    /// Lets a checkpoint that the turn began come to its end.
    fn settle(&self) {
        while self.store.is_checkpointing() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Engine for Log {
    async fn send(&self, caller: u64) {
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        let key = Key::default().u64(caller).u64(n);
        let batch = Batch::new().put(Self::RECORDS, key.clone(), vec![7; RECORD]).put(Self::ROWS, key, vec![7; ROW]);
        self.store.commit(batch).await.expect("the disk of a bench works");
    }
}

/// The floor: no checks, no checksums, no state.
struct Floor {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    /// Bounded by the number of callers: each waits for its answer.
    waiting: Mutex<(Vec<oneshot::Sender<()>>, bool)>,
    arrived: Condvar,
}

impl Floor {
    fn start(dir: &Path, zeroed: Option<u64>) -> io::Result<Self> {
        let mut file = File::create(dir.join("floor"))?;
        for _ in 0..zeroed.unwrap_or(0) >> 20 {
            file.write_all(&[0; 1 << 20])?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let queue = Arc::new(Queue::default());
        let thread = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.run(&file, zeroed)
        });
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Queue {
    fn push(&self, reply: oneshot::Sender<()>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0.push(reply);
        if waiting.0.len() == 1 {
            self.arrived.notify_one();
        }
    }

    fn run(&self, file: &File, wrap: Option<u64>) {
        let mut offset = 0;
        let mut bytes = Vec::new();
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.0.is_empty() {
                if waiting.1 {
                    return;
                }
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let group = std::mem::take(&mut waiting.0);
            drop(waiting);
            bytes.clear();
            for _ in &group {
                bytes.extend_from_slice(&[7; RECORD + ROW]);
            }
            if wrap.is_some() {
                bytes.resize(bytes.len().next_multiple_of(4096), 0);
            }
            if wrap.is_some_and(|end| offset + bytes.len() as u64 > end) {
                offset = 0;
            }
            file.write_all_at(&bytes, offset).and_then(|()| file.sync_data()).expect("the disk of a bench works");
            offset += bytes.len() as u64;
            for reply in group {
                let _ = reply.send(());
            }
        }
    }
}

impl Engine for Floor {
    async fn send(&self, _caller: u64) {
        let (reply, answer) = oneshot::channel();
        self.queue.push(reply);
        answer.await.expect("the writer answers");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.queue.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long a store of many rows takes to start after an unclean end.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub sends: u64,
    pub open_ms: f64,
    /// Reading the heads: every row of the small keyspace, bodies stay where they are.
    pub heads_ms: f64,
    /// Of the whole process, in MiB; 0 where the system does not tell.
    pub resident_mib: u64,
}

/// Fills a store in `dir` with `sends` records and opens the image that a kill would leave.
pub fn ready(dir: &Path, sends: u64) -> io::Result<Ready> {
    let clock = SystemClock::new();
    let (home, image) = (dir.join("filled"), dir.join("image"));
    let store = LogStore::open(&home, Options::default()).map_err(io::Error::other)?;
    for chunk in (0..sends).step_by(200) {
        let batch = (chunk..(chunk + 200).min(sends)).fold(Batch::new(), |batch, n| {
            let key = Key::default().u64(n % 64).u64(n);
            batch.put(Log::RECORDS, key.clone(), vec![7; RECORD]).put(Log::ROWS, key, vec![7; ROW])
        });
        store.commit(batch).wait().map_err(io::Error::other)?;
    }
    while store.is_checkpointing() {
        thread::sleep(Duration::from_millis(1));
    }
    for sub in ["", "log"] {
        std::fs::create_dir_all(image.join(sub))?;
        for entry in std::fs::read_dir(home.join(sub))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), image.join(sub).join(entry.file_name()))?;
            }
        }
    }
    drop(store);
    std::fs::remove_dir_all(&home)?;
    let start = clock.monotonic();
    let store = LogStore::open(&image, Options::default()).map_err(io::Error::other)?;
    let opened = clock.monotonic();
    let mut range = KeyRange::all();
    let mut heads = 0;
    loop {
        let page = store.scan(Log::ROWS, &range, 1000, Direction::Forward).map_err(io::Error::other)?;
        let Some(last) = page.last() else { break };
        heads += page.len() as u64;
        range = range.after(&last.key);
    }
    let read = clock.monotonic();
    if heads != sends {
        return Err(io::Error::other(format!("{heads} of {sends} rows are there")));
    }
    drop(store);
    std::fs::remove_dir_all(&image)?;
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    Ok(Ready { sends, open_ms: ms(opened - start), heads_ms: ms(read - opened), resident_mib: resident_mib() })
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
