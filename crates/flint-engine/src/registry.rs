//! The in-memory snapshot of all functions. The path of an invocation reads this and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use flint_model::{FunctionName, FunctionRef, Place};

use crate::error::Error;
use crate::function::{Live, Runnable};

/// Functions by place, then by name (ordered, as they are listed).
#[derive(Debug, Default)]
pub(crate) struct Registry {
    functions: RwLock<HashMap<Place, BTreeMap<FunctionName, Arc<Live>>>>,
}

impl Registry {
    /// The function that `wanted` names, as a call from `place` sees it.
    pub(crate) fn find(&self, place: &Place, wanted: &FunctionRef) -> Result<Arc<Live>, Error> {
        let not_found = || not_found(place, wanted);
        let foreign_account = wanted.account.as_deref().is_some_and(|a| a != place.account.as_str());
        let foreign_region = wanted.region.as_deref().is_some_and(|r| r != place.region.as_str());
        if foreign_account || foreign_region {
            return Err(not_found());
        }
        self.get(place, &wanted.name).ok_or_else(not_found)
    }

    /// The version that `wanted` names. `draw`, 0 to 1, decides between the versions of an alias.
    pub(crate) fn find_version(
        &self,
        place: &Place,
        wanted: &FunctionRef,
        draw: impl FnOnce() -> f64,
    ) -> Result<(Arc<Live>, Arc<Runnable>), Error> {
        let live = self.find(place, wanted)?;
        match live.resolve(wanted.qualifier.as_ref(), draw) {
            Some(runnable) => Ok((live.clone(), runnable.clone())),
            None => Err(not_found(place, wanted)),
        }
    }

    pub(crate) fn get(&self, place: &Place, name: &FunctionName) -> Option<Arc<Live>> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(place)?.get(name).cloned()
    }

    /// At most `limit` functions of `place` whose names come after `marker`, by name.
    pub(crate) fn page(&self, place: &Place, marker: Option<&FunctionName>, limit: usize) -> Vec<Arc<Live>> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = functions.get(place) else { return Vec::new() };
        let start = marker.map_or(Bound::Unbounded, Bound::Excluded);
        names.range((start, Bound::Unbounded)).take(limit).map(|(_, live)| live.clone()).collect()
    }

    /// Puts a function in place and returns the one it replaces.
    pub(crate) fn put(&self, live: Arc<Live>) -> Option<Arc<Live>> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let names = functions.entry(live.place().clone()).or_default();
        names.insert(live.name().clone(), live)
    }

    pub(crate) fn remove(&self, place: &Place, name: &FunctionName) -> Option<Arc<Live>> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.get_mut(place)?.remove(name)
    }

    /// Every function of `place`.
    pub(crate) fn of_place(&self, place: &Place) -> Vec<Arc<Live>> {
        self.page(place, None, usize::MAX)
    }
}

fn not_found(place: &Place, wanted: &FunctionRef) -> Error {
    let mut arn = wanted.name.arn(place).to_string();
    if let Some(qualifier) = &wanted.qualifier {
        arn.push_str(&format!(":{qualifier}"));
    }
    Error::FunctionNotFound(arn)
}
