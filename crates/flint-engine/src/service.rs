//! The Lambda API as a service of the switchboard.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flint_kit::{
    AsyncInvoker, Body, Ctx, Doc, Fault, Input, Invocation, InvokeMode, Invoker, OperationSpec, Output, Service,
};
use flint_model::{FunctionRef, Lineage, Qualifier};

use crate::api;
use crate::engine::Engine;
use crate::error::Error;
use crate::invoke::{Handle, MAX_PAYLOAD, check_event};
use crate::ops;

impl Engine {
    /// The Lambda API, without what another room serves of it; `events` takes the events that nobody waits for.
    pub fn service(self: &Arc<Self>, events: Arc<dyn AsyncInvoker>) -> Arc<dyn Service> {
        Arc::new(Lambda { engine: self.clone(), invoker: self.invoker(), events })
    }

    /// The port through which other rooms run functions.
    pub fn invoker(self: &Arc<Self>) -> Arc<dyn Invoker> {
        Arc::new(Handle(self.clone()))
    }
}

#[derive(Debug)]
struct Lambda {
    engine: Arc<Engine>,
    invoker: Arc<dyn Invoker>,
    events: Arc<dyn AsyncInvoker>,
}

macro_rules! operations {
    ($($name:literal $action:literal)*) => {
        const OPERATIONS: &[OperationSpec] = &[$(OperationSpec { name: $name, action: $action, resource: function_arn }),*];
    };
}
operations! {
    "Invoke" "lambda:InvokeFunction"
    "InvokeWithResponseStream" "lambda:InvokeFunction"
    "CreateAlias" "lambda:CreateAlias"
    "DeleteLayerVersion" "lambda:DeleteLayerVersion"
    "GetLayerVersion" "lambda:GetLayerVersion"
    "GetLayerVersionByArn" "lambda:GetLayerVersion"
    "ListLayerVersions" "lambda:ListLayerVersions"
    "ListLayers" "lambda:ListLayers"
    "PublishLayerVersion" "lambda:PublishLayerVersion"
    "CreateFunction" "lambda:CreateFunction"
    "DeleteAlias" "lambda:DeleteAlias"
    "DeleteFunction" "lambda:DeleteFunction"
    "DeleteFunctionConcurrency" "lambda:DeleteFunctionConcurrency"
    "GetAccountSettings" "lambda:GetAccountSettings"
    "GetAlias" "lambda:GetAlias"
    "GetFunction" "lambda:GetFunction"
    "GetFunctionCodeSigningConfig" "lambda:GetFunctionCodeSigningConfig"
    "GetFunctionConcurrency" "lambda:GetFunctionConcurrency"
    "GetFunctionConfiguration" "lambda:GetFunctionConfiguration"
    "GetFunctionRecursionConfig" "lambda:GetFunctionRecursionConfig"
    "GetRuntimeManagementConfig" "lambda:GetRuntimeManagementConfig"
    "ListAliases" "lambda:ListAliases"
    "ListFunctions" "lambda:ListFunctions"
    "ListTags" "lambda:ListTags"
    "ListVersionsByFunction" "lambda:ListVersionsByFunction"
    "PublishVersion" "lambda:PublishVersion"
    "PutFunctionConcurrency" "lambda:PutFunctionConcurrency"
    "PutFunctionRecursionConfig" "lambda:PutFunctionRecursionConfig"
    "TagResource" "lambda:TagResource"
    "UntagResource" "lambda:UntagResource"
    "UpdateAlias" "lambda:UpdateAlias"
    "UpdateFunctionCode" "lambda:UpdateFunctionCode"
    "UpdateFunctionConfiguration" "lambda:UpdateFunctionConfiguration"
}

/// The function that a call names, by name or (tag operations) by ARN.
fn function_arn(ctx: &Ctx, doc: &Doc) -> String {
    ops::resource(ctx, doc.text_of("FunctionName").or_else(|| doc.text_of("Resource")), doc.text_of("Qualifier"))
}

/// A call starts a chain, or goes on with the one that it says it belongs to.
fn lineage(ctx: &Ctx) -> Lineage {
    let event = ctx.request_id.into();
    ctx.lineage.map_or_else(|| Lineage::root(event), |chain| chain.child(event))
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
        let engine = &*self.engine;
        match operation {
            "Invoke" | "InvokeWithResponseStream" => {
                self.invoke(ctx, input, operation == "InvokeWithResponseStream").await
            }
            "CreateFunction" => created(&ops::create::create_function(engine, ctx, input.parse()?).await?),
            "UpdateFunctionCode" => {
                Output::render(&ops::update::update_function_code(engine, ctx, input.parse()?).await?)
            }
            "UpdateFunctionConfiguration" => {
                Output::render(&ops::update::update_function_configuration(engine, ctx, input.parse()?).await?)
            }
            "DeleteFunction" => self.delete_function(ctx, input.parse()?).await,
            "GetFunction" => Output::render(&ops::read::get_function(engine, ctx, &input.parse()?)?),
            "GetFunctionConfiguration" => {
                Output::render(&ops::read::get_function_configuration(engine, ctx, &input.parse()?)?)
            }
            "ListFunctions" => Output::render(&ops::read::list_functions(engine, ctx, input.parse()?)?),
            "PublishVersion" => created(&ops::publish::publish_version(engine, ctx, input.parse()?).await?),
            "ListVersionsByFunction" => Output::render(&ops::publish::list_versions(engine, ctx, &input.parse()?)?),
            "CreateAlias" => created(&ops::alias::create_alias(engine, ctx, input.parse()?).await?),
            "UpdateAlias" => Output::render(&ops::alias::update_alias(engine, ctx, input.parse()?).await?),
            "GetAlias" => Output::render(&ops::alias::get_alias(engine, ctx, &input.parse()?)?),
            "DeleteAlias" => self.delete_alias(ctx, &input.parse()?).await,
            "ListAliases" => Output::render(&ops::alias::list_aliases(engine, ctx, &input.parse()?)?),
            _ => self.call_settings(ctx, operation, input).await,
        }
    }
}

