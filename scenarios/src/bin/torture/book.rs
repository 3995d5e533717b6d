//! The checker: compares what was acknowledged with what was delivered.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use scenarios::figures::report;

/// One event's fate.
#[derive(Debug, Default)]
struct Fate {
    acknowledged: bool,
    /// The server's life that each delivery came from.
    deliveries: Vec<u32>,
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
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Lost(String),
    Duplicate(String),
    Order(String),
    Deduplication(String),
}

impl Book {
    pub fn sent(&mut self, id: &str) {
        self.sent += u64::from(self.fates.insert(id.to_owned(), Fate::default()).is_none());
    }

    pub fn acknowledged(&mut self, id: &str) {
        self.acknowledged += 1;
        self.fates.entry(id.to_owned()).or_default().acknowledged = true;
    }

    /// `life` is that of the connection over which it came.
    pub fn delivered(&mut self, id: &str, message: &str, life: u32) {
        self.delivered += 1;
        let fate = self.fates.entry(id.to_owned()).or_default();
        if let Some(before) = fate.deliveries.last() {
            self.repeated += 1;
            // One crash, one more delivery; and never again once its deletion was acknowledged.
            if *before >= life || fate.deleted {
                let why = if fate.deleted { "after its deletion was acknowledged" } else { "twice in one life" };
                self.findings.push(Finding::Duplicate(format!("{id} came {why}: lives {:?}, {life}", fate.deliveries)));
            }
        }
        fate.deliveries.push(life);
        let names = self.names.entry(id.to_owned()).or_default();
        names.insert(message.to_owned());
        if names.len() > 1 && id.starts_with('f') {
            self.findings.push(Finding::Deduplication(format!("{id} came as {names:?}")));
        }
        if let Some((group, n)) = fifo(id) {
            self.in_order(id, group, n, life);
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
    pub acknowledged: u64,
    pub repeated: u64,
}

impl Totals {
    pub fn add(&mut self, book: &Book) {
        for finding in &book.findings {
            *match finding {
                Finding::Lost(_) => &mut self.lost,
                Finding::Duplicate(_) => &mut self.duplicates,
                Finding::Order(_) => &mut self.order,
                Finding::Deduplication(_) => &mut self.deduplication,
            } += 1;
        }
        self.acknowledged += book.acknowledged;
        self.repeated += book.repeated;
        for finding in book.findings.iter().take(10) {
            println!("  {finding:?}");
        }
    }

    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicates + self.order + self.deduplication == 0
    }

    pub fn report(&self) -> Result<()> {
        println!(
            "  {} acknowledged: {} lost, {} duplicates beyond one per crash ({} within), {} out of order, {} deduplicated wrongly",
            self.acknowledged, self.lost, self.duplicates, self.repeated, self.order, self.deduplication
        );
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
            b.delivered("p-1-1", "m", 1);
            b.delivered("p-1-1", "m", 2);
        });
        assert_eq!(once_per_crash, []);
        let twice = judged(|b| {
            sent(b, "p-1-1");
            b.delivered("p-1-1", "m", 1);
            b.delivered("p-1-1", "m", 1);
        });
        assert!(matches!(twice[..], [Finding::Duplicate(_)]), "{twice:?}");
        let back_from_the_dead = judged(|b| {
            b.delivered("p-1-1", "m", 1);
            b.deleted("p-1-1");
            b.delivered("p-1-1", "m", 2);
        });
        assert!(matches!(back_from_the_dead[..], [Finding::Duplicate(_)]));
    }

    #[test]
    fn order_and_deduplication_are_judged() {
        let good = judged(|b| {
            for n in 1..=3 {
                b.delivered(&format!("f-1-{n}"), &format!("m{n}"), 1);
            }
            b.deleted("f-1-1");
            // After a crash the group goes on from what was not deleted.
            for n in 2..=4 {
                b.delivered(&format!("f-1-{n}"), &format!("m{n}"), 2);
            }
        });
        assert_eq!(good, []);
        for (numbers, life) in [(&[1, 3][..], 1), (&[1, 2, 1], 1), (&[2], 1)] {
            let found =
                judged(|b| numbers.iter().for_each(|n| b.delivered(&format!("f-1-{n}"), &format!("m{n}"), life)));
            assert!(found.iter().any(|f| matches!(f, Finding::Order(_))), "{numbers:?}");
        }
        let twins = judged(|b| {
            b.delivered("f-1-1", "m1", 1);
            b.delivered("f-1-1", "m2", 2);
        });
        assert!(twins.iter().any(|f| matches!(f, Finding::Deduplication(_))));
    }
}
