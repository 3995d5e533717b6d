//! `Put`, `Update`, `Get`, `Delete` and `ListFunctionEventInvokeConfig(s)`.

use flint_base::Timestamp;
use flint_kit::Ctx;
use flint_model::{FunctionRef, Place};
use flint_store::Batch;

use crate::api::{
    Destination, DestinationConfig, EventInvokeConfigInput, FunctionEventInvokeConfig, FunctionInput,
    ListEventInvokeConfigsInput, ListEventInvokeConfigsOutput,
};
use crate::core::Core;
use crate::error::Error;
use crate::keys::{self, SettingsRecord};
use crate::ops::{check_destination, function_ref};
use crate::settings::LATEST;

/// Items on a page (API reference: `MaxItems`, up to 50).
const PAGE: usize = 50;

/// Sets everything; what the request does not name goes back to its default.
pub(crate) async fn put(
    core: &Core,
    ctx: &Ctx,
    input: EventInvokeConfigInput,
) -> Result<FunctionEventInvokeConfig, Error> {
    let _changing = core.settings.changing.lock().await;
    let (function, qualifier) = find(core, ctx, &input.function_name, input.qualifier.as_deref())?;
    let record = SettingsRecord {
        place: ctx.place.clone(),
        function: function.name,
        qualifier,
        retries: None,
        max_age_s: None,
        on_success: None,
        on_failure: None,
        modified_ms: 0,
    };
    store(core, record, input).await
}

/// Sets what the request names.
pub(crate) async fn update(
    core: &Core,
    ctx: &Ctx,
    input: EventInvokeConfigInput,
) -> Result<FunctionEventInvokeConfig, Error> {
    let _changing = core.settings.changing.lock().await;
    let record = get_record(core, ctx, &input.function_name, input.qualifier.as_deref())?;
    store(core, record, input).await
}

pub(crate) fn get(core: &Core, ctx: &Ctx, input: &FunctionInput) -> Result<FunctionEventInvokeConfig, Error> {
    get_record(core, ctx, &input.function_name, input.qualifier.as_deref()).map(|record| record.document())
}

pub(crate) async fn delete(core: &Core, ctx: &Ctx, input: &FunctionInput) -> Result<(), Error> {
    let _changing = core.settings.changing.lock().await;
    let record = get_record(core, ctx, &input.function_name, input.qualifier.as_deref())?;
    remove(core, &record).await
}

pub(crate) fn list(
    core: &Core,
    ctx: &Ctx,
    input: &ListEventInvokeConfigsInput,
) -> Result<ListEventInvokeConfigsOutput, Error> {
    let (function, _) = find(core, ctx, &input.function_name, None)?;
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let behind = |record: &SettingsRecord| input.marker.as_ref().is_none_or(|marker| record.qualifier > *marker);
    let all = core.settings.of_function(&ctx.place, &function.name);
    let mut page: Vec<_> = all.into_iter().filter(behind).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    Ok(ListEventInvokeConfigsOutput {
        next_marker: page.last().filter(|_| more).map(|record| record.qualifier.clone()),
        function_event_invoke_configs: page.iter().map(SettingsRecord::document).collect(),
    })
}

/// A function, or one qualifier of it, is gone: what was configured for it goes too.
pub(crate) async fn forget(core: &Core, place: &Place, function: &FunctionRef) -> Result<(), Error> {
    let gone = |record: &SettingsRecord| {
        function.qualifier.as_ref().is_none_or(|qualifier| record.qualifier == qualifier.to_string())
    };
    let _changing = core.settings.changing.lock().await;
    for record in core.settings.of_function(place, &function.name).iter().filter(|record| gone(record)) {
        remove(core, record).await?;
    }
    Ok(())
}

/// What belongs to functions that a crash saw go.
pub(crate) async fn sweep(core: &Core) -> Result<(), Error> {
    for record in core.settings.all() {
        if core.invoker.describe(&record.place, &record.function_ref()).is_err() {
            remove(core, &record).await?;
        }
    }
    Ok(())
}

