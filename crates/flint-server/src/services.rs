//! The one list of services.

use std::sync::Arc;

use flint_engine::Engine;
use flint_iam::OwnerAuthorizer;
use flint_kit::{Service, Switchboard};
use flint_observe::Observe;

use crate::operator::Operator;

/// Everything that can be called. A new service is one line here.
pub(crate) fn switchboard(engine: &Arc<Engine>, observe: &Arc<Observe>, operator: Operator) -> Arc<Switchboard> {
    let services: Vec<Arc<dyn Service>> =
        vec![engine.service(), observe.service(), flint_iam::service(), Arc::new(operator)];
    Arc::new(Switchboard::new(Arc::new(OwnerAuthorizer), services))
}
