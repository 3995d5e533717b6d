//! What an environment writes: its two pipes and the platform's lines become events of one log stream.
//!
//! The pipes are always read, so that a function never blocks on its own output. Whoever ends a call reads them to
//! `EAGAIN` first, so that END and REPORT come after everything that the call wrote; nobody waits for a timer.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, Timestamp};
use flint_kit::{LogEvent, LogSink};
use flint_model::Place;
use tokio::net::unix::pipe;

use crate::environment::Options;
use crate::events::{self, Event};
use crate::lines;
use crate::spec::{LogFormat, Logging};
use crate::splitter::Splitter;
use crate::telemetry::Telemetry;

/// The bytes of log that a call's answer carries. Reference: Lambda API Reference, `Invoke`, `LogType`.
const TAIL: usize = 4096;

/// Bytes that are read from one pipe before others get a turn; also the most that the end of a call reads, since a
/// process that writes without end must not hold up the answer.
const READ_AT_ONCE: usize = 1024 * 1024;

/// One environment's log stream. Shared by the pump and the environment; the lock is held for a few lines at a time,
/// never across an await.
#[derive(Debug)]
pub(crate) struct Log {
    sink: Arc<dyn LogSink>,
    clock: Arc<dyn Clock>,
    place: Place,
    group: Arc<str>,
    stream: Arc<str>,
    logging: Logging,
    pub(crate) telemetry: Arc<Telemetry>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    splitters: [Splitter; 2],
    tail: Tail,
    budget: Budget,
    batch: Vec<LogEvent>,
    buffer: Box<[u8]>,
}

/// Standard output and standard error of one sandbox.
#[derive(Debug)]
pub(crate) struct Pipes([pipe::Receiver; 2]);

impl Pipes {
    pub(crate) fn new((out, err): (pipe::Receiver, pipe::Receiver)) -> Self {
        Self([out, err])
    }
}

impl Log {
    pub(crate) fn new(
        sink: Arc<dyn LogSink>,
        clock: Arc<dyn Clock>,
        place: Place,
        group: Arc<str>,
        stream: Arc<str>,
        logging: Logging,
        options: &Options,
    ) -> Self {
        let state = State {
            splitters: Default::default(),
            tail: Tail::default(),
            budget: Budget::new(options.log_rate.bytes(), options.log_burst.bytes(), clock.monotonic()),
            batch: Vec::new(),
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
        };
        let telemetry = Arc::new(Telemetry::new(clock.clone()));
        Self { sink, clock, place, group, stream, logging, telemetry, state: Mutex::new(state) }
    }

    /// Writes what the platform says. Not charged to the function's budget.
    pub(crate) fn platform(&self, event: Event<'_>) {
        self.platform_lines(&[event]);
    }

