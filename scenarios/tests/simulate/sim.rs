//! What a run is made of: a seed, a disk that outlives crashes, virtual time, and a trace of all that happened.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flint_base::{Clock, Timestamp};
use flint_store::testing::{Call, Fault, Keep, Rng, SimDisk};
use flint_store::{Error, LogStore, Options, stopped};
use tokio::time::Instant;

use crate::bugs::Bug;
use crate::entropy;
use crate::store::SimStore;

/// When each run begins, in milliseconds since the epoch.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// Longest that a server stays down.
const DOWN_MS: u64 = 3_000;

pub struct Sim {
    pub bug: Option<Bug>,
    rng: Mutex<Rng>,
    trace: Mutex<Trace>,
    disk: Mutex<SimDisk>,
    /// Virtual time when the present life began.
    elapsed: Mutex<Duration>,
    crashes: Mutex<u32>,
}

/// Everything that happened, as one number; and as text where somebody wants to read it.
struct Trace {
    hash: u64,
    lines: u64,
    told: bool,
    at: Duration,
}

/// How a life of the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its work was done.
    Finished,
    Crashed,
}

/// What a life has.
#[derive(Clone)]
pub struct Life {
    pub store: Arc<SimStore>,
    pub clock: Arc<dyn Clock>,
}

/// What will go wrong in a life.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    None,
    /// kill -9 after so long.
    Kill(Duration),
    /// The power goes at this change of the disk, counted from now.
    PowerOff(u64),
    /// A call of the disk fails.
    Fault(Call, u64),
    /// No space for so long, after so long.
    Full(Duration, Duration),
}

