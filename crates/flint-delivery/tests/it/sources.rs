//! A queue as a source, played: visibility, receive counts, groups, a dead-letter list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::EventId;
use flint_kit::{Fault, Source, SourceInfo, SourceRecord, Told};
use flint_model::{Arn, Lineage};
use flint_store::journal::Entry;
use flint_store::{Batch, Store};
use tokio::sync::Notify;
use tokio::time::Instant;

pub const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:jobs";
pub const FIFO: &str = "arn:aws:sqs:us-east-1:000000000000:jobs.fifo";

#[derive(Clone, Debug)]
struct Message {
    id: String,
    body: String,
    group: Option<String>,
    trace: Option<String>,
    receives: u32,
    /// Hidden until then; the handle of the last hand-out.
    hidden: Option<(Instant, String)>,
}

#[derive(Debug, Default)]
struct State {
    messages: BTreeMap<u64, Message>,
    serial: u64,
    dead: Vec<String>,
    settled: Vec<String>,
    polls: usize,
}

/// Every queue in one: a name that ends in `.fifo` has groups.
#[derive(Debug)]
pub struct Records {
    state: Mutex<State>,
    arrived: Notify,
    pub visibility: Mutex<Duration>,
    pub max_receives: Mutex<u32>,
    /// Where the notes of what it is told go.
    pub store: OnceLock<Arc<dyn Store>>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            visibility: Mutex::new(Duration::from_secs(30)),
            max_receives: Mutex::new(u32::MAX),
            store: OnceLock::new(),
        }
    }
}

impl Records {
    pub fn send(&self, id: &str, body: &str, group: Option<&str>) {
        self.send_traced(id, body, group, None);
    }

    pub fn send_traced(&self, id: &str, body: &str, group: Option<&str>, trace: Option<&str>) {
        let mut state = self.state.lock().unwrap();
        state.serial += 1;
        let serial = state.serial;
        let message = Message {
            id: id.into(),
            body: body.into(),
            group: group.map(str::to_owned),
            trace: trace.map(str::to_owned),
            receives: 0,
            hidden: None,
        };
        state.messages.insert(serial, message);
        drop(state);
        self.arrived.notify_waiters();
    }

    fn note(&self, note: Option<Bytes>) {
        if let (Some(note), Some(store)) = (note, self.store.get()) {
            let entry = Entry::decode(&note).expect("an entry");
            store.commit(Batch::new().journal(entry)).wait().expect("written");
        }
    }

    pub fn dead(&self) -> Vec<String> {
        self.state.lock().unwrap().dead.clone()
    }

    /// Ids in the order in which they were settled.
    pub fn settled(&self) -> Vec<String> {
        self.state.lock().unwrap().settled.clone()
    }

    pub fn left(&self) -> usize {
        self.state.lock().unwrap().messages.len()
    }

    pub fn receives(&self, id: &str) -> u32 {
        let state = self.state.lock().unwrap();
        state.messages.values().find(|message| message.id == id).map_or(0, |message| message.receives)
    }

    pub fn polls(&self) -> usize {
        self.state.lock().unwrap().polls
    }

    pub fn backlog_now(&self) -> u64 {
        self.backlog(&ARN.parse().expect("an ARN"))
    }

