//! The `events` service.

use std::sync::Arc;

use async_trait::async_trait;
use flint_kit::{Ctx, Doc, Fault, Input, OperationSpec, Output, Service};
use flint_model::pattern::{Json, Pattern};
use serde::{Deserialize, Serialize};

/// What an event has to have (API reference, `TestEventPattern`: `Event`).
const MANDATORY: [&str; 7] = ["id", "account", "source", "time", "region", "resources", "detail-type"];

/// The `events` service.
pub fn service() -> Arc<dyn Service> {
    Arc::new(Bus)
}

#[derive(Debug)]
struct Bus;

static OPERATIONS: &[OperationSpec] = &[OperationSpec {
    name: "TestEventPattern",
    action: "events:TestEventPattern",
    resource: |_: &Ctx, _: &Doc| "*".to_owned(),
}];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TestEventPatternInput {
    event_pattern: String,
    event: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TestEventPatternOutput {
    result: bool,
}

#[async_trait]
impl Service for Bus {
    fn name(&self) -> &'static str {
        "events"
    }

    fn operations(&self) -> &'static [OperationSpec] {
        OPERATIONS
    }

    async fn call(&self, _: &Ctx, operation: &str, mut input: Input) -> Result<Output, Fault> {
        match operation {
            "TestEventPattern" => Output::render(&test_event_pattern(&input.parse()?)?),
            other => Err(Fault::not_served(format_args!("events.{other}"))),
        }
    }
}

fn test_event_pattern(input: &TestEventPatternInput) -> Result<TestEventPatternOutput, Fault> {
    let pattern = Pattern::parse(&input.event_pattern).map_err(|why| {
        let message = format!("Event pattern is not valid. Reason: {why}");
        Fault::client(400, "InvalidEventPatternException", message)
    })?;
    let event = event(&input.event)?;
    Ok(TestEventPatternOutput { result: pattern.matches(&event) })
}

fn event(text: &str) -> Result<Json, Fault> {
    let refused = |why: String| {
        let message = format!("Parameter Event is not valid. Reason: {why}");
        Fault::client(400, "ValidationException", message)
    };
    let event = Json::parse(text.as_bytes()).map_err(|why| refused(why.to_string()))?;
    if !matches!(event, Json::Object(_)) {
        return Err(refused("Event is not an object".to_owned()));
    }
    match MANDATORY.iter().find(|name| event.get(name).is_none()) {
        Some(missing) => Err(refused(format!("Event has no \"{missing}\""))),
        None => Ok(event),
    }
}
