//! The poller of a mapping: wait, take, cut, start.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flint_kit::{Fault, Source, SourceRecord, Told};
use tokio::time::Instant;

use crate::core::{Core, UnderWay};
use crate::governor::Permit;
use crate::mapping::batch::{EVENT_BYTES_MAX, cut};
use crate::mapping::pace::Room;
use crate::mapping::registry::{Mapping, Plan};
use crate::mapping::run;
use crate::policy::backoff;

/// How long a poll waits for the first record. Nothing depends on it: a record that arrives ends it.
const WAIT: Duration = Duration::from_secs(20);

/// Longest pause after a poll that failed (a queue that is gone).
const TROUBLE_MAX: Duration = Duration::from_secs(30);

/// Records of the first poll of a batch. Each may have 1 MiB, and what they have on average says how many more fit.
const FIRST: usize = 10;

/// Records are looked after at least this often while they wait.
const FRESH_MAX: Duration = Duration::from_secs(3600);

/// Batches that wait for their turn. The inner list is run one after the other.
type Ready = VecDeque<Vec<Vec<SourceRecord>>>;

struct Poller<'a> {
    core: &'a Arc<Core>,
    mapping: &'a Arc<Mapping>,
    plan: &'a Arc<Plan>,
    source: &'a Arc<dyn Source>,
    ready: Ready,
    /// Since when what is ready is hidden from others.
    hidden: Instant,
}

/// Polls for `plan` until that is over.
pub(crate) async fn run(core: Arc<Core>, mapping: Arc<Mapping>, plan: Arc<Plan>) {
    let source = match plan.source(&core) {
        Ok(source) => source.clone(),
        Err(fault) => return tracing::error!(mapping = plan.record.uuid, %fault, "a mapping without a source"),
    };
    // The server's end waits for what is handed back.
    let _under_way = UnderWay::new(&core);
    let (ready, hidden) = (VecDeque::new(), Instant::now());
    let mut poller = Poller { core: &core, mapping: &mapping, plan: &plan, source: &source, ready, hidden };
    let mut trouble = 0;
    while !poller.is_over() {
        match poller.turn().await {
            Ok(()) => trouble = 0,
            Err(fault) => {
                trouble += 1;
                tracing::warn!(mapping = plan.record.uuid, %fault, "a source cannot be polled");
                let pause = tokio::time::sleep(backoff(trouble).min(TROUBLE_MAX));
                poller.unless_over(pause).await;
            }
        }
    }
    poller.hand_back().await;
    // The next life of the server, or of the mapping, may be waiting for it.
    plan.ended.notify_one();
}

