//! `DeleteFunction`.

use flint_kit::Ctx;
use flint_model::Qualifier;
use flint_store::Batch;

use crate::api::FunctionInput;
use crate::engine::Engine;
use crate::error::Error;
use crate::function::Live;
use crate::keys;
use crate::ops::function_ref;

/// Removes a function, or one version of it. Calls in flight end as they would; environments go, packages follow.
pub(crate) async fn delete_function(engine: &Engine, ctx: &Ctx, input: FunctionInput) -> Result<(), Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    let _control = engine.control.lock().await;
    let live = engine.registry.find(&ctx.place, &named)?;
    match &named.qualifier {
        None => delete_all(engine, &live).await,
        Some(Qualifier::Version(number)) => delete_version(engine, &live, *number).await,
        Some(Qualifier::Latest) => {
            let why = "$LATEST version cannot be deleted without deleting the function.";
            Err(Error::InvalidParameter(why.to_owned()))
        }
        Some(Qualifier::Alias(_)) => Err(Error::InvalidParameter(
            "Deletion of aliases is not supported by DeleteFunction; use DeleteAlias.".to_owned(),
        )),
    }
}

async fn delete_all(engine: &Engine, live: &Live) -> Result<(), Error> {
    let (place, name) = (live.place(), live.name());
    engine.store.commit(keys::delete_function(Batch::new(), place, name)).await?;
    engine.room.reserve_concurrency(&place.account, live.head.reserved, None);
    engine.retire(engine.registry.remove(place, name), None);
    engine.stats.forget(place, name);
    Ok(())
}

/// Deleting a version that is not there is no error, as in the reference.
async fn delete_version(engine: &Engine, current: &Live, number: u64) -> Result<(), Error> {
    let uses = |(_, alias): &(&String, &crate::function::Alias)| {
        alias.version == Some(number) || alias.weights.contains_key(&number)
    };
    let users: Vec<_> = current.aliases.iter().filter(uses).map(|(name, _)| name.as_str()).collect();
    if !users.is_empty() {
        let why = format!("Version {number} is referenced by alias {}", users.join(", "));
        return Err(Error::InUse(why));
    }
    let mut live = current.clone();
    if live.versions.remove(&number).is_some() {
        engine.store.commit(keys::delete_version(Batch::new(), live.place(), live.name(), number)).await?;
        engine.swap(live);
    }
    Ok(())
}
