//! The journal's writer for synchronous invocations: written behind, in batches, never on the path of a call.
//!
//! What is lost when the server dies is at most the entries of the last [`WINDOW`]; the answer itself was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flint_store::journal::{Entry, Outcome};
use flint_store::{Batch, Store};
use tokio::sync::mpsc;

/// How long an entry may wait for company.
const WINDOW: Duration = Duration::from_millis(100);

/// Entries that may wait. Beyond it they are dropped and counted: a call never waits for its record.
const WAITING_MAX: usize = 65_536;

/// Entries in one commit; a batch may have 500 parts.
const BATCH_MAX: usize = 400;

/// Takes entries.
#[derive(Debug)]
pub(crate) struct Recorder {
    entries: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the writer. It ends when the recorder is dropped and all entries are written.
    pub(crate) fn start(store: Arc<dyn Store>) -> Self {
        let (entries, receiver) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(write(store, receiver, dropped.clone()));
        Self { entries, dropped }
    }

    pub(crate) fn record(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn write(store: Arc<dyn Store>, mut entries: mpsc::Receiver<Entry>, dropped: Arc<AtomicU64>) {
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
        let count = waiting.len() as u64;
        // Calls from outside that went well are many, and their records are looked for only by who has their id at hand.
        let alone = |entry: &Entry| entry.outcome == Some(Outcome::Succeeded) && entry.lineage.cause.is_none();
        let (packed, journal) = std::mem::take(&mut waiting).into_iter().partition(alone);
        let batch = Batch { journal, packed, ..Batch::new() };
        if let Err(error) = store.commit(batch).await {
            dropped.fetch_add(count, Ordering::Relaxed);
            tracing::warn!(count, %error, "invocation records were not written");
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "invocation records were dropped");
        }
    }
}