impl Sim {
    pub fn new(seed: u64, bug: Option<Bug>, told: bool) -> Arc<Self> {
        Arc::new(Self {
            bug,
            rng: Mutex::new(Rng::new(seed)),
            trace: Mutex::new(Trace { hash: 0xCBF2_9CE4_8422_2325, lines: 0, told, at: Duration::ZERO }),
            disk: Mutex::new(SimDisk::new()),
            elapsed: Mutex::new(Duration::ZERO),
            crashes: Mutex::new(0),
        })
    }

    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.rng).below(bound)
    }

    pub fn chance(&self, percent: u64) -> bool {
        lock(&self.rng).chance(percent)
    }

    /// From `low` up to `high`, in milliseconds.
    pub fn ms(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }

    /// Adds a line to the trace.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        let mut trace = lock(&self.trace);
        let line = format!("{:>12.6} {line}", trace.at.as_secs_f64());
        for byte in line.bytes().chain([b'\n']) {
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        trace.lines += 1;
        if trace.told {
            eprintln!("{line}");
        }
    }

    /// The trace as a number, and its length.
    pub fn trace(&self) -> (u64, u64) {
        let trace = lock(&self.trace);
        (trace.hash, trace.lines)
    }

    pub fn crashes(&self) -> u32 {
        *lock(&self.crashes)
    }

    /// What may go wrong, by chance.
    pub fn trouble(&self) -> Trouble {
        match self.below(12) {
            0..=3 => Trouble::Kill(self.ms(1, 4_000)),
            4..=6 => Trouble::PowerOff(1 + self.below(400)),
            7 => Trouble::Fault(Call::Sync, 1 + self.below(60)),
            8 => Trouble::Fault(Call::Pwrite, 1 + self.below(120)),
            9 => Trouble::Full(self.ms(1, 1_000), self.ms(1, 5_000)),
            10 => Trouble::Kill(self.ms(10_000, 400_000)),
            _ => Trouble::Kill(self.ms(1, 100)),
        }
    }

    /// Runs `body` on the disk as it is, until it ends or `trouble` ends it.
    ///
    /// Errors: what must never happen: a disk that does not open again.
    pub fn live<F>(self: &Arc<Self>, trouble: Trouble, body: impl FnOnce(Life) -> F) -> Result<End, String>
    where
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
        let disk = lock(&self.disk).clone();
        self.say(format_args!("a life begins; {trouble:?}"));
        let (end, lived) = runtime.block_on(async {
            let begun = Instant::now();
            let end = self.life(&disk, trouble, body).await;
            (end, begun.elapsed())
        });
        // What the disk holds is decided before anything of this life is dropped.
        let after = match end {
            Ok(End::Finished) | Err(_) => disk.after_kill(),
            Ok(End::Crashed) => self.after(&disk, trouble),
        };
        drop(runtime);
        let end = end?;
        let down = if end == End::Crashed { self.ms(1, DOWN_MS) } else { Duration::ZERO };
        *lock(&self.elapsed) += lived + down;
        *lock(&self.crashes) += u32::from(end == End::Crashed);
        *lock(&self.disk) = after;
        self.say(format_args!("{end:?} after {lived:?}"));
        Ok(end)
    }

    async fn life<F>(
        self: &Arc<Self>,
        disk: &SimDisk,
        trouble: Trouble,
        body: impl FnOnce(Life) -> F,
    ) -> Result<End, String>
    where
        F: Future<Output = ()>,
    {
        let clock = Arc::new(SimClock { sim: Arc::clone(self), begun: Instant::now(), before: *lock(&self.elapsed) });
        clock.now();
        match trouble {
            Trouble::PowerOff(after) => disk.power_off_at(disk.changes() + after),
            Trouble::Fault(call, nth) => disk.inject(Fault { call, nth, error: std::io::ErrorKind::Other }),
            Trouble::None | Trouble::Kill(_) | Trouble::Full(..) => {}
        }
        if self.bug == Some(Bug::AckBeforeCommit) {
            disk.sync_late("/log/");
        }
        let (store, driver) = match LogStore::open_driven("/data", options(disk)) {
            Ok(opened) => opened,
            // The trouble came while it opened.
            Err(e @ (Error::Io { .. } | Error::Damaged { .. }))
                if matches!(trouble, Trouble::PowerOff(_) | Trouble::Fault(..)) =>
            {
                self.say(format_args!("did not open: {e}"));
                return Ok(End::Crashed);
            }
            Err(e) => return Err(format!("the store does not open: {e}")),
        };
        self.say(format_args!("opened at version {}", store.version()));
        let store = Arc::new(SimStore::new(store, Arc::clone(self)));
        tokio::spawn(SimStore::drive(Arc::clone(&store), driver));
        let killed = async {
            match trouble {
                Trouble::Kill(after) => tokio::time::sleep(after).await,
                Trouble::Full(after, for_) => {
                    tokio::time::sleep(after).await;
                    disk.set_capacity(Some(disk.used()));
                    tokio::time::sleep(for_).await;
                    disk.set_capacity(None);
                    std::future::pending().await
                }
                _ => std::future::pending().await,
            }
        };
        let life = Life { store: Arc::clone(&store), clock };
        let end = tokio::select! {
            biased;
            () = killed => End::Crashed,
            reason = stopped(&*store) => {
                self.say(format_args!("the store stopped: {reason}"));
                End::Crashed
            }
            () = body(life) => End::Finished,
        };
        disk.set_capacity(None);
        Ok(end)
    }

    /// The disk as the next life finds it.
    fn after(&self, disk: &SimDisk, trouble: Trouble) -> SimDisk {
        let kill = matches!(trouble, Trouble::Kill(_) | Trouble::Full(..)) && self.chance(60);
        // After a fault as well: the machine may live on, with what its cache has.
        if kill || (matches!(trouble, Trouble::Fault(..)) && self.chance(50)) {
            self.say(format_args!("killed; the cache lives on"));
            return disk.after_kill();
        }
        let keep = [Keep::Nothing, Keep::Some, Keep::Some, Keep::Everything][self.below(4) as usize];
        self.say(format_args!("the power went; kept of the cache: {keep:?}"));
        disk.after_power_cut(keep, &mut lock(&self.rng))
    }
}

/// Small segments and layers, so that a short run meets checkpoints.
fn options(disk: &SimDisk) -> Options {
    Options {
        disk: Arc::new(disk.clone()),
        segment_bytes: 128 << 10,
        checkpoint_layer_bytes: 24 << 10,
        checkpoint_log_bytes: 256 << 10,
        index_cache_bytes: 1 << 20,
    }
}

/// Virtual time: that of the runtime, and what passed in earlier lives.
struct SimClock {
    sim: Arc<Sim>,
    begun: Instant,
    before: Duration,
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimClock({:?})", self.before)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::from_millis(BEGIN_MS).saturating_add(self.monotonic());
        entropy::set_time(u64::try_from(now.as_millis()).unwrap_or(0));
        now
    }

    fn monotonic(&self) -> Duration {
        let now = self.before + self.begun.elapsed();
        lock(&self.sim.trace).at = now;
        now
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
