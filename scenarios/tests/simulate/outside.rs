//! What the world outside of the server knows, and what must hold for it.
//!
//! An event's id says what becomes of it: `plain-0-7`, `ordered-1-3-poison`, `later-0-2-flaky`. Poison always fails and must end in
//! a dead-letter queue; what is flaky fails once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::events::{Kind, Sender};
use crate::sim::Sim;

pub struct Outside {
    sim: Arc<Sim>,
    /// Lives so far; the present one's number.
    life: u32,
    /// Lives in which the disk had no room: what was done could not always be written down, and was done again.
    full: BTreeSet<u32>,
    senders: Vec<Pen>,
    events: BTreeMap<String, Event>,
    /// When something was done, in order.
    moment: u64,
}

/// How far a sender is.
struct Pen {
    sender: Sender,
    next: u64,
    left: u64,
    /// Sent, and not known whether it was taken. Sent again where that is safe.
    doubt: Option<String>,
}

#[derive(Default)]
struct Event {
    acknowledged: bool,
    /// Life and moment of each time that a function was done with it.
    done: Vec<(u32, u64)>,
    /// Lives in which a function was asked.
    tried: u32,
    dead: Vec<u32>,
    /// Under which a queue handed it out.
    messages: BTreeSet<String>,
}

impl Outside {
    pub fn new(sim: &Arc<Sim>) -> Self {
        let mut senders = Vec::new();
        for (kind, most) in [(Kind::Plain, 3), (Kind::Ordered, 3), (Kind::Later, 2)] {
            for number in 0..sim.below(most) + 1 {
                let pen = Pen { sender: Sender { kind, number }, next: 1, left: 3 + sim.below(12), doubt: None };
                senders.push(pen);
            }
        }
        Self { sim: Arc::clone(sim), life: 0, full: BTreeSet::new(), senders, events: BTreeMap::new(), moment: 0 }
    }

    pub fn begin(&mut self, full: bool) {
        self.life += 1;
        if full {
            self.full.insert(self.life);
        }
    }

    /// Those that still have something to send.
    pub fn senders(&self) -> Vec<Sender> {
        self.senders.iter().filter(|pen| pen.left > 0).map(|pen| pen.sender).collect()
    }

    fn pen(&mut self, sender: Sender) -> &mut Pen {
        let mine = |pen: &&mut Pen| pen.sender.kind == sender.kind && pen.sender.number == sender.number;
        self.senders.iter_mut().find(mine).expect("a sender that was given out")
    }

    pub fn next_of(&mut self, sender: Sender) -> Option<String> {
        let fate = match self.sim.below(10) {
            0 => "-poison",
            1 | 2 => "-flaky",
            _ => "",
        };
        let pen = self.pen(sender);
        if let Some(id) = &pen.doubt {
            return Some(id.clone());
        }
        if pen.left == 0 {
            return None;
        }
        pen.left -= 1;
        let kind = match sender.kind {
            Kind::Plain => "plain",
            Kind::Ordered => "ordered",
            Kind::Later => "later",
        };
        let id = format!("{kind}-{}-{}{fate}", sender.number, pen.next);
        pen.next += 1;
        if sender.kind == Kind::Ordered {
            pen.doubt = Some(id.clone());
        }
        self.events.insert(id.clone(), Event::default());
        Some(id)
    }

    pub fn sent(&mut self, sender: Sender, id: &str, acknowledged: bool) {
        if acknowledged {
            self.pen(sender).doubt = None;
            self.event(id).acknowledged = true;
        }
    }

    fn event(&mut self, id: &str) -> &mut Event {
        self.events.entry(id.to_owned()).or_default()
    }

    /// A function looks at an event. True if it is done with it.
    pub fn work(&mut self, id: &str, message: Option<&str>) -> bool {
        self.moment += 1;
        let (life, moment) = (self.life, self.moment);
        let event = self.event(id);
        event.messages.extend(message.map(str::to_owned));
        event.tried += 1;
        let fails = id.ends_with("-poison") || (id.ends_with("-flaky") && event.tried == 1);
        if !fails {
            event.done.push((life, moment));
        }
        !fails
    }

    /// Found in a dead-letter queue. An asynchronous event lies there as the JSON text that it was.
    pub fn dead(&mut self, body: &str) {
        let life = self.life;
        self.event(body.trim_matches('"')).dead.push(life);
    }

    /// Everything that was acknowledged came to an end.
    pub fn is_over(&self) -> bool {
        self.events.values().all(|event| !event.acknowledged || !event.done.is_empty() || !event.dead.is_empty())
    }

    /// What must hold when all is over.
    pub fn judge(&self) -> Result<(), String> {
        for (id, event) in &self.events {
            self.judge_one(id, event).map_err(|why| format!("{id}: {why}"))?;
        }
        self.judge_order()
    }

    fn judge_one(&self, id: &str, event: &Event) -> Result<(), String> {
        if event.acknowledged && event.done.is_empty() && event.dead.is_empty() {
            return Err("acknowledged and lost".to_owned());
        }
        if id.ends_with("-poison") && !event.done.is_empty() {
            return Err("poison that was done".to_owned());
        }
        // Once more for each crash: never twice in one life.
        let lives: Vec<u32> = event.done.iter().map(|(life, _)| *life).collect();
        if let Some(pair) = lives.windows(2).find(|pair| pair[0] == pair[1] && !self.full.contains(&pair[0])) {
            return Err(format!("done twice in life {} (done in {lives:?})", pair[0]));
        }
        // A queue's own dead letter is moved by a commit; what delivery brings there may be brought again after a crash.
        let from_queue = !id.starts_with("later");
        if from_queue && event.dead.len() > 1 {
            return Err(format!("{} times in the dead-letter queue", event.dead.len()));
        }
        if id.starts_with("ordered") && event.messages.len() > 1 {
            return Err(format!("one deduplication id, {} messages", event.messages.len()));
        }
        Ok(())
    }

    /// In each group, what was sent first is done first.
    fn judge_order(&self) -> Result<(), String> {
        let mut groups: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (id, event) in self.events.iter().filter(|(id, _)| id.starts_with("ordered")) {
            let mut parts = id.split('-').skip(1).map_while(|part| part.parse::<u64>().ok());
            let (Some(group), Some(n), Some((_, first))) = (parts.next(), parts.next(), event.done.first()) else {
                continue;
            };
            groups.entry(group).or_default().push((n, *first));
        }
        for (group, mut done) in groups {
            done.sort_unstable();
            if let Some(pair) = done.windows(2).find(|pair| pair[0].1 > pair[1].1) {
                return Err(format!("group {group}: {} was done before {}", pair[1].0, pair[0].0));
            }
        }
        Ok(())
    }
}
