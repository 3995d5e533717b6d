//! `UpdateFunctionCode` and `UpdateFunctionConfiguration`.

use std::sync::Arc;

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::{FunctionConfiguration, UpdateFunctionCodeInput, UpdateFunctionConfigurationInput};
use crate::code::Trees;
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Function, Live};
use crate::ops::{check_revision, function_ref, layers, publish, revision};
use crate::{keys, rules};

/// Replaces the package of `$LATEST`.
pub(crate) async fn update_function_code(
    engine: &Engine,
    ctx: &Ctx,
    input: UpdateFunctionCodeInput,
) -> Result<FunctionConfiguration, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    check_revision(input.revision_id.as_deref(), &live.latest.function.revision)?;
    let no_code = || Error::InvalidParameter("Please provide a source for function code.".to_owned());
    let (package, code) = engine.code.add(input.zip_file.ok_or_else(no_code)?.0).await?;
    let function = Function { package, ..live.latest.function.clone() };
    if input.dry_run == Some(true) {
        return Ok(function.configuration());
    }
    let trees = engine.trees(code, &function).await?;
    commit(engine, &live, function, trees, input.publish == Some(true)).await
}

/// Changes settings of `$LATEST`; those that the request does not name stay.
pub(crate) async fn update_function_configuration(
    engine: &Engine,
    ctx: &Ctx,
    input: UpdateFunctionConfigurationInput,
) -> Result<FunctionConfiguration, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    let latest = &live.latest.function;
    check_revision(input.revision_id.as_deref(), &latest.revision)?;
    let layers = input.settings.layers.clone();
    let mut config = rules::apply(latest.config.clone(), input.settings, &engine.options.ceilings)?;
    if let Some(arns) = layers {
        config.layers = layers::uses(engine, &ctx.place, &arns, &latest.config.layers)?;
    }
    let unavailable = |e: flint_runtime::Unavailable| Error::InvalidParameter(e.to_string());
    engine.catalog.resolve(&config.runtime, engine.options.runtimes).map_err(unavailable)?;
    let code = engine.code.load(&latest.package).await?;
    let function = Function { config, ..latest.clone() };
    let trees = engine.trees(code, &function).await?;
    commit(engine, &live, function, trees, false).await
}

/// Stores `next` as `$LATEST`, unless that changed since `seen` was read; with `publish` also as a version.
async fn commit(
    engine: &Engine,
    seen: &Live,
    mut next: Function,
    trees: Trees,
    publish: bool,
) -> Result<FunctionConfiguration, Error> {
    let _control = engine.control.lock().await;
    let current = engine.registry.get(&next.place, &next.name);
    let same = |now: &Arc<Live>| now.latest.function.revision == seen.latest.function.revision;
    let Some(current) = current.filter(same) else {
        return Err(Error::UpdateInProgress(next.arn()));
    };
    next.modified = engine.clock.now();
    next.revision = revision();
    let mut live = Live::clone(&current);
    let published = if publish { publish::next(&mut live, &next) } else { None };
    let mut batch = keys::put_function(Batch::new(), &*engine.vault, &live.head, &next)?;
    if let Some(publish::Next::New(version)) = &published {
        batch = keys::put_version(batch, &*engine.vault, &live.head, version)?;
    }
    engine.store.commit(batch).await?;
    let answer = match published {
        None => next.configuration(),
        Some(publish::Next::Same(version)) => version.function.configuration(),
        Some(publish::Next::New(version)) => {
            let answer = version.configuration();
            let number = version.version.unwrap_or(0);
            live.versions.insert(number, engine.runnable_of(*version, trees.clone()));
            answer
        }
    };
    live.latest = engine.runnable_of(next, trees);
    engine.swap(live);
    Ok(answer)
}
