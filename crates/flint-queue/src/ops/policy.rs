//! `AddPermission` and `RemovePermission`: statements of the queue's policy.
//!
//! Differs: policies are kept and answered; they are not evaluated yet, since only the account itself can call.

use flint_kit::Ctx;
use serde_json::{Value, json};

use crate::Error;
use crate::api;
use crate::ops::queues;
use crate::queues::Queues;

const MAX_STATEMENTS: usize = 20;
const MAX_ACTIONS: usize = 7;
/// What can be allowed to others (SQS Developer Guide, "Limitations of custom policies").
const ACTIONS: &[&str] = &[
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];

/// `AddPermission`
pub async fn add_permission(all: &Queues, ctx: &Ctx, input: &api::AddPermission) -> Result<(), Error> {
    let api::AddPermission { queue_url, label, accounts, actions } = input;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !(1..=80).contains(&label.len()) || !label.bytes().all(legal) {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.";
        return Err(Error::value(label, "Label", reason));
    }
    if accounts.is_empty() || actions.is_empty() {
        return Err(Error::Missing(if actions.is_empty() { "Actions" } else { "AWSAccountIds" }));
    }
    if let Some(bad) = accounts.iter().find(|id| id.parse::<flint_model::AccountId>().is_err()) {
        return Err(Error::value(bad, "PrincipalId", "Unable to verify."));
    }
    if let Some(bad) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
        return Err(Error::value(
            format_args!("SQS:{bad}"),
            "ActionName",
            "Only the queue owner is allowed to invoke this action.",
        ));
    }
    if actions.len() > MAX_ACTIONS {
        return Err(Error::OverLimit("At most 7 actions can be allowed by one statement."));
    }
    let _admin = all.admin.lock().await;
    let queue = all.at(ctx, queue_url)?;
    let mut settings = (*queue.settings()).clone();
    let mut policy = document(settings.policy.as_deref(), &queue.arn);
    let statements = statements(&mut policy);
    if statements.iter().any(|s| s["Sid"] == label.as_str()) {
        return Err(Error::value(label, "Label", "Already exists."));
    }
    if statements.len() >= MAX_STATEMENTS {
        return Err(Error::OverLimit("At most 20 statements fit a queue's policy."));
    }
    let principals: Vec<String> = accounts.iter().map(|id| format!("arn:aws:iam::{id}:root")).collect();
    let actions: Vec<String> = actions.iter().map(|action| format!("SQS:{action}")).collect();
    statements.push(json!({
        "Sid": label,
        "Effect": "Allow",
        "Principal": { "AWS": one_or_many(principals) },
        "Action": one_or_many(actions),
        "Resource": queue.arn,
    }));
    settings.policy = Some(policy.to_string());
    queues::store(all, &queue, settings).await
}

/// `RemovePermission`
pub async fn remove_permission(all: &Queues, ctx: &Ctx, input: &api::RemovePermission) -> Result<(), Error> {
    let _admin = all.admin.lock().await;
    let queue = all.at(ctx, &input.queue_url)?;
    let mut settings = (*queue.settings()).clone();
    let mut policy = document(settings.policy.as_deref(), &queue.arn);
    let statements = statements(&mut policy);
    let before = statements.len();
    statements.retain(|s| s["Sid"] != input.label.as_str());
    if statements.len() == before {
        return Err(Error::value(&input.label, "Label", "can't find label on existing policy."));
    }
    settings.policy = (!statements.is_empty()).then(|| policy.to_string());
    queues::store(all, &queue, settings).await
}

fn document(policy: Option<&str>, arn: &str) -> Value {
    let known = policy.and_then(|text| serde_json::from_str(text).ok());
    known
        .unwrap_or_else(|| json!({ "Version": "2008-10-17", "Id": format!("{arn}/SQSDefaultPolicy"), "Statement": [] }))
}

/// The policy's statements as a list; a single one may stand there by itself.
fn statements(policy: &mut Value) -> &mut Vec<Value> {
    let held = &mut policy["Statement"];
    if !held.is_array() {
        *held = if held.is_null() { json!([]) } else { json!([held.take()]) };
    }
    held.as_array_mut().expect("it was made a list a line ago")
}

fn one_or_many(mut texts: Vec<String>) -> Value {
    if texts.len() == 1 { Value::from(texts.remove(0)) } else { Value::from(texts) }
}
