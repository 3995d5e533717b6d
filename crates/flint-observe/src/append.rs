//! Appending to one group: streams, records, full segments, and what has expired.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::group::{self, Group, Segment};
use crate::record::{self, HEADER_BYTES, Header, MESSAGE_BYTES_MAX};
use crate::segment::{self, Summary};
use crate::{Error, files};

/// A segment takes events for at most a day, so that a retention of days can remove it.
const SEGMENT_AGE_MS_MAX: i64 = 24 * 60 * 60 * 1000;
/// The list of streams is written anew when it is at least this long and mostly about streams that are gone.
const STREAMS_COMPACT_BYTES: u64 = 1 << 20;

/// One event to be written.
#[derive(Clone, Debug)]
pub struct Line {
    pub stream: Arc<str>,
    /// Milliseconds since the epoch.
    pub at: i64,
    pub message: Bytes,
    /// Somebody is told if it cannot be written; else it is counted as lost.
    pub waited_for: bool,
}

/// The open files of a group. Only the writer has them.
#[derive(Debug)]
pub struct Appender {
    group: Arc<Group>,
    newest: File,
    streams: File,
    /// Something was written since the last sync.
    dirty: bool,
    segment_bytes: u64,
}

impl Appender {
    /// Opens a group for appending and cuts off what a failed or interrupted write left behind.
    pub fn open(group: Arc<Group>, segment_bytes: u64) -> Result<Self, Error> {
        let (base, bytes, streams_bytes) = {
            let mut state = group.lock();
            let (_, contents) = state.contents(&group)?;
            let streams_bytes = contents.streams_bytes;
            let newest = contents.newest();
            (newest.base, newest.summary.bytes, streams_bytes)
        };
        let open = |path: std::path::PathBuf, bytes: u64| -> Result<File, Error> {
            let file = files::open_writable(&path)?;
            let length = file.metadata().map_err(Error::io("inspect", &path))?.len();
            if length > bytes {
                file.set_len(bytes).map_err(Error::io("truncate", &path))?;
            }
            Ok(file)
        };
        let newest = open(group.segment_path(base), bytes)?;
        let streams = open(group.streams_path(), streams_bytes)?;
        files::sync_dir(&group.dir)?;
        Ok(Self { group, newest, streams, dirty: false, segment_bytes })
    }

    /// Writes `lines` in order and makes streams that are missing.
    ///
    /// Answers how many lines are written, and the error that kept the others from it. A line longer than a record
    /// takes becomes several.
    pub fn append(&mut self, lines: &[Line], now: i64) -> (usize, Result<(), Error>) {
        let ids = match self.stream_ids(lines, now) {
            Ok(ids) => ids,
            Err(e) => return (0, Err(e)),
        };
        let mut written = 0;
        let mut out = Pending::default();
        let (mut seq, mut bytes, opened) = {
            let mut state = self.group.lock();
            match state.contents(&self.group) {
                Ok((_, contents)) => {
                    let seq = contents.next_seq;
                    let summary = &contents.newest().summary;
                    (seq, summary.bytes, (summary.events > 0).then_some(summary.opened))
                }
                Err(e) => return (0, Err(e)),
            }
        };
        let mut old = opened.is_some_and(|opened| now.saturating_sub(opened) > SEGMENT_AGE_MS_MAX);
        for (i, line) in lines.iter().enumerate() {
            for piece in pieces(&line.message) {
                let full = bytes > 0 && bytes + (HEADER_BYTES + piece.len()) as u64 > self.segment_bytes;
                if old || full {
                    if let Err(e) = self.write(&mut out, seq) {
                        return (written, Err(e));
                    }
                    (written, bytes, old) = (i, 0, false);
                    if let Err(e) = self.roll(seq) {
                        return (written, Err(e));
                    }
                }
                let header = Header { stream: ids[&line.stream], at: line.at, ingested: now, seq };
                record::encode(&mut out.bytes, header, piece);
                out.headers.push((header, piece.len()));
                bytes += (HEADER_BYTES + piece.len()) as u64;
                seq += 1;
            }
        }
        match self.write(&mut out, seq) {
            Ok(()) => (lines.len(), Ok(())),
            Err(e) => (written, Err(e)),
        }
    }

