//! Tags, reserved concurrency, account settings, and the reads of what is not served, which answer its default.

use flint_kit::Ctx;
use flint_model::FunctionRef;
use flint_store::Batch;

use crate::api;
use crate::engine::Engine;
use crate::error::Error;
use crate::function::Live;
use crate::keys;
use crate::ops::function_ref;
use crate::rules;

/// Concurrency that reservations must leave to everyone else (Lambda Developer Guide, "Configuring reserved concurrency").
const UNRESERVED_MIN: u64 = 100;

/// Lambda quotas: "Function and layer storage" and the sizes of a deployment package.
const TOTAL_CODE_SIZE: u64 = 80_530_636_800;
const CODE_SIZE_UNZIPPED: u64 = 262_144_000;
const CODE_SIZE_ZIPPED: u64 = 52_428_800;

/// `RecursiveLoop` (API reference, `PutFunctionRecursionConfig`).
const ALLOW: &str = "Allow";
const TERMINATE: &str = "Terminate";

pub(crate) async fn tag_resource(engine: &Engine, ctx: &Ctx, input: api::TagsInput) -> Result<(), Error> {
    let named = tagged(&input.resource)?;
    change(engine, ctx, &named, |live| {
        live.head.tags.extend(input.tags);
        rules::check_tags(&live.head.tags)
    })
    .await
}

pub(crate) async fn untag_resource(engine: &Engine, ctx: &Ctx, input: api::TagsInput) -> Result<(), Error> {
    let named = tagged(&input.resource)?;
    change(engine, ctx, &named, |live| {
        live.head.tags.retain(|key, _| !input.tag_keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) fn list_tags(engine: &Engine, ctx: &Ctx, input: &api::TagsInput) -> Result<api::ListTagsOutput, Error> {
    let live = engine.registry.find(&ctx.place, &tagged(&input.resource)?)?;
    Ok(api::ListTagsOutput { tags: live.head.tags.clone() })
}

pub(crate) async fn put_concurrency(
    engine: &Engine,
    ctx: &Ctx,
    input: &api::PutConcurrencyInput,
) -> Result<api::Concurrency, Error> {
    let wanted = input.reserved_concurrent_executions;
    reserve(engine, ctx, &input.function_name, Some(wanted)).await?;
    Ok(api::Concurrency { reserved_concurrent_executions: Some(wanted) })
}

pub(crate) async fn delete_concurrency(engine: &Engine, ctx: &Ctx, input: &api::FunctionInput) -> Result<(), Error> {
    reserve(engine, ctx, &input.function_name, None).await
}

pub(crate) fn get_concurrency(
    engine: &Engine,
    ctx: &Ctx,
    input: &api::FunctionInput,
) -> Result<api::Concurrency, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    Ok(api::Concurrency { reserved_concurrent_executions: live.head.reserved })
}

pub(crate) fn account_settings(engine: &Engine, ctx: &Ctx) -> api::AccountSettings {
    let (concurrency, unreserved) = engine.room.concurrency(&ctx.place.account);
    let functions = engine.registry.of_place(&ctx.place);
    let versions = functions.iter().flat_map(|live| live.runnables());
    api::AccountSettings {
        account_limit: api::AccountLimit {
            total_code_size: TOTAL_CODE_SIZE,
            code_size_unzipped: CODE_SIZE_UNZIPPED,
            code_size_zipped: CODE_SIZE_ZIPPED,
            concurrent_executions: concurrency,
            unreserved_concurrent_executions: unreserved,
        },
        account_usage: api::AccountUsage {
            total_code_size: versions.map(|runnable| runnable.function.package.size).sum(),
            function_count: functions.len() as u64,
        },
    }
}

pub(crate) fn code_signing(
    engine: &Engine,
    ctx: &Ctx,
    input: &api::FunctionInput,
) -> Result<api::CodeSigningConfig, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    Ok(api::CodeSigningConfig { code_signing_config_arn: "", function_name: live.name().to_string() })
}

pub(crate) fn recursion(engine: &Engine, ctx: &Ctx, input: &api::FunctionInput) -> Result<api::RecursionConfig, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    Ok(api::RecursionConfig { recursive_loop: if live.head.recursion_allowed { ALLOW } else { TERMINATE } })
}

pub(crate) async fn put_recursion(
    engine: &Engine,
    ctx: &Ctx,
    input: &api::PutRecursionInput,
) -> Result<api::RecursionConfig, Error> {
    let allowed = input.recursive_loop == ALLOW;
    change(engine, ctx, &function_ref(&input.function_name, None)?, |live| {
        live.head.recursion_allowed = allowed;
        Ok(())
    })
    .await?;
    Ok(api::RecursionConfig { recursive_loop: if allowed { ALLOW } else { TERMINATE } })
}

pub(crate) fn runtime_management(
    engine: &Engine,
    ctx: &Ctx,
    input: &api::FunctionInput,
) -> Result<api::RuntimeManagementConfig, Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    let (_, runnable) = engine.registry.find_version(&ctx.place, &named, || 0.0)?;
    let function_arn = runnable.function.configuration().function_arn;
    Ok(api::RuntimeManagementConfig { update_runtime_on: "Auto", function_arn })
}

async fn reserve(engine: &Engine, ctx: &Ctx, name: &str, wanted: Option<u64>) -> Result<(), Error> {
    let account = &ctx.place.account;
    change(engine, ctx, &function_ref(name, None)?, |live| {
        let before = live.head.reserved;
        let (_, unreserved) = engine.room.concurrency(account);
        let left = (unreserved + before.unwrap_or(0)).saturating_sub(wanted.unwrap_or(0));
        if wanted.is_some_and(|wanted| wanted > 0) && left < UNRESERVED_MIN {
            let why = format!(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_MIN}]."
            );
            return Err(Error::InvalidParameter(why));
        }
        live.head.reserved = wanted;
        Ok(())
    })
    .await
}

/// Changes a function's head: decide, commit, show.
async fn change(
    engine: &Engine,
    ctx: &Ctx,
    named: &FunctionRef,
    decide: impl FnOnce(&mut Live) -> Result<(), Error>,
) -> Result<(), Error> {
    let _control = engine.control.lock().await;
    let current = engine.registry.find(&ctx.place, named)?;
    let mut live = Live::clone(&current);
    decide(&mut live)?;
    let batch = keys::put_function(Batch::new(), &*engine.vault, &live.head, &live.latest.function)?;
    engine.store.commit(batch).await?;
    let (before, after) = (current.head.reserved, live.head.reserved);
    if before != after {
        engine.room.reserve_concurrency(&ctx.place.account, before, after);
        live.reservation.set(after);
    }
    engine.swap(live);
    Ok(())
}

/// The function that a tag operation names: a full ARN without a qualifier.
fn tagged(resource: &str) -> Result<FunctionRef, Error> {
    let named = function_ref(resource, None)?;
    match named.qualifier {
        None => Ok(named),
        Some(_) => Err(Error::InvalidParameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.".to_owned(),
        )),
    }
}
