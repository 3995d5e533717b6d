//! `CreateFunction`.

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::{CreateFunctionInput, FunctionConfiguration};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::Function;
use crate::ops::{function_ref, revision};
use crate::{keys, rules};

/// Makes a function and answers it. The package is checked, stored and unpacked before the function exists.
pub(crate) async fn create_function(
    engine: &Engine,
    ctx: &Ctx,
    input: CreateFunctionInput,
) -> Result<FunctionConfiguration, Error> {
    if input.publish == Some(true) {
        return Err(Error::NotServed("lambda.CreateFunction: Publish".to_owned()));
    }
    let named = function_ref(&input.function_name, None)?;
    let exists = || Error::FunctionExists(named.name.to_string());
    if engine.registry.get(&ctx.place, &named.name).is_some() {
        return Err(exists());
    }
    let config = rules::new_config(input.settings)?;
    let unavailable = |e: flint_runtime::Unavailable| Error::InvalidParameter(e.to_string());
    engine.catalog.resolve(&config.runtime, engine.options.runtimes).map_err(unavailable)?;
    let no_code = || Error::InvalidParameter("Please provide a source for function code.".to_owned());
    let archive = input.code.zip_file.ok_or_else(no_code)?;
    let (package, code) = engine.code.add(archive.0).await?;
    let function = Function {
        place: ctx.place.clone(),
        name: named.name.clone(),
        config,
        package,
        tags: input.tags,
        modified: engine.clock.now(),
        revision: revision(),
        incarnation: revision(),
    };

    let _control = engine.control.lock().await;
    let key = keys::key(&function.place, &function.name);
    let batch = Batch::new().insert(keys::FUNCTIONS, key, keys::encode(&function));
    match engine.store.commit(batch).await {
        Err(flint_store::CommitError::Conflict { .. }) => return Err(exists()),
        other => other?,
    };
    let answer = function.configuration();
    engine.show(function, code);
    Ok(answer)
}
