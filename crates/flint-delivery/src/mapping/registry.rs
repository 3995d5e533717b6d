//! Which mappings there are, and what each is doing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flint_kit::{Fault, Source, Told};
use flint_model::pattern::{Pattern, PatternError};
use flint_model::{Arn, FunctionRef, Place};
use tokio::sync::Notify;

use crate::core::Core;
use crate::error::Error;
use crate::keys::MappingRecord;
use crate::mapping::pace::Pace;
use crate::mapping::poller;

type Id = (Place, String);

/// The mappings by place and UUID.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    mappings: Mutex<BTreeMap<Id, Arc<Mapping>>>,
    running: AtomicBool,
    /// Held from a look at what there is to the end of the commit that changes it: one change after the other.
    pub changing: tokio::sync::Mutex<()>,
}

/// A mapping, for as long as it exists.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// What it is configured as now.
    plan: Mutex<Arc<Plan>>,
    pub pace: Mutex<Pace>,
    /// Handles of the records that are out, by a number for each batch.
    in_hand: Mutex<(u64, BTreeMap<u64, Vec<String>>)>,
    deleted: AtomicBool,
    /// A batch ended, or the mapping was changed.
    pub changed: Notify,
}

/// A configuration, ready to be used. A change makes a new one.
#[derive(Debug)]
pub(crate) struct Plan {
    pub record: MappingRecord,
    pub source: Arn,
    pub filters: Vec<Pattern>,
    /// The configuration that a poller was started for is over when this is set.
    over: AtomicBool,
    pub ended: Notify,
}

impl Plan {
    /// Errors: an ARN or a pattern that is none; the operations have checked both.
    pub(crate) fn new(record: MappingRecord) -> Result<Self, Error> {
        let damaged = |why: String| Error::Record { key: format!("mapping {}", record.uuid), why };
        let source = record.source.parse().map_err(|e: flint_model::arn::ParseError| damaged(e.to_string()))?;
        let filters = record.filters.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
        let filters = filters.map_err(|e: PatternError| damaged(e.to_string()))?;
        Ok(Self { record, source, filters, over: AtomicBool::new(false), ended: Notify::new() })
    }

    pub(crate) fn function(&self) -> FunctionRef {
        let qualifier = self.record.qualifier.as_deref().and_then(|text| text.parse().ok());
        FunctionRef { name: self.record.function.clone(), qualifier, region: None, account: None }
    }

    /// As it is configured, with its qualifier.
    pub(crate) fn function_arn(&self) -> String {
        let arn = self.record.function.arn(&self.record.place);
        match &self.record.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn.to_string(),
        }
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.record.source.ends_with(".fifo")
    }

    /// Another configuration has taken this one's place, or the mapping is off or gone.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether the function shall see the record.
    pub(crate) fn wants(&self, document: &[u8]) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches_record(document, "body"))
    }

    pub(crate) fn source<'a>(&self, core: &'a Core) -> Result<&'a Arc<dyn Source>, Fault> {
        let service = self.source.service.as_str();
        core.sources.get(service).ok_or_else(|| Fault::not_served(format_args!("event sources of {service}")))
    }

    /// How long the source hides a record that was handed out.
    pub(crate) fn visibility(&self, core: &Core) -> Duration {
        let info = self.source(core).and_then(|source| source.describe(&self.source));
        // Of a source that is gone nothing comes twice.
        info.map_or(Duration::MAX / 4, |info| info.visibility_timeout)
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_one();
    }

    /// Most batches in flight.
    fn most(&self, core: &Core) -> usize {
        self.record.max_concurrency.map_or(core.background_most, |n| n as usize)
    }
}

impl Mappings {
    /// Brings a stored mapping in; it begins with [`Mappings::start`].
    pub(crate) fn load(&self, core: &Core, record: MappingRecord) -> Result<(), Error> {
        let id = (record.place.clone(), record.uuid.clone());
        let mapping = Mapping::new(core, Plan::new(record)?);
        self.lock().insert(id, mapping);
        Ok(())
    }

