//! The checker of what goes through functions: each event ends in exactly one of two places, well or dead.
//!
//! What it knows comes from outside: senders say what was acknowledged, sinks what lay in the queues at the end, and the function
//! itself says what it did, and when (lines of its log). A kill may take a line along: one that is missing proves nothing.
//!
//! An event's id says who it is: `a-0-7` (asynchronous, destinations), `b-0-3-poison` (asynchronous, another attempt after a
//! minute, dead-letter queue), `w-1-9` (queue, mapping), `g-0-4` (FIFO queue, group 0, mapping).

use std::collections::{BTreeMap, BTreeSet};

use crate::book::{Came, Finding};
use crate::functions::WORK_HIDDEN_S;
use crate::load::HIDDEN_S;

/// How often a mapped queue hands a message out before it buries it.
pub const RECEIVES: u32 = 3;

/// One event's fate.
#[derive(Debug, Default)]
struct Fate {
    /// The life of the first try to send it.
    sent: u32,
    acknowledged: bool,
    /// Message and life of each time that it was found where it ends, and when it was last asked for.
    well: BTreeMap<(String, u32), u64>,
    dead: BTreeMap<(String, u32), u64>,
    /// It was taken from its end a second time, too early.
    again: bool,
    /// What the function did.
    runs: BTreeSet<Run>,
}

/// A line of the function. Ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub at_ns: u64,
    pub life: u32,
    pub well: bool,
    /// The message that it was.
    pub message: String,
}

#[derive(Debug, Default)]
pub struct Ends {
    fates: BTreeMap<String, Fate>,
    pub acknowledged: u64,
    pub well: u64,
    pub dead: u64,
    pub runs: u64,
    /// Came again in one life, but not before its time: this machine was slow.
    pub expired: u64,
}

impl Ends {
    pub fn sent(&mut self, id: &str, life: u32) {
        self.fates.entry(id.to_owned()).or_insert_with(|| Fate { sent: life, ..Fate::default() });
    }

    pub fn acknowledged(&mut self, id: &str) {
        self.acknowledged += 1;
        self.fate(id).acknowledged = true;
    }

    /// Found in a queue of ends.
    pub fn ended(&mut self, id: &str, well: bool, message: &str, came: Came) {
        let fate = self.fate(id);
        let ends = if well { &mut fate.well } else { &mut fate.dead };
        let Some(asked_ns) = ends.insert((message.to_owned(), came.life), came.asked_ns) else { return };
        let expired = came.at_ns.saturating_sub(asked_ns) >= HIDDEN_S * 1_000_000_000;
        fate.again |= !expired;
        self.expired += u64::from(expired);
    }

    pub fn ran(&mut self, id: &str, run: Run) {
        self.fate(id).runs.insert(run);
    }

    fn fate(&mut self, id: &str) -> &mut Fate {
        self.fates.entry(id.to_owned()).or_default()
    }

