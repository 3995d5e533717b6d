//! Lets go of what was kept long enough: failures after fourteen days, payloads that no entry names.

use std::sync::Arc;
use std::time::Duration;

use flint_base::Clock;
use flint_store::journal::{failures, payloads};
use flint_store::{ReadError, Store};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(600);

/// Rows that are looked at before the next ones have to wait for a commit.
const PAGE: usize = 200;

/// Runs until it is dropped.
pub(crate) async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    let mut unnamed = payloads::Unnamed::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        match sweep(&store, &*clock, &unnamed).await {
            Ok(found) => unnamed = found,
            Err(error) => tracing::error!(%error, "the journal cannot be swept"),
        }
    }
}

async fn sweep(
    store: &Arc<dyn Store>,
    clock: &dyn Clock,
    before: &payloads::Unnamed,
) -> Result<payloads::Unnamed, ReadError> {
    let mut from = None;
    loop {
        let (batch, next) = failures::sweep(&**store, clock.now(), from, PAGE)?;
        if !batch.write.is_empty()
            && let Err(error) = store.commit(batch).await
        {
            tracing::warn!(%error, "old failures stay for now");
        }
        from = next;
        if from.is_none() {
            break;
        }
    }
    let (batches, found) = payloads::sweep(&**store, clock.now(), payloads::Limits::default(), before)?;
    for batch in batches {
        // A conflict: somebody kept the same payload again in between.
        if let Err(error) = store.commit(batch).await {
            tracing::debug!(%error, "payloads stay for now");
        }
    }
    Ok(found)
}
