//! One log group: its directory, and what is known of it in memory.
//!
//! ```text
//! group.json             name, creation time, retention, tags
//! streams                one record per stream made or deleted
//! 00000000000000000000.seg   events; the newest segment is appended to
//! 00000000000000000000.idx   the summary of a full segment
//! ```
//! Only the writer's thread changes a group; readers take the lock to look at it. The contents are read at the first
//! touch: a start costs one small file per group.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flint_model::Place;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::{self, Header, Scanner};
use crate::segment::{self, Summary};
use crate::streams::{Stream, Streams};
use crate::{Error, files, names};

/// The version of `group.json` that this program writes and reads.
const VERSION: u32 = 1;
const META_FILE: &str = "group.json";
const STREAMS_FILE: &str = "streams";

/// What a record of the `streams` file says, in the place of a sequence number.
const STREAM_MADE: u64 = 0;
const STREAM_DELETED: u64 = 1;
/// Made by a function's first line, not by a caller: it goes when its events have expired.
const STREAM_MADE_BY_OUTPUT: u64 = 2;

/// Streams of an idle group that stay in memory, at a few hundred bytes each: each environment of a function makes one.
const STREAMS_AT_HAND: usize = 256;

/// A group's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub version: u32,
    pub name: Arc<str>,
    /// Tells the group apart from others, also from an earlier one of the same name.
    pub id: Uuid,
    /// Milliseconds since the epoch.
    pub created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Meta {
    pub fn new(name: Arc<str>, created: i64, tags: BTreeMap<String, String>) -> Self {
        Self { version: VERSION, name, id: Uuid::new_v4(), created, retention_days: None, tags }
    }

    /// Events from before this moment have expired.
    pub fn expiry(&self, now: i64) -> i64 {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        self.retention_days.map_or(i64::MIN, |days| now.saturating_sub(i64::from(days) * DAY_MS))
    }
}

/// A log group.
#[derive(Debug)]
pub struct Group {
    pub place: Place,
    pub dir: PathBuf,
    state: Mutex<State>,
}

/// What a group's lock protects.
#[derive(Debug)]
pub struct State {
    pub meta: Meta,
    contents: Option<Contents>,
    /// Whether somebody looked at the contents since the writer last asked.
    touched: bool,
}

/// What the group's files hold.
#[derive(Debug)]
pub struct Contents {
    pub streams: Streams,
    /// Bytes of whole records in the `streams` file.
    pub streams_bytes: u64,
    /// Ascending by base; the last one is appended to.
    pub segments: Vec<Segment>,
    pub next_seq: u64,
}

/// A segment by its first sequence number.
#[derive(Debug)]
pub struct Segment {
    pub base: u64,
    pub summary: Summary,
}

impl Group {
    /// Makes the directory of a new group, durably, below `root`: it appears whole or not at all.
    pub fn create(root: &Path, place: &Place, meta: Meta) -> Result<Self, Error> {
        let dir = names::group_dir(root, place, &meta.name);
        let above = dir.parent().unwrap_or(root);
        files::make_dirs(root, above)?;
        let draft = above.join(".draft");
        match fs::remove_dir_all(&draft) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &draft)(e)),
            _ => {}
        }
        fs::create_dir(&draft).map_err(Error::io("create", &draft))?;
        write_meta(&draft, &meta)?;
        fs::rename(&draft, &dir).map_err(Error::io("rename to", &dir))?;
        files::sync_dir(above)?;
        let contents = Contents {
            streams: Streams::default(),
            streams_bytes: 0,
            segments: vec![Segment { base: 0, summary: Summary::default() }],
            next_seq: 0,
        };
        let state = State { meta, contents: Some(contents), touched: true };
        Ok(Self { place: place.clone(), dir, state: Mutex::new(state) })
    }

    /// Reads the settings of the group in `dir`.
    ///
    /// Errors: [`Error::Damaged`], [`Error::Newer`], [`Error::Io`].
    pub fn open(place: &Place, dir: PathBuf) -> Result<Self, Error> {
        let path = dir.join(META_FILE);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let meta: Meta =
            serde_json::from_str(&text).map_err(|e| Error::Damaged { path: path.clone(), reason: e.to_string() })?;
        if meta.version > VERSION {
            return Err(Error::Newer { path, found: meta.version, known: VERSION });
        }
        if names::group_dir_name(&meta.name) != dir.file_name().unwrap_or_default().to_string_lossy() {
            return Err(Error::Damaged { path, reason: format!("its group {:?} lives elsewhere", meta.name) });
        }
        Ok(Self { place: place.clone(), dir, state: Mutex::new(State { meta, contents: None, touched: false }) })
    }

    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves at worst a count behind that the next start corrects.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn meta(&self) -> Meta {
        self.lock().meta.clone()
    }

    /// Replaces the settings, on the disk first.
    pub fn set_meta(&self, meta: Meta) -> Result<(), Error> {
        write_meta(&self.dir, &meta)?;
        self.lock().meta = meta;
        Ok(())
    }

    pub fn streams_path(&self) -> PathBuf {
        self.dir.join(STREAMS_FILE)
    }

    pub fn segment_path(&self, base: u64) -> PathBuf {
        segment::segment_path(&self.dir, base)
    }
}

