//! The event-invoke configurations in memory, as the store feeds them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use flint_model::{FunctionName, Place};

use crate::keys::SettingsRecord;
use crate::policy::Policy;

/// What an unqualified call's events are configured under.
pub(crate) const LATEST: &str = "$LATEST";

type Id = (Place, FunctionName, String);

/// By place, function and qualifier.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    records: RwLock<BTreeMap<Id, SettingsRecord>>,
    /// Held from a look at what there is to the end of the commit that changes it: one change after the other.
    pub changing: tokio::sync::Mutex<()>,
}

impl Settings {
    pub(crate) fn put(&self, record: SettingsRecord) {
        let id = (record.place.clone(), record.function.clone(), record.qualifier.clone());
        self.records.write().unwrap_or_else(PoisonError::into_inner).insert(id, record);
    }

    pub(crate) fn remove(&self, place: &Place, function: &FunctionName, qualifier: &str) {
        let id = (place.clone(), function.clone(), qualifier.to_owned());
        self.records.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) fn get(&self, place: &Place, function: &FunctionName, qualifier: &str) -> Option<SettingsRecord> {
        let id = (place.clone(), function.clone(), qualifier.to_owned());
        self.records.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Those of a function, by qualifier.
    pub(crate) fn of_function(&self, place: &Place, function: &FunctionName) -> Vec<SettingsRecord> {
        let from = (place.clone(), function.clone(), String::new());
        let all = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let same = |(id, _): &(&Id, &SettingsRecord)| id.0 == *place && id.1 == *function;
        all.range(from..).take_while(same).map(|(_, record)| record.clone()).collect()
    }

    pub(crate) fn all(&self) -> Vec<SettingsRecord> {
        self.records.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl SettingsRecord {
    pub(crate) fn policy(&self) -> Policy {
        let default = Policy::default();
        Policy {
            retries: self.retries.unwrap_or(default.retries),
            max_age: self.max_age_s.map_or(default.max_age, |seconds| Duration::from_secs(seconds.into())),
        }
    }
}