    /// Several lines that follow each other.
    pub(crate) fn platform_lines(&self, events: &[Event<'_>]) {
        let mut state = self.lock();
        let at = self.clock.now();
        for event in events {
            self.tell(*event, at);
            let Some(line) = events::render(*event, self.logging, at) else { continue };
            state.tail.push(line.as_bytes());
            state.batch.push(LogEvent { at, message: Bytes::from(line) });
        }
        self.send(&mut state);
    }

    /// As [`Log::platform`], but not part of any call's tail.
    pub(crate) fn platform_untailed(&self, event: Event<'_>) {
        let at = self.clock.now();
        self.tell(event, at);
        let Some(line) = events::render(event, self.logging, at) else { return };
        let event = LogEvent { at, message: Bytes::from(line) };
        self.sink.append(&self.place, &self.group, &self.stream, vec![event]);
    }

    /// For telemetry only.
    fn tell(&self, event: Event<'_>, at: Timestamp) {
        if self.telemetry.is_active()
            && let Some((_, kind, record)) = events::record(event)
        {
            self.telemetry.platform(kind, &record, at);
        }
    }

    /// The runtime is done with an invocation; what extensions do with it is not. [`Event::End`] follows, and is told only
    /// here.
    pub(crate) fn runtime_done(&self, event: Event<'_>, pipes: &Pipes) {
        if self.telemetry.is_active() {
            self.drain(pipes);
            self.tell(event, self.clock.now());
        }
    }

    /// Reads both pipes until they have no more to give, and hands out what has no line feed yet.
    pub(crate) fn drain(&self, pipes: &Pipes) {
        self.drain_with(pipes, |pipe, buffer| Ok(rustix::io::read(pipe.as_fd(), buffer)?));
    }

    /// As [`Log::drain`], but asks the kernel only where it has said that there is something: what a process wrote in the last
    /// moment may be left for the next time.
    pub(crate) fn drain_known(&self, pipes: &Pipes) {
        self.drain_with(pipes, pipe::Receiver::try_read);
    }

    fn drain_with(&self, pipes: &Pipes, read: impl Fn(&pipe::Receiver, &mut [u8]) -> std::io::Result<usize>) {
        let mut state = self.lock();
        for (index, pipe) in pipes.0.iter().enumerate() {
            self.read_all(&mut state, index, |buffer| read(pipe, buffer));
            let State { splitters, tail, budget, batch, .. } = &mut *state;
            let mut keep = self.keep(tail, budget, batch);
            // An extension goes on writing.
            if !self.telemetry.is_marked(splitters[index].partial()) {
                splitters[index].flush(|line| keep.line(line));
            }
        }
        let State { tail, budget, batch, .. } = &mut *state;
        self.keep(tail, budget, batch).tell_dropped();
        self.send(&mut state);
    }

    /// The last bytes of what was logged since the last call of this function.
    pub(crate) fn take_tail(&self) -> Bytes {
        self.lock().tail.take()
    }

    /// Reads the pipes until both are closed.
    pub(crate) async fn pump(&self, pipes: &Pipes) {
        tokio::join!(self.pump_one(pipes, 0), self.pump_one(pipes, 1));
    }

    async fn pump_one(&self, pipes: &Pipes, index: usize) {
        let pipe = &pipes.0[index];
        loop {
            if pipe.readable().await.is_err() {
                return;
            }
            let closed = {
                let mut state = self.lock();
                let closed = self.read_all(&mut state, index, |buffer| pipe.try_read(buffer));
                self.send(&mut state);
                closed
            };
            if closed {
                return;
            }
            // One function's flood of output must not starve others of this thread.
            tokio::task::yield_now().await;
        }
    }

    /// True once the pipe is closed.
    fn read_all(
        &self,
        state: &mut State,
        index: usize,
        mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    ) -> bool {
        let State { splitters, tail, budget, batch, buffer } = state;
        let mut keep = self.keep(tail, budget, batch);
        let mut total = 0;
        while total < READ_AT_ONCE {
            match read(buffer) {
                Ok(0) => return true,
                Ok(n) => {
                    total += n;
                    splitters[index].push(&buffer[..n], |line| keep.line(line));
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    fn keep<'a>(&'a self, tail: &'a mut Tail, budget: &'a mut Budget, batch: &'a mut Vec<LogEvent>) -> Keep<'a> {
        let json = self.logging.format == LogFormat::Json;
        Keep { tail, budget, batch, clock: &*self.clock, telemetry: &self.telemetry, json }
    }

    fn send(&self, state: &mut State) {
        if !state.batch.is_empty() {
            self.sink.append(&self.place, &self.group, &self.stream, std::mem::take(&mut state.batch));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines of a function go, within its budget.
struct Keep<'a> {
    tail: &'a mut Tail,
    budget: &'a mut Budget,
    batch: &'a mut Vec<LogEvent>,
    clock: &'a dyn Clock,
    telemetry: &'a Telemetry,
    json: bool,
}

impl Keep<'_> {
    fn line(&mut self, message: Bytes) {
        if !self.budget.take(message.len() as u64 + 1, self.clock.monotonic()) {
            return;
        }
        self.tell_dropped();
        let (message, source) = self.telemetry.unmark(message);
        self.tail.push(&message);
        let at = self.clock.now();
        if self.telemetry.is_active() {
            self.telemetry.line(message.clone(), source, self.json, at);
        }
        self.batch.push(LogEvent { at, message });
    }

    fn tell_dropped(&mut self) {
        if let Some((lines, bytes)) = self.budget.take_dropped() {
            let line = lines::dropped(lines, bytes);
            self.tail.push(line.as_bytes());
            self.batch.push(LogEvent { at: self.clock.now(), message: Bytes::from(line) });
        }
    }
}

/// A token bucket of bytes that counts what it refuses.
#[derive(Debug)]
struct Budget {
    rate: u64,
    burst: u64,
    left: u64,
    at: Duration,
    dropped: (u64, u64),
}

impl Budget {
    fn new(rate: u64, burst: u64, now: Duration) -> Self {
        Self { rate, burst, left: burst, at: now, dropped: (0, 0) }
    }

    fn take(&mut self, bytes: u64, now: Duration) -> bool {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.rate as f64;
        if earned >= 1.0 {
            self.left = self.burst.min(self.left.saturating_add(earned as u64));
            self.at = now;
        }
        if bytes > self.left {
            self.dropped.0 += 1;
            self.dropped.1 += bytes;
            return false;
        }
        self.left -= bytes;
        true
    }

    fn take_dropped(&mut self) -> Option<(u64, u64)> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped.0 > 0).then_some(dropped)
    }
}

/// The last bytes of the lines that were pushed.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    fn push(&mut self, line: &[u8]) {
        let line = &line[line.len().saturating_sub(TAIL)..];
        // Cut rarely, so that many short lines cost one copy each and not a shift each.
        if self.bytes.len() + line.len() + 1 > 4 * TAIL {
            let cut = self.bytes.len().saturating_sub(TAIL);
            self.bytes.drain(..cut);
        }
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
    }

    fn take(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        Bytes::copy_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_drops_counts_and_recovers() {
        let mut budget = Budget::new(100, 250, Duration::ZERO);
        assert!(budget.take(200, Duration::ZERO));
        assert!(!budget.take(60, Duration::ZERO));
        assert!(!budget.take(70, Duration::from_millis(100)));
        assert_eq!(budget.take_dropped(), Some((2, 130)));
        assert_eq!(budget.take_dropped(), None);
        assert!(budget.take(60, Duration::from_millis(100)));
        assert!(budget.take(250, Duration::from_secs(60)));
        assert!(!budget.take(1, Duration::from_secs(60)));
    }

    #[test]
    fn the_tail_is_the_last_4096_bytes() {
        let mut tail = Tail::default();
        tail.push(b"one");
        assert_eq!(tail.take(), "one\n");
        for n in 0..5000 {
            tail.push(format!("line {n}").as_bytes());
        }
        let bytes = tail.take();
        assert_eq!(bytes.len(), TAIL);
        assert!(bytes.ends_with(b"line 4998\nline 4999\n"));
        tail.push(&vec![b'x'; 10_000]);
        assert_eq!(tail.take().len(), TAIL);
        assert!(tail.take().is_empty());
    }
}
