//! What the parts of delivery share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flint_base::{Clock, RequestId, Timestamp};
use flint_kit::{Ctx, Invoker, Principal, Source, Target};
use flint_model::{Arn, Lineage, Place};
use flint_store::{Batch, CommitError, Store};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::governor::Governor;
use crate::lanes::Lanes;
use crate::mapping::registry::Mappings;
use crate::outbox::Outbox;
use crate::settings::Settings;

/// Longest sleep until something is due: a clock that was set is noticed after it.
const NAP_MAX: Duration = Duration::from_secs(60);

/// How long a commit that found no room waits before it is tried again.
pub(crate) const COMMIT_AGAIN: Duration = Duration::from_millis(250);

/// The parts, and the ports to other rooms.
#[derive(Debug)]
pub(crate) struct Core {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub invoker: Arc<dyn Invoker>,
    /// By the service of an ARN: `sqs`.
    pub targets: BTreeMap<&'static str, Arc<dyn Target>>,
    pub sources: BTreeMap<&'static str, Arc<dyn Source>>,
    /// The reference's own rates, and no help that it does not give.
    pub parity: bool,
    /// Most invocations at once for events that nobody waits for.
    pub background_most: usize,
    pub governor: Arc<Governor>,
    pub settings: Settings,
    pub lanes: Lanes,
    pub outbox: Outbox,
    pub mappings: Mappings,
    pub closing: Closing,
    pub tasks: Tasks,
}

impl Core {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The context of a call that Flint makes on behalf of an account.
    pub(crate) fn ctx(&self, place: &Place, request_id: RequestId, lineage: Lineage, trace: Option<&str>) -> Ctx {
        Ctx {
            request_id,
            place: place.clone(),
            principal: Principal::Platform { account: place.account.clone() },
            received: self.now(),
            base_url: Arc::from(""),
            lineage: Some(lineage),
            trace: trace.map(Arc::from),
        }
    }

    /// The target that serves `arn`, with the parsed ARN.
    pub(crate) fn target(&self, arn: &str) -> Option<(&Arc<dyn Target>, Arn)> {
        let arn: Arn = arn.parse().ok()?;
        self.targets.get(arn.service.as_str()).map(|target| (target, arn))
    }

    /// Commits what has happened already and must be written down: while there is no room for it, this waits.
    ///
    /// Errors: the store has stopped, or the batch can't be committed at all.
    pub(crate) async fn commit_at_last(&self, batch: Batch) -> Result<(), Error> {
        loop {
            match self.store.commit(batch.clone()).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Full | CommitError::Busy) => tokio::time::sleep(COMMIT_AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sleeps until `at`, or for a while.
    pub(crate) async fn sleep_until(&self, at: Timestamp) {
        // A timer may ring up to a millisecond early for a clock that counts in milliseconds.
        let span = at.since(self.now()).max(Duration::from_millis(1));
        tokio::time::sleep(span.min(NAP_MAX)).await;
    }
}

/// The tasks of delivery, so that all of them can be ended at once.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a task of delivery panicked; its event comes again after a restart");
            }
        }
        tasks.spawn(task);
    }

    /// Ends every task where it stands.
    pub(crate) fn abort(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Whether the server is about to end, and what is still under way.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    closing: AtomicBool,
    under_way: AtomicUsize,
    changed: Notify,
}

/// Something that a server's end waits for.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Core>);

impl Closing {
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Nothing new starts from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Resolves when the server is about to end.
    pub(crate) async fn closed(&self) {
        self.until(|| self.is_closing()).await;
    }

    /// Resolves when nothing is under way.
    pub(crate) async fn quiet(&self) {
        self.until(|| self.under_way.load(Ordering::Acquire) == 0).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

impl UnderWay {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        core.closing.under_way.fetch_add(1, Ordering::AcqRel);
        Self(core.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.closing.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.closing.changed.notify_waiters();
        }
    }
}
