//! A disk in memory that knows what was flushed.
//!
//! Writes stay in the cache until the file is synced; names stay there until the directory is synced. A power cut keeps
//! what was flushed and, of the rest, nothing, a random part sector by sector, or all. Directories themselves are
//! durable when made (the real trees are made once, before anything is acknowledged). A sync that fails leaves the cache as
//! it is and forgets that it was never written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, DiskLock, Mode};
use crate::testing::Rng;

const SECTOR: usize = 512;

/// What a power cut keeps of the writes that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// Each sector and each name on its own (of a directory's changes: the first few).
    Some,
    Everything,
}

/// Kinds of calls that can be counted and made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    Pread,
    Pwrite,
    Sync,
    SetLen,
    Rename,
    Remove,
    SyncDir,
}

/// Makes the `nth` call of a kind (counted from 1, from now) fail once.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub nth: u64,
    pub error: io::ErrorKind,
}

/// The disk; clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Sim>>);

#[derive(Debug, Default)]
struct Sim {
    inodes: Vec<Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    locks: BTreeSet<PathBuf>,
    calls: BTreeMap<Call, u64>,
    faults: Vec<(Call, u64, io::ErrorKind)>,
    /// Calls that change something, and after how many of them the power goes.
    changes: u64,
    power_off_at: Option<u64>,
    capacity: Option<u64>,
    /// Syncs of files whose path holds this come one too late.
    late: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    flushed: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
    /// Of a file whose syncs come too late: how many of the pending changes the last one promised.
    promised: Option<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
struct Dir {
    flushed: BTreeMap<String, usize>,
    current: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn inject(&self, fault: Fault) {
        let mut sim = self.sim();
        let at = sim.calls.get(&fault.call).copied().unwrap_or(0) + fault.nth;
        sim.faults.push((fault.call, at, fault.error));
    }

    /// How often a kind of call was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.sim().calls.get(&call).copied().unwrap_or(0)
    }

    /// Calls so far that changed something (writes, syncs, names).
    pub fn changes(&self) -> u64 {
        self.sim().changes
    }

    /// From the `n`th changing call on (counted from the disk's birth), every call fails: the machine is off.
    pub fn power_off_at(&self, n: u64) {
        self.sim().power_off_at = Some(n);
    }

    /// A planted bug: what a sync of a file promises is there only after the next one. For files that are opened from now on and
    /// whose path holds `part`.
    pub fn sync_late(&self, part: &str) {
        self.sim().late = Some(part.to_owned());
    }

