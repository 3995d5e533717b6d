//! `DeleteFunction`.

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::FunctionInput;
use crate::engine::Engine;
use crate::error::Error;
use crate::keys;
use crate::ops::function_ref;

/// Removes a function. Calls in flight end as they would; its environments go, its package follows.
pub(crate) async fn delete_function(engine: &Engine, ctx: &Ctx, input: FunctionInput) -> Result<(), Error> {
    let named = function_ref(&input.function_name, input.qualifier.as_deref())?;
    if named.qualifier.is_some() {
        // `$LATEST` can't be deleted on its own, and no other version exists yet.
        engine.registry.find(&ctx.place, &named)?;
        let why = "$LATEST version cannot be deleted without deleting the function.";
        return Err(Error::InvalidParameter(why.to_owned()));
    }
    let _control = engine.control.lock().await;
    let live = engine.registry.find(&ctx.place, &named)?;
    let function = &live.function;
    engine.store.commit(Batch::new().delete(keys::FUNCTIONS, keys::key(&function.place, &function.name))).await?;
    engine.retire(engine.registry.remove(&function.place, &function.name));
    Ok(())
}
