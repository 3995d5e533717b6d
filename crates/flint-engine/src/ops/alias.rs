//! `CreateAlias`, `GetAlias`, `UpdateAlias`, `DeleteAlias`, `ListAliases`.

use std::collections::BTreeMap;
use std::ops::Bound;

use flint_kit::Ctx;
use flint_model::{FunctionRef, Qualifier};
use flint_store::Batch;

use crate::api::{AliasConfiguration, AliasInput, AliasRoutingConfiguration, ListAliasesOutput, ListOfFunctionInput};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Alias, Live};
use crate::keys;
use crate::ops::{PAGE, check_revision, function_ref, revision};

pub(crate) async fn create_alias(engine: &Engine, ctx: &Ctx, input: AliasInput) -> Result<AliasConfiguration, Error> {
    let named = function_ref(&input.function_name, None)?;
    let _control = engine.control.lock().await;
    let live = engine.registry.find(&ctx.place, &named)?;
    if live.aliases.contains_key(&input.name) {
        return Err(Error::AliasExists(format!("{}:{}", live.arn(), input.name)));
    }
    let version = parse_version(&live, input.function_version.as_deref().unwrap_or_default())?;
    let alias = Alias {
        name: input.name,
        version,
        weights: parse_weights(&live, version, input.routing_config.unwrap_or_default())?,
        description: input.description.unwrap_or_default(),
        revision: revision(),
    };
    store(engine, &live, alias).await
}

pub(crate) async fn update_alias(engine: &Engine, ctx: &Ctx, input: AliasInput) -> Result<AliasConfiguration, Error> {
    let named = function_ref(&input.function_name, None)?;
    let _control = engine.control.lock().await;
    let live = engine.registry.find(&ctx.place, &named)?;
    let mut alias = find(&live, &input.name)?.clone();
    check_revision(input.revision_id.as_deref(), &alias.revision)?;
    if let Some(version) = input.function_version {
        alias.version = parse_version(&live, &version)?;
    }
    if let Some(routing) = input.routing_config {
        alias.weights = parse_weights(&live, alias.version, routing)?;
    }
    if let Some(description) = input.description {
        alias.description = description;
    }
    alias.revision = revision();
    store(engine, &live, alias).await
}

pub(crate) fn get_alias(engine: &Engine, ctx: &Ctx, input: &AliasInput) -> Result<AliasConfiguration, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    Ok(find(&live, &input.name)?.configuration(&live.arn()))
}

/// Deleting an alias that is not there is no error, as in the reference.
pub(crate) async fn delete_alias(engine: &Engine, ctx: &Ctx, input: &AliasInput) -> Result<(), Error> {
    let named = function_ref(&input.function_name, None)?;
    let _control = engine.control.lock().await;
    let current = engine.registry.find(&ctx.place, &named)?;
    let mut live = Live::clone(&current);
    if live.aliases.remove(&input.name).is_some() {
        engine.store.commit(keys::delete_alias(Batch::new(), live.place(), live.name(), &input.name)).await?;
        engine.swap(live);
    }
    Ok(())
}

/// By name; with `FunctionVersion` only those that may run that version.
pub(crate) fn list_aliases(
    engine: &Engine,
    ctx: &Ctx,
    input: &ListOfFunctionInput,
) -> Result<ListAliasesOutput, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    let wanted = input.function_version.as_deref().map(parse_label).transpose()?;
    let start = input.marker.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let runs = |alias: &&Alias| match wanted {
        None => true,
        Some(version) => alias.version == version || version.is_some_and(|n| alias.weights.contains_key(&n)),
    };
    let rest = live.aliases.range::<String, _>((start, Bound::Unbounded)).map(|(_, alias)| alias).filter(runs);
    let mut page: Vec<_> = rest.take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next_marker = page.last().filter(|_| more).map(|alias| alias.name.clone());
    let arn = live.arn();
    Ok(ListAliasesOutput { aliases: page.iter().map(|alias| alias.configuration(&arn)).collect(), next_marker })
}

async fn store(engine: &Engine, current: &Live, alias: Alias) -> Result<AliasConfiguration, Error> {
    let mut live = current.clone();
    let answer = alias.configuration(&live.arn());
    engine.store.commit(keys::put_alias(Batch::new(), live.place(), live.name(), &alias)).await?;
    live.aliases.insert(alias.name.clone(), alias);
    engine.swap(live);
    Ok(answer)
}

fn find<'a>(live: &'a Live, name: &str) -> Result<&'a Alias, Error> {
    live.aliases.get(name).ok_or_else(|| Error::AliasNotFound(format!("{}:{name}", live.arn())))
}

/// `None` is `$LATEST`.
fn parse_label(text: &str) -> Result<Option<u64>, Error> {
    match text.parse() {
        Ok(Qualifier::Latest) => Ok(None),
        Ok(Qualifier::Version(number)) => Ok(Some(number)),
        _ => Err(Error::InvalidParameter(format!("{text:?} is no version: expected a number or $LATEST"))),
    }
}

fn parse_version(live: &Live, text: &str) -> Result<Option<u64>, Error> {
    let version = parse_label(text)?;
    match live.version(version) {
        Some(_) => Ok(version),
        None => {
            let qualifier = version.map(Qualifier::Version);
            let wanted = FunctionRef { name: live.name().clone(), qualifier, region: None, account: None };
            Err(Error::FunctionNotFound(format!("{}:{text}", wanted.name.arn(live.place()))))
        }
    }
}

/// At most one additional version, published, other than the alias' own.
///
/// Reference: Lambda API Reference, `AliasRoutingConfiguration`.
fn parse_weights(
    live: &Live,
    version: Option<u64>,
    routing: AliasRoutingConfiguration,
) -> Result<BTreeMap<u64, f64>, Error> {
    let weights = routing.additional_version_weights;
    let refuse = |why: String| Err(Error::InvalidParameter(why));
    if weights.len() > 1 {
        return refuse("Number of items in AdditionalVersionWeights cannot be greater than 1".to_owned());
    }
    let mut parsed = BTreeMap::new();
    for (text, weight) in weights {
        if !(0.0..=1.0).contains(&weight) {
            return refuse(format!("the weight of version {text} is {weight}: expected 0.0 to 1.0"));
        }
        if version.is_none() {
            return refuse("$LATEST is not supported for an alias pointing to more than 1 version".to_owned());
        }
        let Some(number) = parse_version(live, &text)? else {
            return refuse("$LATEST is not supported for an alias pointing to more than 1 version".to_owned());
        };
        if version == Some(number) {
            return refuse(format!(
                "Invalid function version {number}. Function version {number} is already included in routing configuration."
            ));
        }
        parsed.insert(number, weight);
    }
    Ok(parsed)
}
