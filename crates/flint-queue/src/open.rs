//! Opening: what was handed out or delayed is read, the rest stays where it is until somebody asks for it.

use std::sync::Arc;

use flint_base::Clock;
use flint_model::Place;
use flint_store::{Batch, Direction, Key, KeyRange, Mutation, Store};

use crate::Error;
use crate::keys::{self, Flight, Glance, QueueRecord, Tally};
use crate::queue::{Heart, Loaded};
use crate::queues::{Options, Queue, Queues};

/// Rows per read where all are wanted.
const PAGE: usize = 1_000;
/// Rows per read of messages, which may have 60 KiB each.
const MESSAGES_PAGE: usize = 128;
/// Sequences that a crash may have used up after the last tally; they are not used again, because receipt handles that
/// name them may still be about.
const GAP: u64 = 1 << 32;

impl Queues {
    /// Opens all queues of a store.
    ///
    /// Errors: a record that cannot be read or understood; a store that does not take the removal of leftovers.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>, Error> {
        let now = clock.now().as_millis();
        let mut last_id = 0;
        let mut queues = Vec::new();
        for_each(&*store, keys::QUEUES, KeyRange::all(), |key, value| {
            let (place, name) = place_and_name(key)?;
            let record = QueueRecord::decode(value)?;
            last_id = last_id.max(record.id);
            let heart = open_heart(&*store, &record, now)?;
            queues.push(Queue::new(place, name, record, heart));
            Ok(())
        })?;
        for_each(&*store, keys::GARBAGE, KeyRange::all(), |key, _| {
            last_id = last_id.max(key.parts().u64().unwrap_or(0));
            Ok(())
        })?;
        drop_uploads(&*store).await?;
        Ok(Arc::new(Self::new(store, clock, options, queues, last_id)?))
    }
}

/// The heart of a queue from what lies in the store.
pub(crate) fn open_heart(store: &dyn Store, record: &QueueRecord, now: i64) -> Result<Heart, Error> {
    let QueueRecord { id, floor, settings, .. } = record;
    let tally = store.get(keys::TALLIES, &keys::of_queue(*id))?;
    let tally = tally.map(|row| Tally::decode(&row.value)).transpose()?.unwrap_or(Tally { count: 0, next: 1 });
    let last = store.scan(keys::MESSAGES, &keys::messages_from(*id, *floor), 1, Direction::Reverse)?;
    let last = last.first().map(|row| keys::sequence_of(&row.key)).transpose()?;
    let since = count_from(store, *id, tally.next.max(*floor))?;
    let flights = flights_of(store, *id, *floor)?;
    let count = match last {
        None => 0,
        Some(_) => (tally.count + since).max(flights.len() as u64).max(1),
    };
    let next = last.map_or(0, |last| last + 1).max(tally.next + GAP).max(*floor);
    let mut heart = Heart::new(settings.fifo, *floor, next, count);
    for (sequence, flight) in flights {
        let Some(row) = store.get(keys::MESSAGES, &keys::message_key(*id, sequence))? else { continue };
        let Glance { sent, group, chunks, .. } = Glance::at(&row.value)?;
        heart.restore(now, Loaded { sequence, sent, group, chunks }, flight);
    }
    Ok(heart)
}

/// Messages that were sent since the last tally: at most a second's.
fn count_from(store: &dyn Store, queue: u64, sequence: u64) -> Result<u64, Error> {
    let mut count = 0;
    let mut range = keys::messages_from(queue, sequence);
    loop {
        let page = store.scan(keys::MESSAGES, &range, MESSAGES_PAGE, Direction::Forward)?;
        count += page.len() as u64;
        match page.last() {
            Some(row) if page.len() == MESSAGES_PAGE => range = range.after(&row.key),
            _ => return Ok(count),
        }
    }
}

fn flights_of(store: &dyn Store, queue: u64, floor: u64) -> Result<Vec<(u64, Flight)>, Error> {
    let mut flights = Vec::new();
    for_each(store, keys::FLIGHTS, keys::messages_from(queue, floor), |key, value| {
        flights.push((keys::sequence_of(key)?, Flight::decode(value)?));
        Ok(())
    })?;
    Ok(flights)
}

/// Gives the window what it needs to hand out `wanted` messages, as far as there are so many.
pub(crate) fn fill(store: &dyn Store, queue: u64, heart: &mut Heart, wanted: usize) -> Result<(), Error> {
    while let Some(from) = heart.needs(wanted) {
        let range = keys::messages_from(queue, from);
        let page = store.scan(keys::MESSAGES, &range, MESSAGES_PAGE, Direction::Forward)?;
        let mut loaded = Vec::with_capacity(page.len());
        for row in &page {
            let Glance { sent, group, chunks, .. } = Glance::at(&row.value)?;
            loaded.push(Loaded { sequence: keys::sequence_of(&row.key)?, sent, group, chunks });
        }
        heart.load(loaded, page.len() < MESSAGES_PAGE);
    }
    Ok(())
}

/// Removes the texts of messages that a crash kept from being sent.
async fn drop_uploads(store: &dyn Store) -> Result<(), Error> {
    let mut uploads = Vec::new();
    for_each(store, keys::UPLOADS, KeyRange::all(), |key, _| {
        uploads.push(key.clone());
        Ok(())
    })?;
    for key in uploads {
        let chunks = KeyRange::prefix(&key);
        let mut batch = Batch::new();
        batch.write.push(Mutation::DeleteRange(keys::CHUNKS, chunks));
        batch.write.push(Mutation::Delete(keys::UPLOADS, key));
        match store.commit(batch).await {
            // They cost space and nothing else: the next start tries again.
            Ok(_) | Err(flint_store::CommitError::Full) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Walks a range page by page.
pub(crate) fn for_each(
    store: &dyn Store,
    keyspace: flint_store::Keyspace,
    mut range: KeyRange,
    mut row: impl FnMut(&Key, &bytes::Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let page = store.scan(keyspace, &range, PAGE, Direction::Forward)?;
        for found in &page {
            row(&found.key, &found.value)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => range = range.after(&last.key),
            _ => return Ok(()),
        }
    }
}

fn place_and_name(key: &Key) -> Result<(Place, String), Error> {
    let mut parts = key.parts();
    let mut text = || parts.text();
    let read = (text(), text(), text());
    let (Some(account), Some(region), Some(name)) = read else {
        return Err(Error::Damaged("a queue's key".to_owned()));
    };
    match (account.parse(), region.parse()) {
        (Ok(account), Ok(region)) => Ok((Place { account, region }, name)),
        _ => Err(Error::Damaged("a queue's place".to_owned())),
    }
}
