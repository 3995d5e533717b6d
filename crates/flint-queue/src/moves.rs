//! Message move tasks: the messages of a dead-letter queue go back, or elsewhere, at a set rate.
//!
//! How far a task is stands in the batches that move messages, so a restart goes on where the last commit ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flint_base::{EventId, Timestamp};
use flint_kit::Ctx;
use flint_model::Place;
use flint_store::journal::Kind;
use flint_store::{Batch, Direction, Key, KeyRange, Mutation, Store, record};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{self, ListedTask, ListedTasks};
use crate::keys::{self, TASKS};
use crate::ops::dispose::{self, Moving};
use crate::ops::queues::sources_of;
use crate::queue::Head;
use crate::queues::{Queue, Queues};
use crate::settings::name_in;
use crate::{Error, open};

const LAYOUT: u8 = 1;
/// Messages per step of a task without a rate.
const STEP: usize = 80;
const MAX_RATE: i64 = 500;
/// Tasks that are answered at most, and that a queue keeps.
const KEPT: usize = 10;

/// A task at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub place: Place,
    /// Names of queues of the place; without a destination each message goes where it came from.
    pub source: String,
    pub destination: Option<String>,
    /// Messages per second.
    pub rate: Option<u32>,
    pub started: Timestamp,
    pub status: Status,
    pub moved: u64,
    pub to_move: u64,
    pub failure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Running,
    Completed,
    Cancelling,
    Cancelled,
    Failed,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Cancelling => "CANCELLING",
            Status::Cancelled => "CANCELLED",
            Status::Failed => "FAILED",
        }
    }

    fn is_active(self) -> bool {
        matches!(self, Status::Running | Status::Cancelling)
    }
}

/// The tasks that are not at their end.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    active: Mutex<BTreeMap<Key, Active>>,
    /// Tells the worker of a new task.
    pub changed: Notify,
}

#[derive(Clone, Debug)]
struct Active {
    task: Task,
    /// When its next step is due; at once if there is none.
    due: Option<Instant>,
}

