//! The index: what the log holds up to the last checkpoint, in a B-tree file (redb) beside it.
//!
//! It is written by checkpoints alone, each one durable transaction that also records the position in the log; so it is
//! always the state as of one commit. A row carries a checksum of its own, which the B-tree does not check at reads; a
//! small index is verified whole when it is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition,
};

use crate::disk::{Disk, DiskFile, Mode, read_full, write_all};
use crate::error::{Error, ReadError, is_no_space};
use crate::journal::PAGES;
use crate::journal::runs::{Joined, Joiner};
use crate::key::{Key, KeyRange, Keyspace};
use crate::layer::{Layer, Level};
use crate::store::{Direction, Versioned};

/// Key: name of the keyspace, 00, key. Value: version, value, checksum of key and both (numbers little-endian).
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// One row under the empty key: version, segment, offset (little-endian).
const META: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");
/// Up to this size the whole file is verified when opened; that costs a few milliseconds.
const VERIFY_BYTES: u64 = 16 << 20;
/// How long to wait before looking for space again.
const RETRY: Duration = Duration::from_millis(200);

/// Where in the log a checkpoint stands: everything before is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Version of the last commit in the index.
    pub version: u64,
    pub segment: u64,
    pub offset: u64,
}

impl Mark {
    fn encode(self) -> [[u8; 8]; 3] {
        [self.version, self.segment, self.offset].map(u64::to_le_bytes)
    }
}

#[derive(Debug)]
pub(crate) struct Index {
    db: Database,
}

/// The index as of one checkpoint.
#[derive(Debug)]
pub(crate) struct Snapshot {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    is_empty: bool,
}

