//! The message groups of a FIFO queue: each a line of messages, of which either some are out or the first may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Groups {
    ids: BTreeMap<Arc<str>, u32>,
    groups: Vec<Group>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Group {
    name: Arc<str>,
    /// Those of the window, first come first.
    line: BTreeSet<u64>,
    /// How many are out or held.
    out: usize,
    /// The message that the heart has on the market.
    open: Option<u64>,
    /// Sends that are not in the window and not committed: they keep the group's number alive.
    users: usize,
}

impl Groups {
    /// The number of a group, which is taken into use; see [`Groups::forget`].
    pub fn id_of(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            self.groups[*id as usize].users += 1;
            return *id;
        }
        let name: Arc<str> = name.into();
        let group = Group { name: name.clone(), users: 1, ..Group::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.groups[id as usize] = group;
                id
            }
            None => {
                self.groups.push(group);
                // The window is bounded far below.
                (self.groups.len() - 1) as u32
            }
        };
        self.ids.insert(name, id);
        id
    }

    /// Gives up one use of a group's number; without uses it may be another group's next.
    pub fn forget(&mut self, id: u32) {
        let group = &mut self.groups[id as usize];
        group.users = group.users.saturating_sub(1);
        if group.users == 0 && group.line.is_empty() {
            let name = std::mem::take(&mut group.name);
            self.ids.remove(&name);
            self.free.push(id);
        }
    }

    pub fn add(&mut self, id: u32, sequence: u64) {
        self.groups[id as usize].line.insert(sequence);
    }

    pub fn remove(&mut self, id: u32, sequence: u64) {
        self.groups[id as usize].line.remove(&sequence);
    }

    pub fn count_out(&mut self, id: u32, out: bool) {
        let group = &mut self.groups[id as usize];
        group.out = if out { group.out + 1 } else { group.out - 1 };
    }

    /// The group's messages in order.
    pub fn line(&self, id: u32) -> impl Iterator<Item = u64> + '_ {
        self.groups[id as usize].line.iter().copied()
    }

    /// The first message, if none is out.
    pub fn first_if_idle(&self, id: u32) -> Option<u64> {
        let group = &self.groups[id as usize];
        group.line.first().copied().filter(|_| group.out == 0)
    }

    /// Notes what is on the market; answers what was.
    pub fn set_open(&mut self, id: u32, open: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.groups[id as usize].open, open)
    }
}
