//! The one list of services.

use std::sync::Arc;

use flint_delivery::Delivery;
use flint_engine::Engine;
use flint_iam::{OwnerAuthorizer, PolicyAuthorizer, Sessions};
use flint_kit::{Authorizer, Doc, Service, Switchboard};
use flint_observe::Observe;
use flint_queue::Queues;
use flint_store::Store;

use crate::options::Mode;

/// What decides who may call.
pub(crate) struct Access {
    pub sessions: Sessions,
    pub authorizer: Arc<dyn Authorizer>,
}

/// Everything that can be called; `own` are Flint's own operations. A new service is one line here.
pub(crate) fn switchboard(
    engine: &Arc<Engine>,
    delivery: &Delivery,
    queues: &Arc<Queues>,
    observe: &Arc<Observe>,
    store: &Arc<dyn Store>,
    access: Access,
    own: [Arc<dyn Service>; 2],
) -> Arc<Switchboard> {
    let services: Vec<Arc<dyn Service>> = vec![
        engine.service(delivery.async_invoker()),
        delivery.service(),
        queues.service(),
        observe.service(),
        flint_bus::service(),
        flint_iam::iam::service(store.clone()),
        flint_iam::sts::service(store.clone(), access.sessions),
    ];
    let services = services.into_iter().chain(own).collect();
    Arc::new(Switchboard::new(access.authorizer, services))
}

/// Who decides what a caller may do. A developer's functions may do all in their account, as the developer may.
pub(crate) fn authorizer(mode: Mode, store: &Arc<dyn Store>) -> Arc<dyn Authorizer> {
    match mode {
        Mode::Up => Arc::new(PolicyAuthorizer::new(store.clone())),
        Mode::Dev => Arc::new(OwnerAuthorizer),
    }
}

/// What `GET /_flint/health` answers: it serves, which version, and which services.
pub(crate) fn health(switchboard: &Switchboard) -> Arc<dyn Fn() -> Doc + Send + Sync> {
    let services = switchboard.services().into_iter().map(|name| (name.into(), Doc::from("running"))).collect();
    let answer = Doc::Map(vec![
        ("status".into(), Doc::from("ready")),
        ("version".into(), Doc::from(env!("CARGO_PKG_VERSION"))),
        ("services".into(), Doc::Map(services)),
    ]);
    Arc::new(move || answer.clone())
}
