//! A source with a planted bug, in place of the queues.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flint_kit::{Fault, Source, SourceInfo, SourceRecord, Told};
use flint_model::Arn;

use crate::bugs::Bug;
use crate::sim::{Sim, lock};

pub struct Mutant {
    source: Arc<dyn Source>,
    sim: Arc<Sim>,
    bug: Bug,
    /// To be handed out once more, with the queue that they came from.
    again: Mutex<Vec<(String, SourceRecord)>>,
}

impl Mutant {
    pub fn new(source: Arc<dyn Source>, sim: Arc<Sim>, bug: Bug) -> Self {
        Self { source, sim, bug, again: Mutex::default() }
    }

    fn again(&self, arn: &Arn, records: &mut Vec<SourceRecord>) {
        let arn = arn.to_string();
        let mut again = lock(&self.again);
        let due: Vec<_> = again.extract_if(.., |(of, _)| *of == arn).map(|(_, record)| record).collect();
        if self.sim.chance(30) {
            again.extend(records.iter().take(1).map(|record| (arn.clone(), record.clone())));
        }
        let new = |record: &SourceRecord| records.iter().all(|other| other.id != record.id);
        let due: Vec<_> = due.into_iter().filter(new).collect();
        records.extend(due);
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutant({:?})", self.bug)
    }
}

#[async_trait]
impl Source for Mutant {
    fn describe(&self, arn: &Arn) -> Result<SourceInfo, Fault> {
        self.source.describe(arn)
    }

    async fn poll(&self, arn: &Arn, max: usize, wait: Duration) -> Result<Vec<SourceRecord>, Fault> {
        let mut records = self.source.poll(arn, max, wait).await?;
        match self.bug {
            Bug::DoubleDelivery => self.again(arn, &mut records),
            Bug::SettleFirst if !records.is_empty() => {
                let handles = records.iter().map(|record| Told::plain(record.handle.clone())).collect();
                self.source.settle(arn, handles).await?;
            }
            Bug::OrderSwap if records.len() > 1 => records.swap(0, 1),
            _ => {}
        }
        Ok(records)
    }

    async fn settle(&self, arn: &Arn, records: Vec<Told>) -> Result<(), Fault> {
        self.source.settle(arn, records).await
    }

    async fn give_back(&self, arn: &Arn, records: Vec<Told>, after: Duration, uncounted: bool) -> Result<(), Fault> {
        self.source.give_back(arn, records, after, uncounted).await
    }

    fn backlog(&self, arn: &Arn) -> u64 {
        self.source.backlog(arn)
    }
}
