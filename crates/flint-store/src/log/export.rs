//! A copy of a store while it works, and the proof that a copy is a store.
//!
//! An export is the index as of its last checkpoint and the log from there to its end at one moment: what a start needs.
//! Everything acknowledged before the export began is in it. Meanwhile no segment that it needs is used again.

use std::path::Path;
use std::sync::PoisonError;

use crate::disk::{Disk, DiskFile, Mode, RealDisk, read_full, write_all, write_file};
use crate::error::Error;
use crate::index::{Index, Mark, damaged};
use crate::log::segment::Files;
use crate::log::{LogStore, Options};

/// What is copied at once, in bytes.
const CHUNK: u64 = 1 << 20;

/// A store's state in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub id: [u8; 16],
    /// Version of the last commit.
    pub version: u64,
    /// Segments that a start reads, the first and the last.
    pub segments: (u64, u64),
    /// Bytes of the last segment that are in use.
    pub end: u64,
}

impl LogStore {
    /// Copies the store as of now into `to`, an empty directory on the same disk. Blocks for as long as that takes; the
    /// store works on, and its log grows by what is committed meanwhile.
    ///
    /// Errors: [`Error::Full`], [`Error::Io`], [`Error::Damaged`]; what was written so far stays behind.
    pub fn export(&self, to: &Path) -> Result<Extent, Error> {
        let _one = self.exporting.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, disk) = (&self.files, &*self.files.disk);
        let pin = files.pin();
        let unusable = |e: &dyn std::fmt::Display| damaged(&Index::path(&files.dir), e);
        let (snapshot, mark) = self.index.marked_snapshot().map_err(|e| unusable(&e))?;
        let mark = mark.ok_or_else(|| unusable(&"it does not say where in the log it stands"))?;
        pin.narrow(mark.segment);
        // After the index: the log's end is never before its mark.
        let tail = *self.shared.tail();

        let log = Files::log_dir(to);
        disk.create_dir(&log).map_err(Error::io("cannot create", &log))?;
        for number in mark.segment..=tail.segment {
            let len = if number == tail.segment { tail.offset } else { files.segment };
            copy_segment(files, number, &files.path_in(to, number), len)?;
        }
        drop(pin);
        disk.sync_dir(&log).map_err(Error::io("cannot sync", &log))?;
        Index::copy(&snapshot, mark, disk, &Index::path(to), 4 << 20)?;
        let format = to.join("format");
        write_file(disk, &format, &to.join("format.tmp"), files.format_text().as_bytes())
            .map_err(Error::io("cannot write", &format))?;
        Ok(files.extent(mark, tail))
    }

    /// Reads a store from end to end and verifies each frame and each row. It is locked meanwhile, and its last segment is
    /// made fit to be written, as by a start; nothing is committed.
    ///
    /// Errors: as of [`LogStore::open`].
    pub fn verify(dir: impl AsRef<Path>) -> Result<Extent, Error> {
        Self::verify_on(RealDisk, dir)
    }

    /// As [`LogStore::verify`], on another disk.
    pub fn verify_on(disk: impl Disk + 'static, dir: impl AsRef<Path>) -> Result<Extent, Error> {
        let (dir, options) = (dir.as_ref(), Options { disk: std::sync::Arc::new(disk), ..Options::default() });
        let format = dir.join("format");
        // A store that is not there must not be made.
        options.disk.open(&format, Mode::Read).map_err(Error::io("cannot open", &format))?;
        let opened = Self::recover(dir, options, crate::index::Room::impatient())?;
        let (store, mark) = (&opened.store, opened.start.mark);
        let unusable = |e: &dyn std::fmt::Display| damaged(&Index::path(dir), e);
        let (snapshot, _) = store.index.marked_snapshot().map_err(|e| unusable(&e))?;
        snapshot.verify().map_err(|e| unusable(&e))?;
        let tail = *store.shared.tail();
        Ok(store.files.extent(mark, tail))
    }
}

impl Files {
    fn extent(&self, mark: Mark, tail: Mark) -> Extent {
        Extent { id: self.id, version: tail.version, segments: (mark.segment, tail.segment), end: tail.offset }
    }
}

/// Copies the first `len` bytes of a segment into a new file.
fn copy_segment(files: &Files, number: u64, to: &Path, len: u64) -> Result<(), Error> {
    let from = files.path(number);
    let source = files.disk.open(&from, Mode::Read).map_err(Error::io("cannot open", &from))?;
    let target = files.disk.open(to, Mode::Create).map_err(Error::io("cannot create", to))?;
    copy_bytes(&*source, &*target, len).map_err(Error::io("cannot copy a log segment to", to))?;
    target.sync().map_err(Error::io("cannot write", to))
}

fn copy_bytes(source: &dyn DiskFile, target: &dyn DiskFile, len: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; usize::try_from(CHUNK.min(len)).expect("a chunk fits memory")];
    let mut at = 0;
    while at < len {
        let want = usize::try_from(CHUNK.min(len - at)).expect("a chunk fits memory");
        let read = read_full(source, &mut buffer[..want], at)?;
        if read < want {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        write_all(target, &buffer[..want], at)?;
        at += want as u64;
    }
    Ok(())
}
