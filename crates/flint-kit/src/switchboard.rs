//! Every call of an operation, from outside or from another service, goes through here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authorizer::{Authorizer, Question};
use crate::ctx::Principal;
use crate::implied;
use crate::service::{Input, OperationSpec, Output, Service};
use crate::{Ctx, Fault};

/// An operation and who serves it.
type Served = (&'static OperationSpec, Arc<dyn Service>);

/// Finds the service, asks the authorizer, makes the call.
#[derive(Debug)]
pub struct Switchboard {
    /// By the names of service and operation.
    operations: HashMap<(&'static str, &'static str), Served>,
    authorizer: Arc<dyn Authorizer>,
}

impl Switchboard {
    /// Several rooms may serve operations of one name (Lambda's are served by two); each operation is served by one.
    pub fn new(authorizer: Arc<dyn Authorizer>, services: Vec<Arc<dyn Service>>) -> Self {
        let mut operations = HashMap::new();
        for service in &services {
            for spec in service.operations() {
                operations.insert((service.name(), spec.name), (spec, service.clone()));
            }
        }
        Self { operations, authorizer }
    }

    /// Whether `operation` of `service` is served.
    pub fn serves(&self, service: &str, operation: &str) -> bool {
        self.operations.contains_key(&(service, operation))
    }

    /// The names of the services, sorted.
    pub fn services(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.operations.keys().map(|(service, _)| *service).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Calls `operation` of `service` as `ctx.principal`.
    ///
    /// Errors: `NotImplemented` (501) for what is not served, the authorizer's denial, or the operation's own fault.
    pub async fn call(&self, ctx: &Ctx, service: &str, operation: &str, input: Input) -> Result<Output, Fault> {
        let not_served = || Fault::not_served(format_args!("{service}.{operation}"));
        let (spec, target) = self.operations.get(&(service, operation)).ok_or_else(not_served)?;
        let resource = (spec.resource)(ctx, &input.doc);
        self.authorizer.authorize(ctx, &Question { action: spec.action, resource: &resource })?;
        // Only who is limited by policies has more to be asked.
        if matches!(ctx.principal, Principal::AssumedRole { .. }) {
            for (action, resource) in implied::by(service, operation, &input.doc) {
                self.authorizer.authorize(ctx, &Question { action, resource: &resource })?;
            }
        }
        target.call(ctx, operation, input).await
    }
}