impl Index {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("state.redb")
    }

    /// Makes the index of a new store. Its name is durable once the caller has synced the directory.
    pub fn create(disk: &dyn Disk, dir: &Path, cache: usize) -> Result<(), Error> {
        let path = Self::path(dir);
        match disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("cannot remove", &path)(e)),
            _ => {}
        }
        let file = disk.open(&path, Mode::Create).map_err(Error::io("cannot create", &path))?;
        let made = Self::over(file, cache, false, Arc::new(Room::impatient()))
            .and_then(|index| index.checkpoint(&Layer::default(), Mark { version: 0, segment: 1, offset: 0 }));
        made.map(drop).map_err(|e| match e {
            redb::Error::Io(e) => Error::io("cannot write", path)(e),
            e => damaged(&path, &e),
        })
    }

    /// Opens an index that must be there.
    pub fn open(disk: &dyn Disk, dir: &Path, cache: usize, room: Arc<Room>) -> Result<(Self, Mark), Error> {
        let path = Self::path(dir);
        let file = disk.open(&path, Mode::Write).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => damaged(&path, &"it is missing"),
            _ => Error::io("cannot open", &path)(e),
        })?;
        let len = file.len().map_err(Error::io("cannot read", &path))?;
        let opened = Self::over(file, cache, len <= VERIFY_BYTES, room).and_then(|index| {
            let mark = index.mark()?;
            Ok((index, mark))
        });
        match opened {
            Ok((index, Some(mark))) => Ok((index, mark)),
            Ok((_, None)) => Err(damaged(&path, &"it does not say where in the log it stands")),
            Err(redb::Error::Io(e)) => Err(Error::io("cannot read", &path)(e)),
            Err(e) => Err(damaged(&path, &e)),
        }
    }

    fn over(file: Arc<dyn DiskFile>, cache: usize, verify: bool, room: Arc<Room>) -> Result<Self, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache).set_check_integrity_on_open(verify);
        let db = builder.create_with_backend(Backend { file, room })?;
        Ok(Self { db })
    }

    fn mark(&self) -> Result<Option<Mark>, redb::Error> {
        Self::mark_in(&self.db.begin_read()?)
    }

    fn mark_in(read: &ReadTransaction) -> Result<Option<Mark>, redb::Error> {
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let Some(found) = table.get(&[][..])? else { return Ok(None) };
        let (numbers, rest) = found.value().as_chunks::<8>();
        Ok(match (numbers, rest) {
            ([version, segment, offset], []) => Some(Mark {
                version: u64::from_le_bytes(*version),
                segment: u64::from_le_bytes(*segment),
                offset: u64::from_le_bytes(*offset),
            }),
            _ => None,
        })
    }

    /// Writes a layer and its mark in one durable transaction. The journal's pages become runs.
    pub fn checkpoint(&self, layer: &Layer, mark: Mark) -> Result<Snapshot, redb::Error> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::Immediate).expect("there are no savepoints");
        // Two syncs per checkpoint instead of reading the whole file after a crash.
        write.set_quick_repair(true);
        {
            let mut rows = write.open_table(ROWS)?;
            let mut row = Vec::new();
            let (mut joiner, mut joined) = (Joiner::default(), Vec::new());
            for (keyspace, key, slot) in layer.rows() {
                match &slot.value {
                    Some(page) if keyspace == PAGES => {
                        let known = joiner.add(key, &page.value, &mut joined);
                        known.ok_or_else(|| redb::Error::Corrupted("a page of an unknown layout".to_owned()))?;
                    }
                    Some(value) => {
                        let start = encode_row(&mut row, keyspace, key, value);
                        rows.insert(&row[..start], &row[start..])?;
                    }
                    None => {
                        row_key(&mut row, keyspace, key);
                        rows.remove(&row[..])?;
                    }
                }
            }
            joiner.finish(&mut joined);
            for Joined { keyspace, key, version, value } in joined {
                let start = encode_row(&mut row, keyspace, &key, &Versioned { version, value });
                rows.insert(&row[..start], &row[start..])?;
            }
            write.open_table(META)?.insert(&[][..], mark.encode().as_flattened())?;
        }
        write.commit()?;
        self.snapshot()
    }

    pub fn snapshot(&self) -> Result<Snapshot, redb::Error> {
        let rows = self.db.begin_read()?.open_table(ROWS)?;
        let is_empty = rows.is_empty()?;
        Ok(Snapshot { rows, is_empty })
    }

    /// The rows and the mark as of one checkpoint.
    pub fn marked_snapshot(&self) -> Result<(Snapshot, Option<Mark>), redb::Error> {
        let read = self.db.begin_read()?;
        let rows = read.open_table(ROWS)?;
        let is_empty = rows.is_empty()?;
        Ok((Snapshot { rows, is_empty }, Self::mark_in(&read)?))
    }

    /// Writes a snapshot into a new index at `path`, every row verified. The name is not made durable.
    pub fn copy(snapshot: &Snapshot, mark: Mark, disk: &dyn Disk, path: &Path, cache: usize) -> Result<(), Error> {
        /// Bounds the memory of one transaction.
        const BYTES: usize = 8 << 20;
        let file = disk.open(path, Mode::Create).map_err(Error::io("cannot create", path))?;
        let copied = || -> Result<(), redb::Error> {
            let index = Self::over(file, cache, false, Arc::new(Room::impatient()))?;
            let mut rows = snapshot.rows.range::<&[u8]>(..)?.peekable();
            loop {
                let mut write = index.db.begin_write()?;
                write.set_durability(Durability::Immediate).expect("there are no savepoints");
                write.set_quick_repair(true);
                let mut bytes = 0;
                {
                    let mut table = write.open_table(ROWS)?;
                    while bytes < BYTES
                        && let Some(row) = rows.next()
                    {
                        let (key, row) = row?;
                        let (key, row) = (key.value(), row.value());
                        decode_row(key, row).map_err(|e| redb::Error::Corrupted(e.0))?;
                        table.insert(key, row)?;
                        bytes += key.len() + row.len();
                    }
                }
                let is_last = rows.peek().is_none();
                if is_last {
                    write.open_table(META)?.insert(&[][..], mark.encode().as_flattened())?;
                }
                write.commit()?;
                if is_last {
                    return Ok(());
                }
            }
        };
        copied().map_err(|e| match e {
            redb::Error::Io(e) => Error::io("cannot copy the index to", path)(e),
            e => damaged(path, &e),
        })
    }
}

pub(crate) fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Damaged { path: path.to_owned(), reason: format!("the index cannot be used: {reason}") }
}

