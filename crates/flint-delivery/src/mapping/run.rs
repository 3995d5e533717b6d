//! One batch: ask the function, read its answer, tell the source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::RequestId;
use flint_kit::{Body, Fault, FaultKind, Invocation, InvokeMode, SourceRecord};
use flint_model::trace;
use flint_store::{Batch, journal};

use crate::attempt::{ANSWER_MAX, RECURSIVE, outcome_of};
use crate::core::Core;
use crate::keys::child_id;
use crate::mapping::answer;
use crate::mapping::batch::event;
use crate::mapping::pace::Ended;
use crate::mapping::registry::{Mapping, Plan};
use crate::policy::backoff;

/// How often a source is told that records are done, if it can't take it in.
const SETTLE_TRIES: u32 = 20;
const SETTLE_AGAIN: Duration = Duration::from_millis(250);

/// What became of a batch.
struct Verdict {
    ended: Ended,
    /// Places in the batch; what is not in here is done.
    failed: BTreeSet<usize>,
    outcome: journal::Outcome,
    error: Option<journal::Error>,
    code_version: Option<String>,
    billed_ms: Option<u64>,
}

/// Runs batches one after the other (those of a FIFO source depend on each other) and answers how the last one ended
/// that did not go well.
pub(crate) async fn batches(
    core: &Arc<Core>,
    mapping: &Mapping,
    plan: &Plan,
    batches: Vec<Vec<SourceRecord>>,
) -> Ended {
    let handles = batches.iter().flatten().map(|record| record.handle.clone()).collect();
    let number = mapping.take(handles);
    let fifo = plan.is_fifo();
    let mut worst = Ended::Well;
    let mut broken = BTreeSet::new();
    for mut batch in batches {
        // Behind a failure a group goes no further: its order would be lost.
        let behind = batch.extract_if(.., |record| fifo && broken.contains(&record.group));
        let behind: Vec<String> = behind.map(|record| record.handle).collect();
        give_back(core, plan, behind, Duration::ZERO, true).await;
        let batch = stop_loops(core, plan, batch).await;
        if batch.is_empty() {
            continue;
        }
        // A handle is new each time that its record is handed out.
        let request = RequestId::from(child_id(batch[0].lineage.event, &batch[0].handle));
        let verdict = ask(core, plan, &batch, request).await;
        if verdict.ended != Ended::Well {
            worst = verdict.ended;
        }
        let failed = |at: &usize| verdict.failed.contains(at);
        broken.extend(batch.iter().enumerate().filter(|(at, _)| failed(at)).map(|(_, record)| record.group.clone()));
        tell(core, plan, &batch, &verdict, request).await;
    }
    mapping.put_down(number);
    worst
}

/// Takes out the records whose chain went through the function too often; they come again until their queue buries them.
async fn stop_loops(core: &Core, plan: &Plan, batch: Vec<SourceRecord>) -> Vec<SourceRecord> {
    let Ok(facts) = core.invoker.describe(&plan.record.place, &plan.function()) else { return batch };
    if facts.recursion_allowed {
        return batch;
    }
    let (ended, batch): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|record| trace::next_pass(record.trace.as_deref(), &record.lineage, &facts.arn).is_one_too_many());
    for record in ended {
        let verdict = Verdict {
            ended: Ended::Failed,
            failed: BTreeSet::from([0]),
            outcome: journal::Outcome::SystemError,
            error: Some(journal::Error::new(RECURSIVE, format!("the chain went through {} too often", facts.arn))),
            code_version: None,
            billed_ms: None,
        };
        let after = backoff(record.receive_count);
        give_back(core, plan, vec![record.handle.clone()], after, false).await;
        write_down(core, plan, std::slice::from_ref(&record), &verdict, RequestId::from(record.lineage.event));
    }
    batch
}

async fn ask(core: &Core, plan: &Plan, batch: &[SourceRecord], request: RequestId) -> Verdict {
    // A batch of several is an event of its own, brought about by its records.
    let lineage = match batch {
        [one] => one.lineage,
        [first, ..] => first.lineage.child(request.into()),
        [] => flint_model::Lineage::root(request.into()),
    };
    let header = trace::merged(batch.iter().map(|record| record.trace.as_deref()));
    let invocation = Invocation {
        function: plan.function(),
        mode: InvokeMode::RequestResponse,
        payload: event(batch),
        client_context: None,
        tail: false,
        lineage,
    };
    let ctx = core.ctx(&plan.record.place, request, lineage, header.as_deref());
    let too_large = || Fault::server(500, "ServiceException", "an answer without end");
    let outcome = match core.invoker.invoke(&ctx, invocation).await {
        Ok(outcome) => outcome,
        Err(fault) => return Verdict::fault(&fault, batch),
    };
    let body: Bytes = match Body::collect(outcome.payload, ANSWER_MAX, too_large).await {
        Ok(body) => body,
        Err(fault) => return Verdict::fault(&fault, batch),
    };
    let all = || (0..batch.len()).collect::<BTreeSet<_>>();
    let (failed, error) = match outcome.function_error {
        Some(_) => (all(), Some(journal::Error::of_document(&body))),
        None if !plan.record.partial => (BTreeSet::new(), None),
        None => match answer::failed(&body, batch, plan.is_fifo()) {
            None => (all(), Some(malformed())),
            Some(failed) => {
                let error = (!failed.is_empty()).then(reported);
                (failed, error)
            }
        },
    };
    Verdict {
        // What a function says of single records is no sign that it is overloaded.
        ended: if failed.len() == batch.len() { Ended::Failed } else { Ended::Well },
        outcome: match failed.is_empty() {
            true => journal::Outcome::Succeeded,
            false if outcome.function_error.is_none() => journal::Outcome::FunctionError,
            false => outcome_of(outcome.function_error, &body),
        },
        failed,
        error,
        code_version: Some(outcome.executed_version.to_string()),
        billed_ms: Some(outcome.billed_ms),
    }
}

