//! Lets go of what the journal has kept long enough, behind everything else.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flint_base::Clock;

use super::failures::{self, FAILURES};
use super::retention::{self, Floor, Limits, Payloads};
use super::{Entry, JOURNAL, PAYLOADS};
use crate::batch::{Batch, Expect};
use crate::error::{CommitError, ReadError};
use crate::key::{Key, KeyRange, Keyspace};
use crate::store::{Direction, Row, Store};

/// Between two looks at the entries.
pub const EVERY: Duration = Duration::from_secs(5);
/// Looks at the entries between two at the payloads, and between two at the failures that wait.
const PAYLOADS_EVERY: u32 = 12;
const FAILURES_EVERY: u32 = 120;
/// Rows that are looked at before others have their turn.
const PAGE: usize = 64;

/// See the module's head.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    payloads: Payloads,
    /// What was ever written of payloads at the last look at them, and where the floor was.
    looked: Option<(u64, Floor)>,
    /// Below it, that look dropped what nobody names.
    dropped_to: u64,
}

impl Keeper {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { store, clock, limits, payloads: Payloads::default(), looked: None, dropped_to: 0 }
    }

    /// Runs until it is dropped. `report` is told of what cannot be read.
    pub async fn run(mut self, report: impl Fn(&ReadError)) {
        let mut pass = 0u32;
        loop {
            tokio::time::sleep(EVERY).await;
            let end = self.pass(pass.is_multiple_of(PAYLOADS_EVERY), pass.is_multiple_of(FAILURES_EVERY)).await;
            if let Err(error) = end {
                report(&error);
            }
            pass = pass.wrapping_add(1);
        }
    }

    /// One look at the entries, and at the payloads and the failures if that is wanted. A store that takes nothing now
    /// ends it; the next one goes on.
    ///
    /// Errors: what cannot be read.
    pub async fn pass(&mut self, payloads: bool, failures: bool) -> Result<(), ReadError> {
        let written = self.store.journal_written().payloads;
        self.payloads.newer = written.saturating_sub(self.looked.map_or(0, |(at, _)| at));
        while let Some(batch) = retention::step(&*self.store, self.clock.now(), self.limits, &self.payloads)? {
            if !self.commit(batch).await {
                return Ok(());
            }
        }
        while let Some(batch) = retention::step_failed(&*self.store, self.clock.now(), self.limits)? {
            if !self.commit(batch).await {
                return Ok(());
            }
        }
        if failures {
            self.failures().await?;
        }
        if payloads {
            self.look_at_payloads().await?;
        }
        Ok(())
    }

    /// True if the batch is in.
    async fn commit(&self, batch: Batch) -> bool {
        let end = self.store.commit(batch).await;
        tokio::task::yield_now().await;
        end.is_ok()
    }

    async fn failures(&self) -> Result<(), ReadError> {
        let mut from = None;
        loop {
            let (batch, next) = failures::sweep(&*self.store, self.clock.now(), from, PAGE)?;
            if !batch.write.is_empty() && !self.commit(batch).await {
                return Ok(());
            }
            tokio::task::yield_now().await;
            from = next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Counts the payloads of what went well, and drops those that lay below the floor at the last look already: whoever
    /// names a payload keeps it anew in the same commit, or shortly before if it is large.
    async fn look_at_payloads(&mut self) -> Result<(), ReadError> {
        let floor = Floor::read(&*self.store)?;
        let written = self.store.journal_written().payloads;
        let before = match self.looked.replace((written, floor)) {
            Some((at, then)) if at == written && then == floor && then.at.version == self.dropped_to => return Ok(()),
            Some((_, then)) => then.at.version,
            None => 0,
        };
        let mut named = HashSet::new();
        for keyspace in [FAILURES, JOURNAL] {
            let mut rows = Pages::new(&*self.store, keyspace);
            while let Some(page) = rows.next().await? {
                for row in page {
                    let entry = Entry::decode(&row.value)?;
                    if keyspace == FAILURES || !entry.went_well() {
                        let payloads = [entry.payload, entry.answer].into_iter().flatten();
                        named.extend(payloads.map(|payload| short(payload.hash.as_bytes())));
                    }
                }
            }
        }
        let mut found = Payloads::default();
        let mut rows = Pages::new(&*self.store, PAYLOADS);
        while let Some(page) = rows.next().await? {
            let mut batch = Batch::new();
            for row in page {
                if hash_of(&row.key).is_some_and(|hash| named.contains(&hash)) {
                    continue;
                }
                if row.version < before {
                    // Somebody may keep the same payload again in between.
                    let expect = Expect::Version(row.version);
                    batch = batch.expect(PAYLOADS, row.key.clone(), expect).delete(PAYLOADS, row.key);
                } else {
                    found.add(row.version, row.value.len() as u64);
                }
            }
            if !batch.write.is_empty() {
                match self.store.commit(batch).await {
                    // The next look finds the others.
                    Ok(_) | Err(CommitError::Conflict { .. }) => {}
                    Err(_) => break,
                }
            }
        }
        self.payloads = found;
        self.dropped_to = before;
        Ok(())
    }
}

/// Enough of a payload's hash to tell it from others; two that are taken for one are kept longer.
fn short(hash: &[u8]) -> [u8; 8] {
    hash.first_chunk().copied().unwrap_or_default()
}

/// Behind the hash stands the piece's number.
fn hash_of(key: &Key) -> Option<[u8; 8]> {
    let place = super::place_key(key)?;
    key.as_bytes().get(place.len()..).map(short)
}

/// The rows of a keyspace, a page at a time; others have their turn in between.
struct Pages<'a> {
    store: &'a dyn Store,
    keyspace: Keyspace,
    range: Option<KeyRange>,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn Store, keyspace: Keyspace) -> Self {
        Self { store, keyspace, range: Some(KeyRange::all()) }
    }

    async fn next(&mut self) -> Result<Option<Vec<Row>>, ReadError> {
        let Some(range) = self.range.take() else { return Ok(None) };
        tokio::task::yield_now().await;
        let rows = self.store.scan(self.keyspace, &range, PAGE, Direction::Forward)?;
        if let Some(last) = rows.last().filter(|_| rows.len() == PAGE) {
            self.range = Some(range.after(&last.key));
        }
        Ok(Some(rows))
    }
}
