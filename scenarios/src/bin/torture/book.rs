//! The checker: compares what was acknowledged with what was delivered.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use scenarios::figures::report;

use crate::ends::Ends;
use crate::load::HIDDEN_S;

/// One event's fate.
#[derive(Debug, Default)]
struct Fate {
    acknowledged: bool,
    /// The server's life that each delivery came from, and when it was asked for.
    deliveries: Vec<(u32, u64)>,
    /// Its deletion was acknowledged.
    deleted: bool,
}

/// One FIFO group as its consumer saw it.
#[derive(Debug, Default)]
struct Group {
    /// The life and the number of the last delivery.
    last: Option<(u32, u64)>,
    highest: u64,
    deleted: u64,
}

#[derive(Debug, Default)]
pub struct Book {
    fates: HashMap<String, Fate>,
    groups: BTreeMap<u64, Group>,
    /// Message ids under which each event came.
    names: HashMap<String, HashSet<String>>,
    pub findings: Vec<Finding>,
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub repeated: u64,
    /// Of the repeated, those that were hidden for as long as they should: this machine was slow.
    pub expired: u64,
}

/// When something was asked for, and when it came (CLOCK_MONOTONIC, nanoseconds), in which of the server's lives.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    pub life: u32,
    pub asked_ns: u64,
    pub at_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Lost(String),
    Duplicate(String),
    Order(String),
    Deduplication(String),
    /// At an end where it does not belong.
    Misplaced(String),
    /// Of a server that is gone: a process, a mount, a cgroup.
    LeftBehind(String),
}

impl Book {
    pub fn sent(&mut self, id: &str) {
        self.sent += u64::from(self.fates.insert(id.to_owned(), Fate::default()).is_none());
    }

    pub fn acknowledged(&mut self, id: &str) {
        self.acknowledged += 1;
        self.fates.entry(id.to_owned()).or_default().acknowledged = true;
    }

    pub fn delivered(&mut self, id: &str, message: &str, came: Came) {
        self.delivered += 1;
        let fate = self.fates.entry(id.to_owned()).or_default();
        let mut expired = false;
        if let Some((before, asked_ns)) = fate.deliveries.last() {
            self.repeated += 1;
            expired = *before == came.life && came.at_ns.saturating_sub(*asked_ns) >= HIDDEN_S * 1_000_000_000;
            self.expired += u64::from(expired);
            // One crash, one more delivery; and never again once its deletion was acknowledged.
            if (*before >= came.life && !expired) || fate.deleted {
                let why = if fate.deleted { "after its deletion was acknowledged" } else { "twice in one life" };
                self.findings.push(Finding::Duplicate(format!("{id} came {why}: {:?}, {came:?}", fate.deliveries)));
            }
        }
        fate.deliveries.push((came.life, came.asked_ns));
        let names = self.names.entry(id.to_owned()).or_default();
        names.insert(message.to_owned());
        if names.len() > 1 && id.starts_with('f') {
            self.findings.push(Finding::Deduplication(format!("{id} came as {names:?}")));
        }
        if let (Some((group, n)), false) = (fifo(id), expired) {
            self.in_order(id, group, n, came.life);
        }
    }

    fn in_order(&mut self, id: &str, group: u64, n: u64, life: u32) {
        let seen = self.groups.entry(group).or_default();
        let before = seen.last.replace((life, n));
        let highest = seen.highest;
        seen.highest = highest.max(n);
        if let Some((last_life, last)) = before
            && last_life == life
            && n <= last
        {
            self.findings.push(Finding::Order(format!("{id} came after {last} in one life")));
        }
        if n <= seen.deleted || n > highest + 1 {
            let why = format!("{id} came with {highest} the highest and {} deleted", seen.deleted);
            self.findings.push(Finding::Order(why));
        }
    }

    pub fn deleted(&mut self, id: &str) {
        self.fates.entry(id.to_owned()).or_default().deleted = true;
        if let Some((group, n)) = fifo(id) {
            let seen = self.groups.entry(group).or_default();
            seen.deleted = seen.deleted.max(n);
        }
    }

    /// Acknowledged and not delivered.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self.fates.iter().filter(|(_, fate)| fate.acknowledged && fate.deliveries.is_empty());
        missing.map(|(id, _)| id.as_str()).collect()
    }

    pub fn acknowledged_ids(&self) -> Vec<String> {
        self.fates.iter().filter(|(_, fate)| fate.acknowledged).map(|(id, _)| id.clone()).collect()
    }

    /// Nothing will come any more: what is missing is lost.
    pub fn close(&mut self) {
        let lost: Vec<Finding> = self.missing().into_iter().map(|id| Finding::Lost(id.to_owned())).collect();
        self.findings.extend(lost);
    }
}

/// Group and number of a FIFO event, `f-GROUP-NUMBER`.
fn fifo(id: &str) -> Option<(u64, u64)> {
    let (group, n) = id.strip_prefix("f-")?.split_once('-')?;
    Some((group.parse().ok()?, n.parse().ok()?))
}

/// Findings by kind, over all that ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub lost: u64,
    pub duplicates: u64,
    pub order: u64,
    pub deduplication: u64,
    pub misplaced: u64,
    pub left_behind: u64,
    pub acknowledged: u64,
    pub repeated: u64,
    pub expired: u64,
    /// Of the acknowledged ones, those that went through functions; and the functions' runs.
    pub through_functions: u64,
    pub runs: u64,
}

