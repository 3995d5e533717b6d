//! The files of a store: their names, the `format` file, and segments written ahead with zeros.
//!
//! ```text
//! DIR/format            version, store id, segment size, checksum
//! DIR/lock              held while a process has the store open
//! DIR/log/N             segments, N counts from 1 (twenty digits)
//! DIR/state.redb        the index: what the segments before its mark held
//! ```
//! Overwriting zeros that are on disk already lets `fdatasync` flush data alone, without a change of metadata; that is
//! worth a factor of 1.2 to 1.9 over a growing file. A segment is made under a temporary name, synced, renamed, and its
//! directory synced, before the writer hears of it, so none of that is on the way of a commit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flint_base::RequestId;

use crate::disk::{Disk, DiskFile, Mode, read_full, write_all, write_file};
use crate::error::{Error, is_no_space};
use crate::index::Index;
use crate::log::frame::{BLOCK, Lsn, Seed};

/// The format that this binary writes and the newest that it reads.
const FORMAT: u32 = 1;
/// Used segments that are kept.
const KEEP: usize = 4;
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Where a store's files lie and what its `format` file says.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub id: [u8; 16],
    /// Size of a segment, in bytes; a multiple of the block.
    pub segment: u64,
    used_up: Arc<Mutex<UsedUp>>,
}

/// Segments whose content is in the index.
#[derive(Debug, Default)]
struct UsedUp {
    /// To be used again under a new number.
    numbers: Vec<u64>,
    /// Segments from this one on are being copied: none of them is used up, whatever the index says.
    pinned: Option<u64>,
}

/// Keeps the segments from one on as they are, until dropped.
#[derive(Debug)]
pub(crate) struct Pin<'a>(&'a Files);

impl Pin<'_> {
    /// Only from this segment on.
    pub fn narrow(&self, number: u64) {
        self.0.lock_used_up().pinned = Some(number);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.0.lock_used_up().pinned = None;
    }
}

/// Why there is no new segment.
#[derive(Debug, Clone)]
pub(crate) enum Shortage {
    /// May be tried again.
    NoSpace,
    /// Final.
    Failed(String),
}

impl Files {
    pub fn log_dir(dir: &Path) -> PathBuf {
        dir.join("log")
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.path_in(&self.dir, number)
    }

    /// Where a segment of this number lies in another store's directory.
    pub fn path_in(&self, dir: &Path, number: u64) -> PathBuf {
        Self::log_dir(dir).join(format!("{number:020}"))
    }

    /// The content of the `format` file.
    pub fn format_text(&self) -> String {
        format_text(&self.id, self.segment)
    }

    pub fn seed(&self) -> Seed {
        Seed::of(&self.id)
    }

    pub fn lsn(&self, number: u64, offset: u64) -> Lsn {
        number * self.segment + offset
    }

