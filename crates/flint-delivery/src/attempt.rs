//! One attempt to run a function for an event that nobody waits for: run, decide, commit, go on.

use std::sync::Arc;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::{Body, Fault, FaultKind, Invocation, InvokeMode};
use flint_model::{FunctionRef, Place, trace};
use flint_store::{Batch, CommitError, journal};

use crate::core::{COMMIT_AGAIN, Core};
use crate::documents::{Answer, Report, dead_letter_attributes, error_message, for_queue};
use crate::due::Due;
use crate::error::Error;
use crate::keys::{self, EventRecord, OutboxRecord, Purpose};
use crate::lanes::{Lane, payload_ref};
use crate::outbox::Posted;
use crate::policy::{self, Condition, Ended, Policy, Tries, Verdict};
use crate::settings::LATEST;

/// How the engine refuses a chain that went through the function too often.
pub(crate) const RECURSIVE: &str = "RecursiveInvocationException";

/// Bytes of an answer that are kept; the engine bounds answers at 6 MB.
pub(crate) const ANSWER_MAX: usize = 16 << 20;

/// How an attempt ended, and what was answered.
#[derive(Debug)]
pub(crate) struct Ran {
    pub ended: Ended,
    /// `None` if nothing was asked.
    pub answer: Option<Answer>,
    pub outcome: Option<journal::Outcome>,
    pub billed_ms: Option<u64>,
    /// Of a fault.
    pub code: Option<String>,
}

/// Runs the event at `due` of `lane` once and writes down what that means.
pub(crate) async fn run(core: &Arc<Core>, lane: &Lane, due: Due) {
    match conduct(core, lane, due).await {
        Ok((next, ended)) => lane.ended(core.now(), due, next, ended),
        Err(error) => {
            // Only what cannot be read or written ends here: the server stops, or the row is damaged.
            tracing::error!(function = %lane.function, event = %due.id, %error, "an event waits for ever");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            lane.lost(due);
        }
    }
}

async fn conduct(core: &Arc<Core>, lane: &Lane, due: Due) -> Result<(Option<Due>, Ended), Error> {
    let key = keys::event_key(&lane.place, &lane.function, due);
    let Some(row) = core.store.get(keys::EVENTS, &key)? else { return Ok((None, Ended::Succeeded)) };
    let (mut event, inline): (EventRecord, Bytes) = keys::decode(&key, &row.value)?;
    let payload = keys::payload(&*core.store, due.id, event.payload, inline)?;
    let settings = core.settings.get(&event.place, &event.function, event.settings_name());
    let policy = settings.as_ref().map_or_else(Policy::default, |settings| settings.policy());
    let too_old = policy::too_old(policy, event.accepted(), core.now());
    let (ran, verdict) = if too_old {
        (event.never_asked(), Verdict::End(Condition::EventAgeExceeded))
    } else {
        let ran = ask(core, &event, payload.clone()).await;
        event.count(&ran);
        (ran, Verdict::Again(Timestamp::default()))
    };
    let now = core.now();
    let verdict = match verdict {
        Verdict::Again(_) => policy::decide(policy, event.accepted(), event.tries(), ran.ended, now),
        end @ Verdict::End(_) => end,
    };
    let batch = Batch::new().delete(keys::EVENTS, key);
    // Nobody was asked, so it says nothing of how much the function takes: a lane must not slow down for it.
    let ended = if too_old { Ended::Refused } else { ran.ended };
    match verdict {
        Verdict::Again(at) => {
            let next = Due::new(at, due.id);
            lane.hold(next);
            let value = keys::encode(&event, event.payload, &payload);
            let mut entry = event.entry(journal::Kind::Retried, &ran, now);
            entry.error = ran.error(Condition::RetriesExhausted);
            let batch = batch.put(keys::EVENTS, keys::event_key(&event.place, &event.function, next), value);
            core.commit_at_last(batch.journal(entry)).await?;
            Ok((Some(next), ended))
        }
        Verdict::End(condition) => {
            let batch = keys::drop_pieces(batch, due.id, event.payload);
            let destinations = event.destinations(core, condition, settings.as_ref());
            end(core, Fate { event, payload, condition, ran, destinations, now }, batch).await?;
            Ok((None, ended))
        }
    }
}