    /// The numbers of the lines' streams; new ones are written to the list first.
    fn stream_ids(&mut self, lines: &[Line], now: i64) -> Result<HashMap<Arc<str>, u32>, Error> {
        let mut ids: HashMap<Arc<str>, u32> = HashMap::new();
        let mut fresh = Vec::new();
        {
            let mut state = self.group.lock();
            let (_, contents) = state.contents(&self.group)?;
            let mut next_id = contents.streams.next_id;
            for line in lines {
                if ids.contains_key(&line.stream) {
                    continue;
                }
                let id = contents.streams.of(&line.stream).map_or(next_id, |s| s.id);
                if id == next_id {
                    next_id = next_id.saturating_add(1);
                    fresh.push((id, line.stream.clone()));
                }
                ids.insert(line.stream.clone(), id);
            }
        }
        self.make_streams(&fresh, now, true)?;
        Ok(ids)
    }

    fn make_streams(&mut self, fresh: &[(u32, Arc<str>)], now: i64, by_output: bool) -> Result<(), Error> {
        if fresh.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for (id, name) in fresh {
            group::stream_made(&mut bytes, *id, name, now, by_output);
        }
        self.write_streams(&bytes)?;
        let mut state = self.group.lock();
        let (_, contents) = state.contents(&self.group)?;
        for (id, name) in fresh {
            contents.streams.insert(*id, name, now, by_output);
        }
        Ok(())
    }

    fn write_streams(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let at = {
            let mut state = self.group.lock();
            state.contents(&self.group)?.1.streams_bytes
        };
        let path = self.group.streams_path();
        self.streams.write_all_at(bytes, at).map_err(Error::io("write", &path))?;
        self.dirty = true;
        let mut state = self.group.lock();
        state.contents(&self.group)?.1.streams_bytes = at + bytes.len() as u64;
        Ok(())
    }

    /// Writes what is pending to the newest segment; `next_seq` is the number behind the last pending one.
    fn write(&mut self, out: &mut Pending, next_seq: u64) -> Result<(), Error> {
        if out.headers.is_empty() {
            return Ok(());
        }
        let (base, mut offset) = {
            let mut state = self.group.lock();
            let newest = state.contents(&self.group)?.1.newest();
            (newest.base, newest.summary.bytes)
        };
        let path = self.group.segment_path(base);
        self.newest.write_all_at(&out.bytes, offset).map_err(Error::io("write", &path))?;
        self.dirty = true;
        let mut state = self.group.lock();
        let (_, contents) = state.contents(&self.group)?;
        for (header, message) in out.headers.drain(..) {
            contents.newest().summary.add(offset, &header, message);
            contents.streams.saw(header.stream, segment::StreamTimes::of(&header));
            offset += (HEADER_BYTES + message) as u64;
        }
        contents.next_seq = next_seq;
        out.bytes.clear();
        Ok(())
    }

    /// Ends the newest segment and begins the next, which starts with `base`.
    fn roll(&mut self, base: u64) -> Result<(), Error> {
        self.sync()?;
        let path = self.group.segment_path(base);
        let file = files::open_writable(&path)?;
        file.set_len(0).map_err(Error::io("truncate", &path))?;
        files::sync_dir(&self.group.dir)?;
        self.newest = file;
        let mut state = self.group.lock();
        let (_, contents) = state.contents(&self.group)?;
        let ended = contents.newest();
        let (ended_base, summary) = (ended.base, ended.summary.clone());
        contents.segments.push(Segment { base, summary: Summary::default() });
        drop(state);
        summary.save(&self.group.segment_path(ended_base));
        Ok(())
    }

    /// Puts what was written on stable storage.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.dirty {
            // The list first: a record must not outlive the name of its stream.
            self.streams.sync_data().map_err(Error::io("sync", &self.group.streams_path()))?;
            self.newest.sync_data().map_err(Error::io("sync", &self.group.dir))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Makes a stream, durably.
    pub fn create_stream(&mut self, name: &Arc<str>, now: i64) -> Result<(), Error> {
        let id = {
            let mut state = self.group.lock();
            let streams = &state.contents(&self.group)?.1.streams;
            if streams.of(name).is_some() {
                return Err(Error::StreamExists);
            }
            streams.next_id
        };
        self.make_streams(&[(id, name.clone())], now, false)?;
        self.sync()
    }

    /// Deletes a stream, durably. Its events are no longer served; their bytes go with their segment.
    pub fn delete_stream(&mut self, name: &Arc<str>, now: i64) -> Result<(), Error> {
        let id = {
            let mut state = self.group.lock();
            state.contents(&self.group)?.1.streams.of(name).ok_or(Error::StreamMissing)?.id
        };
        self.drop_streams(&[id], now)?;
        self.sync()
    }

