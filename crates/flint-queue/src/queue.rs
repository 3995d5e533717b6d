//! The heart of a queue: which message may be handed out now. Pure: it takes `now`, in milliseconds since the epoch, and
//! returns decisions; whoever calls it commits them.
//!
//! The heart knows a *window* of the queue. Messages lie in the store in the order of their sequence; the window holds
//! all that were handed out or are delayed, and of the others the ones at the front, loaded page by page. So a queue of
//! millions costs the memory of thousands and opens at once.
//!
//! Invariants:
//! - every committed message with a sequence up to `loaded_to` is in the window or gone;
//! - at the tail (`at_tail`) that holds for every message, and what is sent joins the window by itself;
//! - `ready` holds exactly the messages that may be handed out: of a FIFO queue the first of each open group. A group is
//!   open while none of its messages is out and its first one is ready.

mod groups;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::keys::Flight;
use groups::Groups;

/// Messages that may be out at a time (SQS Developer Guide, "Amazon SQS message quotas").
pub const MAX_IN_FLIGHT: usize = 120_000;
/// Of a FIFO queue the window holds at most so many messages: behind as many of groups that wait, others are not looked
/// for (as in the reference).
const MAX_WINDOW: usize = 120_000;
/// How far a FIFO queue looks for more groups while it has one to serve, in messages.
const GLIMPSE: usize = 2_048;

/// What the window knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub sent: i64,
    pub visible_at: i64,
    /// 0 before the first receive.
    pub first_received: i64,
    /// When it was handed out last; of a message from before the start, the start.
    pub taken_at: i64,
    pub receive_count: u32,
    /// Of the newest receipt handle.
    pub generation: u32,
    group: u32,
    /// Rows that hold its text, if they are its own.
    pub chunks: u16,
    state: State,
    /// A row beside the message's holds what changed.
    pub has_flight: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Sent, not yet committed.
    Pending,
    Ready,
    /// Nobody may have it yet.
    Delayed,
    /// Handed out.
    Out,
    /// On its way out of the queue: deleted, moved or expired, not yet committed.
    Held,
}

impl Head {
    /// The row beside the message's.
    pub fn flight(&self) -> Flight {
        Flight {
            visible_at: self.visible_at,
            first_received: self.first_received,
            receive_count: self.receive_count,
            generation: self.generation,
        }
    }
}

/// Rules of one receive.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub max: usize,
    pub visibility_ms: i64,
    /// `maxReceiveCount`, if there is a dead-letter queue.
    pub max_receives: Option<u32>,
    pub retention_ms: i64,
}

/// What a receive decided. Messages in `dead` and `expired` are held: move or erase them, then [`Heart::remove`] them or
/// [`Heart::release`] them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub out: Vec<(u64, Head)>,
    pub dead: Vec<(u64, Head)>,
    pub expired: Vec<(u64, Head)>,
    /// There were more than may be out.
    pub over_limit: bool,
}

/// How a receipt handle stands to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The message is out and this is its newest handle.
    Current,
    /// Its time is over and the message was not handed out again.
    Lapsed,
    /// The message was handed out again, or it is on its way out of the queue.
    Stale,
    /// There is no such message.
    Gone,
}

/// A message found in the store.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    pub sequence: u64,
    pub sent: i64,
    pub group: Option<&'a str>,
    pub chunks: u16,
}

/// See the module's head.
#[derive(Debug)]
pub struct Heart {
    messages: BTreeMap<u64, Head>,
    ready: BTreeSet<u64>,
    /// By the time at which they become visible: delayed ones and those that are out.
    hidden: BTreeSet<(i64, u64)>,
    /// Of a FIFO queue.
    groups: Option<Groups>,
    /// Sent while the window was not at the tail, and not yet committed.
    absent: BTreeMap<u64, Head>,
    next: u64,
    loaded_to: u64,
    at_tail: bool,
    count: u64,
    out: usize,
    delayed: usize,
    /// Counts what a dashboard may want to know of: whether the tally at rest is behind.
    changes: u64,
}