    /// Starts the pollers, and from now on those of new mappings.
    pub(crate) fn start(&self, core: &Arc<Core>) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        self.running.store(true, Ordering::Release);
        for mapping in all {
            self.begin(core, &mapping);
        }
    }

    /// Puts a committed mapping in place: a new one, or the new configuration of an old one.
    pub(crate) fn put(&self, core: &Arc<Core>, plan: Plan) -> Arc<Mapping> {
        let id = (plan.record.place.clone(), plan.record.uuid.clone());
        let mapping = {
            let mut mappings = self.lock();
            match mappings.get(&id) {
                Some(mapping) => {
                    let mapping = mapping.clone();
                    mapping.pace().reset(plan.most(core));
                    mapping.replace(plan);
                    mapping
                }
                None => mappings.entry(id).or_insert(Mapping::new(core, plan)).clone(),
            }
        };
        if self.running.load(Ordering::Acquire) {
            self.begin(core, &mapping);
        }
        mapping
    }

    /// The mapping is gone from the store; what is in flight ends, then it is gone from here.
    pub(crate) fn remove(&self, mapping: &Mapping) {
        mapping.deleted.store(true, Ordering::Release);
        mapping.plan().end();
        self.forget_if_over(mapping);
    }

    /// Lets go of a deleted mapping that has nothing in flight.
    pub(crate) fn forget_if_over(&self, mapping: &Mapping) {
        if mapping.deleted.load(Ordering::Acquire) && mapping.pace().in_flight() == 0 {
            let record = &mapping.plan().record;
            self.lock().remove(&(record.place.clone(), record.uuid.clone()));
        }
    }

    pub(crate) fn get(&self, place: &Place, uuid: &str) -> Option<Arc<Mapping>> {
        self.lock().get(&(place.clone(), uuid.to_owned())).cloned()
    }

    /// Those of a place, by UUID.
    pub(crate) fn of_place(&self, place: &Place) -> Vec<Arc<Mapping>> {
        let all = self.lock();
        let here = |(id, _): &(&Id, &Arc<Mapping>)| id.0 == *place;
        all.range((place.clone(), String::new())..).take_while(here).map(|(_, mapping)| mapping.clone()).collect()
    }

    /// Gives back what is still out, for the next start: this one's time is over.
    pub(crate) async fn give_all_back(&self, core: &Core) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for mapping in all {
            let plan = mapping.plan();
            let handles: Vec<String> = std::mem::take(&mut mapping.hand().1).into_values().flatten().collect();
            if let (Ok(source), false) = (plan.source(core), handles.is_empty()) {
                let records = handles.into_iter().map(Told::plain).collect();
                let back = source.give_back(&plan.source, records, Duration::ZERO, false).await;
                if let Err(error) = back {
                    tracing::warn!(mapping = plan.record.uuid, %error, "records come again after their visibility timeout");
                }
            }
        }
    }

    fn begin(&self, core: &Arc<Core>, mapping: &Arc<Mapping>) {
        let plan = mapping.plan();
        if plan.record.enabled && !plan.is_over() {
            core.tasks.spawn(poller::run(core.clone(), mapping.clone(), plan));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Mapping>>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mapping {
    fn new(core: &Core, plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            pace: Mutex::new(Pace::new(plan.most(core), core.parity)),
            plan: Mutex::new(Arc::new(plan)),
            in_hand: Mutex::default(),
            deleted: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As the reference names it: what is under way is said to be until it is over.
    pub(crate) fn state(&self) -> &'static str {
        let busy = self.pace().in_flight() > 0;
        match (self.deleted.load(Ordering::Acquire), self.plan().record.enabled) {
            (true, _) => "Deleting",
            (false, true) => "Enabled",
            (false, false) if busy => "Disabling",
            (false, false) => "Disabled",
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that records are out; answers the number under which they are put down again.
    pub(crate) fn take(&self, handles: Vec<String>) -> u64 {
        let mut hand = self.hand();
        hand.0 += 1;
        let number = hand.0;
        hand.1.insert(number, handles);
        number
    }

    pub(crate) fn put_down(&self, number: u64) {
        self.hand().1.remove(&number);
    }

    fn replace(&self, plan: Plan) {
        let old = std::mem::replace(&mut *self.plan.lock().unwrap_or_else(PoisonError::into_inner), Arc::new(plan));
        old.end();
    }

    fn hand(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Vec<String>>)> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
