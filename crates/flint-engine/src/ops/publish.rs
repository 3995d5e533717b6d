//! `PublishVersion` and `ListVersionsByFunction`.

use std::sync::Arc;

use flint_kit::Ctx;
use flint_store::Batch;

use crate::api::{FunctionConfiguration, ListOfFunctionInput, ListVersionsOutput, PublishVersionInput};
use crate::engine::Engine;
use crate::error::Error;
use crate::function::{Function, Head, Live, Runnable};
use crate::keys;
use crate::ops::{PAGE, check_revision, function_ref, revision};

/// What publishing gives.
pub(crate) enum Next {
    /// Nothing changed since this version was published.
    Same(Arc<Runnable>),
    New(Box<Function>),
}

/// The version that publishing `latest` gives; takes the number if it is a new one.
pub(crate) fn next(live: &mut Live, latest: &Function) -> Option<Next> {
    if let Some((_, last)) = live.versions.last_key_value()
        && latest.same_as(&last.function)
    {
        return Some(Next::Same(last.clone()));
    }
    Some(Next::New(Box::new(number(&mut live.head, latest))))
}

/// `latest` under the next number.
pub(crate) fn number(head: &mut Head, latest: &Function) -> Function {
    let version = head.next_version;
    head.next_version += 1;
    Function { version: Some(version), revision: revision(), ..latest.clone() }
}

/// Makes a version of `$LATEST` as it is; answers the last one if nothing changed since.
pub(crate) async fn publish_version(
    engine: &Engine,
    ctx: &Ctx,
    input: PublishVersionInput,
) -> Result<FunctionConfiguration, Error> {
    let named = function_ref(&input.function_name, None)?;
    let _control = engine.control.lock().await;
    let current = engine.registry.find(&ctx.place, &named)?;
    let mut latest = current.latest.function.clone();
    check_revision(input.revision_id.as_deref(), &latest.revision)?;
    let sha256 = crate::code::base64_of_hex(&latest.package.sha256);
    if input.code_sha256.is_some_and(|wanted| wanted != sha256) {
        let why = format!(
            "CodeSHA256 ({sha256}) is different from current CodeSHA256 in $LATEST. Please try again with the CodeSHA256 in $LATEST."
        );
        return Err(Error::InvalidParameter(why));
    }
    if let Some(description) = input.description {
        latest.config.description = description;
    }
    let mut live = Live::clone(&current);
    let version = match next(&mut live, &latest) {
        Some(Next::New(version)) => *version,
        Some(Next::Same(version)) => return Ok(version.function.configuration()),
        None => return Err(Error::FunctionNotFound(current.arn())),
    };
    let batch = keys::put_function(Batch::new(), &*engine.vault, &live.head, &live.latest.function)?;
    let batch = keys::put_version(batch, &*engine.vault, &live.head, &version)?;
    engine.store.commit(batch).await?;
    let answer = version.configuration();
    let published = engine.runnable(version).await?;
    live.versions.insert(published.function.version.unwrap_or(0), published);
    engine.swap(live);
    Ok(answer)
}

/// `$LATEST` first, then the versions by number.
pub(crate) fn list_versions(
    engine: &Engine,
    ctx: &Ctx,
    input: &ListOfFunctionInput,
) -> Result<ListVersionsOutput, Error> {
    let live = engine.registry.find(&ctx.place, &function_ref(&input.function_name, None)?)?;
    let bad_marker = |_| Error::InvalidParameter("Marker is not one that ListVersionsByFunction gave".to_owned());
    // Position in the list: 0 is $LATEST, then numbers.
    let after: Option<u64> = input.marker.as_deref().map(str::parse).transpose().map_err(bad_marker)?;
    let limit = input.max_items.unwrap_or(PAGE).clamp(1, PAGE);
    let rest = live.runnables().filter(|r| after.is_none_or(|after| r.function.version.unwrap_or(0) > after));
    let mut page: Vec<_> = rest.take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next_marker = page.last().filter(|_| more).map(|r| r.function.version.unwrap_or(0).to_string());
    let qualified = |r: &&Arc<Runnable>| {
        let mut configuration = r.function.configuration();
        if r.function.version.is_none() {
            configuration.function_arn.push_str(":$LATEST");
        }
        configuration
    };
    Ok(ListVersionsOutput { versions: page.iter().map(qualified).collect(), next_marker })
}