async fn remove(core: &Core, record: &SettingsRecord) -> Result<(), Error> {
    let key = keys::settings_key(&record.place, &record.function, &record.qualifier);
    core.store.commit(Batch::new().delete(keys::SETTINGS, key)).await?;
    core.settings.remove(&record.place, &record.function, &record.qualifier);
    Ok(())
}

async fn store(
    core: &Core,
    mut record: SettingsRecord,
    input: EventInvokeConfigInput,
) -> Result<FunctionEventInvokeConfig, Error> {
    let named = input.maximum_retry_attempts.is_some()
        || input.maximum_event_age_in_seconds.is_some()
        || input.destination_config.is_some();
    if !named {
        let why = "You must specify at least one of error handling or destination setting.";
        return Err(Error::InvalidParameter(why.to_owned()));
    }
    record.retries = input.maximum_retry_attempts.or(record.retries);
    record.max_age_s = input.maximum_event_age_in_seconds.or(record.max_age_s);
    if let Some(config) = input.destination_config {
        record.on_success = destination(core, &record, "OnSuccess", config.on_success, record.on_success.clone())?;
        record.on_failure = destination(core, &record, "OnFailure", config.on_failure, record.on_failure.clone())?;
    }
    record.modified_ms = core.now().as_millis();
    let key = keys::settings_key(&record.place, &record.function, &record.qualifier);
    core.store.commit(Batch::new().put(keys::SETTINGS, key, keys::encode_settings(&record))).await?;
    let document = record.document();
    core.settings.put(record);
    Ok(document)
}

/// The destination that is set after the request; an empty one takes it away.
fn destination(
    core: &Core,
    record: &SettingsRecord,
    member: &str,
    wanted: Option<Destination>,
    present: Option<String>,
) -> Result<Option<String>, Error> {
    let Some(wanted) = wanted else { return Ok(present) };
    let Some(arn) = wanted.destination.filter(|arn| !arn.is_empty()) else { return Ok(None) };
    if arn == record.function.arn(&record.place).to_string() {
        let why = "You can't specify the function as a destination for itself.";
        return Err(Error::InvalidParameter(why.to_owned()));
    }
    check_destination(core, &record.place, &format!("DestinationConfig.{member}.Destination"), &arn)?;
    Ok(Some(arn))
}

fn get_record(core: &Core, ctx: &Ctx, name: &str, qualifier: Option<&str>) -> Result<SettingsRecord, Error> {
    let (function, qualifier) = find(core, ctx, name, qualifier)?;
    core.settings.get(&ctx.place, &function.name, &qualifier).ok_or_else(|| {
        let arn = function.name.arn(&ctx.place);
        Error::NotFound(format!("The function {arn}:{qualifier} doesn't have an EventInvokeConfig"))
    })
}

/// The function, which exists, and the qualifier that its settings are kept under.
fn find(core: &Core, ctx: &Ctx, name: &str, qualifier: Option<&str>) -> Result<(FunctionRef, String), Error> {
    let function = function_ref(name, qualifier)?;
    core.invoker.describe(&ctx.place, &function)?;
    let qualifier = function.qualifier.as_ref().map_or_else(|| LATEST.to_owned(), ToString::to_string);
    Ok((function, qualifier))
}

impl SettingsRecord {
    fn function_ref(&self) -> FunctionRef {
        let qualifier = self.qualifier.parse().ok();
        FunctionRef { name: self.function.clone(), qualifier, region: None, account: None }
    }

    fn document(&self) -> FunctionEventInvokeConfig {
        let destination = |arn: &Option<String>| Some(Destination { destination: arn.clone() });
        FunctionEventInvokeConfig {
            last_modified: Timestamp::from_millis(self.modified_ms),
            function_arn: format!("{}:{}", self.function.arn(&self.place), self.qualifier),
            maximum_retry_attempts: self.retries,
            maximum_event_age_in_seconds: self.max_age_s,
            destination_config: DestinationConfig {
                on_success: destination(&self.on_success),
                on_failure: destination(&self.on_failure),
            },
        }
    }
}
