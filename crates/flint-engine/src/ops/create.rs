//! `CreateFunction`.

use std::collections::BTreeMap;

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::{CreateFunctionInput, FunctionConfiguration};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Function, Head, Live};
use crate::ops::{function_ref, layers, publish, revision};
use crate::room::Reservation;
use crate::{keys, rules, variables};

/// Makes a function and answers it. The package is checked, stored and unpacked before the function exists.
pub(crate) async fn create_function(
    engine: &Engine,
    ctx: &Ctx,
    input: CreateFunctionInput,
) -> Result<FunctionConfiguration, Error> {
    let named = function_ref(&input.function_name, None)?;
    let exists = || Error::FunctionExists(named.name.to_string());
    if engine.registry.get(&ctx.place, &named.name).is_some() {
        return Err(exists());
    }
    let layers = input.settings.layers.clone().unwrap_or_default();
    let mut config = rules::new_config(input.settings, &engine.options.ceilings)?;
    config.layers = layers::uses(engine, &ctx.place, &layers, &[])?;
    let unavailable = |e: flint_runtime::Unavailable| Error::InvalidParameter(e.to_string());
    engine.catalog.resolve(&config.runtime, engine.options.runtimes).map_err(unavailable)?;
    rules::check_tags(&input.tags)?;
    let no_code = || Error::InvalidParameter("Please provide a source for function code.".to_owned());
    let archive = input.code.zip_file.ok_or_else(no_code)?;
    let (package, code) = engine.code.add(archive.0).await?;
    let function = Function {
        place: ctx.place.clone(),
        name: named.name.clone(),
        version: None,
        config,
        package,
        modified: engine.clock.now(),
        revision: revision(),
    };
    let trees = engine.trees(code, &function).await?;
    let mut head = Head {
        incarnation: revision(),
        tags: input.tags,
        reserved: None,
        recursion_allowed: false,
        next_version: 1,
        data_key: Vec::new(),
    };
    head.data_key = engine.vault.data_key(&variables::owner(&function.arn(), &head));
    let published = (input.publish == Some(true)).then(|| publish::number(&mut head, &function));

    let _control = engine.control.lock().await;
    let mut batch = keys::insert_function(Batch::new(), &*engine.vault, &head, &function)?;
    if let Some(version) = &published {
        batch = keys::put_version(batch, &*engine.vault, &head, version)?;
    }
    match engine.store.commit(batch).await {
        Err(flint_store::CommitError::Conflict { .. }) => return Err(exists()),
        other => other?,
    };
    let answer = published.as_ref().unwrap_or(&function).configuration();
    let versions = published.into_iter().map(|version| (1, engine.runnable_of(version, trees.clone()))).collect();
    let latest = engine.runnable_of(function, trees);
    let reservation = Reservation::new(None);
    engine.swap(Live { head, latest, versions, aliases: BTreeMap::new(), reservation });
    Ok(answer)
}
