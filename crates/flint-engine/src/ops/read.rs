//! `GetFunction`, `GetFunctionConfiguration`, `ListFunctions`.

use flint_kit::Ctx;
use flint_model::FunctionName;

use crate::api::{
    CodeLocation, FunctionConfiguration, FunctionInput, GetFunctionOutput, ListFunctionsInput, ListFunctionsOutput,
};
use crate::engine::Engine;
use crate::error::Error;
use crate::ops::function_ref;

/// Functions on a page (API reference, `ListFunctions`: "Lambda returns up to 50 functions per call").
const PAGE: usize = 50;

pub(crate) fn get_function(engine: &Engine, ctx: &Ctx, input: &FunctionInput) -> Result<GetFunctionOutput, Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    let live = engine.registry.find(&ctx.place, &named)?;
    let tags = &live.function.tags;
    Ok(GetFunctionOutput {
        configuration: qualified(live.function.configuration(), named.qualifier.is_some()),
        code: CodeLocation { repository_type: "S3" },
        tags: (!tags.is_empty()).then(|| tags.clone()),
    })
}

pub(crate) fn get_function_configuration(
    engine: &Engine,
    ctx: &Ctx,
    input: &FunctionInput,
) -> Result<FunctionConfiguration, Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    let live = engine.registry.find(&ctx.place, &named)?;
    Ok(qualified(live.function.configuration(), named.qualifier.is_some()))
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
    let next_marker = page.last().filter(|_| more).map(|live| live.function.name.to_string());
    let all_versions = input.function_version.as_deref() == Some("ALL");
    let functions = page.iter().map(|live| qualified(live.function.configuration(), all_versions)).collect();
    Ok(ListFunctionsOutput { functions, next_marker })
}

/// The ARN carries the qualifier if the caller asked for a version.
fn qualified(mut configuration: FunctionConfiguration, wanted: bool) -> FunctionConfiguration {
    if wanted {
        configuration.function_arn.push_str(":$LATEST");
    }
    configuration
}