    /// Reads `format`, or makes a new store where there is none.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, segment: u64, cache: usize) -> Result<Self, Error> {
        let path = dir.join("format");
        match disk.open(&path, Mode::Read) {
            Ok(file) => {
                let text = read_text(&*file).map_err(Error::io("cannot read", &path))?;
                let (id, segment) = parse_format(dir, &path, &text)?;
                Ok(Self { disk, dir: dir.to_owned(), id, segment, used_up: Arc::default() })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let id = *RequestId::random().as_bytes();
                let files = Self { disk, dir: dir.to_owned(), id, segment, used_up: Arc::default() };
                files.create(cache)?;
                Ok(files)
            }
            Err(e) => Err(Error::io("cannot open", &path)(e)),
        }
    }

    /// Makes the first segment, the index and then, last of all, `format`: a store without it never acknowledged anything.
    fn create(&self, cache: usize) -> Result<(), Error> {
        let log = Self::log_dir(&self.dir);
        self.disk.create_dir(&log).map_err(Error::io("cannot create", &log))?;
        self.disk.sync_dir(&self.dir).map_err(Error::io("cannot sync", &self.dir))?;
        for number in self.numbers()? {
            let path = self.path(number);
            if number != 1 || !self.is_blank(number)? {
                let reason = "there is a log but no `format` file".to_owned();
                return Err(Error::Damaged { path: self.dir.clone(), reason });
            }
            self.disk.remove(&path).map_err(Error::io("cannot remove", &path))?;
        }
        let path = self.path(1);
        self.make(1).map_err(Error::io("cannot write", &path))?;
        Index::create(&*self.disk, &self.dir, cache)?;
        let path = self.dir.join("format");
        let text = format_text(&self.id, self.segment);
        write_file(&*self.disk, &path, &self.dir.join("format.tmp"), text.as_bytes())
            .map_err(Error::io("cannot write", &path))
    }

    fn is_blank(&self, number: u64) -> Result<bool, Error> {
        let path = self.path(number);
        let mut block = [0; BLOCK];
        let file = self.disk.open(&path, Mode::Read).map_err(Error::io("cannot open", &path))?;
        let len = read_full(&*file, &mut block, 0).map_err(Error::io("cannot read", &path))?;
        Ok(block[..len].iter().all(|byte| *byte == 0))
    }

    /// Numbers of the segments that are there, in order.
    pub fn numbers(&self) -> Result<Vec<u64>, Error> {
        let log = Self::log_dir(&self.dir);
        let names = self.disk.list(&log).map_err(Error::io("cannot list", &log))?;
        let mut numbers: Vec<u64> =
            names.iter().filter(|name| name.len() == 20).filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A segment ready to be written from its start: zeros on disk under its name.
    pub fn prepare(&self, number: u64) -> Result<Arc<dyn DiskFile>, Shortage> {
        let made = match self.disk.open(&self.path(number), Mode::Write) {
            // Made by an earlier life that ended before it used it, or that tore its first frame.
            Ok(file) => self.fill(&*file).and_then(|()| wipe(&*file, 0)).map(|()| file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.reuse(number).and_then(|reused| reused.map_or_else(|| self.make(number), Ok))
            }
            Err(e) => Err(e),
        };
        made.map_err(|e| match e {
            e if is_no_space(&e) => Shortage::NoSpace,
            e => Shortage::Failed(format!("cannot prepare segment {number}: {e}")),
        })
    }

    /// A used segment under a new number, if there is one. Old frames stay in it; they name their position, so none
    /// passes for a new one.
    fn reuse(&self, number: u64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        // Held until the old name is gone, or a checkpoint that ends now would list it once more.
        let mut used_up = self.lock_used_up();
        let Some(old) = used_up.numbers.pop() else { return Ok(None) };
        let file = self.disk.open(&self.path(old), Mode::Write)?;
        self.disk.rename(&self.path(old), &self.path(number))?;
        drop(used_up);
        self.disk.sync_dir(&Self::log_dir(&self.dir))?;
        Ok(Some(file))
    }

    /// Keeps a few of the segments before `number` for use under a new number, and removes the others. Best effort: what
    /// stays behind is found again next time.
    pub fn recycle_below(&self, number: u64) {
        let mut used_up = self.lock_used_up();
        let Ok(numbers) = self.numbers() else { return };
        let number = used_up.pinned.map_or(number, |pinned| pinned.min(number));
        for old in numbers.into_iter().filter(|n| *n < number) {
            if used_up.numbers.contains(&old) {
                continue;
            }
            if used_up.numbers.len() < KEEP {
                used_up.numbers.push(old);
            } else {
                let _ = self.disk.remove(&self.path(old));
            }
        }
    }

    /// Keeps every segment that is not used up yet. One at a time.
    pub fn pin(&self) -> Pin<'_> {
        self.lock_used_up().pinned = Some(0);
        Pin(self)
    }

    fn lock_used_up(&self) -> MutexGuard<'_, UsedUp> {
        self.used_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(number);
        let temporary = path.with_extension("tmp");
        match self.disk.remove(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let made = (|| {
            let file = self.disk.open(&temporary, Mode::Create)?;
            self.fill(&*file)?;
            file.sync()?;
            self.disk.rename(&temporary, &path)?;
            Ok(file)
        })();
        if made.is_err() {
            // Gives the space back; the error that counts is the first one.
            let _ = self.disk.remove(&temporary);
        } else {
            self.disk.sync_dir(&Self::log_dir(&self.dir))?;
        }
        made
    }

    /// Writes zeros from the file's end to the segment's.
    pub fn fill(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut end = file.len()?;
        while end < self.segment {
            let chunk = ZEROS.len().min(usize::try_from(self.segment - end).unwrap_or(usize::MAX));
            write_all(file, &ZEROS[..chunk], end)?;
            end += chunk as u64;
        }
        Ok(())
    }
}

/// Durably zeroes the block at `offset`.
pub(crate) fn wipe(file: &dyn DiskFile, offset: u64) -> io::Result<()> {
    write_all(file, &ZEROS[..BLOCK], offset)?;
    file.sync()
}

fn read_text(file: &dyn DiskFile) -> io::Result<String> {
    let mut buf = vec![0; 4096];
    let len = read_full(file, &mut buf, 0)?;
    buf.truncate(len);
    String::from_utf8(buf).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn format_text(id: &[u8; 16], segment: u64) -> String {
    let text = format!("flint-store {FORMAT}\nid {}\nsegment {segment}\n", hex::encode(id));
    format!("{text}crc {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

fn parse_format(dir: &Path, path: &Path, text: &str) -> Result<([u8; 16], u64), Error> {
    let bad = |reason: &str| Error::Format { path: path.to_owned(), reason: reason.to_owned() };
    let mut lines = text.lines();
    let mut field = |name: &str| -> Result<&str, Error> {
        let line = lines.next().ok_or_else(|| bad(&format!("no `{name}` line")))?;
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(|| bad(&format!("expected `{name}`, found {line:?}")))
    };
    let found: u32 = field("flint-store")?.parse().map_err(|_| bad("the version is not a number"))?;
    if found > FORMAT {
        return Err(Error::Newer { dir: dir.to_owned(), found, known: FORMAT });
    }
    let mut id = [0; 16];
    hex::decode_to_slice(field("id")?, &mut id).map_err(|_| bad("the id is not 32 hexadecimal digits"))?;
    let segment: u64 = field("segment")?.parse().map_err(|_| bad("the segment size is not a number"))?;
    check_segment_size(segment).map_err(bad)?;
    // A wrong id would make every frame look foreign and the log look empty.
    if text != format_text(&id, segment) {
        return Err(bad("the checksum does not match"));
    }
    Ok((id, segment))
}

/// Segments are whole blocks, at least four, and fit a 32-bit offset.
pub(crate) fn check_segment_size(segment: u64) -> Result<(), &'static str> {
    if segment.is_multiple_of(BLOCK as u64) && (4 * BLOCK as u64..=1 << 30).contains(&segment) {
        Ok(())
    } else {
        Err("the segment size is not a multiple of 4096 from 16384 to 1073741824")
    }
}
