//! Making, finding, changing and deleting queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use flint_kit::{Ctx, Doc};
use flint_store::{Batch, CommitError};

use crate::Error;
use crate::address;
use crate::api::{self, ListedQueues, ListedSources};
use crate::keys::{self, QueueRecord, Tally};
use crate::ops::{purge, tags};
use crate::queue::Heart;
use crate::queues::{Queue, Queues};
use crate::settings::{self, Settings};

const PAGE: usize = 1_000;

/// `CreateQueue`: answers the address, of a queue that exists already too if nothing asked for differs.
///
/// Differs: the name of a deleted queue can be used again at once.
pub async fn create_queue(queues: &Queues, ctx: &Ctx, input: api::CreateQueue) -> Result<String, Error> {
    let name = input.queue_name;
    let fifo = address::check_name(&name)?;
    let asked = input.attributes.get("FifoQueue").map(String::as_str);
    if fifo != (asked == Some("true")) {
        let message = if fifo {
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with \
             .fifo suffix and be 1 to 80 in length, and FifoQueue must be true."
        } else if asked == Some("true") {
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with \
             .fifo suffix and be 1 to 80 in length"
        } else {
            ""
        };
        if !message.is_empty() {
            return Err(Error::Invalid(message.to_owned()));
        }
    }
    let mut admin = queues.admin.lock().await;
    if let Ok(known) = queues.find(&ctx.place, &name) {
        same(&known, ctx, &input.attributes)?;
        return Ok(address::url(ctx, &name));
    }
    let mut settings = Settings::new(fifo);
    settings.set(&ctx.place, &input.attributes)?;
    check_redrive(queues, ctx, &name, &settings)?;
    tags::check(&input.tags)?;
    settings.tags = input.tags;
    let now = queues.now();
    // In the order of time, so that an id is not used again even after everything that had it is forgotten.
    let id = (admin.last_id + 1).max(u64::try_from(now.as_millis()).unwrap_or(0) << 12);
    let record = QueueRecord { id, created: now, modified: now, settings, floor: 1 };
    let batch = Batch::new().insert(keys::QUEUES, keys::queue_key(&ctx.place, &name), record.encode()).put(
        keys::TALLIES,
        keys::of_queue(id),
        Tally { count: 0, next: 1 }.encode(),
    );
    queues.store.commit(batch).await?;
    admin.last_id = id;
    let heart = Heart::new(fifo, 1, 1, 0);
    queues.add(Arc::new(Queue::new(ctx.place.clone(), name.clone(), record, heart)));
    Ok(address::url(ctx, &name))
}

/// Whether a queue that exists is as it is asked for.
fn same(known: &Queue, ctx: &Ctx, attributes: &BTreeMap<String, String>) -> Result<(), Error> {
    let settings = known.settings();
    let mut asked = (*settings).clone();
    asked.set(&ctx.place, attributes)?;
    let (is, asked) = (settings.show(), asked.show());
    let differs = attributes.keys().find(|name| is.get(name.as_str()) != asked.get(name.as_str()));
    differs.map_or(Ok(()), |name| Err(Error::QueueExists(name.clone())))
}

/// Checks a redrive policy against the queues that there are.
fn check_redrive(queues: &Queues, ctx: &Ctx, name: &str, settings: &Settings) -> Result<(), Error> {
    let Some(redrive) = &settings.redrive else { return Ok(()) };
    let shown = settings.show();
    let refused = |reason: &str| Err(Error::value(&shown["RedrivePolicy"], "RedrivePolicy", reason));
    let Ok(target) = queues.find(&ctx.place, &redrive.target) else {
        return refused("Dead letter target does not exist.");
    };
    let target = target.settings();
    if target.fifo != settings.fifo {
        return refused("Dead-letter queue must be same type of queue as the source.");
    }
    let own = flint_model::Arn::new("sqs", &ctx.place, name).to_string();
    if target.redrive_allow.as_ref().is_some_and(|allow| !allow.admits(&own)) {
        return refused("The dead-letter queue's RedriveAllowPolicy does not allow this queue.");
    }
    Ok(())
}

/// `DeleteQueue`. What lies in the store is removed by the worker.
pub async fn delete_queue(queues: &Queues, queue: &Queue) -> Result<(), Error> {
    let _admin = queues.admin.lock().await;
    let batch = Batch::new()
        .expect(keys::QUEUES, keys::queue_key(&queue.place, &queue.name), flint_store::Expect::Present)
        .delete(keys::QUEUES, keys::queue_key(&queue.place, &queue.name))
        .delete(keys::TALLIES, keys::of_queue(queue.id))
        .put(keys::GARBAGE, keys::of_queue(queue.id), Bytes::copy_from_slice(&u64::MAX.to_be_bytes()));
    let (count, _, _) = queue.lock().heart.tally();
    let what = format!("DeleteQueue took {count} messages");
    let batch = purge::taken_along(batch, queue, queues.now(), "QueueDeleted", &what);
    match queues.store.commit(batch).await {
        Ok(_) => {}
        Err(CommitError::Conflict { .. }) => return Err(Error::QueueMissing),
        Err(error) => return Err(error.into()),
    }
    queues.remove(queue);
    queue.lock().gone = true;
    queue.arrived.notify_waiters();
    queue.arrived.notify_one();
    queues.work.notify_one();
    Ok(())
}