/// Asks the engine to run the event.
async fn ask(core: &Core, event: &EventRecord, payload: Bytes) -> Ran {
    let function = event.function_ref();
    match core.invoker.describe(&event.place, &function) {
        Ok(facts) if facts.reserved_concurrency == Some(0) => return Ran::nothing(Ended::SwitchedOff),
        Ok(_) => {}
        Err(fault) => return Ran::fault(&fault),
    }
    let invocation = Invocation {
        function,
        mode: InvokeMode::RequestResponse,
        payload,
        client_context: event.client_context.clone(),
        tail: false,
        lineage: event.lineage,
    };
    let ctx = core.ctx(&event.place, event.request_id, event.lineage, event.trace.as_deref());
    let outcome = match core.invoker.invoke(&ctx, invocation).await {
        Ok(outcome) => outcome,
        Err(fault) => return Ran::fault(&fault),
    };
    let too_large = || Fault::server(500, "ServiceException", "an answer without end");
    let body: Result<Bytes, Fault> = Body::collect(outcome.payload, ANSWER_MAX, too_large).await;
    let payload = match body {
        Ok(payload) => payload,
        Err(fault) => return Ran::fault(&fault),
    };
    Ran {
        ended: if outcome.function_error.is_some() { Ended::Failed } else { Ended::Succeeded },
        outcome: Some(outcome_of(outcome.function_error, &payload)),
        billed_ms: Some(outcome.billed_ms),
        code: None,
        answer: Some(Answer {
            status: outcome.status,
            executed_version: Some(outcome.executed_version.to_string()),
            function_error: outcome.function_error.map(str::to_owned),
            payload: Some(payload),
            message: None,
        }),
    }
}

pub(crate) fn outcome_of(function_error: Option<&str>, payload: &[u8]) -> journal::Outcome {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        error_type: Option<String>,
    }
    if function_error.is_none() {
        return journal::Outcome::Succeeded;
    }
    let document = serde_json::from_slice::<Document>(payload).ok();
    match document.and_then(|document| document.error_type).as_deref() {
        Some("Sandbox.Timedout") => journal::Outcome::TimedOut,
        Some("Runtime.OutOfMemory") => journal::Outcome::OutOfMemory,
        _ => journal::Outcome::FunctionError,
    }
}

/// An event at its end.
struct Fate {
    event: EventRecord,
    payload: Bytes,
    condition: Condition,
    ran: Ran,
    destinations: Destinations,
    now: Timestamp,
}

/// Where an event goes at its end.
#[derive(Debug, Default)]
struct Destinations {
    record: Option<(Purpose, String)>,
    dead_letter: Option<String>,
}

/// Ends an event: its row goes, what it leaves goes to the outbox, all in one commit.
async fn end(core: &Arc<Core>, fate: Fate, mut batch: Batch) -> Result<(), Error> {
    let Fate { event, condition, ran, now, .. } = &fate;
    let nowhere = fate.destinations.record.is_none() && fate.destinations.dead_letter.is_none();
    match condition {
        Condition::Success => batch = batch.journal(event.entry(journal::Kind::Settled, ran, *now)),
        _ if nowhere => {
            let mut entry = event.entry(journal::Kind::Discarded, ran, *now);
            entry.error = ran.error(*condition);
            batch = batch.journal(entry);
        }
        // It is still on its way; the outbox says where it ended.
        _ => {}
    }
    if *condition != Condition::Success {
        batch = keep(core, &event.place, &fate.payload, batch).await?;
    }
    let mut posted: Vec<Posted> = Vec::new();
    for (record, body) in fate.letters() {
        let (next, one) = core.outbox.post(core, batch, record, &body).await?;
        batch = next;
        posted.push(one);
    }
    core.commit_at_last(batch).await?;
    posted.into_iter().for_each(|one| core.outbox.arrived(one));
    Ok(())
}