impl Moves {
    /// Finds the tasks that a stop interrupted.
    pub fn open(store: &dyn Store) -> Result<Self, Error> {
        let mut active = BTreeMap::new();
        open::for_each(store, TASKS, KeyRange::all(), |key, value| {
            let task = decode(value)?;
            if task.status.is_active() {
                active.insert(key.clone(), Active { task, due: None });
            }
            Ok(())
        })?;
        Ok(Self { active: Mutex::new(active), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next step of any task is due; `None` if there is no task.
    fn next(&self) -> Option<Option<Instant>> {
        self.lock().values().map(|active| active.due).min()
    }
}

fn decode(value: &[u8]) -> Result<Task, Error> {
    record::decode(LAYOUT, value).map_err(|e| Error::Damaged(format!("a move task: {e}")))
}

fn prefix(place: &Place, source: &str) -> Key {
    Key::for_place(place).text(source)
}

/// `StartMessageMoveTask`: answers the task's handle.
pub async fn start(queues: &Queues, ctx: &Ctx, input: &api::StartMessageMoveTask) -> Result<String, Error> {
    let gone = |name: &str| {
        Error::ResourceMissing(format!("The resource that you specified for the {name} parameter doesn't exist."))
    };
    let rate = input.max_number_of_messages_per_second.map(|n| {
        let legal = u32::try_from(n).ok().filter(|_| (1..=MAX_RATE).contains(&n));
        legal.ok_or_else(|| Error::value(n, "MaxNumberOfMessagesPerSecond", "Must be between 1 and 500, if provided."))
    });
    let rate = rate.transpose()?;
    let _admin = queues.admin.lock().await;
    let find = |arn: &str, name: &str| {
        let found = name_in(&ctx.place, arn).and_then(|found| queues.find(&ctx.place, &found).ok());
        found.ok_or_else(|| gone(name))
    };
    let source = find(&input.source_arn, "SourceArn")?;
    let destination = input.destination_arn.as_deref().map(|arn| find(arn, "DestinationArn")).transpose()?;
    if sources_of(queues, &source).is_empty() {
        return Err(Error::Invalid("Source queue must be configured as a Dead Letter Queue.".to_owned()));
    }
    if let Some(destination) = &destination {
        if destination.id == source.id {
            return Err(Error::Invalid("Source queue arn and destination queue arn cannot be the same.".to_owned()));
        }
        if destination.settings().fifo != source.settings().fifo {
            return Err(Error::Invalid("Source and destination queues must be of the same type.".to_owned()));
        }
    }
    let range = KeyRange::prefix(&prefix(&ctx.place, &source.name));
    if queues.moves.lock().keys().any(|key| range.contains(key)) {
        return Err(Error::Unsupported(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
                .to_owned(),
        ));
    }
    let (now, id) = (queues.now(), (queues.options.mint)());
    let task = Task {
        place: ctx.place.clone(),
        source: source.name.clone(),
        destination: destination.map(|queue| queue.name.clone()),
        rate,
        started: now,
        status: Status::Running,
        moved: 0,
        to_move: source.lock().heart.counts().0,
        failure: None,
    };
    let key = prefix(&ctx.place, &source.name).raw(id.as_bytes());
    let mut batch = Batch::new().put(TASKS, key.clone(), record::encode(LAYOUT, &task));
    // The newest ten are kept.
    let known = queues.store.scan(TASKS, &range, usize::MAX, Direction::Reverse)?;
    batch.write.extend(known.into_iter().skip(KEPT - 1).map(|row| Mutation::Delete(TASKS, row.key)));
    queues.store.commit(batch).await?;
    queues.moves.lock().insert(key, Active { task, due: None });
    queues.moves.changed.notify_one();
    Ok(handle(&source.arn, id))
}

fn handle(source_arn: &str, id: EventId) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{id} {source_arn}"))
}

/// `ListMessageMoveTasks`: the newest first.
pub fn list(queues: &Queues, ctx: &Ctx, input: &api::ListMessageMoveTasks) -> Result<ListedTasks, Error> {
    let limit = match input.max_results {
        None => 1,
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| (1..=KEPT).contains(n))
            .ok_or_else(|| Error::value(n, "MaxResults", "Must be between 1 and 10, if provided."))?,
    };
    let queue = name_in(&ctx.place, &input.source_arn).and_then(|name| queues.find(&ctx.place, &name).ok());
    let queue = queue.ok_or_else(|| {
        Error::ResourceMissing("The resource that you specified for the SourceArn parameter doesn't exist.".to_owned())
    })?;
    let range = KeyRange::prefix(&prefix(&ctx.place, &queue.name));
    let rows = queues.store.scan(TASKS, &range, limit, Direction::Reverse)?;
    let results = rows.iter().map(|row| {
        // One that is on its way knows more than the store.
        let active = queues.moves.lock().get(&row.key).map(|active| active.task.clone());
        let task = active.map_or_else(|| decode(&row.value), Ok)?;
        let id = row.key.as_bytes().last_chunk::<16>().map(|id| EventId::from_bytes(*id));
        let of = |name: &str| flint_model::Arn::new("sqs", &task.place, name).to_string();
        Ok(ListedTask {
            task_handle: id.filter(|_| task.status == Status::Running).map(|id| handle(&queue.arn, id)),
            status: task.status.text(),
            source_arn: queue.arn.clone(),
            destination_arn: task.destination.as_deref().map(of),
            max_number_of_messages_per_second: task.rate,
            approximate_number_of_messages_moved: task.moved,
            approximate_number_of_messages_to_move: Some(task.to_move),
            failure_reason: task.failure,
            started_timestamp: task.started.as_millis(),
        })
    });
    Ok(ListedTasks { results: results.collect::<Result<_, Error>>()? })
}

/// `CancelMessageMoveTask`: answers how many messages moved before. What moved stays where it is.
pub async fn cancel(queues: &Queues, ctx: &Ctx, input: &api::CancelMessageMoveTask) -> Result<u64, Error> {
    let unknown = || Error::ResourceMissing("Task does not exist.".to_owned());
    let text = BASE64_URL_SAFE_NO_PAD.decode(&input.task_handle).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| Error::value(&input.task_handle, "TaskHandle", "Task handle is invalid."))?;
    let parts = text.split_once(' ').and_then(|(id, arn)| Some((id.parse::<EventId>().ok()?, arn)));
    let (id, arn) = parts.ok_or_else(|| Error::value(&input.task_handle, "TaskHandle", "Task handle is invalid."))?;
    let source = name_in(&ctx.place, arn).ok_or_else(unknown)?;
    let key = prefix(&ctx.place, &source).raw(id.as_bytes());
    let row = queues.store.get(TASKS, &key)?.ok_or_else(unknown)?;
    let task = {
        let mut active = queues.moves.lock();
        let Some(found) = active.get_mut(&key).filter(|active| active.task.status == Status::Running) else {
            let status = decode(&row.value)?.status.text();
            return Err(Error::Unsupported(format!("Only active tasks can be cancelled; this one is {status}.")));
        };
        found.task.status = Status::Cancelling;
        found.due = None;
        found.task.clone()
    };
    queues.store.commit(Batch::new().put(TASKS, key, record::encode(LAYOUT, &task))).await?;
    queues.moves.changed.notify_one();
    Ok(task.moved)
}

/// Runs the tasks, one step of each after the other.
pub(crate) async fn run(queues: &Queues) {
    loop {
        match queues.moves.next() {
            None => queues.moves.changed.notified().await,
            Some(Some(due)) if due > Instant::now() => {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = queues.moves.changed.notified() => {}
                }
            }
            Some(_) => {
                let now = Instant::now();
                let due: Vec<Key> = {
                    let active = queues.moves.lock();
                    let due = active.iter().filter(|(_, active)| active.due.is_none_or(|due| due <= now));
                    due.map(|(key, _)| key.clone()).collect()
                };
                for key in due {
                    step(queues, &key).await;
                }
            }
        }
    }
}