    fn take(&self, max: usize) -> Vec<SourceRecord> {
        let now = Instant::now();
        let until = now + *self.visibility.lock().unwrap();
        let most = *self.max_receives.lock().unwrap();
        let mut state = self.state.lock().unwrap();
        let is_out = |message: &Message| message.hidden.as_ref().is_some_and(|(until, _)| *until > now);
        let mut blocked: BTreeSet<String> =
            state.messages.values().filter(|m| is_out(m)).filter_map(|m| m.group.clone()).collect();
        let visible: Vec<u64> = state.messages.iter().filter(|(_, m)| !is_out(m)).map(|(serial, _)| *serial).collect();
        let mut taken = Vec::new();
        let mut taking: BTreeSet<String> = BTreeSet::new();
        for serial in visible {
            if taken.len() == max {
                break;
            }
            let message = state.messages.get_mut(&serial).expect("there");
            if message.receives >= most {
                let dead = state.messages.remove(&serial).expect("there");
                state.dead.push(dead.id);
                continue;
            }
            if let Some(group) = &message.group {
                if blocked.contains(group) && !taking.contains(group) {
                    continue;
                }
                taking.insert(group.clone());
                blocked.insert(group.clone());
            }
            message.receives += 1;
            let handle = format!("{}#{}", message.id, message.receives);
            message.hidden = Some((until, handle.clone()));
            let document = serde_json::json!({ "messageId": message.id, "body": message.body });
            taken.push(SourceRecord {
                handle,
                id: message.id.clone(),
                document: document.to_string().into(),
                group: message.group.clone(),
                receive_count: message.receives,
                lineage: Lineage::root(event_of(&message.id)),
                trace: message.trace.as_deref().map(Into::into),
            });
        }
        taken
    }

    fn next_visible(&self) -> Instant {
        let state = self.state.lock().unwrap();
        let now = Instant::now();
        let hidden = state.messages.values().filter_map(|m| m.hidden.as_ref().map(|(until, _)| *until));
        hidden.filter(|until| *until > now).min().unwrap_or(now + Duration::from_secs(3600))
    }
}

/// The event of a message.
pub fn event_of(id: &str) -> EventId {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(id.bytes()) {
        *to = from;
    }
    EventId::from_bytes(bytes)
}

#[async_trait]
impl Source for Records {
    fn describe(&self, arn: &Arn) -> Result<SourceInfo, Fault> {
        if arn.resource.starts_with("no-") {
            let why = "The specified queue does not exist.";
            return Err(Fault::client(400, "AWS.SimpleQueueService.NonExistentQueue", why));
        }
        let visibility_timeout = *self.visibility.lock().unwrap();
        Ok(SourceInfo { event_source: "aws:sqs", fifo: arn.resource.ends_with(".fifo"), visibility_timeout })
    }

    async fn poll(&self, _: &Arn, max: usize, wait: Duration) -> Result<Vec<SourceRecord>, Fault> {
        let deadline = Instant::now() + wait;
        self.state.lock().unwrap().polls += 1;
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let taken = self.take(max);
            if !taken.is_empty() || Instant::now() >= deadline {
                return Ok(taken);
            }
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep_until(deadline.min(self.next_visible())) => {}
            }
        }
    }

    async fn settle(&self, _: &Arn, records: Vec<Told>) -> Result<(), Fault> {
        let mut state = self.state.lock().unwrap();
        for Told { handle, note } in records {
            self.note(note);
            let found = state.messages.iter().find(|(_, m)| m.hidden.as_ref().is_some_and(|(_, h)| *h == handle));
            if let Some(serial) = found.map(|(serial, _)| *serial) {
                let message = state.messages.remove(&serial).expect("there");
                state.settled.push(message.id);
            }
        }
        drop(state);
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn give_back(&self, _: &Arn, records: Vec<Told>, after: Duration, uncounted: bool) -> Result<(), Fault> {
        let until = Instant::now() + after;
        let mut state = self.state.lock().unwrap();
        let (handles, notes): (Vec<String>, Vec<_>) = records.into_iter().map(|told| (told.handle, told.note)).unzip();
        notes.into_iter().for_each(|note| self.note(note));
        for message in state.messages.values_mut() {
            if let Some((hidden, handle)) = &mut message.hidden
                && handles.contains(handle)
            {
                *hidden = until;
                message.receives -= u32::from(uncounted);
            }
        }
        self.arrived.notify_waiters();
        Ok(())
    }

    fn backlog(&self, _: &Arn) -> u64 {
        let now = Instant::now();
        let state = self.state.lock().unwrap();
        state.messages.values().filter(|m| m.hidden.as_ref().is_none_or(|(until, _)| *until <= now)).count() as u64
    }
}
