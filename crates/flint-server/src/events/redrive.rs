//! `RedriveFailures` and `DropFailures`: back to where it failed, at a rate and in order; or away for good.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::{EventId, RequestId, Timestamp};
use flint_kit::{Ctx, Fault, Invocation, InvokeMode, Principal};
use flint_model::{FunctionRef, Place};
use flint_store::journal::{self, Entry, Kind};
use flint_store::{Batch, Direction, Key, KeyRange, Keyspace, Mutation, ReadError, Row, Store, record};
use serde::{Deserialize, Serialize};

use super::entry::number;
use super::failures::{Chosen, Failure, chosen};
use super::{Events, invalid, unknown, unreadable};

/// Events brought back in a second, unless the caller says otherwise.
const DEFAULT_RATE: u32 = 100;

/// Of a redrive at a high rate: each brings back several.
const STEPS_PER_SECOND: u32 = 20;

/// Redrives that are remembered when they are over.
const REMEMBERED: usize = 100;

/// Key: place, number. Value: [`Record`].
const REDRIVES: Keyspace = Keyspace::new("redrives");

const LAYOUT: u8 = 1;

/// The redrives that go on, and the last ones that are over. Each is a row, too, written behind every step: after a stop
/// it goes on at the next start, and only the step in flight is not counted yet.
#[derive(Debug, Default)]
pub(super) struct Redrives {
    tasks: Mutex<BTreeMap<u64, Arc<Task>>>,
    last: AtomicU64,
}

#[derive(Debug)]
struct Task {
    place: Place,
    id: u64,
    record: Mutex<Record>,
    stop: AtomicBool,
}