    /// Bytes that the disk holds at most; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.sim().capacity = bytes;
    }

    /// Bytes that the files take.
    pub fn used(&self) -> u64 {
        self.sim().used()
    }

    /// The disk as it is after a power cut now. This one stays as it was.
    pub fn after_power_cut(&self, keep: Keep, rng: &mut Rng) -> SimDisk {
        let sim = self.sim();
        let inodes = sim.inodes.iter().map(|inode| inode.after_power_cut(keep, rng)).collect();
        let dirs = sim.dirs.iter().map(|(path, dir)| (path.clone(), dir.after_power_cut(keep, rng))).collect();
        SimDisk(Arc::new(Mutex::new(Sim { inodes, dirs, ..Sim::default() })))
    }

    /// How many states a power cut now could leave: each sector that was not flushed is there or not, and of each directory's
    /// changes the first few are.
    pub fn choices(&self) -> u64 {
        let sim = self.sim();
        let sectors: u32 = sim.inodes.iter().map(|inode| inode.pending.iter().map(Change::units).sum::<u32>()).sum();
        let names = sim.dirs.values().map(|dir| dir.pending.len() as u64 + 1);
        names.fold(1u64.checked_shl(sectors).unwrap_or(u64::MAX), u64::saturating_mul)
    }

    /// The `n`th of the states that a power cut now could leave; with more than 64 bits of choices, one of them.
    pub fn after_choice(&self, n: u64) -> SimDisk {
        let fits = self.choices() < u64::MAX;
        let sim = self.sim();
        let mut choice = if fits { Choice::Exact(n) } else { Choice::Chance(Rng::new(n)) };
        let mut dirs = BTreeMap::new();
        for (path, dir) in &sim.dirs {
            let kept = choice.below(dir.pending.len() as u64 + 1);
            dirs.insert(path.clone(), dir.after_first(kept as usize));
        }
        let inodes = sim.inodes.iter().map(|inode| inode.after_choice(&mut choice)).collect();
        SimDisk(Arc::new(Mutex::new(Sim { inodes, dirs, ..Sim::default() })))
    }

    /// The disk as the next process finds it when this one is killed: the cache is still there, the power is on.
    pub fn after_kill(&self) -> SimDisk {
        let sim = self.sim();
        SimDisk(Arc::new(Mutex::new(Sim { inodes: sim.inodes.clone(), dirs: sim.dirs.clone(), ..Sim::default() })))
    }

    /// Changes a file behind everyone's back: damage, or a cut.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn edit(&self, path: impl AsRef<Path>, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.sim();
        let inode = sim.find(path.as_ref()).expect("the test names a file that is there");
        let inode = &mut sim.inodes[inode];
        edit(&mut inode.current);
        inode.flushed = inode.current.clone();
        inode.pending.clear();
    }

    /// A file's content, flushed or not.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let sim = self.sim();
        sim.find(path.as_ref()).map(|inode| sim.inodes[inode].current.clone())
    }

    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sim {
    fn used(&self) -> u64 {
        let linked: BTreeSet<usize> = self.dirs.values().flat_map(|dir| dir.current.values().copied()).collect();
        linked.iter().map(|inode| self.inodes[*inode].current.len() as u64).sum()
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let (dir, name) = split(path)?;
        self.dirs.get(dir)?.current.get(name).copied()
    }

    /// Counts a call. `Err` if it must fail; a call at which the power goes may still reach the cache.
    fn enter(&mut self, call: Call) -> io::Result<()> {
        let count = self.calls.entry(call).or_default();
        *count += 1;
        let count = *count;
        if !matches!(call, Call::Open | Call::Pread) {
            self.changes += 1;
        }
        if self.power_off_at.is_some_and(|at| self.changes >= at) {
            return Err(io::Error::other("the power is off"));
        }
        match self.faults.iter().find(|(kind, at, _)| *kind == call && *at == count) {
            Some((_, _, error)) => Err((*error).into()),
            None => Ok(()),
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn split(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}

fn name_of(path: &Path) -> io::Result<(&Path, &str)> {
    split(path).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A number taken apart into choices, digit by digit; or chance, where one number can't say them all.
enum Choice {
    Exact(u64),
    Chance(Rng),
}

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        match self {
            Choice::Exact(left) => {
                let digit = *left % bound;
                *left /= bound;
                digit
            }
            Choice::Chance(rng) => rng.below(bound),
        }
    }
}

impl Inode {
    fn after_choice(&self, choice: &mut Choice) -> Inode {
        let mut content = self.flushed.clone();
        for change in &self.pending {
            change.apply_chosen(&mut content, choice);
        }
        Inode { flushed: content.clone(), current: content, ..Inode::default() }
    }

    fn after_power_cut(&self, keep: Keep, rng: &mut Rng) -> Inode {
        let content = match keep {
            Keep::Nothing => self.flushed.clone(),
            Keep::Everything => self.current.clone(),
            Keep::Some => {
                let mut content = self.flushed.clone();
                for change in &self.pending {
                    change.apply_partly(&mut content, rng);
                }
                content
            }
        };
        Inode { flushed: content.clone(), current: content, ..Inode::default() }
    }
}

impl Change {
    /// Parts that reach the disk on their own.
    fn units(&self) -> u32 {
        match self {
            Change::Write(_, data) => u32::try_from(data.len().div_ceil(SECTOR)).expect("a test's write is small"),
            Change::SetLen(_) => 1,
        }
    }

    fn apply_chosen(&self, content: &mut Vec<u8>, choice: &mut Choice) {
        match self {
            Change::Write(offset, data) => {
                for (index, sector) in data.chunks(SECTOR).enumerate() {
                    if choice.below(2) == 1 {
                        write_at(content, offset + (index * SECTOR) as u64, sector);
                    }
                }
            }
            Change::SetLen(_) => {
                if choice.below(2) == 1 {
                    self.apply(content);
                }
            }
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => write_at(content, *offset, data),
            Change::SetLen(len) => content.resize(usize::try_from(*len).expect("a test's file fits memory"), 0),
        }
    }

    fn apply_partly(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        match self {
            Change::Write(offset, data) => {
                for (index, sector) in data.chunks(SECTOR).enumerate() {
                    if rng.chance(50) {
                        write_at(content, offset + (index * SECTOR) as u64, sector);
                    }
                }
            }
            Change::SetLen(_) => {
                if rng.chance(50) {
                    self.apply(content);
                }
            }
        }
    }
}

fn write_at(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).expect("a test's file fits memory");
    if content.len() < start + data.len() {
        content.resize(start + data.len(), 0);
    }
    content[start..start + data.len()].copy_from_slice(data);
}

impl Dir {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    fn after_power_cut(&self, keep: Keep, rng: &mut Rng) -> Dir {
        let kept = match keep {
            Keep::Nothing => 0,
            Keep::Some => rng.below(self.pending.len() as u64 + 1) as usize,
            Keep::Everything => self.pending.len(),
        };
        self.after_first(kept)
    }

    fn after_first(&self, kept: usize) -> Dir {
        let mut names = self.flushed.clone();
        for change in &self.pending[..kept] {
            change.apply(&mut names);
        }
        Dir { flushed: names.clone(), current: names, pending: Vec::new() }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        for dir in path.ancestors() {
            sim.dirs.entry(dir.to_owned()).or_default();
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.sim();
        sim.enter(Call::Open)?;
        let inode = match (sim.find(path), mode) {
            (Some(_), Mode::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Mode::Create) => {
                let (dir, name) = name_of(path)?;
                let inode = sim.inodes.len();
                sim.dir(dir)?.change(NameChange::Link(name.to_owned(), inode));
                sim.inodes.push(Inode::default());
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        if sim.late.as_ref().is_some_and(|part| path.to_string_lossy().contains(part)) {
            sim.inodes[inode].promised.get_or_insert(0);
        }
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.enter(Call::Rename)?;
        let inode = sim.find(from).ok_or(io::ErrorKind::NotFound)?;
        let ((from_dir, from), (to_dir, to)) = (name_of(from)?, name_of(to)?);
        if from_dir == to_dir {
            sim.dir(from_dir)?.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        } else {
            sim.dir(to_dir)?.change(NameChange::Link(to.to_owned(), inode));
            sim.dir(from_dir)?.change(NameChange::Unlink(from.to_owned()));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.enter(Call::Remove)?;
        sim.find(path).ok_or(io::ErrorKind::NotFound)?;
        let (dir, name) = name_of(path)?;
        sim.dir(dir)?.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut sim = self.sim();
        let mut names: Vec<String> = sim.dir(dir)?.current.keys().cloned().collect();
        let below = sim.dirs.keys().filter(|path| path.parent() == Some(dir));
        names.extend(below.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.enter(Call::SyncDir)?;
        let dir = sim.dir(dir)?;
        dir.flushed = dir.current.clone();
        dir.pending.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let free = self.sim().locks.insert(path.to_owned());
        Ok(free.then(|| Box::new(SimLock { disk: self.clone(), path: path.to_owned() }) as Box<dyn DiskLock>))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.sim().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn grow(sim: &Sim, inode: usize, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(sim.inodes[inode].current.len() as u64);
        match sim.capacity {
            Some(capacity) if more > 0 && sim.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn change(&self, sim: &mut Sim, change: Change) {
        let inode = &mut sim.inodes[self.inode];
        change.apply(&mut inode.current);
        inode.pending.push(change);
    }
}

impl DiskFile for SimFile {
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut sim = self.disk.sim();
        sim.enter(Call::Pread)?;
        let content = &sim.inodes[self.inode].current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let len = buf.len().min(content.len() - start);
        buf[..len].copy_from_slice(&content[start..start + len]);
        Ok(len)
    }

    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut sim = self.disk.sim();
        let entered = sim.enter(Call::Pwrite);
        if entered.is_ok() {
            SimFile::grow(&sim, self.inode, offset + buf.len() as u64)?;
        }
        // Also when the call fails: bytes may have reached the disk.
        self.change(&mut sim, Change::Write(offset, buf.to_owned()));
        entered.map(|()| buf.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut sim = self.disk.sim();
        if let Err(error) = sim.enter(Call::Sync) {
            // As Linux does: what could not be written counts as clean from here on, and the next sync says that all is well.
            sim.inodes[self.inode].pending.clear();
            return Err(error);
        }
        let Inode { flushed, pending, promised, .. } = &mut sim.inodes[self.inode];
        let due = promised.map_or(pending.len(), |before| before.min(pending.len()));
        for change in pending.drain(..due) {
            change.apply(flushed);
        }
        *promised = promised.map(|_| pending.len());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.sim().inodes[self.inode].current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sim = self.disk.sim();
        sim.enter(Call::SetLen)?;
        SimFile::grow(&sim, self.inode, len)?;
        self.change(&mut sim, Change::SetLen(len));
        Ok(())
    }
}
