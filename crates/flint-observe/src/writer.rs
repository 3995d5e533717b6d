//! The one thread that changes the files.
//!
//! It takes everything that waits, writes each group's lines with one call, and answers. What callers were told is on
//! stable storage; output of functions is written at once (a killed process loses nothing that was taken from the
//! queue) and synced at most [`Settings::sync_every`] later, which is what a power cut can cost.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, Timestamp};

use crate::Error;
use crate::append::{Appender, Line};
use crate::group::{Group, Meta};
use crate::hub::{LogHub, TailEvent};
use crate::names;
use crate::queue::{Batch, Command, GroupKey, LostLines, Queue, Reply, Request, note_lost};
use crate::registry::Registry;

/// How often the writer looks at the clock when nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// How often expired segments are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// A group with many streams that nobody touched for so long, or up to twice as long, gives its memory back.
const REST_AFTER: Duration = Duration::from_secs(60);
/// Groups whose files stay open: two descriptors each.
const OPEN_GROUPS_MAX: usize = 64;

/// What the writer must know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub segment_bytes: u64,
    pub sync_every: Duration,
}

/// The writer's state.
#[derive(Debug)]
pub struct Writer {
    registry: Arc<Registry>,
    queue: Arc<Queue>,
    hub: LogHub,
    clock: Arc<dyn Clock>,
    settings: Settings,
    open: HashMap<PathBuf, Appender>,
    lost: LostLines,
    /// Directories of deleted groups whose files are still to be removed.
    gone: Vec<PathBuf>,
    removals: u64,
    last_sync: Duration,
    last_sweep: Duration,
    last_rest: Duration,
}

/// Lines of one group that wait within a batch, and who waits for them.
#[derive(Default)]
struct Waiting {
    lines: Vec<Line>,
    replies: Vec<Reply<()>>,
}

/// Lines of one stream.
struct Incoming {
    group: GroupKey,
    stream: Arc<str>,
    events: Vec<(Timestamp, Bytes)>,
    waited_for: bool,
}

type WaitingLines = HashMap<GroupKey, Waiting>;

impl Writer {
    pub fn new(
        registry: Arc<Registry>,
        queue: Arc<Queue>,
        hub: LogHub,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let now = clock.monotonic();
        Self {
            registry,
            queue,
            hub,
            clock,
            settings,
            open: HashMap::new(),
            lost: LostLines::new(),
            gone: Vec::new(),
            removals: 0,
            last_sync: now,
            last_sweep: now,
            last_rest: now,
        }
    }

