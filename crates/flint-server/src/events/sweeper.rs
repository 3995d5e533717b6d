//! Lets go of what the journal has kept long enough.

use std::sync::Arc;

use flint_base::Clock;
use flint_store::Store;
use flint_store::journal::{Keeper, Limits};

/// Runs until it is dropped.
pub(crate) async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits) {
    Keeper::new(store, clock, limits).run(|error| tracing::error!(%error, "the journal cannot be swept")).await;
}
