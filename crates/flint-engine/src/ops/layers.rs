//! `PublishLayerVersion`, `GetLayerVersion`, `GetLayerVersionByArn`, `ListLayers`, `ListLayerVersions`,
//! `DeleteLayerVersion`.

use flint_kit::Ctx;
use flint_model::Place;
use flint_store::Batch;

use crate::api::{
    LayerContent, LayerVersionInput, LayerVersionOutput, LayersListItem, ListLayerVersionsOutput, ListLayersInput,
    ListLayersOutput, PublishLayerVersionInput,
};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::LayerUse;
use crate::layers::{self, LayerVersion, layer_arn};
use crate::ops::PAGE;

/// Layers of one function (Lambda quotas, "Function layers").
const LAYERS_MAX: usize = 5;

pub(crate) async fn publish(
    engine: &Engine,
    ctx: &Ctx,
    input: PublishLayerVersionInput,
) -> Result<LayerVersionOutput, Error> {
    let name = name_of(&ctx.place, &input.layer_name)?;
    let no_code = || Error::InvalidParameter("Please provide a source for layer version content.".to_owned());
    let (package, code) = engine.code.add(input.content.zip_file.ok_or_else(no_code)?.0).await?;
    let _control = engine.control.lock().await;
    let layer = LayerVersion {
        place: ctx.place.clone(),
        version: engine.layers.next(&ctx.place, &name),
        name,
        package,
        description: input.description.unwrap_or_default(),
        architectures: input.compatible_architectures,
        runtimes: input.compatible_runtimes,
        license: input.license_info,
        created: engine.clock.now(),
        _code: code,
    };
    engine.store.commit(layers::put(Batch::new(), &layer)).await?;
    let answer = with_content(engine, ctx, &layer);
    engine.layers.put(layer);
    Ok(answer)
}

pub(crate) fn get(engine: &Engine, ctx: &Ctx, input: &LayerVersionInput) -> Result<LayerVersionOutput, Error> {
    let name = name_of(&ctx.place, &input.layer_name)?;
    let layer = engine.layers.get(&ctx.place, &name, input.version_number).ok_or_else(not_found)?;
    Ok(with_content(engine, ctx, &layer))
}

pub(crate) fn get_by_arn(engine: &Engine, ctx: &Ctx, input: &LayerVersionInput) -> Result<LayerVersionOutput, Error> {
    let layer = engine.layers.by_arn(&ctx.place, &input.arn).ok_or_else(not_found)?;
    Ok(with_content(engine, ctx, &layer))
}

/// Deleting a version that is not there is no error, as in the reference. Functions that use it keep it.
pub(crate) async fn delete(engine: &Engine, ctx: &Ctx, input: &LayerVersionInput) -> Result<(), Error> {
    let name = name_of(&ctx.place, &input.layer_name)?;
    let _control = engine.control.lock().await;
    if engine.layers.get(&ctx.place, &name, input.version_number).is_some() {
        engine.store.commit(layers::delete(Batch::new(), &ctx.place, &name, input.version_number)).await?;
        engine.layers.remove(&ctx.place, &name, input.version_number);
    }
    Ok(())
}

/// Newest first.
pub(crate) fn list_versions(
    engine: &Engine,
    ctx: &Ctx,
    input: &ListLayersInput,
) -> Result<ListLayerVersionsOutput, Error> {
    let name = name_of(&ctx.place, &input.layer_name)?;
    let bad_marker = |_| Error::InvalidParameter("Marker is not one that ListLayerVersions gave".to_owned());
    let below: Option<u64> = input.marker.as_deref().map(str::parse).transpose().map_err(bad_marker)?;
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let versions = engine.layers.versions(&ctx.place, &name);
    let rest = versions.iter().filter(|layer| fits(layer, input) && below.is_none_or(|below| layer.version < below));
    let mut page: Vec<_> = rest.take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next_marker = page.last().filter(|_| more).map(|layer| layer.version.to_string());
    Ok(ListLayerVersionsOutput { layer_versions: page.iter().map(|layer| listed(layer)).collect(), next_marker })
}