impl Heart {
    /// A queue of `count` messages below sequence `next`, of which the window knows none yet; those below `floor` do not
    /// exist.
    pub fn new(fifo: bool, floor: u64, next: u64, count: u64) -> Self {
        Self {
            messages: BTreeMap::new(),
            ready: BTreeSet::new(),
            hidden: BTreeSet::new(),
            groups: fifo.then(Groups::default),
            absent: BTreeMap::new(),
            next: next.max(1),
            loaded_to: floor.saturating_sub(1),
            at_tail: count == 0,
            count,
            out: 0,
            delayed: 0,
            changes: 0,
        }
    }

    /// Takes up a message that was handed out or delayed before the queue was opened.
    pub fn restore(&mut self, now: i64, message: Loaded<'_>, flight: Flight) {
        let state = match (flight.visible_at > now, flight.generation) {
            (false, _) => State::Ready,
            (true, 0) => State::Delayed,
            (true, _) => State::Out,
        };
        let head = Head {
            visible_at: flight.visible_at,
            first_received: flight.first_received,
            taken_at: now,
            receive_count: flight.receive_count,
            generation: flight.generation,
            has_flight: true,
            ..self.head(message.sent, message.group, message.chunks)
        };
        self.insert(message.sequence, head, state);
    }

    fn head(&mut self, sent: i64, group: Option<&str>, chunks: u16) -> Head {
        let group = match (&mut self.groups, group) {
            (Some(groups), name) => groups.id_of(name.unwrap_or("")),
            (None, _) => 0,
        };
        Head {
            sent,
            visible_at: 0,
            first_received: 0,
            taken_at: 0,
            receive_count: 0,
            generation: 0,
            group,
            chunks,
            state: State::Pending,
            has_flight: false,
        }
    }

    /// Where the next page of messages begins, if the window has fewer than `wanted` to hand out and does not end at the
    /// tail.
    pub fn needs(&self, wanted: usize) -> Option<u64> {
        let short = match &self.groups {
            None => self.ready.len() < wanted,
            // Behind a long line of one group others may stand, but a receive need not look for them while it has some.
            Some(_) if self.ready.is_empty() => self.messages.len() < MAX_WINDOW,
            Some(_) => self.ready.len() < wanted && self.messages.len() < GLIMPSE.max(wanted),
        };
        (!self.at_tail && short).then_some(self.loaded_to + 1)
    }

