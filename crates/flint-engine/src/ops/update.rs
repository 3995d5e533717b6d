//! `UpdateFunctionCode` and `UpdateFunctionConfiguration`.

use std::sync::Arc;

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::{FunctionConfiguration, UpdateFunctionCodeInput, UpdateFunctionConfigurationInput};
use crate::code::Code;
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Function, Live};
use crate::ops::{function_ref, revision};
use crate::{keys, rules};

/// Replaces the package.
pub(crate) async fn update_function_code(
    engine: &Engine,
    ctx: &Ctx,
    input: UpdateFunctionCodeInput,
) -> Result<FunctionConfiguration, Error> {
    if input.publish == Some(true) {
        return Err(Error::NotServed("lambda.UpdateFunctionCode: Publish".to_owned()));
    }
    let live = find(engine, ctx, &input.function_name, input.revision_id.as_deref())?;
    let no_code = || Error::InvalidParameter("Please provide a source for function code.".to_owned());
    let (package, code) = engine.code.add(input.zip_file.ok_or_else(no_code)?.0).await?;
    let function = Function { package, ..live.function.clone() };
    if input.dry_run == Some(true) {
        return Ok(function.configuration());
    }
    commit(engine, &live, function, code).await
}

/// Changes settings; those that the request does not name stay.
pub(crate) async fn update_function_configuration(
    engine: &Engine,
    ctx: &Ctx,
    input: UpdateFunctionConfigurationInput,
) -> Result<FunctionConfiguration, Error> {
    let live = find(engine, ctx, &input.function_name, input.revision_id.as_deref())?;
    let config = rules::apply(live.function.config.clone(), input.settings)?;
    let unavailable = |e: flint_runtime::Unavailable| Error::InvalidParameter(e.to_string());
    engine.catalog.resolve(&config.runtime, engine.options.runtimes).map_err(unavailable)?;
    let code = engine.code.load(&live.function.package).await?;
    let function = Function { config, ..live.function.clone() };
    commit(engine, &live, function, code).await
}

fn find(engine: &Engine, ctx: &Ctx, name: &str, revision: Option<&str>) -> Result<Arc<Live>, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(name, None)?)?;
    match revision {
        Some(wanted) if wanted != live.function.revision => Err(Error::StaleRevision),
        _ => Ok(live),
    }
}

/// Stores `next` in place of `live`, unless the function changed since `live` was read.
async fn commit(
    engine: &Engine,
    live: &Live,
    mut next: Function,
    code: Arc<Code>,
) -> Result<FunctionConfiguration, Error> {
    let _control = engine.control.lock().await;
    let current = engine.registry.get(&next.place, &next.name);
    let unchanged = current.is_some_and(|now| now.function.revision == live.function.revision);
    if !unchanged {
        return Err(Error::UpdateInProgress(next.arn()));
    }
    next.modified = engine.clock.now();
    next.revision = revision();
    let key = keys::key(&next.place, &next.name);
    engine.store.commit(Batch::new().put(keys::FUNCTIONS, key, keys::encode(&next))).await?;
    let answer = next.configuration();
    engine.show(next, code);
    Ok(answer)
}
