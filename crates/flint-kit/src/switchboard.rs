//! Every call of an operation, from outside or from another service, goes through here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authorizer::{Authorizer, Question};
use crate::service::{Input, OperationSpec, Output, Service};
use crate::{Ctx, Fault};

/// Finds the service, asks the authorizer, makes the call.
#[derive(Debug)]
pub struct Switchboard {
    services: HashMap<&'static str, Arc<dyn Service>>,
    operations: HashMap<(&'static str, &'static str), &'static OperationSpec>,
    authorizer: Arc<dyn Authorizer>,
}

impl Switchboard {
    pub fn new(authorizer: Arc<dyn Authorizer>, services: Vec<Arc<dyn Service>>) -> Self {
        let mut operations = HashMap::new();
        for service in &services {
            for spec in service.operations() {
                operations.insert((service.name(), spec.name), spec);
            }
        }
        let services = services.into_iter().map(|s| (s.name(), s)).collect();
        Self { services, operations, authorizer }
    }

    /// Whether `operation` of `service` is served.
    pub fn serves(&self, service: &str, operation: &str) -> bool {
        self.operations.contains_key(&(service, operation))
    }

    /// The names of the services, sorted.
    pub fn services(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.services.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// Calls `operation` of `service` as `ctx.principal`.
    ///
    /// Errors: `NotImplemented` (501) for what is not served, the authorizer's denial, or the operation's own fault.
    pub async fn call(&self, ctx: &Ctx, service: &str, operation: &str, input: Input) -> Result<Output, Fault> {
        let not_served = || Fault::not_served(format_args!("{service}.{operation}"));
        let spec = self.operations.get(&(service, operation)).ok_or_else(not_served)?;
        let target = self.services.get(service).ok_or_else(not_served)?;
        let resource = (spec.resource)(ctx, &input.doc);
        self.authorizer.authorize(ctx, &Question { action: spec.action, resource: &resource })?;
        target.call(ctx, operation, input).await
    }
}