impl Totals {
    pub fn add(&mut self, book: &Book, ends: &Ends) {
        for finding in &book.findings {
            *match finding {
                Finding::Lost(_) => &mut self.lost,
                Finding::Duplicate(_) => &mut self.duplicates,
                Finding::Order(_) => &mut self.order,
                Finding::Deduplication(_) => &mut self.deduplication,
                Finding::Misplaced(_) => &mut self.misplaced,
                Finding::LeftBehind(_) => &mut self.left_behind,
            } += 1;
        }
        self.acknowledged += book.acknowledged + ends.acknowledged;
        self.through_functions += ends.acknowledged;
        self.runs += ends.runs;
        self.repeated += book.repeated;
        self.expired += book.expired + ends.expired;
        for finding in book.findings.iter().take(10) {
            println!("  {finding:?}");
        }
    }

    /// Each number with its name.
    pub fn numbers(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("lost", &mut self.lost),
            ("duplicates", &mut self.duplicates),
            ("order", &mut self.order),
            ("deduplication", &mut self.deduplication),
            ("misplaced", &mut self.misplaced),
            ("left_behind", &mut self.left_behind),
            ("acknowledged", &mut self.acknowledged),
            ("repeated", &mut self.repeated),
            ("expired", &mut self.expired),
            ("through_functions", &mut self.through_functions),
            ("runs", &mut self.runs),
        ]
    }

    pub fn merge(&mut self, mut other: Self) {
        for ((_, number), (_, more)) in self.numbers().into_iter().zip(other.numbers()) {
            *number += *more;
        }
    }

    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicates + self.order + self.deduplication + self.misplaced + self.left_behind == 0
    }

    pub fn report(&self) -> Result<()> {
        println!(
            "  {} acknowledged: {} lost, {} duplicates beyond one per crash ({} within), {} out of order, {} deduplicated wrongly",
            self.acknowledged, self.lost, self.duplicates, self.repeated, self.order, self.deduplication
        );
        if self.expired > 0 {
            println!("  {} came again in one life after their time: this machine was slow", self.expired);
        }
        if self.through_functions > 0 {
            println!(
                "  {} of them through functions, {} runs: {} ended where they do not belong, {} leftovers of dead servers",
                self.through_functions, self.runs, self.misplaced, self.left_behind
            );
            report("through_functions", self.through_functions as f64, "")?;
            report("misplaced", self.misplaced as f64, "")?;
            report("left_behind", self.left_behind as f64, "")?;
        }
        report("acknowledged", self.acknowledged as f64, "")?;
        report("acknowledged_lost", self.lost as f64, "")?;
        report("duplicates_over_bound", self.duplicates as f64, "")?;
        report("order_violations", self.order as f64, "")?;
        report("deduplication_violations", self.deduplication as f64, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_life(life: u32) -> Came {
        Came { life, asked_ns: 1, at_ns: 2 }
    }

    fn judged(tell: impl FnOnce(&mut Book)) -> Vec<Finding> {
        let mut book = Book::default();
        tell(&mut book);
        book.close();
        book.findings
    }

    #[test]
    fn what_is_lost_or_comes_too_often_is_found() {
        let sent = |book: &mut Book, id: &str| {
            book.sent(id);
            book.acknowledged(id);
        };
        assert_eq!(judged(|b| sent(b, "p-1-1")), [Finding::Lost("p-1-1".into())]);
        assert_eq!(judged(|b| b.sent("p-1-1")), [], "in doubt is not lost");
        let once_per_crash = judged(|b| {
            sent(b, "p-1-1");
            b.delivered("p-1-1", "m", in_life(1));
            b.delivered("p-1-1", "m", in_life(2));
        });
        assert_eq!(once_per_crash, []);
        let twice = judged(|b| {
            sent(b, "p-1-1");
            b.delivered("p-1-1", "m", in_life(1));
            b.delivered("p-1-1", "m", in_life(1));
        });
        assert!(matches!(twice[..], [Finding::Duplicate(_)]), "{twice:?}");
        let hidden_long_enough = judged(|b| {
            sent(b, "f-1-1");
            b.delivered("f-1-1", "m", in_life(1));
            b.delivered("f-1-1", "m", Came { life: 1, asked_ns: 1, at_ns: HIDDEN_S * 1_000_000_000 + 1 });
        });
        assert_eq!(hidden_long_enough, []);
        let back_from_the_dead = judged(|b| {
            b.delivered("p-1-1", "m", in_life(1));
            b.deleted("p-1-1");
            b.delivered("p-1-1", "m", in_life(2));
        });
        assert!(matches!(back_from_the_dead[..], [Finding::Duplicate(_)]));
    }

    #[test]
    fn order_and_deduplication_are_judged() {
        let good = judged(|b| {
            for n in 1..=3 {
                b.delivered(&format!("f-1-{n}"), &format!("m{n}"), in_life(1));
            }
            b.deleted("f-1-1");
            // After a crash the group goes on from what was not deleted.
            for n in 2..=4 {
                b.delivered(&format!("f-1-{n}"), &format!("m{n}"), in_life(2));
            }
        });
        assert_eq!(good, []);
        for (numbers, life) in [(&[1, 3][..], 1), (&[1, 2, 1], 1), (&[2], 1)] {
            let found = judged(|b| {
                numbers.iter().for_each(|n| b.delivered(&format!("f-1-{n}"), &format!("m{n}"), in_life(life)))
            });
            assert!(found.iter().any(|f| matches!(f, Finding::Order(_))), "{numbers:?}");
        }
        let twins = judged(|b| {
            b.delivered("f-1-1", "m1", in_life(1));
            b.delivered("f-1-1", "m2", in_life(2));
        });
        assert!(twins.iter().any(|f| matches!(f, Finding::Deduplication(_))));
    }
}
