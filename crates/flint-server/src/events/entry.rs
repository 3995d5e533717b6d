//! How an entry of the journal looks on the wire.

use flint_base::Timestamp;
use flint_model::{Arn, trace};
use flint_store::journal::{Entry, Position};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JournalEntry {
    pub position: String,
    pub event_id: String,
    pub cause_id: Option<String>,
    pub trace_id: String,
    pub depth: i64,
    pub kind: String,
    pub at: Timestamp,
    pub source: Option<String>,
    pub target: Option<String>,
    pub attempt: Option<i64>,
    pub outcome: Option<String>,
    pub code_version: Option<String>,
    pub environment_id: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub billed_ms: Option<i64>,
    pub request_id: Option<String>,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
    pub frame: Option<String>,
    pub payload_bytes: Option<i64>,
    pub answer_bytes: Option<i64>,
    pub replay_of: Option<String>,
}

impl From<&(Position, Entry)> for JournalEntry {
    fn from((position, entry): &(Position, Entry)) -> Self {
        let error = entry.error.as_ref();
        Self {
            position: position.to_string(),
            event_id: entry.lineage.event.to_string(),
            cause_id: entry.lineage.cause.map(|cause| cause.to_string()),
            trace_id: trace::root_text(&entry.lineage.root),
            depth: entry.lineage.depth.into(),
            kind: word(&entry.kind),
            at: entry.at,
            source: entry.source.clone(),
            target: entry.target.clone(),
            attempt: (entry.attempt > 0).then_some(entry.attempt.into()),
            outcome: entry.outcome.as_ref().map(word),
            code_version: entry.code_version.clone(),
            environment_id: entry.environment.clone(),
            started_at: entry.started,
            ended_at: entry.ended,
            billed_ms: entry.billed_ms.map(number),
            request_id: entry.request.map(|id| id.to_string()),
            error_type: error.map(|e| e.kind.clone()),
            error_message: error.map(|e| e.message.clone()),
            frame: error.and_then(|e| e.frame.clone()),
            payload_bytes: entry.payload.map(|p| number(p.len)),
            answer_bytes: entry.answer.map(|p| number(p.len)),
            replay_of: entry.replay_of.map(|id| id.to_string()),
        }
    }
}

/// The word that stands for it at rest.
pub(super) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The function that an ARN names, without its qualifier.
pub(super) fn function_of(arn: &str) -> Option<String> {
    let arn: Arn = arn.parse().ok()?;
    let name = arn.resource.strip_prefix("function:").filter(|_| arn.service == "lambda")?;
    Some(name.split(':').next().unwrap_or(name).to_owned())
}
