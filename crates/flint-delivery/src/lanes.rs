//! Asynchronous invocations: a lane for each function, with the events that wait for it.
//!
//! The store is the record; a lane knows which of its rows are next. Lanes take their permits one at a time from the
//! [`Governor`](crate::governor::Governor), which hands them out in turn: a function with a million events waits for its
//! turn as one with a single event does. A lane lives while it has events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flint_base::Timestamp;
use flint_kit::{Ctx, Fault, Invocation};
use flint_model::{FunctionName, Place};
use flint_store::{Batch, Direction, Key, KeyRange, Store, journal};
use tokio::sync::Notify;

use crate::attempt;
use crate::core::{Core, UnderWay};
use crate::due::{Due, Heads};
use crate::error::Error;
use crate::keys::{self, EventRecord, Stored};
use crate::policy::{Ended, backoff};

/// Rows of a lane in memory (24 bytes each and some).
const HEADS_MAX: usize = 4_096;

/// Rows read at once.
const PAGE: usize = 256;

/// Longest pause of a lane whose function was not asked; a single event may wait longer, by its own back-off.
const PAUSE_MAX: Duration = Duration::from_secs(10);

type Id = (Place, FunctionName);

/// The lanes by function.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Mutex<BTreeMap<Id, Arc<Lane>>>,
    running: AtomicBool,
}

/// The events of one function.
#[derive(Debug)]
pub(crate) struct Lane {
    pub place: Place,
    pub function: FunctionName,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    heads: Heads,
    in_flight: usize,
    /// Most in flight, learned from throttles.
    limit: usize,
    /// How often in a row the function was not asked while nothing of ours was in flight.
    strikes: u32,
    paused_until: Option<Timestamp>,
}

/// A row that is about to be written.
#[derive(Debug)]
pub(crate) struct Coming {
    lane: Arc<Lane>,
    due: Due,
    arrived: bool,
}

/// What a lane does next.
enum Next {
    Run,
    Read(Due),
    Wait(Option<Timestamp>),
}

impl Lanes {
    /// Finds the lanes that have events in the store; they run when [`Lanes::start`] is called.
    pub(crate) fn load(&self, store: &dyn Store) -> Result<(), Error> {
        let mut range = KeyRange::all();
        loop {
            let rows = store.scan(keys::EVENTS, &range, 1, Direction::Forward)?;
            let Some(row) = rows.first() else { return Ok(()) };
            let Some(id) = keys::lane_of(&row.key) else {
                return Err(Error::Record { key: format!("{:?}", row.key), why: "its key names no function".into() });
            };
            let behind = KeyRange::prefix(&keys::lane_prefix(&id.0, &id.1));
            self.lock().insert(id.clone(), Lane::new(id, Heads::unread(HEADS_MAX)));
            let Some(end) = behind.end else { return Ok(()) };
            range = KeyRange { start: end, end: None };
        }
    }

    /// Starts every lane, and from now on new ones.
    pub(crate) fn start(&self, core: &Arc<Core>) {
        let lanes = self.lock();
        self.running.store(true, Ordering::Release);
        for lane in lanes.values() {
            core.tasks.spawn(lane.clone().run(core.clone()));
        }
    }

    /// Announces a row of `function` that is about to be written.
    pub(crate) fn expect(&self, core: &Arc<Core>, place: &Place, function: &FunctionName, due: Due) -> Coming {
        let id = (place.clone(), function.clone());
        let mut lanes = self.lock();
        let lane = lanes.entry(id.clone()).or_insert_with(|| {
            let lane = Lane::new(id, Heads::empty(HEADS_MAX));
            if self.running.load(Ordering::Acquire) {
                core.tasks.spawn(lane.clone().run(core.clone()));
            }
            lane
        });
        // Under the lock of the map, so that the lane does not end in between.
        lane.lock().heads.hold(due);
        Coming { lane: lane.clone(), due, arrived: false }
    }

