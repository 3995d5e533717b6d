//! One batch: ask the function, read its answer, tell the source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{RequestId, Timestamp};
use flint_kit::{Body, Fault, FaultKind, Invocation, InvokeMode, SourceRecord, Told};
use flint_model::trace;
use flint_store::{Batch, journal};
use tokio::time::Instant;

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
/// that did not go well. The records are hidden from others since `hidden`.
pub(crate) async fn batches(
    core: &Arc<Core>,
    mapping: &Mapping,
    plan: &Plan,
    batches: Vec<Vec<SourceRecord>>,
    mut hidden: Instant,
) -> Ended {
    let number = mapping.take(handles_of(&batches));
    let mut worst = Ended::Well;
    let mut broken = BTreeSet::new();
    for at in 0..batches.len() {
        let batch = sort_out(core, plan, batches[at].clone(), &mut broken).await;
        if batch.is_empty() {
            continue;
        }
        if outlasts(core, plan, hidden) {
            hide(core, plan, handles_of(&batches[at..])).await;
            hidden = Instant::now();
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

fn handles_of(batches: &[Vec<SourceRecord>]) -> Vec<String> {
    batches.iter().flatten().map(|record| record.handle.clone()).collect()
}

/// Whether a run that begins now may go on when the records are others' to take.
fn outlasts(core: &Core, plan: &Plan, hidden: Instant) -> bool {
    let Ok(facts) = core.invoker.describe(&plan.record.place, &plan.function()) else { return false };
    let visible = plan.visibility(core);
    // What a batch waits for as a rule is worth no commit.
    let slack = (visible / 10).min(Duration::from_secs(1));
    hidden.elapsed() + facts.timeout > visible + slack
}

/// Keeps records hidden for another visibility timeout, from now on.
pub(crate) async fn hide(core: &Core, plan: &Plan, handles: Vec<String>) {
    let records = handles.into_iter().map(Told::plain).collect();
    give_back(core, plan, records, plan.visibility(core), false).await;
}

/// Takes out what cannot be run now: records whose chain went through the function too often (they come again until their
/// queue buries them), and what stands behind a failure in its group.
async fn sort_out(
    core: &Core,
    plan: &Plan,
    batch: Vec<SourceRecord>,
    broken: &mut BTreeSet<Option<String>>,
) -> Vec<SourceRecord> {
    let facts = core.invoker.describe(&plan.record.place, &plan.function()).ok();
    let facts = facts.filter(|facts| !facts.recursion_allowed);
    let goes_round = |record: &SourceRecord| {
        let arn = facts.as_ref().map(|facts| &facts.arn);
        arn.is_some_and(|arn| trace::next_pass(record.trace.as_deref(), &record.lineage, arn).is_one_too_many())
    };
    let (mut behind, mut rest) = (Vec::new(), Vec::with_capacity(batch.len()));
    for record in batch {
        if plan.is_fifo() && broken.contains(&record.group) {
            behind.push(Told::plain(record.handle));
        } else if goes_round(&record) {
            broken.insert(record.group.clone());
            stop_loop(core, plan, record).await;
        } else {
            rest.push(record);
        }
    }
    give_back(core, plan, behind, Duration::ZERO, true).await;
    rest
}

async fn stop_loop(core: &Core, plan: &Plan, record: SourceRecord) {
    let arn = plan.record.function.arn(&plan.record.place);
    let verdict = Verdict {
        ended: Ended::Failed,
        failed: BTreeSet::from([0]),
        outcome: journal::Outcome::SystemError,
        error: Some(journal::Error::new(RECURSIVE, format!("the chain went through {arn} too often"))),
        code_version: None,
        billed_ms: None,
    };
    let after = backoff(record.receive_count);
    let entry = Entries::new(core, plan, &verdict, RequestId::from(record.lineage.event)).of(0, &record);
    give_back(core, plan, vec![told(&record, &entry)], after, false).await;
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

/// Tells the source and the journal: in one commit where the source writes something, else the journal behind it.
async fn tell(core: &Core, plan: &Plan, batch: &[SourceRecord], verdict: &Verdict, request: RequestId) {
    let entries = Entries::new(core, plan, verdict, request);
    let all = || batch.iter().enumerate();
    let told_of = |at: usize| told(&batch[at], &entries.of(at, &batch[at]));
    let done: Vec<Told> = all().filter(|(at, _)| !verdict.failed.contains(at)).map(|(at, _)| told_of(at)).collect();
    if !done.is_empty() {
        settle(core, plan, done).await;
    }
    // What failed comes again when its visibility timeout is over, as at the reference: nothing changes in the source.
    let mut behind = verdict.failed.clone();
    if verdict.ended == Ended::NotAsked {
        let most = batch.iter().map(|record| record.receive_count).max().unwrap_or(1);
        let back = all().map(|(at, _)| told_of(at)).collect();
        give_back(core, plan, back, backoff(most).min(Duration::from_secs(10)), true).await;
        behind.clear();
    } else if plan.is_fifo() {
        let later = behind_a_failure(batch, &verdict.failed);
        behind.retain(|at| !later.contains(at));
        give_back(core, plan, later.into_iter().map(told_of).collect(), Duration::ZERO, true).await;
    }
    write_down(core, behind.into_iter().map(|at| entries.of(at, &batch[at])).collect());
}

/// What stands behind the first failure of its group. It comes again behind that one, and was not what failed: one
/// message that always fails must not take its group along.
fn behind_a_failure(batch: &[SourceRecord], failed: &BTreeSet<usize>) -> Vec<usize> {
    let mut first = BTreeSet::new();
    failed.iter().copied().filter(|at| !first.insert(batch[*at].group.clone())).collect()
}

fn told(record: &SourceRecord, entry: &journal::Entry) -> Told {
    Told { handle: record.handle.clone(), note: Some(entry.encode()) }
}

/// What is told of records that no filter of the mapping wants.
pub(crate) fn unwanted(core: &Core, plan: &Plan, records: &[SourceRecord]) -> Vec<Told> {
    let (now, target) = (core.now(), plan.function_arn());
    let entry = |record: &SourceRecord| journal::Entry {
        source: Some(plan.record.source.clone()),
        target: Some(target.clone()),
        attempt: record.receive_count,
        error: Some(journal::Error::new("Filtered", "no filter of the mapping wants it")),
        ..journal::Entry::new(plan.record.place.clone(), record.lineage, journal::Kind::Settled, now)
    };
    records.iter().map(|record| told(record, &entry(record))).collect()
}

/// Tells the source that records are done.
pub(crate) async fn settle(core: &Core, plan: &Plan, records: Vec<Told>) {
    let Ok(source) = plan.source(core) else { return write_notes(core, records) };
    for _ in 0..SETTLE_TRIES {
        match source.settle(&plan.source, records.clone()).await {
            Ok(()) => return,
            // The source is gone, and its records with it; they ran all the same.
            Err(fault) if fault.kind == FaultKind::Client => return write_notes(core, records),
            Err(_) => tokio::time::sleep(SETTLE_AGAIN).await,
        }
    }
    tracing::error!(mapping = plan.record.uuid, records = records.len(), "records that are done will come again");
}

async fn give_back(core: &Core, plan: &Plan, records: Vec<Told>, after: Duration, uncounted: bool) {
    if records.is_empty() {
        return;
    }
    let Ok(source) = plan.source(core) else { return write_notes(core, records) };
    if let Err(fault) = source.give_back(&plan.source, records.clone(), after, uncounted).await {
        tracing::warn!(mapping = plan.record.uuid, %fault, "records come again after their visibility timeout");
        write_notes(core, records);
    }
}

/// Writes what a source could not.
fn write_notes(core: &Core, records: Vec<Told>) {
    let note = |told: Told| Some(journal::Entry::decode(&told.note?).expect("it was encoded here"));
    write_down(core, records.into_iter().filter_map(note).collect());
}

/// The journal, behind: what it tells of changed no state.
fn write_down(core: &Core, entries: Vec<journal::Entry>) {
    for some in entries.chunks(ENTRIES_MAX) {
        // On its way when this returns; nobody waits for it.
        drop(core.store.commit(Batch { journal: some.to_vec(), ..Batch::new() }));
    }
}

/// Entries of one commit; a batch takes 500 parts.
const ENTRIES_MAX: usize = 200;

/// What the journal says of the records of one run.
struct Entries<'a> {
    plan: &'a Plan,
    verdict: &'a Verdict,
    request: RequestId,
    target: String,
    now: Timestamp,
}

impl<'a> Entries<'a> {
    fn new(core: &Core, plan: &'a Plan, verdict: &'a Verdict, request: RequestId) -> Self {
        Self { plan, verdict, request, target: plan.function_arn(), now: core.now() }
    }

    fn of(&self, at: usize, record: &SourceRecord) -> journal::Entry {
        let Self { plan, verdict, .. } = self;
        let failed = verdict.failed.contains(&at);
        let kind = if failed { journal::Kind::Retried } else { journal::Kind::Settled };
        journal::Entry {
            source: Some(plan.record.source.clone()),
            target: Some(self.target.clone()),
            attempt: record.receive_count,
            code_version: verdict.code_version.clone(),
            outcome: Some(if failed { verdict.outcome } else { journal::Outcome::Succeeded }),
            billed_ms: verdict.billed_ms,
            error: verdict.error.clone().filter(|_| failed),
            request: Some(self.request),
            ..journal::Entry::new(plan.record.place.clone(), record.lineage, kind, self.now)
        }
    }
}

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