fn malformed() -> journal::Error {
    journal::Error::new("BatchItemFailures", "the answer is no list of failed items of this batch")
}

fn reported() -> journal::Error {
    journal::Error::new("BatchItemFailures", "the function reported the item as failed")
}

/// Tells the source and the journal.
async fn tell(core: &Core, plan: &Plan, batch: &[SourceRecord], verdict: &Verdict, request: RequestId) {
    let handle = |(_, record): (usize, &SourceRecord)| record.handle.clone();
    let is_done = |(at, _): &(usize, &SourceRecord)| !verdict.failed.contains(at);
    let done: Vec<String> = batch.iter().enumerate().filter(is_done).map(handle).collect();
    if !done.is_empty() {
        settle(core, plan, done).await;
    }
    if verdict.ended == Ended::NotAsked {
        let most = batch.iter().map(|record| record.receive_count).max().unwrap_or(1);
        let handles = batch.iter().map(|record| record.handle.clone()).collect();
        give_back(core, plan, handles, backoff(most).min(Duration::from_secs(10)), true).await;
    }
    if verdict.ended != Ended::NotAsked && plan.is_fifo() {
        give_back(core, plan, behind_a_failure(batch, &verdict.failed), Duration::ZERO, true).await;
    }
    // What failed comes again when its visibility timeout is over, as at the reference.
    write_down(core, plan, batch, verdict, request);
}

/// What stands behind the first failure of its group. It comes again behind that one, and was not what failed: one
/// message that always fails must not take its group along.
fn behind_a_failure(batch: &[SourceRecord], failed: &BTreeSet<usize>) -> Vec<String> {
    let mut first = BTreeSet::new();
    let later = |at: &&usize| !first.insert(batch[**at].group.clone());
    let later: Vec<&usize> = failed.iter().filter(later).collect();
    later.into_iter().map(|at| batch[*at].handle.clone()).collect()
}

/// Tells the source that records are done.
pub(crate) async fn settle(core: &Core, plan: &Plan, handles: Vec<String>) {
    let Ok(source) = plan.source(core) else { return };
    for _ in 0..SETTLE_TRIES {
        match source.settle(&plan.source, handles.clone()).await {
            Ok(()) => return,
            Err(fault) if fault.kind == FaultKind::Client => return,
            Err(_) => tokio::time::sleep(SETTLE_AGAIN).await,
        }
    }
    tracing::error!(mapping = plan.record.uuid, records = handles.len(), "records that are done will come again");
}

async fn give_back(core: &Core, plan: &Plan, handles: Vec<String>, after: Duration, uncounted: bool) {
    if handles.is_empty() {
        return;
    }
    let Ok(source) = plan.source(core) else { return };
    if let Err(fault) = source.give_back(&plan.source, handles, after, uncounted).await {
        tracing::warn!(mapping = plan.record.uuid, %fault, "records come again after their visibility timeout");
    }
}

/// The journal, behind: the source's own commit is what counts.
fn write_down(core: &Core, plan: &Plan, batch: &[SourceRecord], verdict: &Verdict, request: RequestId) {
    let now = core.now();
    let mut function_arn = plan.record.function.arn(&plan.record.place).to_string();
    if let Some(qualifier) = &plan.record.qualifier {
        function_arn.push(':');
        function_arn.push_str(qualifier);
    }
    let entry = |(at, record): (usize, &SourceRecord)| {
        let failed = verdict.failed.contains(&at);
        let kind = if failed { journal::Kind::Retried } else { journal::Kind::Settled };
        journal::Entry {
            source: Some(plan.record.source.clone()),
            target: Some(function_arn.clone()),
            attempt: record.receive_count,
            code_version: verdict.code_version.clone(),
            outcome: Some(if failed { verdict.outcome } else { journal::Outcome::Succeeded }),
            billed_ms: verdict.billed_ms,
            error: verdict.error.clone().filter(|_| failed),
            request: Some(request),
            ..journal::Entry::new(plan.record.place.clone(), record.lineage, kind, now)
        }
    };
    let entries: Vec<_> = batch.iter().enumerate().map(entry).collect();
    for some in entries.chunks(ENTRIES_MAX) {
        // On its way when this returns; nobody waits for it.
        drop(core.store.commit(Batch { journal: some.to_vec(), ..Batch::new() }));
    }
}

/// Entries of one commit; a batch takes 500 parts.
const ENTRIES_MAX: usize = 200;

impl Verdict {
    fn fault(fault: &Fault, batch: &[SourceRecord]) -> Self {
        let (ended, outcome) = match fault.kind {
            FaultKind::Throttle => (Ended::NotAsked, journal::Outcome::Throttled),
            FaultKind::Server => (Ended::NotAsked, journal::Outcome::SystemError),
            // No such function, yet or any more: nobody was asked.
            FaultKind::Client if fault.code == "ResourceNotFoundException" => {
                (Ended::NotAsked, journal::Outcome::SystemError)
            }
            FaultKind::Client => (Ended::Failed, journal::Outcome::SystemError),
        };
        Self {
            ended,
            failed: (0..batch.len()).collect(),
            outcome,
            error: Some(journal::Error::new(fault.code.clone(), fault.message.clone())),
            code_version: None,
            billed_ms: None,
        }
    }
}