    /// Events that wait, as far as memory knows them.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().values().map(|lane| lane.lock().heads.waiting()).sum()
    }

    /// Ends `lane` unless it has got something to do.
    fn end(&self, lane: &Lane) -> bool {
        let mut lanes = self.lock();
        let idle = lane.lock().is_idle();
        if idle {
            lanes.remove(&(lane.place.clone(), lane.function.clone()));
        }
        idle
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new((place, function): Id, heads: Heads) -> Arc<Self> {
        let state = State { heads, in_flight: 0, limit: usize::MAX, strikes: 0, paused_until: None };
        Arc::new(Self { place, function, state: Mutex::new(state), wake: Notify::new() })
    }

    async fn run(self: Arc<Self>, core: Arc<Core>) {
        loop {
            if core.closing.is_closing() || core.lanes.end(&self) {
                return;
            }
            let next = self.lock().next(core.now());
            match next {
                Next::Run => self.start_one(&core).await,
                Next::Read(after) => self.read(&core, after).await,
                Next::Wait(until) => {
                    let rings = async {
                        match until {
                            Some(at) => core.sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = rings => {}
                        () = self.wake.notified() => {}
                        () = core.closing.closed() => {}
                    }
                }
            }
        }
    }

    /// Starts an attempt when it is this lane's turn.
    async fn start_one(self: &Arc<Self>, core: &Arc<Core>) {
        let permit = tokio::select! {
            permit = core.governor.acquire() => permit,
            () = core.closing.closed() => return,
        };
        let Some(due) = self.lock().take(core.now()) else { return };
        let (lane, shared, under_way) = (self.clone(), core.clone(), UnderWay::new(core));
        core.tasks.spawn(async move {
            Box::pin(attempt::run(&shared, &lane, due)).await;
            // The permit first: it may be this lane that waits for it.
            drop(permit);
            drop(under_way);
        });
    }

    async fn read(&self, core: &Core, after: Due) {
        let prefix = keys::lane_prefix(&self.place, &self.function);
        match keys::read_due(&*core.store, keys::EVENTS, &prefix, after, PAGE) {
            Ok((found, complete)) => self.lock().heads.refill(found, complete),
            Err(error) => {
                tracing::error!(function = %self.function, %error, "waiting events cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Announces where an event that is in flight will be put next.
    pub(crate) fn hold(&self, due: Due) {
        self.lock().heads.hold(due);
    }

    /// An attempt is over: the row at `due` is gone, and perhaps another one is there for the event.
    pub(crate) fn ended(&self, now: Timestamp, due: Due, next: Option<Due>, ended: Ended) {
        let mut state = self.lock();
        state.heads.release(due);
        if let Some(next) = next {
            state.heads.insert(next);
        }
        state.learn(now, ended);
        drop(state);
        self.wake.notify_one();
    }

    /// An attempt came to nothing: what became of the row must be looked up.
    pub(crate) fn lost(&self, due: Due) {
        let mut state = self.lock();
        state.in_flight -= 1;
        state.heads.lost(due);
        drop(state);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&self, now: Timestamp) -> Next {
        if let Some(after) = self.heads.wants() {
            return Next::Read(after);
        }
        let Some(at) = self.heads.next_at() else { return Next::Wait(None) };
        let at = self.paused_until.map_or(at, |until| until.max(at));
        match at <= now {
            true if self.in_flight >= self.limit => Next::Wait(None),
            true => Next::Run,
            false => Next::Wait(Some(at)),
        }
    }

    fn take(&mut self, now: Timestamp) -> Option<Due> {
        let due = self.heads.pop(now)?;
        self.in_flight += 1;
        Some(due)
    }

    /// What a throttle teaches: no more at once than went through, and none for a while if none did.
    fn learn(&mut self, now: Timestamp, ended: Ended) {
        self.in_flight -= 1;
        if ended != Ended::NotAsked {
            self.strikes = 0;
            self.paused_until = None;
            self.limit = self.limit.saturating_add(1);
            return;
        }
        self.limit = self.in_flight.max(1);
        if self.in_flight == 0 {
            self.strikes = self.strikes.saturating_add(1);
            self.paused_until = Some(now.saturating_add(backoff(self.strikes).min(PAUSE_MAX)));
        }
    }

    fn is_idle(&self) -> bool {
        self.heads.is_idle() && self.in_flight == 0
    }
}

impl Coming {
    /// The row is in the store.
    pub(crate) fn arrived(mut self) {
        self.arrived = true;
        self.lane.lock().heads.insert(self.due);
        self.lane.wake.notify_one();
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.arrived {
            self.lane.lock().heads.lost(self.due);
            self.lane.wake.notify_one();
        }
    }
}

/// Takes an event: durable when this resolves with `Ok`.
pub(crate) async fn accept(core: &Arc<Core>, ctx: &Ctx, invocation: Invocation) -> Result<(), Fault> {
    let stored = keys::plan(&invocation.payload);
    let record = EventRecord {
        place: ctx.place.clone(),
        function: invocation.function.name.clone(),
        qualifier: invocation.function.qualifier.as_ref().map(ToString::to_string),
        request_id: ctx.request_id,
        lineage: invocation.lineage,
        trace: ctx.trace.as_deref().map(str::to_owned),
        client_context: invocation.client_context,
        source: None,
        accepted_ms: core.now().as_millis(),
        attempts: 0,
        not_asked: 0,
        last_status: None,
        on_failure: None,
        dead_letter: None,
        payload: stored,
    };
    let coming = prepare(core, record, &invocation.payload, Batch::new()).await?;
    core.store.commit(coming.0).await.map_err(Error::from)?;
    coming.1.arrived();
    Ok(())
}

/// The batch that puts a new event, on top of `batch`; to be committed at once, then [`Coming::arrived`].
pub(crate) async fn prepare(
    core: &Arc<Core>,
    mut record: EventRecord,
    payload: &bytes::Bytes,
    batch: Batch,
) -> Result<(Batch, Coming), Error> {
    let accepted = Timestamp::from_millis(record.accepted_ms);
    let due = Due::new(accepted, record.request_id.into());
    if let Ok(facts) = core.invoker.describe(&record.place, &record.function_ref()) {
        record.dead_letter = facts.dead_letter;
    }
    record.on_failure =
        core.settings.get(&record.place, &record.function, record.settings_name()).and_then(|s| s.on_failure);
    let entry = journal::Entry {
        source: record.source.clone(),
        target: Some(record.function_arn()),
        payload: Some(payload_ref(record.payload)),
        trace_id: record.trace.clone(),
        ..journal::Entry::new(record.place.clone(), record.lineage, journal::Kind::Accepted, accepted)
    };
    let coming = core.lanes.expect(core, &record.place, &record.function, due);
    keys::put_pieces(&*core.store, due.id, record.payload, payload).await?;
    let key: Key = keys::event_key(&record.place, &record.function, due);
    let batch = keys::finish_pieces(batch, due.id, record.payload);
    let batch = batch.put(keys::EVENTS, key, keys::encode(&record, record.payload, payload)).journal(entry);
    Ok((batch, coming))
}

pub(crate) fn payload_ref(stored: Stored) -> journal::PayloadRef {
    journal::PayloadRef { hash: stored.hash, len: stored.len }
}
