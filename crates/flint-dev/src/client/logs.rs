//! The CloudWatch Logs operations that the command line asks.

use std::collections::{HashSet, VecDeque};

use flint_base::Timestamp;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::Error;

/// One line of a log group. The wire's member names are kept for `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEvent {
    pub event_id: String,
    pub log_stream_name: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    #[serde(default)]
    pub ingestion_time: i64,
    pub message: String,
}

/// Which lines: of which group, from when on, matching which filter pattern.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub group: String,
    pub since: Option<Timestamp>,
    pub pattern: Option<String>,
}

/// Follows a log group by polling, as the reference's own tools do, and yields each event once.
///
/// An event may arrive late with an earlier timestamp, so each poll looks [`LogFollower::OVERLAP_MS`] back and events
/// already seen are known by their id.
#[derive(Debug)]
pub struct LogFollower {
    query: LogQuery,
    newest: Option<i64>,
    seen: HashSet<String>,
    /// The same ids in order of age; the oldest are forgotten beyond [`LogFollower::SEEN_MAX`].
    order: VecDeque<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FilterInput<'a> {
    log_group_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_pattern: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterOutput {
    #[serde(default)]
    events: Vec<LogEvent>,
    next_token: Option<String>,
}

/// The log group of a function; a name that starts with `/` already is one.
pub fn group_of(function: &str) -> String {
    if function.starts_with('/') {
        return function.to_owned();
    }
    let name = function.parse::<flint_model::function::FunctionRef>().map(|f| f.name.to_string());
    format!("/aws/lambda/{}", name.unwrap_or_else(|_| function.to_owned()))
}

impl Client {
    /// One page of `FilterLogEvents`, and the token of the next.
    async fn log_page(
        &self,
        query: &LogQuery,
        token: Option<String>,
    ) -> Result<(Vec<LogEvent>, Option<String>), Error> {
        let input = FilterInput {
            log_group_name: &query.group,
            start_time: query.since.map(Timestamp::as_millis),
            filter_pattern: query.pattern.as_deref(),
            next_token: token,
        };
        let output: FilterOutput = self.json("logs", "Logs_20140328.FilterLogEvents", &input).await?;
        Ok((output.events, output.next_token))
    }

    /// Gives every event that matches to `each`, page by page, oldest first.
    pub async fn log_events(&self, query: &LogQuery, mut each: impl FnMut(LogEvent)) -> Result<(), Error> {
        let mut token = None;
        loop {
            let (events, next) = self.log_page(query, token).await?;
            events.into_iter().for_each(&mut each);
            match next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// `DeleteLogGroup`; whether there was one.
    pub async fn delete_log_group(&self, group: &str) -> Result<bool, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Input<'a> {
            log_group_name: &'a str,
        }
        let done: Result<serde_json::Value, Error> =
            self.json("logs", "Logs_20140328.DeleteLogGroup", &Input { log_group_name: group }).await;
        match done {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl LogFollower {
    /// How far behind the newest event a late one is still found.
    pub const OVERLAP_MS: i64 = 10_000;
    /// How many ids are remembered.
    pub const SEEN_MAX: usize = 100_000;

    pub fn new(query: LogQuery) -> Self {
        Self { query, newest: None, seen: HashSet::new(), order: VecDeque::new() }
    }

    /// Gives what is new since the last poll to `each`. A group that does not exist yet has no events.
    pub async fn poll(&mut self, client: &Client, mut each: impl FnMut(LogEvent)) -> Result<(), Error> {
        let mut query = self.query.clone();
        if let Some(newest) = self.newest {
            let floor = self.query.since.map_or(0, Timestamp::as_millis);
            query.since = Some(Timestamp::from_millis((newest - Self::OVERLAP_MS).max(floor)));
        }
        let mut found = Vec::new();
        match client.log_events(&query, |event| found.push(event)).await {
            Ok(()) => {}
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        }
        found.into_iter().filter_map(|event| self.fresh(event)).for_each(&mut each);
        Ok(())
    }

    fn fresh(&mut self, event: LogEvent) -> Option<LogEvent> {
        if !self.seen.insert(event.event_id.clone()) {
            return None;
        }
        self.order.push_back(event.event_id.clone());
        if self.order.len() > Self::SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.newest = Some(self.newest.map_or(event.timestamp, |n| n.max(event.timestamp)));
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_group() {
        assert_eq!(group_of("thumb"), "/aws/lambda/thumb");
        assert_eq!(group_of("arn:aws:lambda:us-east-1:000000000000:function:thumb:1"), "/aws/lambda/thumb");
        assert_eq!(group_of("/my/group"), "/my/group");
    }

    #[test]
    fn an_event_is_given_once_and_late_ones_are_not_lost() {
        let event = |id: &str, timestamp| LogEvent {
            event_id: id.into(),
            log_stream_name: "s".into(),
            timestamp,
            ingestion_time: 0,
            message: String::new(),
        };
        let mut f = LogFollower::new(LogQuery { group: "g".into(), since: None, pattern: None });
        assert!(f.fresh(event("a", 5)).is_some());
        assert!(f.fresh(event("a", 5)).is_none());
        assert!(f.fresh(event("b", 3)).is_some());
        assert_eq!(f.newest, Some(5));
    }
}
