//! How the parts are put together at start, the background loops, and the ports that delivery answers at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flint_base::Clock;
use flint_kit::target::{Envelope, Receipt};
use flint_kit::{AsyncInvoker, Ctx, Fault, Invocation, InvokeMode, Invoker, Service, Source, Target};
use flint_model::{Arn, FunctionRef, Place};
use flint_store::Store;

use crate::core::{Closing, Core, Tasks};
use crate::error::Error;
use crate::governor::{Bounds, Governor, LoadProbe};
use crate::keys;
use crate::lanes::{self, Lanes};
use crate::mapping::registry::Mappings;
use crate::ops::invoke_config;
use crate::outbox::{EVENT_MAX, Outbox, too_large};
use crate::service::Lambda;
use crate::settings::Settings;

/// Settings of delivery.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many functions may run at once for events that nobody waits for.
    pub background: Bounds,
    /// The reference's ramp of mappings, and no smaller batches for records that failed before.
    pub parity: bool,
}

/// What delivery is built from.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub invoker: Arc<dyn Invoker>,
    /// By the service of an ARN: `sqs`. Functions are delivery's own.
    pub targets: Vec<(&'static str, Arc<dyn Target>)>,
    /// By the service of an ARN, too.
    pub sources: Vec<(&'static str, Arc<dyn Source>)>,
    /// How busy the processors are; without it the number of invocations is the most that the options allow.
    pub load: Option<LoadProbe>,
}

/// Events in motion. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delivery {
    core: Arc<Core>,
}

impl Delivery {
    /// Reads what is configured and which functions have events; nothing moves before [`Delivery::run`].
    ///
    /// Errors: a record that can't be read.
    pub async fn open(parts: Parts, options: Options) -> Result<Self, Error> {
        let core = Arc::new(Core {
            store: parts.store,
            clock: parts.clock,
            invoker: parts.invoker,
            targets: BTreeMap::from_iter(parts.targets),
            sources: BTreeMap::from_iter(parts.sources),
            parity: options.parity,
            background_most: options.background.most,
            governor: Governor::new(options.background, parts.load),
            settings: Settings::default(),
            lanes: Lanes::default(),
            outbox: Outbox::default(),
            mappings: Mappings::default(),
            closing: Closing::default(),
            tasks: Tasks::default(),
        });
        for record in keys::load_settings(&*core.store)? {
            core.settings.put(record);
        }
        invoke_config::sweep(&core).await?;
        keys::sweep_unfinished(&*core.store).await?;
        core.lanes.load(&*core.store)?;
        for record in keys::load_mappings(&*core.store)? {
            core.mappings.load(&core, record)?;
        }
        Ok(Self { core })
    }

    /// Moves events until [`Delivery::drain`].
    pub async fn run(&self) {
        self.core.lanes.start(&self.core);
        self.core.mappings.start(&self.core);
        tokio::select! {
            () = self.core.outbox.run(&self.core) => {}
            () = self.core.governor.run() => {}
        }
        self.core.closing.closed().await;
    }

    /// Starts nothing more, and waits up to `limit` for what is under way. What is not over by then runs again after the
    /// next start.
    pub async fn drain(&self, limit: Duration) {
        self.core.closing.close();
        if tokio::time::timeout(limit, self.core.closing.quiet()).await.is_err() {
            tracing::warn!("events were still in flight when the drain time was over; they come again");
        }
        self.core.mappings.give_all_back(&self.core).await;
    }

    /// Ends every task where it stands, as a kill of the process does: for tests and simulations of crashes.
    #[doc(hidden)]
    pub fn abandon(&self) {
        self.core.tasks.abort();
    }

    /// The Lambda operations that are served here.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(Lambda(self.core.clone()))
    }

    /// The port for `InvocationType: Event`.
    pub fn async_invoker(&self) -> Arc<dyn AsyncInvoker> {
        Arc::new(self.clone())
    }

    /// The port through which other rooms bring events to functions.
    pub fn functions(&self) -> Arc<dyn Target> {
        Arc::new(self.clone())
    }

    /// Asynchronous events that wait, as far as memory knows them.
    pub fn waiting(&self) -> usize {
        self.core.lanes.waiting()
    }
}

#[async_trait]
impl AsyncInvoker for Delivery {
    async fn accept(&self, ctx: &Ctx, invocation: Invocation) -> Result<(), Fault> {
        lanes::accept(&self.core, ctx, invocation).await
    }

    async fn forget(&self, place: &Place, function: &FunctionRef) -> Result<(), Fault> {
        Ok(invoke_config::forget(&self.core, place, function).await?)
    }
}

#[async_trait]
impl Target for Delivery {
    fn check(&self, arn: &Arn) -> Result<(), Fault> {
        let (place, function) = named(arn)?;
        self.core.invoker.describe(&place, &function).map(|_| ())
    }

    async fn deliver(&self, ctx: &Ctx, arn: &Arn, envelope: Envelope) -> Result<Receipt, Fault> {
        self.check(arn)?;
        let (place, function) = named(arn)?;
        if envelope.payload.len() > EVENT_MAX {
            return Err(Fault::client(413, "RequestTooLargeException", too_large(envelope.payload.len())));
        }
        let request_id = envelope.lineage.event.into();
        let ctx = Ctx { request_id, place, trace: envelope.trace.clone().or_else(|| ctx.trace.clone()), ..ctx.clone() };
        let invocation = Invocation {
            function,
            mode: InvokeMode::RequestResponse,
            payload: envelope.payload,
            client_context: None,
            tail: false,
            lineage: envelope.lineage,
        };
        lanes::accept(&self.core, &ctx, invocation).await?;
        Ok(Receipt { id: request_id.to_string() })
    }
}

/// The function that an ARN names, and where it lives.
fn named(arn: &Arn) -> Result<(Place, FunctionRef), Fault> {
    let bad = || Fault::client(400, "InvalidParameterValueException", format!("{arn} names no function"));
    let function: FunctionRef = arn.to_string().parse().map_err(|_| bad())?;
    let account = arn.account.parse().map_err(|_| bad())?;
    let region = arn.region.parse().map_err(|_| bad())?;
    Ok((Place { account, region }, function))
}