impl Snapshot {
    /// Reads every row and verifies it.
    pub fn verify(&self) -> Result<(), ReadError> {
        for row in self.rows.range::<&[u8]>(..).map_err(unreadable)? {
            let (key, row) = row.map_err(unreadable)?;
            decode_row(key.value(), row.value())?;
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub fn get(&self, keyspace: Keyspace, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let mut full = Vec::with_capacity(key.len() + 32);
        row_key(&mut full, keyspace, key);
        match self.rows.get(&full[..]).map_err(unreadable)? {
            Some(row) => decode_row(&full, row.value()).map(Some),
            None => Ok(None),
        }
    }

    /// The rows of a range in the direction's order.
    pub fn scan(&self, keyspace: Keyspace, range: &KeyRange, direction: Direction) -> Result<Level<'_>, ReadError> {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        row_key(&mut start, keyspace, &range.start);
        match &range.end {
            Some(key) => row_key(&mut end, keyspace, key),
            None => {
                end.extend_from_slice(keyspace.name().as_bytes());
                end.push(1);
            }
        }
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let prefix = keyspace.name().len() + 1;
        let rows = self.rows.range::<&[u8]>(&start[..]..&end[..]).map_err(unreadable)?;
        let rows = rows.map(move |row: Result<_, redb::StorageError>| {
            let (key, row) = row.map_err(unreadable)?;
            let key: &[u8] = key.value();
            let value = decode_row(key, row.value())?;
            Ok((Key::from_bytes(&key[prefix..]), Some(value)))
        });
        match direction {
            Direction::Forward => Ok(Box::new(rows)),
            Direction::Reverse => Ok(Box::new(rows.rev())),
        }
    }
}

fn unreadable(error: redb::StorageError) -> ReadError {
    ReadError(format!("index: {error}"))
}

fn row_key(out: &mut Vec<u8>, keyspace: Keyspace, key: &Key) {
    out.clear();
    out.extend_from_slice(keyspace.name().as_bytes());
    out.push(0);
    out.extend_from_slice(key.as_bytes());
}

/// Builds the key and, behind it in the same buffer, the row. Returns where the row begins.
fn encode_row(out: &mut Vec<u8>, keyspace: Keyspace, key: &Key, value: &Versioned) -> usize {
    row_key(out, keyspace, key);
    let start = out.len();
    out.extend_from_slice(&value.version.to_le_bytes());
    out.extend_from_slice(&value.value);
    let crc = crc32c::crc32c(out);
    out.extend_from_slice(&crc.to_le_bytes());
    start
}

fn decode_row(key: &[u8], row: &[u8]) -> Result<Versioned, ReadError> {
    let sound = row.split_last_chunk::<4>().and_then(|(content, crc)| {
        let (version, value) = content.split_first_chunk::<8>()?;
        let sound = *crc == crc32c::crc32c_append(crc32c::crc32c(key), content).to_le_bytes();
        sound.then(|| (u64::from_le_bytes(*version), value))
    });
    let (version, value) = sound.ok_or_else(|| ReadError("index: a row is damaged".to_owned()))?;
    Ok(Versioned { version, value: Bytes::copy_from_slice(value) })
}

/// Where a checkpoint waits for space, so that the index never sees a failed write and readers go on.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<Waiting>,
    closed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    /// Do not wait: report the error.
    impatient: bool,
    waiting: bool,
}

impl Room {
    pub fn patient() -> Self {
        Self { state: Mutex::new(Waiting { impatient: false, waiting: false }), closed: Condvar::new() }
    }

    pub fn impatient() -> Self {
        Self { state: Mutex::new(Waiting { impatient: true, waiting: false }), closed: Condvar::new() }
    }

    /// True while a checkpoint waits for space.
    pub fn is_short(&self) -> bool {
        self.lock().waiting
    }

    /// Ends all waiting, now and later.
    pub fn close(&self) {
        self.lock().impatient = true;
        self.closed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until_done(&self, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            let outcome = attempt();
            let mut state = self.lock();
            match outcome {
                Err(e) if is_no_space(&e) && !state.impatient => {
                    state.waiting = true;
                    drop(self.closed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner));
                }
                outcome => {
                    state.waiting = false;
                    return outcome;
                }
            }
        }
    }
}

/// The B-tree's file, by way of the store's disk.
#[derive(Debug)]
struct Backend {
    file: Arc<dyn DiskFile>,
    room: Arc<Room>,
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match read_full(&*self.file, out, offset)? {
            len if len == out.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room.until_done(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room.until_done(|| write_all(&*self.file, data, offset))
    }
}