fn created(value: &impl serde::Serialize) -> Result<Output, Fault> {
    Ok(Output { status: Some(201), ..Output::render(value)? })
}

fn no_content((): ()) -> Result<Output, Fault> {
    Ok(Output { status: Some(204), ..Output::empty() })
}

impl Lambda {
    async fn call_settings(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let engine = &*self.engine;
        match operation {
            "PublishLayerVersion" => created(&ops::layers::publish(engine, ctx, input.parse()?).await?),
            "GetLayerVersion" => Output::render(&ops::layers::get(engine, ctx, &input.parse()?)?),
            "GetLayerVersionByArn" => Output::render(&ops::layers::get_by_arn(engine, ctx, &input.parse()?)?),
            "ListLayerVersions" => Output::render(&ops::layers::list_versions(engine, ctx, &input.parse()?)?),
            "ListLayers" => Output::render(&ops::layers::list(engine, ctx, &input.parse()?)),
            "DeleteLayerVersion" => no_content(ops::layers::delete(engine, ctx, &input.parse()?).await?),
            "TagResource" => no_content(ops::settings::tag_resource(engine, ctx, input.parse()?).await?),
            "UntagResource" => no_content(ops::settings::untag_resource(engine, ctx, input.parse()?).await?),
            "ListTags" => Output::render(&ops::settings::list_tags(engine, ctx, &input.parse()?)?),
            "PutFunctionConcurrency" => {
                Output::render(&ops::settings::put_concurrency(engine, ctx, &input.parse()?).await?)
            }
            "DeleteFunctionConcurrency" => {
                no_content(ops::settings::delete_concurrency(engine, ctx, &input.parse()?).await?)
            }
            "GetFunctionConcurrency" => Output::render(&ops::settings::get_concurrency(engine, ctx, &input.parse()?)?),
            "GetAccountSettings" => Output::render(&ops::settings::account_settings(engine, ctx)),
            "GetFunctionCodeSigningConfig" => {
                Output::render(&ops::settings::code_signing(engine, ctx, &input.parse()?)?)
            }
            "GetFunctionRecursionConfig" => Output::render(&ops::settings::recursion(engine, ctx, &input.parse()?)?),
            "PutFunctionRecursionConfig" => {
                Output::render(&ops::settings::put_recursion(engine, ctx, &input.parse()?).await?)
            }
            "GetRuntimeManagementConfig" => {
                Output::render(&ops::settings::runtime_management(engine, ctx, &input.parse()?)?)
            }
            other => Err(Fault::not_served(format_args!("lambda.{other}"))),
        }
    }

    async fn delete_function(&self, ctx: &Ctx, input: api::FunctionInput) -> Result<Output, Fault> {
        let named = ops::function_ref(&input.function_name, input.qualifier.as_deref())?;
        ops::delete::delete_function(&self.engine, ctx, input).await?;
        self.events.forget(&ctx.place, &named).await?;
        no_content(())
    }

    async fn delete_alias(&self, ctx: &Ctx, input: &api::AliasInput) -> Result<Output, Fault> {
        let named = ops::function_ref(&input.function_name, None)?;
        let alias = FunctionRef { qualifier: Some(Qualifier::Alias(input.name.clone())), ..named };
        ops::alias::delete_alias(&self.engine, ctx, input).await?;
        self.events.forget(&ctx.place, &alias).await?;
        no_content(())
    }

    async fn invoke(&self, ctx: &Ctx, mut input: Input, streaming: bool) -> Result<Output, Fault> {
        let body = input.body.take().unwrap_or_default();
        let request: api::InvokeInput = input.parse()?;
        let function = ops::function_ref(&request.function_name, request.qualifier.as_deref())?;
        let event = request.invocation_type.as_deref() == Some("Event") && !streaming;
        let mode = match request.invocation_type.as_deref() {
            None | Some("RequestResponse") if streaming => InvokeMode::Streaming,
            None | Some("RequestResponse") => InvokeMode::RequestResponse,
            Some("Event") if event => InvokeMode::RequestResponse,
            Some("DryRun") => InvokeMode::DryRun,
            Some(other) => return Err(Fault::not_served(format_args!("lambda.Invoke: InvocationType={other}"))),
        };
        let too_large = || Fault::from(Error::PayloadTooLarge { limit: MAX_PAYLOAD });
        let invocation = Invocation {
            function,
            mode,
            payload: body.collect(MAX_PAYLOAD, too_large).await?,
            client_context: request.client_context,
            tail: request.log_type.as_deref() == Some("Tail"),
            lineage: lineage(ctx),
        };
        if event {
            check_event(&self.engine, &ctx.place, &invocation)?;
            self.events.accept(ctx, invocation).await?;
            return Ok(Output { status: Some(202), body: Some(Body::empty()), ..Output::empty() });
        }
        let outcome = self.invoker.invoke(ctx, invocation).await?;
        let members = api::InvokeOutput {
            function_error: outcome.function_error,
            log_result: outcome.tail.map(|tail| BASE64_STANDARD.encode(tail)),
            executed_version: Some(outcome.executed_version.to_string()),
        };
        let mut output = Output::render(&members)?;
        output.status = Some(outcome.status);
        output.body = Some(match (outcome.status, outcome.payload) {
            (204, _) => Body::empty(),
            (_, payload) => payload,
        });
        Ok(output)
    }
}
