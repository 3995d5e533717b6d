//! The outbox: records on their way to a target, each in the commit of what it tells of.
//!
//! One carrier brings them; a target that can't take a record now gets it later, one that refuses it ends it with a
//! `Discarded` entry in the journal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::target::{Attribute, AttributeValue};
use flint_kit::{Envelope, Fault, FaultKind};
use flint_model::{Arn, FunctionRef};
use flint_store::{Batch, Key, Store, journal};
use tokio::sync::{Notify, Semaphore};

use crate::core::{Core, UnderWay};
use crate::due::{Due, Heads};
use crate::error::Error;
use crate::keys::{self, EventRecord, OutboxRecord, Purpose, child_id};
use crate::lanes;
use crate::policy::backoff;

/// Rows in memory.
const HEADS_MAX: usize = 16_384;
/// Rows read at once.
const PAGE: usize = 256;
/// Records on their way at once.
const CARRIED_MAX: usize = 32;
/// How long a target may be unable to take a record (as long as an event may wait for a function by default).
const AGE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Bytes of an event for a function (Lambda quotas, "Invocation payload", asynchronous).
pub(crate) const EVENT_MAX: usize = 1 << 20;

/// What waits for the carrier.
#[derive(Debug)]
pub(crate) struct Outbox {
    heads: Mutex<Heads>,
    wake: Notify,
}

/// A record whose batch is about to be committed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Posted(Due);

impl Default for Outbox {
    fn default() -> Self {
        Self { heads: Mutex::new(Heads::unread(HEADS_MAX)), wake: Notify::new() }
    }
}

impl Outbox {
    /// Adds a record to `batch`; after the commit it is told by [`Outbox::arrived`].
    pub(crate) async fn post(
        &self,
        core: &Core,
        batch: Batch,
        record: OutboxRecord,
        body: &Bytes,
    ) -> Result<(Batch, Posted), Error> {
        let id = child_id(record.lineage.event, record.purpose.name());
        let due = Due::new(Timestamp::from_millis(record.created_ms), id);
        self.lock().hold(due);
        loop {
            match keys::put_pieces(&*core.store, id, record.payload, body).await {
                Ok(()) => break,
                Err(Error::Commit(flint_store::CommitError::Full | flint_store::CommitError::Busy)) => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(error) => return Err(error),
            }
        }
        let batch = keys::finish_pieces(batch, id, record.payload);
        let batch = batch.put(keys::OUTBOX, keys::outbox_key(due), keys::encode(&record, record.payload, body));
        Ok((batch, Posted(due)))
    }

    pub(crate) fn arrived(&self, posted: Posted) {
        self.lock().insert(posted.0);
        self.wake.notify_one();
    }

