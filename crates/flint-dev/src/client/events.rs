//! Flint's own service, `flint`: what happened to events, and what to do about those that failed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Client;
use crate::Error;

/// One thing that happened to an event: an entry of the journal. Times are seconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JournalEntry {
    pub position: String,
    pub event_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_id: Option<String>,
    pub trace_id: String,
    pub depth: u32,
    pub kind: String,
    pub at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
}

/// Which entries. Times are seconds since the epoch.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<f64>,
    /// Those that are newer than this position, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A page of entries: newest first, or oldest first behind a position.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventPage {
    pub entries: Vec<JournalEntry>,
    pub next_token: Option<String>,
    pub newest: Option<String>,
}

/// A chain of events: causes before what they brought about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Chain {
    /// The one that was asked for.
    pub event_id: String,
    pub trace_id: String,
    pub events: Vec<ChainEvent>,
    pub complete: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChainEvent {
    pub event_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_id: Option<String>,
    pub depth: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    pub entries: Vec<JournalEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// It failed, and waits for a person.
    pub waiting: bool,
}

/// Failures of one cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FailureGroup {
    pub group_id: String,
    pub signature: String,
    pub error_type: String,
    pub error_message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    pub count: u64,
    pub first_seen_at: f64,
    pub last_seen_at: f64,
    pub sources: BTreeSet<String>,
    pub functions: BTreeSet<String>,
    pub event_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FailureList {
    pub groups: Vec<FailureGroup>,
    pub count: u64,
}

/// A group with some of what is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GroupView {
    pub group: FailureGroup,
    pub failures: Vec<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Failure {
    pub event_id: String,
    pub trace_id: String,
    pub kind: String,
    pub at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    pub error_type: String,
    pub error_message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// Which failures: a group, one event, or all of them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Chosen {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Redrive {
    pub task_id: String,
    /// `Running`, `Done` or `Stopped`.
    pub status: String,
    pub count: u64,
    pub done: u64,
    pub skipped: u64,
    pub failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub started_at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Dropped {
    pub dropped: u64,
    pub skipped: u64,
}

/// What a replay answered, and what the event was answered before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replay {
    pub event_id: String,
    pub replay_id: String,
    pub function_name: String,
    pub executed_version: String,
    pub payload: String,
    pub answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_error: Option<String>,
    pub log: String,
    pub billed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_at: Option<f64>,
    /// Not there where nothing is known of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventId<'a> {
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskId<'a> {
    task_id: &'a str,
}

impl Client {
    /// `ListEvents`.
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, Error> {
        self.json("flint", "Flint.ListEvents", query).await
    }

    /// `GetEvent`: by the id, the beginning of it, or a trace id.
    pub async fn event(&self, id: &str) -> Result<Chain, Error> {
        self.json("flint", "Flint.GetEvent", &EventId { event_id: id, version: None }).await
    }

    /// `ListFailures`.
    pub async fn failures(&self, function: Option<&str>, source: Option<&str>) -> Result<FailureList, Error> {
        let query = EventQuery {
            function_name: function.map(str::to_owned),
            source: source.map(str::to_owned),
            ..EventQuery::default()
        };
        self.json("flint", "Flint.ListFailures", &query).await
    }

    /// `GetFailureGroup`.
    pub async fn failure_group(&self, id: &str, max: u32) -> Result<GroupView, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input<'a> {
            group_id: &'a str,
            max_items: u32,
        }
        self.json("flint", "Flint.GetFailureGroup", &Input { group_id: id, max_items: max }).await
    }

    /// `RedriveFailures`: the task's id, and how many events it has.
    pub async fn redrive(&self, chosen: &Chosen) -> Result<Redrive, Error> {
        self.json("flint", "Flint.RedriveFailures", chosen).await
    }

    /// `GetRedrive`.
    pub async fn redrive_state(&self, task: &str) -> Result<Redrive, Error> {
        self.json("flint", "Flint.GetRedrive", &TaskId { task_id: task }).await
    }

    /// `StopRedrive`.
    pub async fn stop_redrive(&self, task: &str) -> Result<Redrive, Error> {
        self.json("flint", "Flint.StopRedrive", &TaskId { task_id: task }).await
    }

    /// `DropFailures`.
    pub async fn drop_failures(&self, chosen: &Chosen) -> Result<Dropped, Error> {
        self.json("flint", "Flint.DropFailures", chosen).await
    }

    /// `ReplayEvent`; waits for the answer.
    pub async fn replay(&self, id: &str, version: Option<&str>) -> Result<Replay, Error> {
        self.json("flint", "Flint.ReplayEvent", &EventId { event_id: id, version }).await
    }
}