/// One step of a task.
async fn step(queues: &Queues, key: &Key) {
    let Some(Active { task, due }) = queues.moves.lock().get(key).cloned() else { return };
    if task.status == Status::Cancelling {
        return end(queues, key, Status::Cancelled, None).await;
    }
    let Ok(source) = queues.find(&task.place, &task.source) else {
        return end(queues, key, Status::Failed, Some("AWS.SimpleQueueService.NonExistentQueue")).await;
    };
    let wanted = task.rate.map_or(STEP, |rate| STEP.min(rate as usize).max(1));
    let taken = {
        let mut inner = source.lock();
        inner.heart.advance(queues.now().as_millis());
        let filled = open::fill(&*queues.store, source.id, &mut inner.heart, wanted);
        if let Err(error) = filled {
            tracing::error!(queue = source.arn, %error, "a move task cannot read");
        }
        inner.heart.take_for_move(wanted)
    };
    if taken.is_empty() {
        return end(queues, key, Status::Completed, None).await;
    }
    let count = taken.len();
    if let Err(reason) = shift(queues, key, &task, &source, taken).await {
        return end(queues, key, Status::Failed, Some(reason)).await;
    }
    // The pace counts from when this step was due, so that short delays do not add up.
    let pause = task.rate.map(|rate| Duration::from_secs_f64(count as f64 / f64::from(rate)));
    let now = Instant::now();
    let base = due.map_or(now, |due| due.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now)));
    if let Some(active) = queues.moves.lock().get_mut(key) {
        active.due = pause.map(|pause| base + pause);
    }
    tokio::task::yield_now().await;
}

/// Moves what was taken: runs of messages that go the same way, in their order.
async fn shift(
    queues: &Queues,
    key: &Key,
    task: &Task,
    source: &Queue,
    taken: Vec<(u64, Head)>,
) -> Result<(), &'static str> {
    let mut rest = &taken[..];
    while let Some(first) = rest.first() {
        let way = |message: &(u64, Head)| match &task.destination {
            Some(name) => Some(name.clone()),
            None => origin(queues, source, message.0),
        };
        let to = way(first);
        let run = rest.iter().take_while(|message| way(message) == to).count();
        let (run, behind) = rest.split_at(run);
        let Some(name) = to else {
            dispose::release(queues, source, rest);
            return Err("CouldNotDetermineMessageSource");
        };
        let Ok(target) = queues.find(&task.place, &name) else {
            dispose::release(queues, source, rest);
            return Err("AWS.SimpleQueueService.NonExistentQueue");
        };
        if !move_run(queues, key, source, &target, run).await {
            dispose::release(queues, source, behind);
            // The disk is full or the store is busy: the next step tries again.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(());
        }
        rest = behind;
    }
    Ok(())
}

/// Answers whether all of the run moved.
async fn move_run(queues: &Queues, key: &Key, source: &Queue, target: &Arc<Queue>, run: &[(u64, Head)]) -> bool {
    let Some(Active { task, .. }) = queues.moves.lock().get(key).cloned() else { return false };
    let mut so_far = task.moved;
    let note = |batch: &mut Batch, count: usize| {
        so_far += count as u64;
        let task = Task { moved: so_far, ..task.clone() };
        batch.write.push(Mutation::Put(TASKS, key.clone(), record::encode(LAYOUT, &task)));
    };
    let moving = Moving { kind: Kind::Redriven, keep_origin: false };
    let moved = dispose::shift(queues, source, target, run.to_vec(), &moving, note).await;
    if let Some(active) = queues.moves.lock().get_mut(key) {
        active.task.moved += moved as u64;
    }
    moved == run.len()
}

/// The name of the queue that a message was moved away from.
fn origin(queues: &Queues, source: &Queue, sequence: u64) -> Option<String> {
    let row = queues.store.get(keys::MESSAGES, &keys::message_key(source.id, sequence)).ok()??;
    let message = keys::decode_message(&row.value).ok()?;
    name_in(&source.place, &message.origin?)
}

async fn end(queues: &Queues, key: &Key, status: Status, failure: Option<&str>) {
    let Some(Active { task, .. }) = queues.moves.lock().get(key).cloned() else { return };
    let task = Task { status, failure: failure.map(str::to_owned), ..task };
    match queues.store.commit(Batch::new().put(TASKS, key.clone(), record::encode(LAYOUT, &task))).await {
        Ok(_) => {
            queues.moves.lock().remove(key);
        }
        Err(error) => {
            tracing::warn!(%error, "the end of a move task was not written; it is tried again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