impl State {
    /// What the group's files hold; reads them at the first call, which takes a few milliseconds.
    pub fn contents(&mut self, group: &Group) -> Result<(&Meta, &mut Contents), Error> {
        if self.contents.is_none() {
            self.contents = Some(Contents::load(group)?);
        }
        self.touched = true;
        let contents = self.contents.as_mut().expect("it was loaded above");
        Ok((&self.meta, contents))
    }

    /// Whether the contents take much memory and nobody has looked at them since the last time that this was asked.
    pub fn rests(&mut self) -> bool {
        let touched = std::mem::take(&mut self.touched);
        !touched && self.contents.as_ref().is_some_and(|c| c.streams.len() > STREAMS_AT_HAND)
    }

    #[cfg(test)]
    pub fn has_contents(&self) -> bool {
        self.contents.is_some()
    }

    /// Forgets the contents; they are read again when somebody asks. For the writer, which closes the group's files first.
    pub fn forget_contents(&mut self) {
        self.contents = None;
    }
}

impl Contents {
    fn load(group: &Group) -> Result<Self, Error> {
        let (mut streams, streams_bytes) = load_streams(&group.streams_path())?;
        let bases = segment::list(&group.dir).map_err(Error::io("list", &group.dir))?;
        let mut segments = Vec::with_capacity(bases.len().max(1));
        for (i, base) in bases.iter().enumerate() {
            let path = group.segment_path(*base);
            // The newest has no summary yet, or one from before it was appended to again.
            let newest = i + 1 == bases.len();
            let summary = if newest { Summary::scan(&path)? } else { Summary::load(&path)? };
            for (id, times) in summary.streams.iter() {
                streams.saw(id, times);
            }
            segments.push(Segment { base: *base, summary });
        }
        let seen = segments.iter().map(|s| s.base.max(if s.summary.events == 0 { 0 } else { s.summary.last_seq + 1 }));
        let next_seq = seen.max().unwrap_or(0);
        if segments.last().is_none_or(|newest| newest.summary.damaged) {
            // What is behind damage stays readable: appending goes on in a segment of its own. One whose damage hid
            // its greatest number could share the name of the next, hence the step.
            let base = segments.last().map_or(next_seq, |newest| next_seq.max(newest.base + 1));
            segments.push(Segment { base, summary: Summary::default() });
        }
        Ok(Self { streams, streams_bytes, segments, next_seq })
    }

    /// The segment that is appended to.
    pub fn newest(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a group always has a segment")
    }

    /// Works out the times of all streams again, after segments were removed.
    pub fn recount_streams(&mut self) {
        self.streams.forget_times();
        for segment in &self.segments {
            for (id, times) in segment.summary.streams.iter() {
                self.streams.saw(id, times);
            }
        }
    }

    /// The streams that output had made before `expiry` and that have no events.
    pub fn idle_streams(&self, expiry: i64) -> Vec<u32> {
        let idle = |s: &&Stream| s.made_by_output && s.times().is_none() && s.created() < expiry;
        self.streams.iter().filter(idle).map(|s| s.id).collect()
    }

    /// Bytes of all events, as the reference counts what is ingested: the messages and 26 bytes for each.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.summary.message_bytes + 26 * s.summary.events).sum()
    }
}

/// The streams that the file lists, and the bytes of its whole records.
fn load_streams(path: &Path) -> Result<(Streams, u64), Error> {
    let mut streams = Streams::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((streams, 0)),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let length = file.metadata().map_err(Error::io("inspect", path))?.len();
    let mut scanner = Scanner::new(file, 0..length);
    while let Some(entry) = scanner.advance().map_err(Error::io("read", path))? {
        let Header { stream, at, seq, .. } = entry.header;
        match seq {
            STREAM_DELETED => streams.remove(stream),
            kind => {
                let name = String::from_utf8_lossy(scanner.message(&entry));
                streams.insert(stream, &name, at, kind == STREAM_MADE_BY_OUTPUT);
            }
        }
    }
    if scanner.is_damaged_within() {
        tracing::error!(path = %path.display(), "the list of log streams is damaged; some are missing");
        return Ok((streams, length));
    }
    Ok((streams, scanner.whole_until()))
}

/// The record that says that a stream was made.
pub fn stream_made(out: &mut Vec<u8>, id: u32, name: &str, created: i64, made_by_output: bool) {
    let seq = if made_by_output { STREAM_MADE_BY_OUTPUT } else { STREAM_MADE };
    record::encode(out, Header { stream: id, at: created, ingested: created, seq }, name.as_bytes());
}

/// The record that says that a stream was deleted.
pub fn stream_deleted(out: &mut Vec<u8>, id: u32, now: i64) {
    record::encode(out, Header { stream: id, at: now, ingested: now, seq: STREAM_DELETED }, b"");
}

fn write_meta(dir: &Path, meta: &Meta) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(meta).expect("a group's settings always render");
    files::replace(&dir.join(META_FILE), &json)
}
