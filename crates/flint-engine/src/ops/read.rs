//! `GetFunction`, `GetFunctionConfiguration`, `ListFunctions`.

use std::sync::Arc;

use flint_kit::Ctx;
use flint_model::FunctionName;

use crate::api::{
    CodeLocation, Concurrency, FunctionConfiguration, FunctionInput, GetFunctionOutput, ListFunctionsInput,
    ListFunctionsOutput,
};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Head, Live, Runnable};
use crate::ops::{PAGE, function_ref};

pub(crate) fn get_function(engine: &Engine, ctx: &Ctx, input: &FunctionInput) -> Result<GetFunctionOutput, Error> {
    let (live, runnable, configuration) = read(engine, ctx, input)?;
    let Head { tags, reserved, .. } = &live.head;
    let location = engine.links.link(&ctx.base_url, &runnable.function.package.sha256, engine.clock.now());
    Ok(GetFunctionOutput {
        configuration,
        code: CodeLocation { repository_type: "S3", location },
        tags: (!tags.is_empty()).then(|| tags.clone()),
        concurrency: reserved.map(|n| Concurrency { reserved_concurrent_executions: Some(n) }),
    })
}

pub(crate) fn get_function_configuration(
    engine: &Engine,
    ctx: &Ctx,
    input: &FunctionInput,
) -> Result<FunctionConfiguration, Error> {
    Ok(read(engine, ctx, input)?.2)
}

/// The ARN carries the qualifier that the caller used, an alias' name too.
fn read(
    engine: &Engine,
    ctx: &Ctx,
    input: &FunctionInput,
) -> Result<(Arc<Live>, Arc<Runnable>, FunctionConfiguration), Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    // A draw of 1 is the alias' main version.
    let (live, runnable) = engine.registry.find_version(&ctx.place, &named, || 1.0)?;
    let mut configuration = runnable.function.configuration();
    if let Some(qualifier) = &named.qualifier {
        configuration.function_arn = format!("{}:{qualifier}", live.arn());
    }
    Ok((live, runnable, configuration))
}

pub(crate) fn list_functions(
    engine: &Engine,
    ctx: &Ctx,
    input: ListFunctionsInput,
) -> Result<ListFunctionsOutput, Error> {
    if input.master_region.is_some_and(|region| region != "ALL" && region != ctx.place.region.as_str()) {
        return Ok(ListFunctionsOutput { functions: Vec::new(), next_marker: None });
    }
    let bad_marker = |_| Error::InvalidParameter("Marker is not one that ListFunctions gave".to_owned());
    let marker: Option<FunctionName> = input.marker.map(|m| m.parse().map_err(bad_marker)).transpose()?;
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let mut page = engine.registry.page(&ctx.place, marker.as_ref(), limit + 1);
    let more = page.len() > limit;
    page.truncate(limit);
    let next_marker = page.last().filter(|_| more).map(|live| live.name().to_string());
    let all_versions = input.function_version.as_deref() == Some("ALL");
    let functions = page.iter().flat_map(|live| listed(live, all_versions)).collect();
    Ok(ListFunctionsOutput { functions, next_marker })
}

/// `$LATEST` alone, or with every version, all qualified.
fn listed(live: &Live, all_versions: bool) -> Vec<FunctionConfiguration> {
    let mut latest = live.latest.function.configuration();
    if !all_versions {
        return vec![latest];
    }
    latest.function_arn.push_str(":$LATEST");
    std::iter::once(latest).chain(live.versions.values().map(|version| version.function.configuration())).collect()
}
