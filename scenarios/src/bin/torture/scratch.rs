//! A folder of our own in the temporary directory, and what dead runs left of theirs.
//!
//! A folder's owner holds a lock on a file in it. A run that was killed holds nothing any more: whoever comes next ends the
//! server that it left, unmounts what is mounted below, and removes the folder. Nothing else in the temporary directory is
//! touched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};

const PREFIX: &str = "flint-torture-";
const LOCK: &str = "owner";

/// Removed when dropped.
pub struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // Locked before it has its name: nobody must take it for that of a dead run.
        let unnamed = folder.path().join("owner.new");
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Keeps it for whoever wants to know why, under another name.
    pub fn keep(self) -> Result<PathBuf> {
        let folder = self.folder.keep();
        let name = folder.file_name().and_then(|name| name.to_str()).context("a name of our own")?;
        let kept = folder.with_file_name(name.replace(PREFIX, "flint-kept-"));
        fs::rename(&folder, &kept)?;
        Ok(kept)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what dead runs left in the temporary directory; answers how many folders that were.
pub fn sweep() -> Result<usize> {
    sweep_in(&std::env::temp_dir())
}

fn sweep_in(parent: &Path) -> Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(parent)?.flatten() {
        let folder = entry.path();
        let Some(_lock) = dead(&folder) else { continue };
        end_servers(&folder);
        unmount_below(&folder)?;
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        swept += 1;
    }
    Ok(swept)
}

/// The lock of a folder of ours whose owner is gone; held, so that nobody else takes it for dead as well.
fn dead(folder: &Path) -> Option<File> {
    let is_ours = folder.file_name()?.to_str()?.starts_with(PREFIX);
    let meta = fs::symlink_metadata(folder).ok()?;
    if !is_ours || !meta.is_dir() || meta.uid() != geteuid().as_raw() {
        return None;
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let lock = OpenOptions::new().write(true).custom_flags(flags.cast_signed()).open(folder.join(LOCK)).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

/// kill -9 of servers whose data lie below `folder`.
fn end_servers(folder: &Path) {
    let below = format!("{}/", folder.display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        let data = arguments.windows(2).find(|pair| pair[0] == b"--data").map(|pair| pair[1]);
        if data.is_some_and(|data| data.starts_with(below.as_bytes())) {
            // It may be gone by now.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Unmounts what is mounted below `folder`, the last mounted first.
fn unmount_below(folder: &Path) -> Result<()> {
    for _ in 0..100 {
        let mounts = mounts_below(folder)?;
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            // Busy for as long as the server that used it takes to end.
            let _ = unmount(mount, UnmountFlags::NOFOLLOW);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for mount in mounts_below(folder)?.iter().rev() {
        unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    ensure!(mounts_below(folder)?.is_empty(), "mounts are left below {}", folder.display());
    Ok(())
}

fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // Our own names have no space in them, which the table would write as an escape.
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(mounts.filter(|mount| mount != folder && mount.starts_with(folder)).collect())
}

/// Resolves with the name of the signal that asks for the end.
pub async fn told_to_end() -> Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// A file system on a file, by a loop device.
pub struct Mount {
    pub path: PathBuf,
}

impl Mount {
    pub fn make(file: &Path, path: &Path, format: bool) -> Result<Self> {
        if format {
            // Small, quick, and nothing that is written later behind our back.
            let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
            run_tool(Command::new("mkfs.ext4").args(options).arg(file))?;
        }
        fs::create_dir_all(path)?;
        run_tool(Command::new("mount").args(["-o", "loop"]).arg(file).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A server that was killed may need a moment to be gone.
        for _ in 0..100 {
            if unmount(&self.path, UnmountFlags::NOFOLLOW).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn run_tool(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as a run of ours has it, below `parent`.
    fn folder(parent: &Path, name: &str) -> (PathBuf, File) {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        let lock = File::create(folder.join(LOCK)).unwrap();
        (folder, lock)
    }

    #[test]
    fn what_is_dead_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let (gone, _) = folder(parent.path(), "flint-torture-gone");
        let (living, lock) = folder(parent.path(), "flint-torture-living");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let (other, _) = folder(parent.path(), "someone-else");
        let unmarked = parent.path().join("flint-torture-unmarked");
        fs::create_dir(&unmarked).unwrap();
        assert_eq!(sweep_in(parent.path()).unwrap(), 1);
        assert!(!gone.exists());
        assert!(living.exists() && other.exists() && unmarked.exists());
    }

    #[test]
    fn what_a_dead_run_mounted_is_unmounted() {
        let parent = tempfile::tempdir().unwrap();
        let (gone, _) = folder(parent.path(), "flint-torture-gone");
        let inner = gone.join("a");
        fs::create_dir(&inner).unwrap();
        let flags = rustix::mount::MountFlags::NOSUID;
        if rustix::mount::mount("flint-torture", &inner, "tmpfs", flags, None).is_err() {
            println!("mounting needs root: left out");
            return;
        }
        fs::create_dir(inner.join("b")).unwrap();
        rustix::mount::mount("flint-torture", inner.join("b"), "tmpfs", flags, None).unwrap();
        assert_eq!(mounts_below(&gone).unwrap().len(), 2);
        assert_eq!(sweep_in(parent.path()).unwrap(), 1);
        assert!(!gone.exists());
        assert_eq!(mounts_below(&gone).unwrap(), [] as [PathBuf; 0]);
    }
}
