//! All groups, by place and name.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use flint_model::Place;

use crate::group::Group;
use crate::{Error, files};

/// Directories that are being made or removed begin with a dot; names of groups never do.
const UNFINISHED: char = '.';

/// Groups by place and name.
type Groups = HashMap<Place, BTreeMap<Arc<str>, Arc<Group>>>;

/// The groups below one directory.
#[derive(Debug)]
pub struct Registry {
    pub root: PathBuf,
    groups: RwLock<Groups>,
}

impl Registry {
    /// Finds the groups below `root` and removes what an interrupted creation or deletion left.
    ///
    /// Errors: the first group whose settings cannot be understood.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut groups = Groups::new();
        for (account, account_dir) in directories(root)? {
            for (region, region_dir) in directories(&account_dir)? {
                let (Ok(account), Ok(region)) = (account.parse(), region.parse()) else { continue };
                let place = Place { account, region };
                for (name, dir) in directories(&region_dir)? {
                    if name.starts_with(UNFINISHED) {
                        fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
                        continue;
                    }
                    let group = Group::open(&place, dir)?;
                    let name = group.meta().name;
                    groups.entry(place.clone()).or_default().insert(name, Arc::new(group));
                }
            }
        }
        Ok(Self { root: root.to_owned(), groups: RwLock::new(groups) })
    }

    /// The group, or [`Error::GroupMissing`].
    pub fn find(&self, place: &Place, name: &str) -> Result<Arc<Group>, Error> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(place).and_then(|groups| groups.get(name)).cloned().ok_or(Error::GroupMissing)
    }

    /// Up to `limit` groups of a place by name, behind `after`, that `wanted` accepts.
    pub fn list(
        &self,
        place: &Place,
        after: Option<&str>,
        limit: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Vec<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let Some(groups) = groups.get(place) else { return Vec::new() };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = groups.range::<str, _>((start, Bound::Unbounded));
        range.filter(|(name, _)| wanted(name)).map(|(_, group)| group.clone()).take(limit).collect()
    }

    /// All groups.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().flat_map(|groups| groups.values().cloned()).collect()
    }

    pub fn add(&self, group: Arc<Group>) {
        let name = group.meta().name;
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.entry(group.place.clone()).or_default().insert(name, group);
    }

    /// Takes a group out and moves its directory aside, durably. Answers the directory, whose files are still to be
    /// removed: that may take a while and nobody has to wait for it.
    pub fn remove(&self, group: &Group, unique: u64) -> Result<PathBuf, Error> {
        let above = group.dir.parent().unwrap_or(&self.root);
        let aside = above.join(format!("{UNFINISHED}gone-{unique}"));
        fs::rename(&group.dir, &aside).map_err(Error::io("rename to", &aside))?;
        {
            let name = group.meta().name;
            let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(groups) = groups.get_mut(&group.place) {
                groups.remove(&name);
            }
        }
        files::sync_dir(above)?;
        Ok(aside)
    }
}

/// The directories in `dir`, with their names.
fn directories(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = || -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        Ok(found)
    };
    list().map_err(Error::io("list", dir))
}
