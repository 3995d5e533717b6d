//! `RedriveFailures` and `DropFailures`: back to where it failed, at a rate and in order; or away for good.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flint_base::{EventId, Timestamp};
use flint_kit::{Ctx, Fault, Invocation, InvokeMode};
use flint_model::{FunctionRef, Place};
use flint_store::Batch;
use flint_store::journal::{self, Entry, Kind};
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

/// The redrives of this life of the server. One that a restart interrupts has brought back what it had counted; the rest
/// waits as before.
#[derive(Debug, Default)]
pub(super) struct Redrives {
    tasks: Mutex<BTreeMap<u64, Arc<Task>>>,
    last: AtomicU64,
}

#[derive(Debug)]
struct Task {
    place: Place,
    count: u64,
    started: Timestamp,
    done: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
    /// When it ended, and the last thing that went wrong.
    end: Mutex<(Option<Timestamp>, Option<String>)>,
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
    pub(super) fn start(&self, events: &Arc<Events>, ctx: &Ctx, input: &Chosen) -> Result<StartOutput, Fault> {
        let failures = chosen(events, &ctx.place, input)?;
        let task = Arc::new(Task {
            place: ctx.place.clone(),
            count: failures.len() as u64,
            started: events.clock.now(),
            done: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            end: Mutex::default(),
        });
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut tasks = self.lock();
        tasks.insert(id, task.clone());
        while tasks.len() > REMEMBERED {
            let over = tasks.iter().find(|(_, task)| task.ended().is_some()).map(|(id, _)| *id);
            match over {
                Some(id) => drop(tasks.remove(&id)),
                None => break,
            }
        }
        drop(tasks);
        let rate = input.max_per_second.unwrap_or(DEFAULT_RATE).max(1);
        let (events, ctx, count) = (events.clone(), ctx.clone(), failures.len());
        tokio::spawn(async move { run(&events, &ctx, &task, failures, rate).await });
        Ok(StartOutput { task_id: id.to_string(), count: number(count as u64) })
    }

    pub(super) fn get(&self, ctx: &Ctx, input: &TaskInput) -> Result<TaskOutput, Fault> {
        let task = self.find(ctx, &input.task_id)?;
        let (ended_at, message) = task.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let load = |counter: &AtomicU64| number(counter.load(Ordering::Acquire));
        Ok(TaskOutput {
            task_id: input.task_id.clone(),
            status: match ended_at {
                None => "Running",
                Some(_) if task.stop.load(Ordering::Acquire) => "Stopped",
                Some(_) => "Done",
            },
            count: number(task.count),
            done: load(&task.done),
            skipped: load(&task.skipped),
            failed: load(&task.failed),
            message,
            started_at: task.started,
            ended_at,
        })
    }

    pub(super) fn stop(&self, ctx: &Ctx, input: &TaskInput) -> Result<StopOutput, Fault> {
        let task = self.find(ctx, &input.task_id)?;
        if task.ended().is_none() {
            task.stop.store(true, Ordering::Release);
        }
        Ok(StopOutput { done: number(task.done.load(Ordering::Acquire)) })
    }

    fn find(&self, ctx: &Ctx, id: &str) -> Result<Arc<Task>, Fault> {
        let found = id.parse().ok().and_then(|id: u64| self.lock().get(&id).cloned());
        found
            .filter(|task| task.place == ctx.place)
            .ok_or_else(|| unknown(format!("no redrive {id} in this life of the server")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn ended(&self) -> Option<Timestamp> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// One after the other, so that what was buried first comes back first; at a high rate a few at a time.
async fn run(events: &Events, ctx: &Ctx, task: &Task, failures: Vec<Failure>, rate: u32) {
    let step = usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(1).max(1);
    let mut due = tokio::time::interval(Duration::from_secs(1) * u32::try_from(step).unwrap_or(1) / rate);
    // A store that was slow for a moment is no reason for a burst.
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for part in failures.chunks(step) {
        due.tick().await;
        if task.stop.load(Ordering::Acquire) {
            break;
        }
        let mut rest = part;
        while let Some(first) = rest.first() {
            let queue = first.lies.as_ref().map(|(queue, _)| queue);
            let together = rest.iter().take_while(|f| f.lies.as_ref().map(|(queue, _)| queue) == queue).count();
            let (part, behind) = rest.split_at(if queue.is_some() { together } else { 1 });
            let count = part.len() as u64;
            match bring_back(events, ctx, part).await {
                Ok(done) => {
                    task.done.fetch_add(done as u64, Ordering::AcqRel);
                    task.skipped.fetch_add(count.saturating_sub(done as u64), Ordering::AcqRel);
                }
                Err(fault) => {
                    task.failed.fetch_add(count, Ordering::AcqRel);
                    let mut end = task.end.lock().unwrap_or_else(PoisonError::into_inner);
                    end.1 = Some(format!("{}: {}", first.event(), fault.message));
                }
            }
            rest = behind;
        }
    }
    task.end.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(events.clock.now());
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
