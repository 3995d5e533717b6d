//! Tags of queues.

use std::collections::BTreeMap;

use flint_kit::Ctx;

use crate::Error;
use crate::api;
use crate::ops::queues;
use crate::queues::Queues;

const MAX_TAGS: usize = 50;

/// Errors: `InvalidParameterValue` for what breaks the rules of tags.
pub fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::Invalid(format!("Too many tags added for queue: at most {MAX_TAGS}.")));
    }
    for (key, value) in tags {
        let key_len = key.chars().count();
        if !(1..=128).contains(&key_len) || key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Error::Invalid(format!(
                "Tag key {key:?} must have 1 to 128 characters and not start with aws:."
            )));
        }
        if value.chars().count() > 256 {
            return Err(Error::Invalid(format!("The value of tag {key:?} must have at most 256 characters.")));
        }
    }
    Ok(())
}

/// `TagQueue`
pub async fn tag_queue(all: &Queues, ctx: &Ctx, input: api::TagQueue) -> Result<(), Error> {
    let _admin = all.admin.lock().await;
    let queue = all.at(ctx, &input.queue_url)?;
    let mut settings = (*queue.settings()).clone();
    settings.tags.extend(input.tags);
    check(&settings.tags)?;
    queues::store(all, &queue, settings).await
}

/// `UntagQueue`
pub async fn untag_queue(all: &Queues, ctx: &Ctx, input: &api::UntagQueue) -> Result<(), Error> {
    let _admin = all.admin.lock().await;
    let queue = all.at(ctx, &input.queue_url)?;
    let mut settings = (*queue.settings()).clone();
    settings.tags.retain(|key, _| !input.tag_keys.contains(key));
    queues::store(all, &queue, settings).await
}
