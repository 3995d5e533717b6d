//! Lambda's operations on events in motion, as a service of the switchboard. The engine serves the others.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};

use crate::core::Core;
use crate::ops::{self, invoke_config};

#[derive(Debug)]
pub(crate) struct Lambda(pub Arc<Core>);

macro_rules! operations {
    ($($name:literal)*) => {
        const OPERATIONS: &[OperationSpec] =
            &[$(OperationSpec { name: $name, action: concat!("lambda:", $name), resource }),*];
    };
}
operations! {
    "DeleteFunctionEventInvokeConfig"
    "GetFunctionEventInvokeConfig"
    "ListFunctionEventInvokeConfigs"
    "PutFunctionEventInvokeConfig"
    "UpdateFunctionEventInvokeConfig"
}

fn resource(ctx: &Ctx, doc: &Doc) -> String {
    ops::resource(&ctx.place, doc.text_of("FunctionName"))
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
            other => Err(Fault::not_served(format_args!("lambda.{other}"))),
        }
    }
}