    /// Works until [`Request::Stop`].
    pub fn run(mut self) {
        /// However the thread ends, nobody waits for it any longer.
        struct Close(Arc<Queue>);
        impl Drop for Close {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _close = Close(self.queue.clone());
        loop {
            let batch = self.queue.take(TICK.min(self.settings.sync_every));
            let stop = self.turn(batch);
            if stop {
                break;
            }
        }
        self.sync_all();
    }

    /// One round: a batch, then what is due by the clock. Answers whether to stop.
    fn turn(&mut self, batch: Batch) -> bool {
        for (group, lost) in batch.lost {
            note_lost(&mut self.lost, &group, &lost.stream, lost.lines, lost.bytes);
        }
        let mut waiting = WaitingLines::new();
        let mut stop = false;
        for command in batch.commands {
            match command {
                Command::Output { group, stream, events } => {
                    if let Err(error) = names::check_stream(&stream) {
                        tracing::error!(group = %group.1, %error, "output is dropped");
                        continue;
                    }
                    let events = events.into_iter().map(|e| (e.at, e.message)).collect();
                    self.wait(&mut waiting, Incoming { group, stream, events, waited_for: false });
                }
                Command::Request(Request::Put { group, stream, events, reply }) => {
                    match self.stream_exists(&group, &stream) {
                        Ok(()) => {
                            let incoming = Incoming { group: group.clone(), stream, events, waited_for: true };
                            self.wait(&mut waiting, incoming);
                            waiting.entry(group).or_default().replies.push(reply);
                        }
                        Err(e) => answer(reply, Err(e)),
                    }
                }
                Command::Request(Request::Stop) => stop = true,
                Command::Request(request) => {
                    // Everything else sees what was said before it.
                    self.flush(&mut waiting);
                    self.serve(request);
                }
            }
        }
        self.flush(&mut waiting);
        self.tell_lost();
        self.on_time();
        for dir in std::mem::take(&mut self.gone) {
            if let Err(error) = fs::remove_dir_all(&dir) {
                tracing::warn!(path = %dir.display(), %error, "the files of a deleted log group remain until the next start");
            }
        }
        stop
    }

    /// Shows the lines to those who watch, and notes them for [`Writer::flush`].
    fn wait(&self, waiting: &mut WaitingLines, incoming: Incoming) {
        let Incoming { group, stream, events, waited_for } = incoming;
        if self.hub.is_watched() {
            for (at, message) in &events {
                let (place, name) = group.clone();
                let message = message.clone();
                self.hub.publish(TailEvent { place, group: name, stream: stream.clone(), at: *at, message });
            }
        }
        let line = |(at, message): (Timestamp, Bytes)| {
            let at = at.as_millis();
            Line { stream: stream.clone(), at, message, waited_for }
        };
        waiting.entry(group).or_default().lines.extend(events.into_iter().map(line));
    }

    fn stream_exists(&self, (place, name): &GroupKey, stream: &str) -> Result<(), Error> {
        let group = self.registry.find(place, name)?;
        let mut state = group.lock();
        let (_, contents) = state.contents(&group)?;
        contents.streams.of(stream).map(|_| ()).ok_or(Error::StreamMissing)
    }

    /// Writes what waits, group by group, and answers those who wait for it.
    fn flush(&mut self, waiting: &mut WaitingLines) {
        for (key, Waiting { lines, replies }) in waiting.drain() {
            let (written, mut result) = self.write(&key, &lines);
            if let Err(error) = &result {
                // Once per spell, not once per batch.
                if !self.lost.contains_key(&key) {
                    gave_up(&key, error);
                }
                for line in lines[written..].iter().filter(|line| !line.waited_for && error.may_pass()) {
                    note_lost(&mut self.lost, &key, &line.stream, 1, line.message.len() as u64);
                }
            }
            if !replies.is_empty() && result.is_ok() {
                result = self.with_appender(&key, Appender::sync);
            }
            for reply in replies {
                answer(reply, result.clone());
            }
        }
    }

    fn write(&mut self, key: &GroupKey, lines: &[Line]) -> (usize, Result<(), Error>) {
        if let Err(e) = self.ensure_group(key) {
            return (0, Err(e));
        }
        let now = self.now();
        let mut written = 0;
        let result = self.with_appender(key, |appender| {
            let (n, result) = appender.append(lines, now);
            written = n;
            result
        });
        (written, result)
    }

    /// Runs `work` on the group's open files; after a failure they are opened anew, which repairs a half-done write.
    fn with_appender<T>(
        &mut self,
        (place, name): &GroupKey,
        work: impl FnOnce(&mut Appender) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let group = self.registry.find(place, name)?;
        if self.open.len() >= OPEN_GROUPS_MAX && !self.open.contains_key(&group.dir) {
            self.sync_all();
            self.open.clear();
        }
        match self.open.entry(group.dir.clone()) {
            Entry::Occupied(mut open) => {
                let result = work(open.get_mut());
                if let Err(Error::Io { .. }) = &result {
                    open.remove();
                }
                result
            }
            Entry::Vacant(vacant) => {
                let mut appender = Appender::open(group, self.settings.segment_bytes)?;
                let result = work(&mut appender);
                if !matches!(&result, Err(Error::Io { .. })) {
                    vacant.insert(appender);
                }
                result
            }
        }
    }

    fn ensure_group(&self, key: &GroupKey) -> Result<(), Error> {
        match self.registry.find(&key.0, &key.1) {
            Err(Error::GroupMissing) => {
                self.create_group(key, Meta::new(key.1.clone(), self.now(), Default::default()))
            }
            other => other.map(|_| ()),
        }
    }

    fn create_group(&self, (place, name): &GroupKey, meta: Meta) -> Result<(), Error> {
        names::check_group(name)?;
        if self.registry.find(place, name).is_ok() {
            return Err(Error::GroupExists);
        }
        let group = Group::create(&self.registry.root, place, meta)?;
        self.registry.add(Arc::new(group));
        Ok(())
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::CreateGroup { group, tags, reply } => {
                let meta = Meta::new(group.1.clone(), self.now(), tags);
                answer(reply, self.create_group(&group, meta));
            }
            Request::DeleteGroup { group, reply } => answer(reply, self.delete_group(&group)),
            Request::SetRetention { group, days, reply } => {
                let result = self.registry.find(&group.0, &group.1).and_then(|group| {
                    let meta = Meta { retention_days: days, ..group.meta() };
                    group.set_meta(meta)
                });
                answer(reply, result);
            }
            Request::CreateStream { group, stream, reply } => {
                let now = self.now();
                let result = self.with_appender(&group, |appender| appender.create_stream(&stream, now));
                answer(reply, result);
            }
            Request::DeleteStream { group, stream, reply } => {
                let now = self.now();
                let result = self.with_appender(&group, |appender| appender.delete_stream(&stream, now));
                answer(reply, result);
            }
            Request::Barrier { reply } => {
                self.tell_lost();
                answer(reply, Ok(()));
            }
            Request::Sweep { reply } => {
                self.sweep();
                answer(reply, Ok(()));
            }
            Request::Put { reply, .. } => answer(reply, Err(Error::Stopped)),
            Request::Stop => {}
        }
    }