    /// Acknowledged, and not at an end that anybody saw.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self.fates.iter().filter(|(_, fate)| fate.acknowledged && !fate.is_over());
        missing.map(|(id, _)| id.as_str()).collect()
    }

    /// Nothing will come any more.
    pub fn judge(&mut self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.missing().into_iter().map(|id| Finding::Lost(id.to_owned())).collect();
        for (id, fate) in &self.fates {
            self.well += u64::from(!fate.well.is_empty());
            self.dead += u64::from(!fate.dead.is_empty());
            self.runs += fate.runs.len() as u64;
            findings.extend(fate.misplaced(id).map(|why| Finding::Misplaced(format!("{id} {why}: {fate:?}"))));
            findings.extend(fate.repeated(id).map(|why| Finding::Duplicate(format!("{id} {why}: {fate:?}"))));
            let names: BTreeSet<&str> = fate.runs.iter().map(|run| run.message.as_str()).collect();
            if id.starts_with('g') && names.len() > 1 {
                findings.push(Finding::Deduplication(format!("{id} came as {names:?}")));
            }
        }
        findings.extend(self.out_of_order().into_iter().map(Finding::Order));
        findings
    }

    /// In each group nothing is done before what was sent before it is over.
    fn out_of_order(&self) -> Vec<String> {
        let mut groups: BTreeMap<&str, Vec<(u64, &str, &Fate)>> = BTreeMap::new();
        for (id, fate) in &self.fates {
            let mut parts = id.split('-');
            if let (Some("g"), Some(group), Some(Ok(n))) = (parts.next(), parts.next(), parts.next().map(str::parse)) {
                groups.entry(group).or_default().push((n, id, fate));
            }
        }
        let mut found = Vec::new();
        for members in groups.values_mut() {
            members.sort_unstable_by_key(|(n, ..)| *n);
            // When the last of those before was first done, or last failed.
            let mut before: Option<(&str, u64)> = None;
            for (_, id, fate) in members.iter() {
                let Some(first) = fate.runs.first() else { continue };
                if let Some((other, at)) = before.filter(|(_, at)| *at > first.at_ns) {
                    found.push(format!("{id} was handled at {}, {other} was not over before {at}", first.at_ns));
                }
                let over = fate.runs.iter().find(|run| run.well).or(fate.runs.last());
                before = before.max_by_time(over.map(|run| (*id, run.at_ns)));
            }
        }
        // And within a life no group goes back.
        let mut lives: BTreeMap<(&str, u32), Vec<(u64, u64)>> = BTreeMap::new();
        for (group, members) in &groups {
            for (n, _, fate) in members {
                for run in &fate.runs {
                    lives.entry((group, run.life)).or_default().push((run.at_ns, *n));
                }
            }
        }
        for ((group, life), mut runs) in lives {
            runs.sort_unstable();
            if let Some(pair) = runs.windows(2).find(|pair| pair[1].1 < pair[0].1) {
                found.push(format!("group {group} went back from {} to {} in life {life}", pair[0].1, pair[1].1));
            }
        }
        found
    }
}

trait Latest {
    fn max_by_time(self, other: Self) -> Self;
}

impl Latest for Option<(&str, u64)> {
    fn max_by_time(self, other: Self) -> Self {
        [self, other].into_iter().flatten().max_by_key(|(_, at)| *at)
    }
}

impl Fate {
    fn is_over(&self) -> bool {
        !self.well.is_empty() || !self.dead.is_empty()
    }

    /// Crashes that it may have met on its way to the end at `life`.
    fn crashes(&self, life: u32) -> u32 {
        life.saturating_sub(self.sent)
    }

