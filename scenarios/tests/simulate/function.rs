//! The engine, played: functions that take their time, fail, and are throttled by chance.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::Clock;
use flint_kit::{Body, Ctx, Fault, FunctionFacts, Invocation, Invoker, Outcome};
use flint_model::{FunctionRef, Place};
use serde_json::{Value, json};

use crate::events::arn;
use crate::outside::Outside;
use crate::sim::{Sim, lock};

pub struct Functions {
    sim: Arc<Sim>,
    clock: Arc<dyn Clock>,
    outside: Arc<Mutex<Outside>>,
}

impl Functions {
    pub fn new(sim: Arc<Sim>, clock: Arc<dyn Clock>, outside: Arc<Mutex<Outside>>) -> Self {
        Self { sim, clock, outside }
    }

    /// A batch: what failed, and in a FIFO queue all of its group behind it.
    fn batch(&self, records: &[Value]) -> Value {
        let mut failed = Vec::new();
        let mut stopped: Vec<String> = Vec::new();
        for record in records {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (id, message) = (text(&record["body"]), text(&record["messageId"]));
            let group = text(&record["attributes"]["MessageGroupId"]);
            let is_done = !stopped.contains(&group) && lock(&self.outside).work(&id, Some(&message));
            self.sim.say(format_args!("worked on {id} ({message}): {is_done}"));
            if !is_done {
                failed.push(json!({ "itemIdentifier": message }));
                if !group.is_empty() {
                    stopped.push(group);
                }
            }
        }
        json!({ "batchItemFailures": failed })
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions")
    }
}

#[async_trait]
impl Invoker for Functions {
    async fn invoke(&self, _: &Ctx, invocation: Invocation) -> Result<Outcome, Fault> {
        match self.sim.below(40) {
            0 => return Err(Fault::throttle("TooManyRequestsException", "Rate Exceeded.")),
            1 => return Err(Fault::server(500, "ServiceException", "internal error")),
            _ => {}
        }
        let span = if self.sim.chance(10) { self.sim.ms(500, 2_500) } else { self.sim.ms(0, 60) };
        let (before, after) = (span.mul_f64(0.7), span.mul_f64(0.3));
        tokio::time::sleep(before).await;
        self.clock.now();
        let event: Value = serde_json::from_slice(&invocation.payload).unwrap_or_default();
        let (payload, function_error) = match &event {
            Value::String(id) => {
                let is_done = lock(&self.outside).work(id, None);
                self.sim.say(format_args!("worked on {id}: {is_done}"));
                (json!({}), (!is_done).then_some("Unhandled"))
            }
            _ => (self.batch(event["Records"].as_array().map_or(&[], Vec::as_slice)), None),
        };
        // The work is done; the answer is on its way. A crash in between is what duplicates are made of.
        tokio::time::sleep(after).await;
        Ok(Outcome {
            status: 200,
            payload: Body::Whole(Bytes::from(payload.to_string())),
            function_error,
            executed_version: "$LATEST".into(),
            tail: None,
            billed_ms: 1,
        })
    }

    fn describe(&self, _: &Place, function: &FunctionRef) -> Result<FunctionFacts, Fault> {
        Ok(FunctionFacts {
            arn: arn("lambda", &format!("function:{}", function.name)),
            version: "$LATEST".into(),
            timeout: Duration::from_secs(5),
            dead_letter: Some(arn("sqs", "dead")),
            recursion_allowed: true,
            reserved_concurrency: None,
        })
    }
}
