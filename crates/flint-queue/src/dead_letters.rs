//! What a person decides about buried messages: back to where they came from, or away.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::EventId;
use flint_kit::{DeadLetters, Fault};
use flint_model::Arn;
use flint_store::Batch;
use flint_store::journal::{Entry, Kind};

use crate::keys;
use crate::message::Message;
use crate::ops::dispose::{self, Moving};
use crate::ops::receive::Received;
use crate::queue::Head;
use crate::queues::{Queue, Queues};
use crate::settings::name_in;
use crate::{Error, open, ports};

/// Messages that are deleted in one commit.
const COMMIT: usize = 100;

#[async_trait]
impl DeadLetters for Queues {
    fn places(&self, queue: &Arn) -> Result<BTreeMap<EventId, u64>, Fault> {
        let queue = self.of_arn(queue)?;
        let mut places = BTreeMap::new();
        open::for_each(&*self.store, keys::MESSAGES, keys::messages_from(queue.id, 0), |key, value| {
            let message = keys::decode_message(&Bytes::copy_from_slice(value))?;
            places.insert(message.lineage.event, keys::sequence_of(key)?);
            Ok(())
        })?;
        Ok(places)
    }

    async fn redrive(&self, queue: &Arn, events: &[(EventId, u64)]) -> Result<usize, Fault> {
        let queue = self.of_arn(queue)?;
        let held = hold(self, &queue, events)?;
        let mut moved = 0;
        let mut rest = &held[..];
        while let Some((_, first)) = rest.first() {
            let origin = first.origin.clone();
            let run = rest.iter().take_while(|(_, message)| message.origin == origin).count();
            let (run, behind) = rest.split_at(run);
            let Some(target) = target(self, &queue, origin.as_deref()) else {
                let rest: Vec<_> = rest.iter().map(|(head, _)| *head).collect();
                dispose::release(self, &queue, &rest);
                let came = origin.unwrap_or_else(|| "a queue that is not known".to_owned());
                return Err(
                    Error::ResourceMissing(format!("{came}, where it came from, does not exist any more")).into()
                );
            };
            let heads: Vec<(u64, Head)> = run.iter().map(|(head, _)| *head).collect();
            let moving = Moving { kind: Kind::Redriven, keep_origin: false };
            moved += dispose::shift(self, &queue, &target, heads, &moving, |_, _| {}).await;
            rest = behind;
        }
        Ok(moved)
    }

    async fn discard(&self, queue: &Arn, events: &[(EventId, u64)]) -> Result<usize, Fault> {
        let queue = self.of_arn(queue)?;
        let held = hold(self, &queue, events)?;
        let mut gone = 0;
        for part in held.chunks(COMMIT) {
            let mut batch = Batch::new();
            for ((sequence, head), message) in part {
                let chunks = (head.chunks > 0).then_some((message.id, head.chunks));
                keys::erase(&mut batch, queue.id, *sequence, chunks, head.has_flight);
                let entry = Entry::new(queue.place.clone(), message.lineage, Kind::Settled, self.now());
                batch.journal.push(Entry { source: Some(queue.arn.clone()), recovered: true, ..entry });
            }
            let heads: Vec<_> = part.iter().map(|(head, _)| *head).collect();
            match self.store.commit(batch).await {
                Ok(_) => {
                    gone += heads.len();
                    dispose::remove(&queue, &heads);
                }
                Err(error) => {
                    dispose::release(self, &queue, &heads);
                    return Err(Error::from(error).into());
                }
            }
        }
        Ok(gone)
    }

    fn peek(&self, queue: &Arn, event: EventId, place: u64) -> Result<Option<Bytes>, Fault> {
        let queue = self.of_arn(queue)?;
        let Some((message, text)) = self.read(queue.id, place)? else { return Ok(None) };
        if message.lineage.event != event {
            return Ok(None);
        }
        let mut inner = queue.lock();
        open::fill(&*self.store, queue.id, &mut inner.heart, usize::MAX)?;
        let head = inner.heart.get(place).copied();
        drop(inner);
        let Some(head) = head else { return Ok(None) };
        let origin = message.origin.clone().unwrap_or_else(|| queue.arn.clone());
        let received = Received { sequence: place, head, message, text };
        Ok(Some(ports::record(&queue, &origin, received)?.document))
    }
}

/// Where a message stands, and what it is.
type Held = ((u64, Head), Message);

/// The messages that are these events and are nobody's now, taken off the market.
fn hold(queues: &Queues, queue: &Queue, events: &[(EventId, u64)]) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    {
        let mut inner = queue.lock();
        inner.heart.advance(queues.now().as_millis());
        open::fill(&*queues.store, queue.id, &mut inner.heart, usize::MAX)?;
        for (event, sequence) in events {
            if let Some(head) = inner.heart.take_this(*sequence) {
                held.push((*event, (*sequence, head)));
            }
        }
    }
    let mut read = Vec::new();
    for (at, (event, head)) in held.iter().enumerate() {
        let found = queues.store.get(keys::MESSAGES, &keys::message_key(queue.id, head.0)).map_err(Error::from);
        let found = found.and_then(|row| row.map(|row| keys::decode_message(&row.value)).transpose());
        match found {
            Ok(Some(message)) if message.lineage.event == *event => read.push((*head, message)),
            Ok(_) => dispose::release(queues, queue, &[*head]),
            Err(error) => {
                let all: Vec<_> =
                    read.iter().map(|(head, _)| *head).chain(held[at..].iter().map(|(_, h)| *h)).collect();
                dispose::release(queues, queue, &all);
                return Err(error);
            }
        }
    }
    Ok(read)
}

fn target(queues: &Queues, queue: &Queue, origin: Option<&str>) -> Option<Arc<Queue>> {
    queues.find(&queue.place, &name_in(&queue.place, origin?)?).ok()
}
