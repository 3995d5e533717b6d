//! `Create`, `Update`, `Delete`, `GetEventSourceMapping` and `ListEventSourceMappings`.

use std::sync::Arc;

use flint_base::{RequestId, Timestamp};
use flint_kit::{Ctx, FunctionFacts, SourceInfo};
use flint_model::{Arn, FunctionRef, Pattern, Place};
use flint_store::Batch;

use crate::api::{
    CreateMappingInput, Filter, FilterCriteria, ListMappingsInput, ListMappingsOutput, MappingConfiguration,
    MappingInput, ScalingConfig, UpdateMappingInput,
};
use crate::core::Core;
use crate::error::Error;
use crate::keys::{self, MappingRecord};
use crate::mapping::registry::{Mapping, Plan};
use crate::ops::function_ref;

/// Items on a page (API reference: `MaxItems`, "returns a maximum of 100 items in each response, even if you set the number
/// higher").
const PAGE: usize = 100;

/// Filters of a mapping (Lambda Developer Guide, "Control which events Lambda sends to your function": five, up to ten on
/// request).
const FILTERS_MAX: usize = 10;

/// Records of a batch by default, and the most without a window or of a FIFO queue.
const BATCH: u32 = 10;

const BATCH_ITEM_FAILURES: &str = "ReportBatchItemFailures";

pub(crate) async fn create(
    core: &Arc<Core>,
    ctx: &Ctx,
    input: CreateMappingInput,
) -> Result<MappingConfiguration, Error> {
    let missing = || Error::InvalidParameter("Required 'eventSourceArn' parameter is missing.".to_owned());
    let function = function_ref(&input.function_name, None)?;
    let record = MappingRecord {
        place: ctx.place.clone(),
        uuid: RequestId::random().to_string(),
        source: input.event_source_arn.ok_or_else(missing)?,
        function: function.name.clone(),
        qualifier: function.qualifier.as_ref().map(ToString::to_string),
        enabled: input.enabled.unwrap_or(true),
        batch_size: input.batch_size.unwrap_or(BATCH),
        window_s: input.maximum_batching_window_in_seconds.unwrap_or(0),
        filters: patterns(input.filter_criteria),
        partial: input.function_response_types.iter().any(|kind| kind == BATCH_ITEM_FAILURES),
        max_concurrency: input.scaling_config.and_then(|config| config.maximum_concurrency),
        modified_ms: core.now().as_millis(),
    };
    let _changing = core.mappings.changing.lock().await;
    check(core, &ctx.place, &record, &function)?;
    for other in core.mappings.of_place(&ctx.place) {
        let other = other.plan();
        if other.record.source == record.source && other.record.function == record.function {
            let why = format!(
                "An event source mapping with SQS arn (\" {} \") and function (\" {} \") already exists. Please update or delete the existing mapping with UUID {}",
                record.source, record.function, other.record.uuid
            );
            return Err(Error::Conflict(why));
        }
    }
    let batch = Batch::new().insert(
        keys::MAPPINGS,
        keys::mapping_key(&record.place, &record.uuid),
        keys::encode_mapping(&record),
    );
    let plan = Plan::new(record)?;
    core.store.commit(batch).await?;
    let mapping = core.mappings.put(core, plan);
    Ok(document(&mapping, Some("Creating")))
}

pub(crate) async fn update(
    core: &Arc<Core>,
    ctx: &Ctx,
    input: UpdateMappingInput,
) -> Result<MappingConfiguration, Error> {
    let _changing = core.mappings.changing.lock().await;
    let mapping = find(core, ctx, &input.uuid)?;
    if mapping.is_deleted() {
        let why = "Cannot update the event source mapping because it is in use.";
        return Err(Error::InUse(why.to_owned()));
    }
    let before = mapping.plan().record.clone();
    let mut record = before.clone();
    if let Some(name) = &input.function_name {
        let function = function_ref(name, None)?;
        record.function = function.name;
        record.qualifier = function.qualifier.map(|qualifier| qualifier.to_string());
    }
    record.enabled = input.enabled.unwrap_or(record.enabled);
    record.batch_size = input.batch_size.unwrap_or(record.batch_size);
    record.window_s = input.maximum_batching_window_in_seconds.unwrap_or(record.window_s);
    if input.filter_criteria.is_some() {
        record.filters = patterns(input.filter_criteria);
    }
    if let Some(kinds) = &input.function_response_types {
        record.partial = kinds.iter().any(|kind| kind == BATCH_ITEM_FAILURES);
    }
    if let Some(config) = input.scaling_config {
        record.max_concurrency = config.maximum_concurrency;
    }
    record.modified_ms = core.now().as_millis();
    let plan = Plan::new(record)?;
    check(core, &ctx.place, &plan.record, &plan.function())?;
    let key = keys::mapping_key(&plan.record.place, &plan.record.uuid);
    core.store.commit(Batch::new().put(keys::MAPPINGS, key, keys::encode_mapping(&plan.record))).await?;
    let state = match (before.enabled, plan.record.enabled) {
        (false, true) => "Enabling",
        (true, false) => "Disabling",
        _ => "Updating",
    };
    let mapping = core.mappings.put(core, plan);
    Ok(document(&mapping, Some(state)))
}

pub(crate) async fn delete(core: &Core, ctx: &Ctx, input: &MappingInput) -> Result<MappingConfiguration, Error> {
    let _changing = core.mappings.changing.lock().await;
    let mapping = find(core, ctx, &input.uuid)?;
    let key = keys::mapping_key(&ctx.place, &input.uuid);
    core.store.commit(Batch::new().delete(keys::MAPPINGS, key)).await?;
    let document = document(&mapping, Some("Deleting"));
    core.mappings.remove(&mapping);
    Ok(document)
}