    fn drop_streams(&mut self, ids: &[u32], now: i64) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for id in ids {
            group::stream_deleted(&mut bytes, *id, now);
        }
        self.write_streams(&bytes)?;
        let mut state = self.group.lock();
        let (_, contents) = state.contents(&self.group)?;
        for id in ids {
            contents.streams.remove(*id);
        }
        Ok(())
    }

    /// Removes the segments whose events have all expired, and the streams that output had made and that have none
    /// left.
    ///
    /// Differs: the reference keeps empty streams for ever; here each environment makes one, so they would pile up.
    pub fn sweep(&mut self, now: i64) -> Result<(), Error> {
        let expired = |summary: &Summary, expiry: i64| summary.times().is_some_and(|(_, last)| last < expiry);
        let (expiry, roll_at) = {
            let mut state = self.group.lock();
            let (meta, contents) = state.contents(&self.group)?;
            let expiry = meta.expiry(now);
            let next_seq = contents.next_seq;
            (expiry, expired(&contents.newest().summary, expiry).then_some(next_seq))
        };
        if expiry == i64::MIN {
            return Ok(());
        }
        if let Some(base) = roll_at {
            self.roll(base)?;
        }
        let (gone, idle) = {
            let mut state = self.group.lock();
            let (_, contents) = state.contents(&self.group)?;
            let mut gone = Vec::new();
            // The newest is never expired here: it would have been ended above.
            contents.segments.retain(|segment| {
                let keep = !expired(&segment.summary, expiry);
                if !keep {
                    gone.push(segment.base);
                }
                keep
            });
            if !gone.is_empty() {
                contents.recount_streams();
            }
            (gone, contents.idle_streams(expiry))
        };
        for base in &gone {
            let path = self.group.segment_path(*base);
            match segment::remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
                _ => {}
            }
        }
        if !idle.is_empty() {
            self.drop_streams(&idle, now)?;
        }
        self.compact_streams()
    }

    /// Writes the list of streams anew when most of it is about streams that are gone.
    fn compact_streams(&mut self) -> Result<(), Error> {
        let bytes = {
            let mut state = self.group.lock();
            let (_, contents) = state.contents(&self.group)?;
            let mut bytes = Vec::new();
            // Keeps the highest number taken. It comes first, so that its name takes none away.
            if let Some(last) = contents.streams.next_id.checked_sub(1)
                && contents.streams.get(last).is_none()
            {
                group::stream_made(&mut bytes, last, "-", 0, false);
                group::stream_deleted(&mut bytes, last, 0);
            }
            for stream in contents.streams.iter() {
                let name = stream.name.to_string();
                group::stream_made(&mut bytes, stream.id, &name, stream.created(), stream.made_by_output);
            }
            let worth_it = contents.streams_bytes >= STREAMS_COMPACT_BYTES.max(2 * bytes.len() as u64);
            if !worth_it {
                return Ok(());
            }
            bytes
        };
        let path = self.group.streams_path();
        files::replace(&path, &bytes)?;
        self.streams = files::open_writable(&path)?;
        let mut state = self.group.lock();
        state.contents(&self.group)?.1.streams_bytes = bytes.len() as u64;
        Ok(())
    }
}

/// Records that are encoded and not yet written.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    headers: Vec<(Header, usize)>,
}

/// A message in pieces that a record takes, split between characters where it is text.
fn pieces(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(message);
    std::iter::from_fn(move || {
        let message = rest?;
        if message.len() <= MESSAGE_BYTES_MAX {
            rest = None;
            return Some(message);
        }
        let is_inside = |at: usize| message[at] & 0b1100_0000 == 0b1000_0000;
        // A character has at most four bytes; what has more of them is no text.
        let cut = (MESSAGE_BYTES_MAX - 3..=MESSAGE_BYTES_MAX).rev().find(|at| !is_inside(*at));
        let (piece, more) = message.split_at(cut.unwrap_or(MESSAGE_BYTES_MAX));
        rest = Some(more);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_split_between_characters() {
        let message = "é".repeat(MESSAGE_BYTES_MAX);
        let odd = format!("x{message}");
        for text in [message.as_str(), odd.as_str(), "short", ""] {
            let parts: Vec<_> = pieces(text.as_bytes()).collect();
            assert!(parts.iter().all(|p| p.len() <= MESSAGE_BYTES_MAX && std::str::from_utf8(p).is_ok()));
            assert_eq!(parts.concat(), text.as_bytes());
        }
        let noise = vec![0x80; MESSAGE_BYTES_MAX + 1];
        assert_eq!(pieces(&noise).map(<[u8]>::len).collect::<Vec<_>>(), [MESSAGE_BYTES_MAX, 1]);
    }
}