/// A redrive at rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    group: Option<String>,
    event: Option<String>,
    /// Events in a second.
    rate: u32,
    count: u64,
    started: Timestamp,
    /// The commit that buried the last of its events, and the one of the last that it dealt with.
    to: u64,
    at: u64,
    /// The last that it dealt with of those which that commit buried: its place and its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(u64, EventId)>,
    done: u64,
    skipped: u64,
    failed: u64,
    /// The last thing that went wrong.
    message: Option<String>,
    stopped: bool,
    ended: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartOutput {
    task_id: String,
    count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskInput {
    task_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskOutput {
    task_id: String,
    /// `Running`, `Done` or `Stopped`.
    status: &'static str,
    count: i64,
    done: i64,
    /// They do not wait any more, or are out with somebody now.
    skipped: i64,
    failed: i64,
    /// The last thing that went wrong.
    message: Option<String>,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StopOutput {
    done: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DropOutput {
    dropped: i64,
    skipped: i64,
}

impl Redrives {
    /// Goes on with what a stop interrupted.
    pub(super) fn open(events: &Arc<Events>) -> Result<Self, ReadError> {
        let redrives = Self::default();
        let rows = events.store.scan(REDRIVES, &KeyRange::all(), usize::MAX, Direction::Forward)?;
        for row in rows {
            let task = Arc::new(Task::read(&row)?);
            redrives.last.fetch_max(task.id, Ordering::Relaxed);
            redrives.lock().insert(task.id, task.clone());
            if task.record().ended.is_none() {
                let events = events.clone();
                tokio::spawn(async move { go_on(&events, &task).await });
            }
        }
        Ok(redrives)
    }

    /// The redrive is on stable storage when this resolves.
    pub(super) async fn start(&self, events: &Arc<Events>, ctx: &Ctx, input: Chosen) -> Result<StartOutput, Fault> {
        let failures = chosen(events, &ctx.place, &input)?;
        let count = failures.len() as u64;
        let record = Record {
            group: input.group_id,
            // A beginning that names one event now may name two later.
            event: input.event_id.and_then(|_| failures.first()).map(|failure| failure.event().to_string()),
            rate: input.max_per_second.unwrap_or(DEFAULT_RATE).max(1),
            count,
            started: events.clock.now(),
            to: failures.last().map_or(0, |failure| failure.version),
            at: 0,
            last: None,
            done: 0,
            skipped: 0,
            failed: 0,
            message: None,
            stopped: false,
            ended: None,
        };
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let place = ctx.place.clone();
        let task = Arc::new(Task { place, id, record: Mutex::new(record), stop: AtomicBool::new(false) });
        let mut batch = Batch::new().put(REDRIVES, task.key(), task.encode());
        batch.write.extend(self.surplus().iter().map(|task| Mutation::Delete(REDRIVES, task.key())));
        events.store.commit(batch).await.map_err(|error| Fault::unavailable(error.to_string()))?;
        self.lock().insert(id, task.clone());
        let (events, ctx) = (events.clone(), ctx.clone());
        tokio::spawn(async move { run(&events, &ctx, &task, failures).await });
        Ok(StartOutput { task_id: id.to_string(), count: number(count) })
    }

    /// Takes out the oldest that are over, as far as there are too many.
    fn surplus(&self) -> Vec<Arc<Task>> {
        let mut tasks = self.lock();
        let many = (tasks.len() + 1).saturating_sub(REMEMBERED);
        let over = tasks.values().filter(|task| task.record().ended.is_some()).take(many).cloned();
        let over: Vec<_> = over.collect();
        tasks.retain(|id, _| over.iter().all(|task| task.id != *id));
        over
    }

    pub(super) fn get(&self, ctx: &Ctx, input: &TaskInput) -> Result<TaskOutput, Fault> {
        let record = self.find(ctx, &input.task_id)?.record().clone();
        Ok(TaskOutput {
            task_id: input.task_id.clone(),
            status: match record.ended {
                None => "Running",
                Some(_) if record.stopped => "Stopped",
                Some(_) => "Done",
            },
            count: number(record.count),
            done: number(record.done),
            skipped: number(record.skipped),
            failed: number(record.failed),
            message: record.message,
            started_at: record.started,
            ended_at: record.ended,
        })
    }

    pub(super) fn stop(&self, ctx: &Ctx, input: &TaskInput) -> Result<StopOutput, Fault> {
        let task = self.find(ctx, &input.task_id)?;
        task.stop.store(true, Ordering::Release);
        let done = task.record().done;
        Ok(StopOutput { done: number(done) })
    }

    fn find(&self, ctx: &Ctx, id: &str) -> Result<Arc<Task>, Fault> {
        let found = id.parse().ok().and_then(|id: u64| self.lock().get(&id).cloned());
        found.filter(|task| task.place == ctx.place).ok_or_else(|| unknown(format!("no redrive {id}")))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// Whether it has not come to the failure yet.
    fn is_ahead(&self, failure: &Failure) -> bool {
        let (version, place, event) = failure.order();
        let behind = match self.last {
            Some(last) => (version, (place, event)) > (self.at, last),
            None => version > self.at,
        };
        behind && version <= self.to
    }

    fn dealt_with(&mut self, failure: &Failure) {
        let (version, place, event) = failure.order();
        (self.at, self.last) = (version, Some((place, event)));
    }
}

impl Task {
    fn read(row: &Row) -> Result<Self, ReadError> {
        let damaged = || ReadError("a redrive cannot be read".to_owned());
        let mut parts = row.key.parts();
        let read = (parts.text(), parts.text(), parts.u64());
        let (Some(account), Some(region), Some(id)) = read else { return Err(damaged()) };
        let (Ok(account), Ok(region)) = (account.parse(), region.parse()) else { return Err(damaged()) };
        let record = record::decode(LAYOUT, &row.value).map_err(|_| damaged())?;
        let place = Place { account, region };
        Ok(Self { place, id, record: Mutex::new(record), stop: AtomicBool::new(false) })
    }

    fn key(&self) -> Key {
        Key::for_place(&self.place).u64(self.id)
    }

    fn encode(&self) -> Bytes {
        record::encode(LAYOUT, &*self.record())
    }

    /// Never held across an await.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes how far it is. If that fails, what it brought back does not wait any more all the same.
    async fn write(&self, store: &dyn Store) {
        let batch = Batch::new().put(REDRIVES, self.key(), self.encode());
        if let Err(error) = store.commit(batch).await {
            tracing::warn!(redrive = self.id, %error, "how far a redrive is was not written");
        }
    }
}

/// Finds what is left of a redrive that a stop interrupted, and goes on.
async fn go_on(events: &Events, task: &Task) {
    let Record { group, event, .. } = task.record().clone();
    let wanted = Chosen { group_id: group, event_id: event, max_per_second: None };
    // A fault says that nothing of that name waits any more.
    let mut left = chosen(events, &task.place, &wanted).unwrap_or_default();
    left.retain(|failure| task.record().is_ahead(failure));
    {
        let record = &mut *task.record();
        // Brought back in the step that was in flight.
        let counted = record.done + record.skipped + record.failed + left.len() as u64;
        record.done += record.count.saturating_sub(counted);
    }
    let ctx = Ctx {
        request_id: RequestId::random(),
        place: task.place.clone(),
        principal: Principal::Platform { account: task.place.account.clone() },
        received: events.clock.now(),
        base_url: String::new().into(),
        lineage: None,
        trace: None,
    };
    run(events, &ctx, task, left).await;
}

/// One after the other, so that what was buried first comes back first; at a high rate a few at a time.
async fn run(events: &Events, ctx: &Ctx, task: &Task, failures: Vec<Failure>) {
    let rate = task.record().rate;
    let step = usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(1).max(1);
    let mut due = tokio::time::interval(Duration::from_secs(1) * u32::try_from(step).unwrap_or(1) / rate);
    // A store that was slow for a moment is no reason for a burst.
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for part in failures.chunks(step) {
        due.tick().await;
        if task.stop.load(Ordering::Acquire) {
            task.record().stopped = true;
            break;
        }
        let mut rest = part;
        while let Some(first) = rest.first() {
            let queue = first.lies.as_ref().map(|(queue, _)| queue);
            let together = rest.iter().take_while(|f| f.lies.as_ref().map(|(queue, _)| queue) == queue).count();
            let (part, behind) = rest.split_at(if queue.is_some() { together } else { 1 });
            let end = bring_back(events, ctx, part).await;
            let record = &mut *task.record();
            if let Some(last) = part.last() {
                record.dealt_with(last);
            }
            match end {
                Ok(done) => {
                    record.done += done as u64;
                    record.skipped += (part.len() as u64).saturating_sub(done as u64);
                }
                Err(fault) => {
                    record.failed += part.len() as u64;
                    record.message = Some(format!("{}: {}", first.event(), fault.message));
                }
            }
            rest = behind;
        }
        task.write(&*events.store).await;
    }
    task.record().ended = Some(events.clock.now());
    task.write(&*events.store).await;
}

/// How many were brought back; the others wait no more, or are out with somebody now. All lie in one queue, or it is one.
async fn bring_back(events: &Events, ctx: &Ctx, failures: &[Failure]) -> Result<usize, Fault> {
    let Some(first) = failures.first() else { return Ok(0) };
    if let Some((queue, _)) = &first.lies {
        let places: Vec<_> = failures.iter().filter_map(|f| Some((f.event(), f.lies.as_ref()?.1))).collect();
        return events.dead_letters.redrive(queue, &places).await;
    }
    let still = journal::failures::failure(&*events.store, &ctx.place, first.event()).map_err(unreadable)?;
    match still {
        None => Ok(0),
        Some(_) => invoke_again(events, ctx, first).await.map(|()| 1),
    }
}

async fn invoke_again(events: &Events, ctx: &Ctx, failure: &Failure) -> Result<(), Fault> {
    let entry = &failure.entry;
    let arn = failure.function.as_deref().ok_or_else(|| invalid("nothing says where it was going"))?;
    let function: FunctionRef = arn.parse().map_err(|_| invalid(format!("{arn} is no function")))?;
    let payload = entry.payload.map(|payload| journal::payloads::read(&*events.store, &ctx.place, &payload));
    let payload = payload.transpose().map_err(unreadable)?.flatten();
    let payload = payload.ok_or_else(|| invalid("its payload is not kept any more"))?;
    events.invoker.describe(&ctx.place, &function)?;
    let id = EventId::next();
    let invocation = Invocation {
        function,
        mode: InvokeMode::RequestResponse,
        payload,
        client_context: None,
        tail: false,
        lineage: entry.lineage.child(id),
    };
    let ctx = events.on_behalf(ctx, id, entry.lineage.root);
    events.async_invoker.accept(&ctx, invocation).await?;
    note(events, failure, Entry::new(entry.place.clone(), entry.lineage, Kind::Redriven, events.clock.now())).await
}

pub(super) async fn discard(events: &Events, ctx: &Ctx, input: &Chosen) -> Result<DropOutput, Fault> {
    let (mut dropped, mut skipped) = (0, 0);
    for failure in chosen(events, &ctx.place, input)? {
        let gone = match &failure.lies {
            Some((queue, at)) => events.dead_letters.discard(queue, &[(failure.event(), *at)]).await? > 0,
            None => {
                let entry = &failure.entry;
                let entry = Entry::new(entry.place.clone(), entry.lineage, Kind::Settled, events.clock.now());
                note(events, &failure, Entry { recovered: true, ..entry }).await?;
                true
            }
        };
        *(if gone { &mut dropped } else { &mut skipped }) += 1;
    }
    Ok(DropOutput { dropped, skipped })
}

async fn note(events: &Events, failure: &Failure, entry: Entry) -> Result<(), Fault> {
    let entry = Entry { source: failure.entry.target.clone(), target: failure.function.clone(), ..entry };
    let committed = events.store.commit(Batch::new().journal(entry)).await;
    committed.map(drop).map_err(|error| Fault::unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::failures::tests::buried;

    #[test]
    fn it_goes_on_within_what_one_commit_buried() {
        let all = buried();
        let mut record = Record {
            group: None,
            event: None,
            rate: 1,
            count: 7,
            started: Timestamp::from_millis(0),
            to: 9,
            at: 0,
            last: None,
            done: 0,
            skipped: 0,
            failed: 0,
            message: None,
            stopped: false,
            ended: None,
        };
        for done in 0..=7 {
            let left = all.iter().filter(|failure| record.is_ahead(failure)).count();
            assert_eq!(left, 7 - done, "after {done}");
            if let Some(failure) = all.get(done) {
                record.dealt_with(failure);
            }
        }
        // As an earlier version wrote it.
        record = Record { at: 5, last: None, ..record };
        assert_eq!(all.iter().filter(|failure| record.is_ahead(failure)).count(), 3);
    }
}
