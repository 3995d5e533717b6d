//! Log groups and their retention.

use std::sync::Arc;

use flint_kit::Ctx;

use crate::api::{
    CreateLogGroup, DeleteLogGroup, DeleteRetentionPolicy, DescribeLogGroups, DescribedLogGroups, LogGroup,
    PutRetentionPolicy,
};
use crate::group::Group;
use crate::observe::Observe;
use crate::queue::Request;
use crate::{Error, names, ops, token};

/// Reference: `DescribeLogGroups`, "limit".
const PAGE_MAX: usize = 50;
const CLASS_STANDARD: &str = "STANDARD";
/// Reference: `PutRetentionPolicy`, "retentionInDays".
const RETENTION_DAYS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

pub async fn create_log_group(observe: &Observe, ctx: &Ctx, input: CreateLogGroup) -> Result<(), Error> {
    names::check_group(&input.log_group_name)?;
    let refuse = |member: &str| Err(Error::NotServed(format!("CreateLogGroup: {member}")));
    if input.kms_key_id.is_some() {
        return refuse("kmsKeyId");
    }
    if input.log_group_class.is_some_and(|class| class != CLASS_STANDARD) {
        return refuse("logGroupClass");
    }
    if input.deletion_protection_enabled == Some(true) {
        return refuse("deletionProtectionEnabled");
    }
    let group = (ctx.place.clone(), input.log_group_name.into());
    let tags = input.tags.unwrap_or_default();
    observe.request(|reply| Request::CreateGroup { group, tags, reply }).await
}

pub async fn delete_log_group(observe: &Observe, ctx: &Ctx, input: DeleteLogGroup) -> Result<(), Error> {
    let group = (ctx.place.clone(), input.log_group_name.into());
    observe.request(|reply| Request::DeleteGroup { group, reply }).await
}

pub async fn put_retention_policy(observe: &Observe, ctx: &Ctx, input: PutRetentionPolicy) -> Result<(), Error> {
    let days = input.retention_in_days;
    let known = RETENTION_DAYS.contains(&days).then(|| u32::try_from(days).ok()).flatten();
    let Some(days) = known else {
        return Err(Error::Invalid(format!("Invalid retention value. Valid values are: {RETENTION_DAYS:?}")));
    };
    set_retention(observe, ctx, input.log_group_name, Some(days)).await
}

pub async fn delete_retention_policy(observe: &Observe, ctx: &Ctx, input: DeleteRetentionPolicy) -> Result<(), Error> {
    set_retention(observe, ctx, input.log_group_name, None).await
}

async fn set_retention(observe: &Observe, ctx: &Ctx, name: String, days: Option<u32>) -> Result<(), Error> {
    let group = (ctx.place.clone(), name.into());
    observe.request(|reply| Request::SetRetention { group, days, reply }).await
}

pub async fn describe_log_groups(
    observe: &Arc<Observe>,
    ctx: &Ctx,
    input: DescribeLogGroups,
) -> Result<DescribedLogGroups, Error> {
    if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
        let text = "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.";
        return Err(Error::Invalid(text.to_owned()));
    }
    if input.include_linked_accounts == Some(true) {
        return Err(Error::NotServed("DescribeLogGroups: includeLinkedAccounts".to_owned()));
    }
    if input.account_identifiers.is_some_and(|accounts| accounts.iter().any(|a| *a != ctx.place.account.as_str())) {
        return Err(Error::NotServed("DescribeLogGroups: accountIdentifiers".to_owned()));
    }
    let limit = ops::limit(input.limit, PAGE_MAX)?;
    let wanted = Wanted {
        prefix: input.log_group_name_prefix,
        pattern: input.log_group_name_pattern,
        names: match input.log_group_identifiers {
            None => None,
            Some(all) => {
                Some(all.iter().map(|i| names::group_of_identifier(&ctx.place, i)).collect::<Result<Vec<_>, _>>()?)
            }
        },
        none: input.log_group_class.is_some_and(|class| class != CLASS_STANDARD),
    };
    let scope = format!("groups {:?} {wanted:?}", ctx.place);
    let after = input.next_token.map(|t| token::text_of(&t, &scope)).transpose()?;
    let place = ctx.place.clone();
    observe
        .read(move |observe| {
            let accept = |name: &str| wanted.accepts(name);
            let mut groups = observe.registry.list(&place, after.as_deref(), limit + 1, &accept);
            let more = groups.len() > limit;
            groups.truncate(limit);
            let log_groups =
                groups.iter().map(|g| describe(g, wanted.pattern.is_some())).collect::<Result<Vec<_>, _>>()?;
            let last = log_groups.last().filter(|_| more);
            let next_token = last.map(|last| token::of_text(&last.log_group_name, &scope));
            Ok(DescribedLogGroups { log_groups, next_token })
        })
        .await
}

/// Which groups are wanted.
#[derive(Debug)]
struct Wanted {
    prefix: Option<String>,
    pattern: Option<String>,
    names: Option<Vec<String>>,
    none: bool,
}

impl Wanted {
    fn accepts(&self, name: &str) -> bool {
        !self.none
            && self.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
            && self.pattern.as_ref().is_none_or(|pattern| name.contains(pattern))
            && self.names.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }
}

/// `brief`: with a `logGroupNamePattern` the reference answers name, time and ARN only.
fn describe(group: &Group, brief: bool) -> Result<LogGroup, Error> {
    let mut state = group.lock();
    let (meta, contents) = state.contents(group)?;
    let arn = names::group_arn(&group.place, &meta.name);
    let described = LogGroup {
        log_group_name: meta.name.to_string(),
        creation_time: meta.created,
        arn: format!("{arn}:*"),
        ..LogGroup::default()
    };
    if brief {
        return Ok(described);
    }
    Ok(LogGroup {
        retention_in_days: meta.retention_days,
        metric_filter_count: Some(0),
        stored_bytes: Some(contents.stored_bytes()),
        log_group_class: Some(CLASS_STANDARD),
        log_group_arn: Some(arn),
        ..described
    })
}
