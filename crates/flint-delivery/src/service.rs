//! Lambda's operations on events in motion, as a service of the switchboard. The engine serves the others.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};

use crate::core::Core;
use crate::ops::{self, invoke_config, mapping};

#[derive(Debug)]
pub(crate) struct Lambda(pub Arc<Core>);

macro_rules! operations {
    ($($name:literal)*) => {
        const OPERATIONS: &[OperationSpec] =
            &[$(OperationSpec { name: $name, action: concat!("lambda:", $name), resource }),*];
    };
}
operations! {
    "CreateEventSourceMapping"
    "DeleteEventSourceMapping"
    "DeleteFunctionEventInvokeConfig"
    "GetEventSourceMapping"
    "GetFunctionEventInvokeConfig"
    "ListEventSourceMappings"
    "ListFunctionEventInvokeConfigs"
    "PutFunctionEventInvokeConfig"
    "UpdateEventSourceMapping"
    "UpdateFunctionEventInvokeConfig"
}

fn resource(ctx: &Ctx, doc: &Doc) -> String {
    match doc.text_of("UUID") {
        Some(uuid) => flint_model::Arn::new("lambda", &ctx.place, format!("event-source-mapping:{uuid}")).to_string(),
        None => ops::resource(&ctx.place, doc.text_of("FunctionName"), doc.text_of("Qualifier")),
    }
}

fn accepted(value: &impl serde::Serialize) -> Result<Output, Fault> {
    Ok(Output { status: Some(202), ..Output::render(value)? })
}

#[async_trait]
impl Service for Lambda {
    fn name(&self) -> &'static str {
        "lambda"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let core = &*self.0;
        match operation {
            "PutFunctionEventInvokeConfig" => Output::render(&invoke_config::put(core, ctx, input.parse()?).await?),
            "UpdateFunctionEventInvokeConfig" => {
                Output::render(&invoke_config::update(core, ctx, input.parse()?).await?)
            }
            "GetFunctionEventInvokeConfig" => Output::render(&invoke_config::get(core, ctx, &input.parse()?)?),
            "ListFunctionEventInvokeConfigs" => Output::render(&invoke_config::list(core, ctx, &input.parse()?)?),
            "DeleteFunctionEventInvokeConfig" => {
                invoke_config::delete(core, ctx, &input.parse()?).await?;
                Ok(Output { status: Some(204), ..Output::empty() })
            }
            "CreateEventSourceMapping" => accepted(&mapping::create(&self.0, ctx, input.parse()?).await?),
            "UpdateEventSourceMapping" => accepted(&mapping::update(&self.0, ctx, input.parse()?).await?),
            "DeleteEventSourceMapping" => accepted(&mapping::delete(core, ctx, &input.parse()?).await?),
            "GetEventSourceMapping" => Output::render(&mapping::get(core, ctx, &input.parse()?)?),
            "ListEventSourceMappings" => Output::render(&mapping::list(core, ctx, &input.parse()?)?),
            other => Err(Fault::not_served(format_args!("lambda.{other}"))),
        }
    }
}