/// Keeps the payload of an event that failed for whoever looks into it.
async fn keep(core: &Core, place: &Place, payload: &Bytes, batch: Batch) -> Result<Batch, Error> {
    loop {
        match journal::Kept::new(place, payload).add_to(&*core.store, batch.clone()).await {
            Ok((batch, _)) => return Ok(batch),
            Err(CommitError::Full | CommitError::Busy) => tokio::time::sleep(COMMIT_AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}

impl Fate {
    /// The records that the event leaves, with their bodies.
    fn letters(&self) -> Vec<(OutboxRecord, Bytes)> {
        let mut letters = Vec::new();
        if let Some((purpose, target)) = &self.destinations.record {
            let report = Report {
                at: self.now,
                request_id: self.event.request_id,
                function_arn: self.event.qualified_arn(),
                condition: self.condition,
                attempts: self.event.attempts,
                request: &self.payload,
                answer: self.ran.answer.as_ref(),
            };
            letters.push(self.letter(*purpose, target, for_queue(report.render())));
        }
        if let Some(target) = &self.destinations.dead_letter {
            let body = if self.payload.is_empty() { Bytes::from_static(b"{}") } else { self.payload.clone() };
            letters.push(self.letter(Purpose::DeadLetter, target, for_queue(body)));
        }
        letters
    }

    fn letter(&self, purpose: Purpose, target: &str, body: Bytes) -> (OutboxRecord, Bytes) {
        let event = &self.event;
        let record = OutboxRecord {
            place: event.place.clone(),
            purpose,
            target: target.to_owned(),
            source: event.qualified_arn(),
            lineage: event.lineage,
            // The chain has been through the function.
            trace: Some(event.passed().to_string()),
            attributes: match purpose {
                Purpose::DeadLetter => {
                    dead_letter_attributes(event.request_id, self.condition, self.ran.answer.as_ref())
                }
                Purpose::OnSuccess | Purpose::OnFailure => Vec::new(),
            },
            error: self.ran.error(self.condition),
            event: payload_ref(event.payload),
            created_ms: self.now.as_millis(),
            tries: 0,
            payload: keys::plan(&body),
        };
        (record, body)
    }
}

impl Ran {
    fn nothing(ended: Ended) -> Self {
        Self { ended, answer: None, outcome: None, billed_ms: None, code: None }
    }

    /// Of what it failed.
    fn error(&self, condition: Condition) -> Option<journal::Error> {
        let answer = self.answer.as_ref();
        match answer {
            Some(Answer { payload: Some(payload), function_error: Some(_), .. }) => {
                Some(journal::Error::of_document(payload))
            }
            Some(Answer { payload: Some(_), .. }) => None,
            Some(Answer { message: Some(message), status, .. }) => {
                Some(journal::Error::new(self.code.clone().unwrap_or_else(|| status.to_string()), message.clone()))
            }
            _ => Some(journal::Error::new(condition.name(), error_message(condition, answer))),
        }
    }

    /// The engine did not run it.
    fn fault(fault: &Fault) -> Self {
        let (ended, outcome) = match fault.kind {
            _ if fault.code == "ResourceNotFoundException" => (Ended::Failed, journal::Outcome::SystemError),
            _ if fault.code == RECURSIVE => (Ended::Recursive, journal::Outcome::SystemError),
            FaultKind::Throttle => (Ended::NotAsked, journal::Outcome::Throttled),
            FaultKind::Server => (Ended::NotAsked, journal::Outcome::SystemError),
            FaultKind::Client => (Ended::Refused, journal::Outcome::SystemError),
        };
        let answer = Answer {
            status: fault.status,
            function_error: (ended == Ended::Recursive).then(|| RECURSIVE.to_owned()),
            message: Some(fault.message.clone()),
            ..Answer::default()
        };
        Self {
            ended,
            answer: Some(answer),
            outcome: Some(outcome),
            billed_ms: None,
            code: Some(fault.code.to_string()),
        }
    }
}

impl EventRecord {
    /// The function as the caller named it.
    pub(crate) fn function_ref(&self) -> FunctionRef {
        let qualifier = self.qualifier.as_deref().and_then(|text| text.parse().ok());
        FunctionRef { name: self.function.clone(), qualifier, region: None, account: None }
    }

    /// The trace header with which the function ran.
    fn passed(&self) -> Arc<str> {
        let arn = self.function.arn(&self.place).to_string();
        trace::next_pass(self.trace.as_deref(), &self.lineage, &arn).header
    }

    /// The function's ARN with the qualifier that the caller gave, if any.
    pub(crate) fn function_arn(&self) -> String {
        qualified(&self.place, &self.function, self.qualifier.as_deref())
    }

    /// The function's ARN with the qualifier, `$LATEST` included.
    pub(crate) fn qualified_arn(&self) -> String {
        qualified(&self.place, &self.function, Some(self.settings_name()))
    }

    /// The qualifier under which this event's settings are kept.
    pub(crate) fn settings_name(&self) -> &str {
        self.qualifier.as_deref().unwrap_or(LATEST)
    }

    fn accepted(&self) -> Timestamp {
        Timestamp::from_millis(self.accepted_ms)
    }

    fn tries(&self) -> Tries {
        Tries { attempts: self.attempts, not_asked: self.not_asked }
    }

    fn count(&mut self, ran: &Ran) {
        match ran.ended {
            Ended::Succeeded | Ended::Failed | Ended::Refused => {
                self.attempts += 1;
                self.not_asked = 0;
            }
            Ended::NotAsked => {
                self.not_asked += 1;
                self.last_status = ran.answer.as_ref().map(|answer| answer.status);
            }
            Ended::SwitchedOff | Ended::Recursive => {}
        }
    }

    /// Too old before its turn came: what is known is how the last attempt was put off, if it was.
    fn never_asked(&self) -> Ran {
        let answer = self.last_status.filter(|_| self.not_asked > 0).map(|status| Answer {
            status,
            message: (status == 429).then(|| "Rate Exceeded.".to_owned()),
            ..Answer::default()
        });
        Ran { answer, ..Ran::nothing(Ended::NotAsked) }
    }

    fn destinations(&self, core: &Core, condition: Condition, settings: Option<&keys::SettingsRecord>) -> Destinations {
        if condition == Condition::Success {
            let target = settings.and_then(|settings| settings.on_success.clone());
            return Destinations { record: target.map(|target| (Purpose::OnSuccess, target)), dead_letter: None };
        }
        // What a function said while it existed holds for the events that it left.
        let (on_failure, dead_letter) = match core.invoker.describe(&self.place, &self.function_ref()) {
            Ok(facts) => (settings.and_then(|settings| settings.on_failure.clone()), facts.dead_letter),
            Err(_) => (self.on_failure.clone(), self.dead_letter.clone()),
        };
        Destinations { record: on_failure.map(|target| (Purpose::OnFailure, target)), dead_letter }
    }

    fn entry(&self, kind: journal::Kind, ran: &Ran, now: Timestamp) -> journal::Entry {
        journal::Entry {
            source: self.source.clone(),
            target: Some(self.function_arn()),
            payload: Some(payload_ref(self.payload)),
            attempt: self.attempts,
            code_version: ran.answer.as_ref().and_then(|answer| answer.executed_version.clone()),
            outcome: ran.outcome,
            billed_ms: ran.billed_ms,
            trace_id: self.trace.clone(),
            ..journal::Entry::new(self.place.clone(), self.lineage, kind, now)
        }
    }
}

fn qualified(place: &Place, function: &flint_model::FunctionName, qualifier: Option<&str>) -> String {
    let arn = function.arn(place);
    match qualifier {
        Some(qualifier) => format!("{arn}:{qualifier}"),
        None => arn.to_string(),
    }
}