impl Poller<'_> {
    fn is_over(&self) -> bool {
        self.plan.is_over() || self.core.closing.is_closing()
    }

    /// What `future` answers, or `None` if the configuration or the server comes to its end first.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        if self.is_over() {
            return None;
        }
        tokio::select! {
            biased;
            () = self.plan.ended.notified() => None,
            () = self.core.closing.closed() => None,
            done = future => Some(done),
        }
    }

    /// The same, but while records wait here their time runs: those that wait too long go back, uncounted.
    async fn unless_stale<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        if self.ready.is_empty() {
            return self.unless_over(future).await;
        }
        let stale = self.hidden + self.plan.visibility(self.core).min(FRESH_MAX) / 2;
        let timed = async {
            tokio::select! {
                done = future => Some(done),
                () = tokio::time::sleep_until(stale) => None,
            }
        };
        let done = self.unless_over(timed).await.flatten();
        if done.is_none() {
            self.hand_back().await;
        }
        done
    }

    /// One round: at most one batch begins.
    async fn turn(&mut self) -> Result<(), Fault> {
        let (core, mapping) = (self.core, self.mapping);
        let room = mapping.pace().room(core.now());
        if let Room::After(until) = room {
            let wait = async {
                match until {
                    Some(at) => core.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let changed = mapping.changed.notified();
            self.unless_stale(async {
                tokio::select! { () = wait => {}, () = changed => {} }
            })
            .await;
            return Ok(());
        }
        let mut permit = self.unless_stale(core.governor.acquire()).await;
        if self.ready.is_empty() {
            let records = self.records(&mut permit).await?;
            self.sort_out(records);
        }
        if permit.is_none() && !self.ready.is_empty() {
            permit = self.unless_stale(core.governor.acquire()).await;
        }
        if let Some(permit) = permit
            && let Some(batches) = self.ready.pop_front()
        {
            self.start(batches, permit);
        }
        Ok(())
    }

    /// The next records: what is there, or what comes first. The permit is let go if this has to wait.
    async fn records(&mut self, permit: &mut Option<Permit>) -> Result<Vec<SourceRecord>, Fault> {
        let record = &self.plan.record;
        let size = record.batch_size as usize;
        if permit.is_none() {
            return Ok(Vec::new());
        }
        let first = share(size, 0, 0);
        let mut records = self.source.poll(&self.plan.source, first, Duration::ZERO).await?;
        if records.is_empty() {
            permit.take();
            let polled = self.unless_over(self.source.poll(&self.plan.source, first, WAIT)).await;
            records = polled.transpose()?.unwrap_or_default();
        }
        self.hidden = Instant::now();
        if record.window_s > 0 && !records.is_empty() {
            permit.take();
            self.gather(&mut records, size).await;
        }
        Ok(records)
    }

    /// Waits for more, until the batch is full or its window is over. Meanwhile what is here stays hidden from others.
    async fn gather(&mut self, records: &mut Vec<SourceRecord>, size: usize) {
        let ends = Instant::now() + Duration::from_secs(self.plan.record.window_s.into());
        loop {
            let bytes: usize = records.iter().map(|record| record.document.len() + 1).sum();
            let left = ends.saturating_duration_since(Instant::now());
            if records.len() >= size || bytes >= EVENT_BYTES_MAX || left.is_zero() {
                return;
            }
            let visible = self.plan.visibility(self.core).clamp(Duration::from_secs(1), FRESH_MAX);
            if self.hidden.elapsed() >= visible / 2 {
                run::hide(self.core, self.plan, records.iter().map(|record| record.handle.clone()).collect()).await;
                self.hidden = Instant::now();
            }
            let wait = left.min(WAIT).min(visible / 2);
            let more = self.source.poll(&self.plan.source, share(size, records.len(), bytes), wait);
            match self.unless_over(more).await {
                Some(Ok(more)) => records.extend(more),
                // What is here is run; the trouble shows at the next poll.
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Drops what no filter wants, and cuts the rest into batches.
    fn sort_out(&mut self, records: Vec<SourceRecord>) {
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| self.plan.wants(&record.document));
        if !unwanted.is_empty() {
            let (core, plan, under_way) = (self.core.clone(), self.plan.clone(), UnderWay::new(self.core));
            self.core.tasks.spawn(async move {
                run::settle(&core, &plan, run::unwanted(&core, &plan, &unwanted)).await;
                drop(under_way);
            });
        }
        let record = &self.plan.record;
        let fifo = self.plan.is_fifo();
        let isolate = !record.partial && !self.core.parity;
        let batches = cut(wanted, record.batch_size as usize, isolate, fifo);
        if fifo {
            self.ready.extend((!batches.is_empty()).then_some(batches));
        } else {
            self.ready.extend(batches.into_iter().map(|batch| vec![batch]));
        }
    }

    fn start(&self, batches: Vec<Vec<SourceRecord>>, permit: Permit) {
        self.mapping.pace().begin(self.core.now());
        let (core, mapping, plan) = (self.core.clone(), self.mapping.clone(), self.plan.clone());
        let (under_way, hidden) = (UnderWay::new(self.core), self.hidden);
        self.core.tasks.spawn(async move {
            let ended = Box::pin(run::batches(&core, &mapping, &plan, batches, hidden)).await;
            drop(permit);
            mapping.pace().end(core.now(), ended);
            mapping.changed.notify_one();
            core.mappings.forget_if_over(&mapping);
            drop(under_way);
        });
    }

    /// Gives back what was taken and not begun.
    async fn hand_back(&mut self) {
        let handles: Vec<_> =
            self.ready.drain(..).flatten().flatten().map(|record| Told::plain(record.handle)).collect();
        if handles.is_empty() {
            return;
        }
        if let Err(fault) = self.source.give_back(&self.plan.source, handles, Duration::ZERO, true).await {
            tracing::warn!(mapping = self.plan.record.uuid, %fault, "records come again after their visibility timeout");
        }
    }
}

/// How many records to ask for next, if `count` of `size` are here with so many bytes: what one event takes, and no jump
/// far beyond what is known of their size.
fn share(size: usize, count: usize, bytes: usize) -> usize {
    let left = size - count.min(size);
    if count == 0 {
        return left.min(FIRST);
    }
    let fit = EVENT_BYTES_MAX.saturating_sub(bytes) / (bytes / count).max(1) + 1;
    left.min(fit).min(count * 10)
}