    /// Takes up a page of the store in the order of sequences; `last` if nothing was behind it.
    pub fn load<'a>(&mut self, page: impl IntoIterator<Item = Loaded<'a>>, last: bool) {
        let before = self.loaded_to;
        for message in page {
            self.loaded_to = message.sequence;
            // Known already: it was out or delayed when the queue was opened.
            if !self.messages.contains_key(&message.sequence) {
                let head = self.head(message.sent, message.group, message.chunks);
                self.insert(message.sequence, head, State::Ready);
            }
        }
        if last {
            self.at_tail = true;
            let behind = self.absent.split_off(&(self.loaded_to + 1));
            for (sequence, head) in behind {
                self.insert(sequence, head, State::Pending);
            }
            self.loaded_to = self.next - 1;
            // What was counted and is not there was deleted between the last tally and a crash. What is still absent was
            // found in the store already.
            self.count = self.messages.len() as u64;
            self.changes += 1;
        }
        if self.groups.is_some() {
            let joined: Vec<u32> = self.messages.range(before + 1..).map(|(_, head)| head.group).collect();
            joined.into_iter().for_each(|group| self.refresh(group));
        }
    }

    /// Gives a message its place. It cannot be handed out before [`Heart::sent`].
    pub fn send(&mut self, now: i64, visible_at: i64, group: Option<&str>, chunks: u16) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.count += 1;
        self.changes += 1;
        let mut head = self.head(now, group, chunks);
        head.visible_at = visible_at;
        head.has_flight = visible_at > now;
        if self.at_tail {
            self.loaded_to = sequence;
        }
        if self.at_tail || head.has_flight {
            self.insert(sequence, head, State::Pending);
        } else {
            self.absent.insert(sequence, head);
        }
        sequence
    }

    /// The message is committed. Answers whether a receive may find something now.
    pub fn sent(&mut self, sequence: u64) -> bool {
        if let Some(head) = self.absent.remove(&sequence) {
            self.forget_group(head.group);
            return true;
        }
        let Some(head) = self.messages.get(&sequence) else { return false };
        if head.state != State::Pending {
            return false;
        }
        let state = if head.has_flight { State::Delayed } else { State::Ready };
        self.turn(sequence, state);
        true
    }

    /// The message could not be committed: it never was.
    pub fn unsend(&mut self, sequence: u64) {
        if let Some(head) = self.absent.remove(&sequence) {
            self.forget_group(head.group);
            self.count = self.count.saturating_sub(1);
        } else if self.messages.get(&sequence).is_some_and(|head| head.state == State::Pending) {
            self.remove(sequence);
        }
    }

    /// Makes visible what is due.
    pub fn advance(&mut self, now: i64) {
        while let Some((visible_at, sequence)) = self.hidden.first().copied()
            && visible_at <= now
        {
            self.turn(sequence, State::Ready);
        }
    }

    /// When the next hidden message becomes visible.
    pub fn next_due(&self) -> Option<i64> {
        self.hidden.first().map(|(at, _)| *at)
    }

    /// Hands messages out. Call [`Heart::advance`] before, and load what [`Heart::needs`] asks for.
    pub fn take(&mut self, now: i64, rules: Rules) -> Taken {
        let mut taken = Taken::default();
        while taken.out.len() < rules.max {
            let Some(first) = self.ready.first().copied() else { break };
            let room = MAX_IN_FLIGHT.saturating_sub(self.out);
            if room == 0 {
                taken.over_limit = true;
                break;
            }
            for sequence in self.run_of(first, (rules.max - taken.out.len()).min(room)) {
                if !self.hand_out(now, rules, sequence, &mut taken) {
                    // Those behind it in its group wait for its end.
                    break;
                }
            }
        }
        taken
    }

    /// The messages that may go together, from `first` on: of a FIFO queue those of its group.
    fn run_of(&self, first: u64, max: usize) -> Vec<u64> {
        let Some(groups) = &self.groups else { return vec![first] };
        let line = groups.line(self.messages[&first].group);
        // Behind what is loaded, a message known from before the start may have others before it.
        let next = |sequence: &u64| self.messages[sequence].state == State::Ready && *sequence <= self.loaded_to;
        line.take_while(next).take(max).collect()
    }

    /// Answers whether the message went out.
    fn hand_out(&mut self, now: i64, rules: Rules, sequence: u64, taken: &mut Taken) -> bool {
        let head = self.messages.get_mut(&sequence).expect("what is ready is in the window");
        let expired = now.saturating_sub(head.sent) >= rules.retention_ms;
        let dead = rules.max_receives.is_some_and(|max| head.receive_count >= max);
        if expired || dead {
            self.turn(sequence, State::Held);
            let list = if expired { &mut taken.expired } else { &mut taken.dead };
            list.push((sequence, self.messages[&sequence]));
            return false;
        }
        head.visible_at = now.saturating_add(rules.visibility_ms);
        head.taken_at = now;
        head.receive_count += 1;
        head.generation += 1;
        head.has_flight = true;
        if head.first_received == 0 {
            head.first_received = now;
        }
        self.turn(sequence, State::Out);
        taken.out.push((sequence, self.messages[&sequence]));
        true
    }

    /// The receive could not be committed: it never was.
    pub fn untake(&mut self, sequence: u64, generation: u32) {
        if self.standing(sequence, generation) != Standing::Current {
            return;
        }
        let head = self.messages[&sequence];
        self.leave(sequence, head);
        let head = self.messages.get_mut(&sequence).expect("a current handle's message is in the window");
        head.visible_at = 0;
        head.receive_count -= 1;
        // Nobody was told that handle.
        head.generation -= 1;
        if head.receive_count == 0 {
            head.first_received = 0;
        }
        self.enter(sequence, State::Ready);
    }

    pub fn standing(&self, sequence: u64, generation: u32) -> Standing {
        match self.messages.get(&sequence) {
            None => Standing::Gone,
            Some(head) if head.generation != generation || head.state == State::Held => Standing::Stale,
            Some(head) if head.state == State::Out => Standing::Current,
            Some(_) => Standing::Lapsed,
        }
    }

    pub fn get(&self, sequence: u64) -> Option<&Head> {
        self.messages.get(&sequence)
    }

    /// Takes a message off the market until [`Heart::remove`] or [`Heart::release`].
    pub fn hold(&mut self, sequence: u64) {
        if self.messages.contains_key(&sequence) {
            self.turn(sequence, State::Held);
        }
    }

    /// A held message comes back as it was: out while its visibility timeout lasts, else ready.
    pub fn release(&mut self, now: i64, sequence: u64) {
        if let Some(head) = self.messages.get(&sequence).filter(|head| head.state == State::Held) {
            let state = match (head.visible_at > now, head.generation) {
                (false, _) => State::Ready,
                (true, 0) => State::Delayed,
                (true, _) => State::Out,
            };
            self.turn(sequence, state);
        }
    }

    /// The message is gone.
    pub fn remove(&mut self, sequence: u64) {
        let Some(head) = self.messages.get(&sequence).copied() else { return };
        self.leave(sequence, head);
        self.messages.remove(&sequence);
        self.count = self.count.saturating_sub(1);
        self.changes += 1;
        if let Some(groups) = &mut self.groups {
            groups.remove(head.group, sequence);
        }
        self.refresh(head.group);
        self.forget_group(head.group);
    }

    /// Changes when a message that is out comes back. With `uncounted` its last receive never was. Answers the head to be
    /// written.
    pub fn change(&mut self, now: i64, sequence: u64, visible_at: i64, uncounted: bool) -> Option<Head> {
        let head = self.messages.get(&sequence).copied().filter(|head| head.state == State::Out)?;
        self.leave(sequence, head);
        let head = self.messages.get_mut(&sequence).expect("it was there a line ago");
        head.visible_at = visible_at;
        head.receive_count -= u32::from(uncounted && head.receive_count > 0);
        let state = if visible_at > now { State::Out } else { State::Ready };
        self.enter(sequence, state);
        self.messages.get(&sequence).copied()
    }

    /// The oldest messages of the window that have outlived `retention_ms`, held; those that are out stay.
    pub fn expire(&mut self, now: i64, retention_ms: i64, max: usize) -> Vec<(u64, Head)> {
        let old = |head: &Head| now.saturating_sub(head.sent) >= retention_ms;
        let idle = |head: &Head| matches!(head.state, State::Ready | State::Delayed);
        let front = self.messages.iter().take_while(|(_, head)| old(head) || !idle(head));
        let found: Vec<u64> =
            front.filter(|(_, head)| idle(head) && old(head)).map(|(sequence, _)| *sequence).take(max).collect();
        found.iter().for_each(|sequence| self.turn(*sequence, State::Held));
        found.into_iter().map(|sequence| (sequence, self.messages[&sequence])).collect()
    }

    /// Up to `max` messages for a move elsewhere, in order, held. A FIFO group's follow each other.
    pub fn take_for_move(&mut self, max: usize) -> Vec<(u64, Head)> {
        let mut found = Vec::new();
        while found.len() < max
            && let Some(first) = self.ready.first().copied()
        {
            for sequence in self.run_of(first, max - found.len()) {
                self.turn(sequence, State::Held);
                found.push((sequence, self.messages[&sequence]));
            }
        }
        found
    }

    /// A message for a move elsewhere, held; `None` if it is not there, or not ready.
    pub fn take_this(&mut self, sequence: u64) -> Option<Head> {
        self.messages.get(&sequence).filter(|head| head.state == State::Ready)?;
        self.turn(sequence, State::Held);
        self.messages.get(&sequence).copied()
    }

    /// Forgets every message; answers the sequence below which none exists any more. Sends that are not committed yet are
    /// among them.
    pub fn purge(&mut self) -> u64 {
        let fifo = self.groups.is_some();
        let next = self.next;
        *self = Self { changes: self.changes + 1, ..Self::new(fifo, next, next, 0) };
        next
    }

    /// Messages that could be received, that are out, and that are delayed.
    pub fn counts(&self) -> (u64, u64, u64) {
        let (out, delayed) = (self.out as u64, self.delayed as u64);
        (self.count.saturating_sub(out + delayed), out, delayed)
    }

    /// All messages, the next sequence, and a number that is another one after every change of either.
    pub fn tally(&self) -> (u64, u64, u64) {
        (self.count, self.next, self.changes)
    }

    /// Whether a receive would find something in the window.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    // --- states

    fn insert(&mut self, sequence: u64, head: Head, state: State) {
        self.messages.insert(sequence, Head { state: State::Pending, ..head });
        if let Some(groups) = &mut self.groups {
            groups.add(head.group, sequence);
        }
        self.enter(sequence, state);
    }

    fn turn(&mut self, sequence: u64, state: State) {
        let head = self.messages[&sequence];
        self.leave(sequence, head);
        self.enter(sequence, state);
    }

    /// Undoes what the message's state means for the indexes.
    fn leave(&mut self, sequence: u64, head: Head) {
        match head.state {
            State::Pending => {}
            State::Ready => {
                self.ready.remove(&sequence);
            }
            State::Delayed => {
                self.hidden.remove(&(head.visible_at, sequence));
                self.delayed -= 1;
            }
            State::Out => {
                self.hidden.remove(&(head.visible_at, sequence));
                self.out -= 1;
                self.count_out(head.group, false);
            }
            State::Held => self.count_out(head.group, false),
        }
    }

    fn enter(&mut self, sequence: u64, state: State) {
        let head = self.messages.get_mut(&sequence).expect("who changes a state knows the message");
        head.state = state;
        let head = *head;
        match state {
            State::Pending => {}
            State::Ready if self.groups.is_none() => {
                self.ready.insert(sequence);
            }
            State::Ready => {}
            State::Delayed => {
                self.hidden.insert((head.visible_at, sequence));
                self.delayed += 1;
            }
            State::Out => {
                self.hidden.insert((head.visible_at, sequence));
                self.out += 1;
                self.count_out(head.group, true);
            }
            State::Held => self.count_out(head.group, true),
        }
        self.refresh(head.group);
    }

    fn count_out(&mut self, group: u32, out: bool) {
        if let Some(groups) = &mut self.groups {
            groups.count_out(group, out);
        }
    }

    /// Puts the first message of a group on the market if the group is open, and takes it off if not.
    fn refresh(&mut self, group: u32) {
        let Some(groups) = &mut self.groups else { return };
        let first = groups.first_if_idle(group);
        let open = first.filter(|first| {
            // A message that the window does not know yet may stand before one that it knows from before the start.
            self.messages[first].state == State::Ready && *first <= self.loaded_to
        });
        let before = groups.set_open(group, open);
        if before != open {
            before.iter().for_each(|sequence| {
                self.ready.remove(sequence);
            });
            self.ready.extend(open);
        }
    }

    fn forget_group(&mut self, group: u32) {
        if let Some(groups) = &mut self.groups {
            groups.forget(group);
        }
    }
}