/// `GetQueueUrl`
pub fn get_queue_url(queues: &Queues, ctx: &Ctx, input: &api::GetQueueUrl) -> Result<String, Error> {
    if input.owner.as_deref().is_some_and(|owner| owner != ctx.place.account.as_str()) {
        return Err(Error::QueueMissing);
    }
    address::check_name(&input.queue_name)?;
    queues.find(&ctx.place, &input.queue_name)?;
    Ok(address::url(ctx, &input.queue_name))
}

/// `ListQueues`
pub fn list_queues(queues: &Queues, ctx: &Ctx, input: &api::ListQueues) -> Result<ListedQueues, Error> {
    let prefix = input.queue_name_prefix.as_deref().unwrap_or("");
    let names = queues.list(&ctx.place).into_iter().map(|q| q.name.clone()).filter(|name| name.starts_with(prefix));
    let (page, next_token) = page(names, input.next_token.as_deref(), input.max_results)?;
    let urls: Vec<String> = page.iter().map(|name| address::url(ctx, name)).collect();
    Ok(ListedQueues { queue_urls: (!urls.is_empty()).then_some(urls), next_token })
}

/// `ListDeadLetterSourceQueues`
pub fn list_sources(
    queues: &Queues,
    ctx: &Ctx,
    input: &api::ListDeadLetterSourceQueues,
) -> Result<ListedSources, Error> {
    let target = queues.at(ctx, &input.queue_url)?;
    let (page, next_token) =
        page(sources_of(queues, &target).into_iter(), input.next_token.as_deref(), input.max_results)?;
    Ok(ListedSources { queue_urls: page.iter().map(|name| address::url(ctx, name)).collect(), next_token })
}

/// The names of the queues whose dead letters go to `target`.
pub(crate) fn sources_of(queues: &Queues, target: &Queue) -> Vec<String> {
    let uses = |queue: &Queue| queue.settings().redrive.as_ref().is_some_and(|r| r.target == target.name);
    queues.list(&target.place).iter().filter(|queue| uses(queue)).map(|queue| queue.name.clone()).collect()
}

/// A page of names behind a token. A next token is answered only to who asked for pages, as in the reference.
fn page(
    names: impl Iterator<Item = String>,
    token: Option<&str>,
    max: Option<i64>,
) -> Result<(Vec<String>, Option<String>), Error> {
    let limit = match max {
        None => PAGE,
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| (1..=PAGE).contains(n))
            .ok_or_else(|| Error::value(n, "MaxResults", "MaxResults must be an integer between 1 and 1000."))?,
    };
    let after = token.filter(|t| !t.is_empty()).map(|token| {
        let name = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        name.ok_or_else(|| Error::Invalid("Invalid or expired next token.".to_owned()))
    });
    let after = after.transpose()?;
    let mut page: Vec<String> =
        names.filter(|name| after.as_ref().is_none_or(|after| name > after)).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more && max.is_some()).map(|last| BASE64_URL_SAFE_NO_PAD.encode(last));
    Ok((page, next))
}

/// `GetQueueAttributes`
pub fn get_queue_attributes(queue: &Queue, now: i64, names: &[String]) -> Result<Doc, Error> {
    if let Some(unknown) = names.iter().find(|name| !settings::is_attribute(name)) {
        return Err(Error::AttributeName(unknown.clone()));
    }
    let mut all = queue.settings().show();
    {
        let mut inner = queue.lock();
        inner.heart.advance(now);
        let (visible, out, delayed) = inner.heart.counts();
        all.insert("ApproximateNumberOfMessages", visible.to_string());
        all.insert("ApproximateNumberOfMessagesNotVisible", out.to_string());
        all.insert("ApproximateNumberOfMessagesDelayed", delayed.to_string());
        all.insert("LastModifiedTimestamp", (inner.modified.as_millis() / 1000).to_string());
    }
    all.insert("CreatedTimestamp", (queue.created.as_millis() / 1000).to_string());
    all.insert("QueueArn", queue.arn.clone());
    let wanted = |name: &str| names.iter().any(|n| n == "All" || n == name);
    let shown: Vec<_> = all.into_iter().filter(|(name, _)| wanted(name)).collect();
    if shown.is_empty() {
        return Ok(Doc::Map(Vec::new()));
    }
    let shown = shown.into_iter().map(|(name, value)| (name.into(), Doc::from(value))).collect();
    Ok(Doc::Map(vec![("Attributes".into(), Doc::Map(shown))]))
}

/// `SetQueueAttributes`
pub async fn set_queue_attributes(queues: &Queues, ctx: &Ctx, input: &api::SetQueueAttributes) -> Result<(), Error> {
    let _admin = queues.admin.lock().await;
    let queue = queues.at(ctx, &input.queue_url)?;
    let mut settings = (*queue.settings()).clone();
    settings.set(&ctx.place, &input.attributes)?;
    if input.attributes.contains_key("RedrivePolicy") {
        check_redrive(queues, ctx, &queue.name, &settings)?;
    }
    store(queues, &queue, settings).await
}

/// Writes a queue's settings and makes them count. The caller holds the admin lock.
pub(crate) async fn store(queues: &Queues, queue: &Queue, settings: Settings) -> Result<(), Error> {
    let now = queues.now();
    let record = queue.record(settings.clone(), now);
    queues
        .store
        .commit(Batch::new().put(keys::QUEUES, keys::queue_key(&queue.place, &queue.name), record.encode()))
        .await?;
    queue.set_settings(settings);
    queue.lock().modified = now;
    // A redrive policy or a retention may let something go.
    queue.wake();
    Ok(())
}