    fn delete_group(&mut self, key: &GroupKey) -> Result<(), Error> {
        let group = self.registry.find(&key.0, &key.1)?;
        self.open.remove(&group.dir);
        self.lost.remove(key);
        self.removals += 1;
        let unique = self.now().cast_unsigned().wrapping_add(self.removals);
        let aside = self.registry.remove(&group, unique)?;
        self.gone.push(aside);
        Ok(())
    }

    /// Says in the log itself how many lines it lacks. What cannot be said now stays counted.
    fn tell_lost(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        let now = self.now();
        for (key, lost) in std::mem::take(&mut self.lost) {
            let text = format!(
                "[flint] {} log lines ({} bytes) were dropped here: they came faster than the disk took them, or it had no room",
                lost.lines, lost.bytes
            );
            let line = Line { stream: lost.stream.clone(), at: now, message: Bytes::from(text), waited_for: false };
            if self.write(&key, &[line]).1.is_err_and(|e| e.may_pass()) {
                note_lost(&mut self.lost, &key, &lost.stream, lost.lines, lost.bytes);
            }
        }
    }

    /// Syncs and sweeps when it is time.
    fn on_time(&mut self) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.last_sync) >= self.settings.sync_every {
            self.sync_all();
            self.last_sync = now;
        }
        if now.saturating_sub(self.last_sweep) >= SWEEP_EVERY {
            self.sweep();
            self.last_sweep = now;
        }
        if now.saturating_sub(self.last_rest) >= REST_AFTER {
            self.rest();
            self.last_rest = now;
        }
    }

    /// Gives the memory of idle groups back.
    fn rest(&mut self) {
        for group in self.registry.all() {
            if !group.lock().rests() {
                continue;
            }
            if let Some(Err(error)) = self.open.remove(&group.dir).map(|mut appender| appender.sync()) {
                tracing::error!(%error, "log lines of the last second may be lost at a power cut");
            }
            group.lock().forget_contents();
        }
    }

    fn sync_all(&mut self) {
        self.open.retain(|_, appender| match appender.sync() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "log lines of the last second may be lost at a power cut");
                false
            }
        });
    }

    fn sweep(&mut self) {
        let now = self.now();
        for group in self.registry.all() {
            let Meta { name, retention_days: Some(_), .. } = group.meta() else { continue };
            let key = (group.place.clone(), name);
            if let Err(error) = self.with_appender(&key, |appender| appender.sweep(now)) {
                tracing::warn!(group = %key.1, %error, "expired log events remain");
            }
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // Who does not wait any longer needs no answer.
    let _ = reply.send(result);
}

fn gave_up((place, group): &GroupKey, error: &Error) {
    if error.is_full() {
        tracing::warn!(?place, %group, %error, "log lines are dropped until the disk has room");
    } else {
        tracing::error!(?place, %group, %error, "log lines are dropped");
    }
}

#[cfg(test)]
mod tests {
    use flint_base::VirtualClock;
    use flint_model::{ByteCount, Place};

    use super::*;

    #[test]
    fn an_idle_group_with_many_streams_is_forgotten_and_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(VirtualClock::at(Timestamp::from_millis(1_000_000)));
        let registry = Arc::new(Registry::open(dir.path()).expect("empty"));
        let mib = ByteCount::from_mib(8);
        let queue = Arc::new(Queue::new(mib, mib));
        let settings = Settings { segment_bytes: 1 << 20, sync_every: Duration::from_secs(1) };
        let mut writer = Writer::new(registry.clone(), queue, LogHub::new(16), clock.clone(), settings);
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        let key = (place, Arc::<str>::from("/aws/lambda/busy"));
        let line = |n: u32| Line {
            stream: format!("2026/11/27/[$LATEST]{n:032x}").into(),
            at: 1_000_000,
            message: Bytes::from(format!("line {n}")),
            waited_for: false,
        };
        let lines: Vec<Line> = (0..1_000).map(line).collect();
        writer.write(&key, &lines).1.expect("written");
        let group = registry.find(&key.0, &key.1).expect("made");
        let at_hand = |group: &Group| group.lock().has_contents();
        for expected in [true, false] {
            clock.advance(REST_AFTER);
            writer.on_time();
            assert_eq!(at_hand(&group), expected);
        }
        writer.write(&key, &[line(1_000), line(3)]).1.expect("written");
        let mut state = group.lock();
        let (_, contents) = state.contents(&group).expect("read");
        assert_eq!((contents.streams.len(), contents.next_seq), (1_001, 1_002));
    }
}