pub(crate) fn get(core: &Core, ctx: &Ctx, input: &MappingInput) -> Result<MappingConfiguration, Error> {
    find(core, ctx, &input.uuid).map(|mapping| document(&mapping, None))
}

pub(crate) fn list(core: &Core, ctx: &Ctx, input: &ListMappingsInput) -> Result<ListMappingsOutput, Error> {
    let function = input.function_name.as_deref().map(|name| function_ref(name, None)).transpose()?;
    let wanted = |record: &MappingRecord| {
        let of_function = function.as_ref().is_none_or(|function| {
            let qualifier = function.qualifier.as_ref().map(ToString::to_string);
            record.function == function.name && record.qualifier == qualifier
        });
        let of_source = input.event_source_arn.as_ref().is_none_or(|arn| *arn == record.source);
        let behind = input.marker.as_ref().is_none_or(|marker| record.uuid > *marker);
        of_function && of_source && behind
    };
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let all = core.mappings.of_place(&ctx.place).into_iter();
    let mut page: Vec<_> = all.filter(|mapping| wanted(&mapping.plan().record)).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    Ok(ListMappingsOutput {
        next_marker: page.last().filter(|_| more).map(|mapping| mapping.plan().record.uuid.clone()),
        event_source_mappings: page.iter().map(|mapping| document(mapping, None)).collect(),
    })
}

/// Refuses what can't work, in the reference's words where it has some.
fn check(core: &Core, place: &Place, record: &MappingRecord, function: &FunctionRef) -> Result<(), Error> {
    let invalid = |why: String| Err(Error::InvalidParameter(why));
    let facts = core.invoker.describe(place, function)?;
    let info = source(core, place, &record.source)?;
    check_batch(record, info.fifo)?;
    check_times(&facts, &info)?;
    if record.filters.len() > FILTERS_MAX {
        return invalid(format!("A mapping has at most {FILTERS_MAX} filters, these are {}", record.filters.len()));
    }
    if record.filters.iter().any(|filter| Pattern::parse(filter).is_err()) {
        return invalid("Invalid filter pattern definition.".to_owned());
    }
    Ok(())
}

fn source(core: &Core, place: &Place, text: &str) -> Result<SourceInfo, Error> {
    let arn: Arn = text.parse().map_err(|e: flint_model::arn::ParseError| Error::InvalidParameter(e.to_string()))?;
    let Some(source) = core.sources.get(arn.service.as_str()) else {
        return Err(Error::NotServed(format!("lambda: EventSourceArn of {}", arn.service)));
    };
    if arn.account != place.account.as_str() || arn.region != place.region.as_str() {
        return Err(Error::InvalidParameter(format!("{text} lies in another account or region")));
    }
    source.describe(&arn).map_err(|fault| {
        let code = &fault.code;
        let why = format!(
            "Error occurred while ReceiveMessage. SQS Error Code: {code}. SQS Error Message: {}",
            fault.message
        );
        Error::InvalidParameter(why)
    })
}

fn check_batch(record: &MappingRecord, fifo: bool) -> Result<(), Error> {
    let why = if fifo && record.window_s > 0 {
        "Batching window is not supported for FIFO queues"
    } else if fifo && record.batch_size > BATCH {
        "Batch size must not exceed 10 for FIFO queues"
    } else if record.batch_size > BATCH && record.window_s == 0 {
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
    } else {
        return Ok(());
    };
    Err(Error::InvalidParameter(why.to_owned()))
}

fn check_times(facts: &FunctionFacts, info: &SourceInfo) -> Result<(), Error> {
    let (visible, timeout) = (info.visibility_timeout.as_secs(), facts.timeout.as_secs());
    if visible >= timeout {
        return Ok(());
    }
    let why = format!("Queue visibility timeout: {visible} seconds is less than Function timeout: {timeout} seconds");
    Err(Error::InvalidParameter(why))
}

fn patterns(criteria: Option<FilterCriteria>) -> Vec<String> {
    let filters = criteria.map(|criteria| criteria.filters).unwrap_or_default();
    filters.into_iter().map(|filter| filter.pattern.unwrap_or_default()).collect()
}

fn find(core: &Core, ctx: &Ctx, uuid: &str) -> Result<Arc<Mapping>, Error> {
    let gone = || Error::NotFound("The resource you requested does not exist.".to_owned());
    core.mappings.get(&ctx.place, uuid).ok_or_else(gone)
}

/// `state`: what is under way, in the answer to the request that began it.
fn document(mapping: &Mapping, state: Option<&'static str>) -> MappingConfiguration {
    let plan = mapping.plan();
    let record = &plan.record;
    let mut function_arn = record.function.arn(&record.place).to_string();
    if let Some(qualifier) = &record.qualifier {
        function_arn.push(':');
        function_arn.push_str(qualifier);
    }
    let filter = |pattern: &String| Filter { pattern: Some(pattern.clone()) };
    MappingConfiguration {
        uuid: record.uuid.clone(),
        batch_size: record.batch_size,
        maximum_batching_window_in_seconds: record.window_s,
        event_source_arn: record.source.clone(),
        filter_criteria: (!record.filters.is_empty())
            .then(|| FilterCriteria { filters: record.filters.iter().map(filter).collect() }),
        scaling_config: record.max_concurrency.map(|n| ScalingConfig { maximum_concurrency: Some(n) }),
        function_arn,
        last_modified: Timestamp::from_millis(record.modified_ms),
        state: state.unwrap_or_else(|| mapping.state()),
        state_transition_reason: "USER_INITIATED",
        function_response_types: if record.partial { vec![BATCH_ITEM_FAILURES] } else { Vec::new() },
        event_source_mapping_arn: Arn::new("lambda", &record.place, format!("event-source-mapping:{}", record.uuid))
            .to_string(),
    }
}
