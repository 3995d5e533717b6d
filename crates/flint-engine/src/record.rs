//! The journal's writer for synchronous invocations: written behind, in batches, never on the path of a call.
//!
//! What is lost when the server dies is at most the entries of the last [`WINDOW`]; the answer itself was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flint_store::journal::{Entry, Kept, Outcome};
use flint_store::{Batch, Store};
use tokio::sync::mpsc;

/// How long an entry may wait for company.
const WINDOW: Duration = Duration::from_millis(100);

/// Entries that may wait. Beyond it they are dropped and counted: a call never waits for its record.
const WAITING_MAX: usize = 65_536;

/// Entries in one commit; a batch may have 500 parts.
const BATCH_MAX: usize = 400;

/// Bytes of payloads and answers that may wait; entries come without them beyond it.
const CONTENT_MAX: usize = 16 << 20;

/// Bytes of payloads and answers in one commit.
const PAGE_BYTES: usize = 128 << 10;

/// A payload or an answer that is longer is not kept.
const KEPT_MAX: usize = 1 << 20;

/// Takes entries.
#[derive(Debug)]
pub(crate) struct Recorder {
    entries: mpsc::Sender<Waiting>,
    dropped: Arc<AtomicU64>,
    /// Bytes that wait.
    content: Arc<AtomicUsize>,
}

/// What a run was asked and what it answered.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub payload: Bytes,
    pub answer: Bytes,
}

#[derive(Debug)]
struct Waiting {
    entry: Entry,
    /// Boxed, as most entries come without.
    content: Option<Box<Content>>,
}

impl Recorder {
    /// Starts the writer. It ends when the recorder is dropped and all entries are written.
    pub(crate) fn start(store: Arc<dyn Store>) -> Self {
        let (entries, receiver) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let content = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write(store, receiver, dropped.clone(), content.clone()));
        Self { entries, dropped, content }
    }

    pub(crate) fn record(&self, entry: Entry, content: Option<Content>) {
        let content = content.filter(|content| self.has_room_for(content)).map(Box::new);
        if let Err(refused) = self.entries.try_send(Waiting { entry, content }) {
            let (mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting)) = refused;
            self.content.fetch_sub(waiting.content.map_or(0, |content| content.len()), Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts it if so.
    fn has_room_for(&self, content: &Content) -> bool {
        let len = content.len();
        if content.payload.len() > KEPT_MAX || content.answer.len() > KEPT_MAX {
            return false;
        }
        let before = self.content.fetch_add(len, Ordering::Relaxed);
        if before + len > CONTENT_MAX {
            self.content.fetch_sub(len, Ordering::Relaxed);
            return false;
        }
        true
    }
}

impl Content {
    fn len(&self) -> usize {
        self.payload.len() + self.answer.len()
    }
}

async fn write(
    store: Arc<dyn Store>,
    mut entries: mpsc::Receiver<Waiting>,
    dropped: Arc<AtomicU64>,
    content: Arc<AtomicUsize>,
) {
    let mut waiting = Vec::new();
    while entries.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        if waiting.len() < BATCH_MAX {
            tokio::time::sleep(WINDOW).await;
            while waiting.len() < BATCH_MAX {
                match entries.try_recv() {
                    Ok(entry) => waiting.push(entry),
                    Err(_) => break,
                }
            }
        }
        let mut page = Page::default();
        for Waiting { entry, content: kept } in waiting.drain(..) {
            let len = kept.as_ref().map_or(0, |kept| kept.len());
            content.fetch_sub(len, Ordering::Relaxed);
            if page.bytes + len > PAGE_BYTES || page.batch.write.len() + page.entries > BATCH_MAX {
                std::mem::take(&mut page).commit(&*store, &dropped).await;
            }
            page.add(&*store, entry, kept).await;
        }
        page.commit(&*store, &dropped).await;
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "invocation records were dropped");
        }
    }
}

/// Entries, and what is kept with them, on their way into one commit.
#[derive(Default)]
struct Page {
    batch: Batch,
    entries: usize,
    bytes: usize,
}

impl Page {
    /// The entry names payload and answer if they could be kept.
    async fn add(&mut self, store: &dyn Store, mut entry: Entry, content: Option<Box<Content>>) {
        if let Some(content) = content {
            let mut batch = std::mem::take(&mut self.batch);
            for (bytes, named) in [(&content.payload, &mut entry.payload), (&content.answer, &mut entry.answer)] {
                // What is too large for one commit goes ahead; a page that is lost with it says so by being empty.
                match Kept::new(&entry.place, bytes).add_to(store, batch).await {
                    Ok((with, payload)) => (batch, *named) = (with, Some(payload)),
                    Err(error) => {
                        tracing::warn!(%error, "what a run was asked and what it answered is not kept");
                        return;
                    }
                }
            }
            self.batch = batch;
            self.bytes += content.len();
        }
        self.entries += 1;
        // Calls from outside that went well are many, and their records are looked for only by who has their id at hand.
        let alone = entry.outcome == Some(Outcome::Succeeded) && entry.lineage.cause.is_none();
        if alone && entry.payload.is_none() {
            self.batch.packed.push(entry);
        } else {
            self.batch.journal.push(entry);
        }
    }

    async fn commit(self, store: &dyn Store, dropped: &AtomicU64) {
        if let Err(error) = store.commit(self.batch).await {
            dropped.fetch_add(self.entries as u64, Ordering::Relaxed);
            tracing::warn!(count = self.entries, %error, "invocation records were not written");
        }
    }
}