    /// Carries records until the server is about to end.
    pub(crate) async fn run(&self, core: &Arc<Core>) {
        let slots = Arc::new(Semaphore::new(CARRIED_MAX));
        loop {
            self.read(&*core.store).await;
            let slot = tokio::select! {
                slot = slots.clone().acquire_owned() => slot,
                () = core.closing.closed() => return,
            };
            let popped = self.lock().pop(core.now());
            if let Some(due) = popped {
                let (shared, under_way) = (core.clone(), UnderWay::new(core));
                core.tasks.spawn(async move {
                    shared.outbox.carry(&shared, due).await;
                    drop((slot, under_way));
                });
                continue;
            }
            let next = self.lock().next_at();
            let rings = async {
                match next {
                    Some(at) => core.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rings => {}
                () = self.wake.notified() => {}
                () = core.closing.closed() => return,
            }
        }
    }

    async fn read(&self, store: &dyn Store) {
        let wants = self.lock().wants();
        let Some(after) = wants else { return };
        match keys::read_due(store, keys::OUTBOX, &Key::default(), after, PAGE) {
            Ok((found, complete)) => self.lock().refill(found, complete),
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn carry(&self, core: &Arc<Core>, due: Due) {
        match self.bring(core, due).await {
            Ok(next) => {
                let mut heads = self.lock();
                heads.release(due);
                if let Some(next) = next {
                    heads.insert(next);
                }
            }
            Err(error) => {
                tracing::error!(record = %due.id, %error, "a record waits in the outbox for ever");
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.lock().lost(due);
            }
        }
        self.wake.notify_one();
    }

    /// Brings the record at `due`, once; answers where it stands next, if it is not over.
    async fn bring(&self, core: &Arc<Core>, due: Due) -> Result<Option<Due>, Error> {
        let key = keys::outbox_key(due);
        let Some(row) = core.store.get(keys::OUTBOX, &key)? else { return Ok(None) };
        let (mut record, inline): (OutboxRecord, Bytes) = keys::decode(&key, &row.value)?;
        let body = keys::payload(&*core.store, due.id, record.payload, inline.clone())?;
        let gone = keys::drop_pieces(Batch::new().delete(keys::OUTBOX, key.clone()), due.id, record.payload);
        let fault = match record.target.parse::<Arn>() {
            Ok(arn) if arn.service == "lambda" => {
                match to_function(core, &record, &arn, due, body, gone.clone()).await? {
                    Ok(()) => return Ok(None),
                    Err(fault) => fault,
                }
            }
            Ok(arn) => match to_target(core, &record, &arn, due, body).await {
                Ok(()) => {
                    core.commit_at_last(record.ended(gone, core.now())).await?;
                    return Ok(None);
                }
                Err(fault) => fault,
            },
            Err(error) => Fault::client(400, "InvalidParameterValueException", error.to_string()),
        };
        let now = core.now();
        let old = now.since(Timestamp::from_millis(record.created_ms)) >= AGE_MAX;
        if fault.kind == FaultKind::Client || old {
            tracing::warn!(target = record.target, event = %record.lineage.event, %fault, "a record cannot be delivered");
            let entry = record.entry(journal::Kind::Discarded, now);
            core.commit_at_last(gone.journal(entry)).await?;
            return Ok(None);
        }
        record.tries += 1;
        let next = Due::new(now.saturating_add(backoff(record.tries)), due.id);
        self.lock().hold(next);
        let value = keys::encode(&record, record.payload, &inline);
        let batch = Batch::new().delete(keys::OUTBOX, key).put(keys::OUTBOX, keys::outbox_key(next), value);
        core.commit_at_last(batch).await?;
        Ok(Some(next))
    }

    fn lock(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the record to another room.
async fn to_target(core: &Core, record: &OutboxRecord, arn: &Arn, due: Due, body: Bytes) -> Result<(), Fault> {
    let Some((target, _)) = core.target(&record.target) else {
        return Err(Fault::not_served(format_args!("delivery to {}", arn.service)));
    };
    let lineage = record.lineage.child(due.id);
    let attribute = |(name, value, number): &(String, String, bool)| Attribute {
        name: name.clone(),
        value: if *number { AttributeValue::Number(value.clone()) } else { AttributeValue::String(value.clone()) },
    };
    let envelope = Envelope {
        payload: body,
        lineage,
        trace: record.trace.as_deref().map(Arc::from),
        source: record.source.clone(),
        attributes: record.attributes.iter().map(attribute).collect(),
        group: None,
        deduplication: None,
    };
    let ctx = core.ctx(&record.place, due.id.into(), record.lineage, record.trace.as_deref());
    target.deliver(&ctx, arn, envelope).await.map(|_| ())
}

/// Makes the record an event of a function, in the commit that takes it out of the outbox.
async fn to_function(
    core: &Arc<Core>,
    record: &OutboxRecord,
    arn: &Arn,
    due: Due,
    body: Bytes,
    gone: Batch,
) -> Result<Result<(), Fault>, Error> {
    let function: FunctionRef = match arn.to_string().parse() {
        Ok(function) => function,
        Err(error) => return Ok(Err(Fault::client(400, "InvalidParameterValueException", format!("{error}")))),
    };
    if let Err(fault) = core.invoker.describe(&record.place, &function) {
        return Ok(Err(fault));
    }
    if body.len() > EVENT_MAX {
        return Ok(Err(Fault::client(413, "RequestTooLargeException", too_large(body.len()))));
    }
    // Not the id of the record itself: the pieces of a large payload are named by it.
    let id = child_id(due.id, "event");
    let event = EventRecord {
        place: record.place.clone(),
        function: function.name,
        qualifier: function.qualifier.map(|qualifier| qualifier.to_string()),
        request_id: id.into(),
        lineage: record.lineage.child(id),
        trace: record.trace.clone(),
        client_context: None,
        source: Some(record.source.clone()),
        accepted_ms: core.now().as_millis(),
        attempts: 0,
        not_asked: 0,
        last_status: None,
        on_failure: None,
        dead_letter: None,
        payload: keys::plan(&body),
    };
    let (batch, coming) = lanes::prepare(core, event, &body, record.ended(gone, core.now())).await?;
    core.commit_at_last(batch).await?;
    coming.arrived();
    Ok(Ok(()))
}

/// The reference's words for an event that is too large.
pub(crate) fn too_large(found: usize) -> String {
    format!("{found} byte payload is too large for the Event invocation type (limit {EVENT_MAX} bytes)")
}

impl OutboxRecord {
    /// It arrived: a failed event has come to its end by that.
    fn ended(&self, batch: Batch, now: Timestamp) -> Batch {
        match self.purpose {
            Purpose::OnSuccess => batch,
            Purpose::OnFailure | Purpose::DeadLetter => batch.journal(self.entry(journal::Kind::DeadLettered, now)),
        }
    }

    fn entry(&self, kind: journal::Kind, now: Timestamp) -> journal::Entry {
        journal::Entry {
            source: Some(self.source.clone()),
            target: Some(self.target.clone()),
            payload: Some(self.event),
            error: self.error.clone(),
            trace_id: self.trace.clone(),
            ..journal::Entry::new(self.place.clone(), self.lineage, kind, now)
        }
    }
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Purpose::OnSuccess => "on-success",
            Purpose::OnFailure => "on-failure",
            Purpose::DeadLetter => "dead-letter",
        }
    }
}
