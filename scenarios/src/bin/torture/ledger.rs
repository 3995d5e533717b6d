//! What was sent, acknowledged and delivered, on stable storage before anything is done that depends on it.
//!
//! One line an entry, with its moment (CLOCK_MONOTONIC, milliseconds). A thread writes what waits and syncs once for all, like the server that it judges, but shares nothing
//! with it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use scenarios::clock::{monotonic_ns, ms};
use tokio::sync::{mpsc, oneshot};

#[derive(Clone)]
pub struct Ledger {
    lines: mpsc::Sender<(String, oneshot::Sender<()>)>,
}

impl Ledger {
    pub fn create(path: &Path) -> Result<(Self, JoinHandle<std::io::Result<()>>)> {
        let mut file = File::options().create(true).append(true).open(path)?;
        // As many as there are senders and sinks, each of which waits for its own.
        let (lines, mut waiting) = mpsc::channel::<(String, oneshot::Sender<()>)>(256);
        let thread = std::thread::spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut group = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    group.push(next);
                }
                let text: String =
                    group.iter().map(|(line, _)| format!("{:.1} {line}\n", ms(0, monotonic_ns()))).collect();
                file.write_all(text.as_bytes())?;
                file.sync_data()?;
                for (_, written) in group {
                    // Whoever went away does not want to know.
                    let _ = written.send(());
                }
            }
            Ok(())
        });
        Ok((Self { lines }, thread))
    }

    /// Resolves when the line is on stable storage.
    pub async fn write(&self, line: String) -> Result<()> {
        let (written, done) = oneshot::channel();
        self.lines.send((line, written)).await.ok().context("the ledger's thread has ended")?;
        done.await.context("the ledger could not be written")
    }
}