/// By name, each with its newest version that fits.
pub(crate) fn list(engine: &Engine, ctx: &Ctx, input: &ListLayersInput) -> ListLayersOutput {
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let after = |name: &String| input.marker.as_ref().is_none_or(|marker| name > marker);
    let item = |name: String| {
        let newest = engine.layers.versions(&ctx.place, &name).into_iter().find(|layer| fits(layer, input))?;
        let layer_arn = newest.layer_arn();
        Some(LayersListItem { layer_name: name, layer_arn, latest_matching_version: listed(&newest) })
    };
    let names = engine.layers.names(&ctx.place).into_iter().filter(after);
    let mut layers: Vec<_> = names.filter_map(item).take(limit + 1).collect();
    let more = layers.len() > limit;
    layers.truncate(limit);
    let next_marker = layers.last().filter(|_| more).map(|layer| layer.layer_name.clone());
    ListLayersOutput { layers, next_marker }
}

/// The layer versions that a function asks for by ARN.
pub(crate) fn uses(engine: &Engine, place: &Place, arns: &[String], had: &[LayerUse]) -> Result<Vec<LayerUse>, Error> {
    if arns.len() > LAYERS_MAX {
        return Err(Error::InvalidParameter(format!("Cannot reference more than {LAYERS_MAX} layers.")));
    }
    let find = |arn: &String| {
        let known = engine.layers.by_arn(place, arn);
        let found = known.map(|layer| LayerUse { arn: layer.arn(), package: layer.package.clone() });
        // A version deleted meanwhile stays with the function that has it.
        let found = found.or_else(|| had.iter().find(|layer| layer.arn == *arn).cloned());
        found.ok_or_else(|| Error::InvalidParameter(format!("Layer version {arn} does not exist.")))
    };
    let uses: Vec<_> = arns.iter().map(find).collect::<Result<_, _>>()?;
    for (index, layer) in uses.iter().enumerate() {
        let base = |arn: &str| arn.rsplit_once(':').map(|(layer, _)| layer.to_owned());
        if uses[..index].iter().any(|other| base(&other.arn) == base(&layer.arn)) {
            let why = format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. {} and another version were given.",
                layer.arn
            );
            return Err(Error::InvalidParameter(why));
        }
    }
    Ok(uses)
}

fn not_found() -> Error {
    Error::LayerNotFound
}

/// A layer's bare name; a full ARN of this place names it too.
fn name_of(place: &Place, text: &str) -> Result<String, Error> {
    let name = text.strip_prefix(&layer_arn(place, "")).unwrap_or(text);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(legal) {
        Ok(name.to_owned())
    } else {
        Err(Error::InvalidParameter(format!("{text:?} names no layer of this account and region")))
    }
}

fn fits(layer: &LayerVersion, input: &ListLayersInput) -> bool {
    let within = |list: &[String], wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| list.is_empty() || list.contains(wanted))
    };
    within(&layer.runtimes, &input.compatible_runtime) && within(&layer.architectures, &input.compatible_architecture)
}

fn listed(layer: &LayerVersion) -> LayerVersionOutput {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    LayerVersionOutput {
        content: None,
        layer_arn: None,
        layer_version_arn: layer.arn(),
        description: layer.description.clone(),
        created_date: layer.created.to_lambda(),
        version: layer.version,
        compatible_architectures: some(&layer.architectures),
        compatible_runtimes: some(&layer.runtimes),
        license_info: layer.license.clone(),
    }
}

fn with_content(engine: &Engine, ctx: &Ctx, layer: &LayerVersion) -> LayerVersionOutput {
    let content = LayerContent {
        location: engine.links.link(&ctx.base_url, &layer.package.sha256, engine.clock.now()),
        code_sha256: crate::code::base64_of_hex(&layer.package.sha256),
        code_size: layer.package.size,
    };
    LayerVersionOutput { content: Some(content), layer_arn: Some(layer.layer_arn()), ..listed(layer) }
}
