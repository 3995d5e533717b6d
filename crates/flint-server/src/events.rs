//! What happened to events, and what to do about those that failed: the operations of service `flint` behind
//! `flint events`, `flint dlq` and `flint replay`. All of it is a view of the journal; nothing here keeps books.
//!
//! Reading order: [`entry`] (how an entry looks), [`list`], [`chain`] (one event with what led to it and what came of it),
//! [`failures`], [`redrive`], [`replay`], [`sweeper`].

mod chain;
mod entry;
mod failures;
mod list;
mod redrive;
mod replay;
pub(crate) mod sweeper;

use std::sync::Arc;

use async_trait::async_trait;
use flint_base::{Clock, EventId};
use flint_kit::{
    AsyncInvoker, Ctx, DeadLetters, Doc, Fault, Input, Invoker, OperationSpec, Output, Principal, Service,
};
use flint_model::trace;
use flint_store::{ReadError, Store};

use redrive::Redrives;

/// What the operations work with.
#[derive(Debug)]
pub(crate) struct Events {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub invoker: Arc<dyn Invoker>,
    pub async_invoker: Arc<dyn AsyncInvoker>,
    pub dead_letters: Arc<dyn DeadLetters>,
}

/// The service. Redrives that a stop interrupted go on.
///
/// Errors: redrives of an earlier life that cannot be read.
pub(crate) fn service(events: Events) -> Result<Arc<dyn Service>, ReadError> {
    let events = Arc::new(events);
    let redrives = Redrives::open(&events)?;
    Ok(Arc::new(Views { events, redrives }))
}

#[derive(Debug)]
struct Views {
    events: Arc<Events>,
    redrives: Redrives,
}

const OPERATIONS: &[OperationSpec] = &[
    OperationSpec { name: "DropFailures", action: "flint:DropFailures", resource: everything },
    OperationSpec { name: "GetEvent", action: "flint:GetEvent", resource: everything },
    OperationSpec { name: "GetFailureGroup", action: "flint:GetFailureGroup", resource: everything },
    OperationSpec { name: "GetRedrive", action: "flint:GetRedrive", resource: everything },
    OperationSpec { name: "ListEvents", action: "flint:ListEvents", resource: everything },
    OperationSpec { name: "ListFailures", action: "flint:ListFailures", resource: everything },
    OperationSpec { name: "RedriveFailures", action: "flint:RedriveFailures", resource: everything },
    OperationSpec { name: "ReplayEvent", action: "flint:ReplayEvent", resource: everything },
    OperationSpec { name: "StopRedrive", action: "flint:StopRedrive", resource: everything },
];

fn everything(_: &Ctx, _: &Doc) -> String {
    "*".to_owned()
}

#[async_trait]
impl Service for Views {
    fn name(&self) -> &'static str {
        "flint"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let events = &self.events;
        match operation {
            "ListEvents" => Output::render(&list::list(events, ctx, &input.parse()?)?),
            "GetEvent" => Output::render(&chain::get(events, ctx, &input.parse()?)?),
            "ListFailures" => Output::render(&failures::list(events, ctx, &input.parse()?)?),
            "GetFailureGroup" => Output::render(&failures::group(events, ctx, &input.parse()?)?),
            "DropFailures" => Output::render(&redrive::discard(events, ctx, &input.parse()?).await?),
            "RedriveFailures" => Output::render(&self.redrives.start(events, ctx, input.parse()?).await?),
            "GetRedrive" => Output::render(&self.redrives.get(ctx, &input.parse()?)?),
            "StopRedrive" => Output::render(&self.redrives.stop(ctx, &input.parse()?)?),
            "ReplayEvent" => Output::render(&replay::replay(events, ctx, &input.parse()?).await?),
            other => Err(Fault::not_served(format_args!("flint.{other}"))),
        }
    }
}

impl Events {
    /// The context of a call that the platform makes because `ctx`'s caller asked for it: the chain of `root` goes on,
    /// and how often it went through functions is forgotten, as a person has decided.
    fn on_behalf(&self, ctx: &Ctx, id: EventId, root: EventId) -> Ctx {
        Ctx {
            request_id: id.into(),
            principal: Principal::Platform { account: ctx.place.account.clone() },
            received: self.clock.now(),
            lineage: None,
            trace: Some(format!("Root={}", trace::root_text(&root)).into()),
            ..ctx.clone()
        }
    }
}

fn unreadable(error: ReadError) -> Fault {
    Fault::server(500, "ServiceException", "internal error").because(error)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::client(400, "ValidationException", message)
}

fn unknown(message: impl Into<String>) -> Fault {
    Fault::client(404, "ResourceNotFoundException", message)
}
