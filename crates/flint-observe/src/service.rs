//! The `logs` service: its table of operations and the way to each.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};

use crate::observe::Observe;
use crate::{names, ops};

/// CloudWatch Logs.
#[derive(Debug)]
pub struct Logs {
    observe: Arc<Observe>,
}

impl Logs {
    pub fn new(observe: Arc<Observe>) -> Self {
        Self { observe }
    }
}

macro_rules! operation {
    ($name:literal, $resource:ident) => {
        OperationSpec { name: $name, action: concat!("logs:", $name), resource: $resource }
    };
}

/// Resources as in the Service Authorization Reference, "Actions, resources, and condition keys for Amazon CloudWatch
/// Logs".
static OPERATIONS: &[OperationSpec] = &[
    operation!("CreateLogGroup", group),
    operation!("DeleteLogGroup", group),
    operation!("DescribeLogGroups", any_group),
    operation!("PutRetentionPolicy", group),
    operation!("DeleteRetentionPolicy", group),
    operation!("CreateLogStream", group),
    operation!("DeleteLogStream", stream),
    operation!("DescribeLogStreams", group),
    operation!("PutLogEvents", stream),
    operation!("GetLogEvents", stream),
    operation!("FilterLogEvents", group),
];

fn group(ctx: &Ctx, input: &Doc) -> String {
    match (input.text_of("logGroupName"), input.text_of("logGroupIdentifier")) {
        (None, Some(arn)) if arn.starts_with("arn:") => arn.to_owned(),
        (Some(name), _) | (None, Some(name)) => names::group_arn(&ctx.place, name),
        (None, None) => any_group(ctx, input),
    }
}

fn stream(ctx: &Ctx, input: &Doc) -> String {
    let stream = input.text_of("logStreamName").unwrap_or("*");
    format!("{}:log-stream:{stream}", group(ctx, input))
}

fn any_group(ctx: &Ctx, _input: &Doc) -> String {
    names::group_arn(&ctx.place, "*")
}

#[async_trait]
impl Service for Logs {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, ctx: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        let observe = &self.observe;
        match operation {
            "CreateLogGroup" => ops::groups::create_log_group(observe, ctx, input.parse()?).await?,
            "DeleteLogGroup" => ops::groups::delete_log_group(observe, ctx, input.parse()?).await?,
            "DescribeLogGroups" => {
                return Output::render(&ops::groups::describe_log_groups(observe, ctx, input.parse()?).await?);
            }
            "PutRetentionPolicy" => ops::groups::put_retention_policy(observe, ctx, input.parse()?).await?,
            "DeleteRetentionPolicy" => ops::groups::delete_retention_policy(observe, ctx, input.parse()?).await?,
            "CreateLogStream" => ops::streams::create_log_stream(observe, ctx, input.parse()?).await?,
            "DeleteLogStream" => ops::streams::delete_log_stream(observe, ctx, input.parse()?).await?,
            "DescribeLogStreams" => {
                return Output::render(&ops::streams::describe_log_streams(observe, ctx, input.parse()?).await?);
            }
            "PutLogEvents" => {
                return Output::render(&ops::put::put_log_events(observe, ctx, input.parse()?).await?);
            }
            "GetLogEvents" => {
                return Output::render(&ops::events::get_log_events(observe, ctx, input.parse()?).await?);
            }
            "FilterLogEvents" => {
                return Output::render(&ops::events::filter_log_events(observe, ctx, input.parse()?).await?);
            }
            other => return Err(Fault::not_served(format_args!("logs.{other}"))),
        }
        Ok(Output::empty())
    }
}