    /// It ended where it does not belong.
    fn misplaced(&self, id: &str) -> Option<&'static str> {
        let poison = id.ends_with("-poison");
        if poison && (!self.well.is_empty() || self.runs.iter().any(|run| run.well)) {
            return Some("is poison and ended well");
        }
        let first = self.dead.keys().map(|(_, life)| *life).min()?;
        if poison {
            return None;
        }
        // A message may be buried without having failed, if servers died while it was out, as often as it is handed out.
        match id.starts_with(['w', 'g']) {
            true if self.crashes(first) >= RECEIVES => None,
            _ => Some("did not fail and ended dead"),
        }
    }

    /// It came more often than crashes explain.
    fn repeated(&self, id: &str) -> Option<&'static str> {
        if self.again {
            return Some("was taken from its end twice in one life");
        }
        for ends in [&self.well, &self.dead] {
            let messages: BTreeSet<&str> = ends.keys().map(|(message, _)| message.as_str()).collect();
            let last = ends.keys().map(|(_, life)| *life).max().unwrap_or_default();
            if messages.len() > 1 + self.crashes(last) as usize {
                return Some("ended more often than there were crashes");
            }
        }
        let last = self.runs.iter().map(|run| run.life).max().unwrap_or_default();
        // Runs that its queue may have brought about because the one before took too long are none too many.
        let (mut lives, mut excused) = (BTreeMap::new(), 0);
        for run in &self.runs {
            let before = lives.insert(run.life, run.at_ns);
            let slow = |at: u64| run.at_ns.saturating_sub(at) >= (WORK_HIDDEN_S - 1) * 1_000_000_000;
            excused += usize::from(before.is_some_and(slow) && id.starts_with(['w', 'g']) && !id.ends_with("-poison"));
        }
        let most = match (id.ends_with("-poison"), id.as_bytes().first()) {
            (false, _) => lives.len(),
            // Two attempts, and RECEIVES receives; one more for each crash.
            (true, Some(b'a')) => lives.len(),
            (true, Some(b'b')) => 2 + self.crashes(last) as usize,
            (true, _) => (RECEIVES + self.crashes(last)) as usize,
        };
        (self.runs.len() > most + excused).then_some("ran more often than it may")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_life(life: u32) -> Came {
        Came { life, asked_ns: 1, at_ns: 2 }
    }

    fn judged(tell: impl FnOnce(&mut Ends)) -> Vec<Finding> {
        let mut ends = Ends::default();
        tell(&mut ends);
        ends.judge()
    }

    fn taken(ends: &mut Ends, id: &str, life: u32) {
        ends.sent(id, life);
        ends.acknowledged(id);
    }

    fn run(at_ns: u64, life: u32, well: bool) -> Run {
        Run { at_ns, life, well, message: "m".to_owned() }
    }

    #[test]
    fn one_of_two_ends() {
        assert_eq!(judged(|e| taken(e, "a-0-1", 1)), [Finding::Lost("a-0-1".into())]);
        assert_eq!(judged(|e| e.sent("a-0-1", 1)), [], "in doubt is not lost");
        let well = judged(|e| {
            taken(e, "a-0-1", 1);
            e.ended("a-0-1", true, "m", in_life(1));
            taken(e, "w-0-1", 1);
            e.ended("w-0-1", true, "m", in_life(1));
            taken(e, "w-0-2-poison", 1);
            e.ended("w-0-2-poison", false, "n", in_life(1));
        });
        assert_eq!(well, []);
        for (id, well) in [("a-0-1", false), ("a-0-1-poison", true), ("w-0-1", false), ("g-0-1-poison", true)] {
            let found = judged(|e| {
                taken(e, id, 1);
                e.ended(id, well, "m", in_life(2));
            });
            assert!(matches!(found[..], [Finding::Misplaced(_)]), "{id}: {found:?}");
        }
        let died_with_the_servers = judged(|e| {
            taken(e, "w-0-1", 1);
            e.ended("w-0-1", false, "m", in_life(4));
        });
        assert_eq!(died_with_the_servers, []);
    }

    #[test]
    fn once_more_for_each_crash() {
        let told = |messages: [&str; 2], life: u32| {
            judged(|e| {
                taken(e, "a-0-1", 1);
                for message in messages {
                    e.ended("a-0-1", true, message, in_life(life));
                }
            })
        };
        assert_eq!(told(["m", "n"], 2), []);
        assert!(matches!(told(["m", "n"], 1)[..], [Finding::Duplicate(_)]));
        assert!(matches!(told(["m", "m"], 2)[..], [Finding::Duplicate(_)]));
        let runs = |lives: [u32; 2]| {
            judged(|e| {
                taken(e, "w-0-1", 1);
                e.ran("w-0-1", run(1, lives[0], true));
                e.ran("w-0-1", run(2, lives[1], true));
                e.ended("w-0-1", true, "m", in_life(2));
            })
        };
        assert_eq!(runs([1, 2]), []);
        assert!(matches!(runs([2, 2])[..], [Finding::Duplicate(_)]));
    }

    #[test]
    fn groups_keep_their_order() {
        let told = |runs: &[(&str, u64, u32, bool)]| {
            judged(|e| {
                for (id, at_ns, life, well) in runs {
                    taken(e, id, 1);
                    e.ran(id, run(*at_ns, *life, *well));
                    e.ended(id, *well, &format!("{at_ns}"), in_life(*life));
                }
            })
        };
        let order = |found: &[Finding]| found.iter().any(|f| matches!(f, Finding::Order(_)));
        let good = [
            ("g-0-1", 1, 1, true),
            ("g-0-2-poison", 2, 1, false),
            ("g-0-2-poison", 3, 1, false),
            ("g-0-3", 4, 1, true),
            ("g-0-3", 5, 2, true),
        ];
        assert!(!order(&told(&good)));
        // The whole batch once more after a crash.
        assert!(!order(&told(&[("g-0-1", 1, 1, true), ("g-0-2", 2, 1, true), ("g-0-1", 3, 2, true)])));
        assert!(order(&told(&[("g-0-2", 1, 1, true), ("g-0-1", 2, 1, true)])));
        assert!(order(&told(&[("g-0-2", 1, 1, true), ("g-0-1", 2, 2, true)])));
        let past_a_poison = [("g-0-1-poison", 1, 1, false), ("g-0-2", 2, 1, true), ("g-0-1-poison", 3, 1, false)];
        assert!(order(&told(&past_a_poison)));
        assert!(order(&told(&[("g-0-2", 1, 1, true), ("g-0-1", 2, 1, true)])));
    }
}
