//! The data directory before anything is opened in it: made, locked, owned by the service user, entered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::runtimes;

/// Locked by the server that runs, and holds its process id.
pub(crate) const LOCK_FILE: &str = "server.lock";

/// A locked data directory. The lock ends with the value, or with the process however it dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the directory (mode 0700) if it is missing and locks it.
    ///
    /// The store has a lock of its own, but it is opened after privileges are dropped; this one must be held before
    /// the spawner sweeps what an earlier life of this directory left.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Data { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let lock = options.open(path.join(LOCK_FILE)).map_err(failed)?;
        // What has another name as well is not ours to empty or to give away.
        let meta = lock.metadata().map_err(failed)?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(failed(io::Error::other(format!("{LOCK_FILE} is not a file of its own"))));
        }
        match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // For `flint stop`.
                lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id())).map_err(failed)?;
                Ok(Self { path, lock })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(path)),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Tells this directory from every other one on the host, now: its device and inode. Not stored, so that a copy
    /// of the directory is another one.
    pub(crate) fn id(&self) -> Result<String, Error> {
        let meta = fs::metadata(&self.path).map_err(|source| Error::Data { path: self.path.clone(), source })?;
        Ok(format!("{:x}{:012x}", meta.dev(), meta.ino()))
    }

    /// Hands the directory and all that lies in it to the service user, at the first start.
    pub(crate) fn give_to(&self, user: u32) -> Result<(), Error> {
        let failed = |source| Error::Data { path: self.path.clone(), source };
        if fs::metadata(&self.path).map_err(failed)?.uid() != user {
            give(&self.path, user, &self.path.join(runtimes::FILE)).map_err(failed)?;
        }
        // Made by root before privileges were dropped. The file that is locked, whatever its name stands for by now: from the
        // second start on the directory is the service user's, who could put a link there.
        fchown(&self.lock, Some(user), Some(user)).map_err(failed)
    }

    /// Makes the directory the current one, so that its parents need not be open to the service user.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        std::env::set_current_dir(&self.path).map_err(|source| Error::Data { path: self.path.clone(), source })
    }
}

/// Writes where the server is and, in a second line, its region, where `flint env` finds them.
pub(crate) fn write_endpoint(url: &str, region: &str) -> io::Result<()> {
    let mut file = File::create("endpoint.tmp")?;
    writeln!(file, "{url}\n{region}")?;
    fs::rename("endpoint.tmp", "endpoint")
}

/// Changes the owner of a tree, its root last: a first start that was cut short begins again. `kept` stays
/// root's.
fn give(path: &Path, user: u32, kept: &Path) -> io::Result<()> {
    if path == kept {
        return Ok(());
    }
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, kept)?;
        }
    }
    lchown(path, Some(user), Some(user))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// The directory belongs to the service user, who may do with names in it as he likes: what root hands over is the file
    /// that it made.
    #[test]
    fn the_lock_is_handed_over_and_not_what_its_name_stands_for() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let lock = folder.path().join(LOCK_FILE);
        fs::remove_file(&lock).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path().join("not-there"), &lock).unwrap();
        data.give_to(user()).unwrap();
        if user() == 0 {
            // And the same seen from the other side, where the test may give files away.
            let victim = elsewhere.path().join("victim");
            fs::write(&victim, "root's").unwrap();
            fs::remove_file(&lock).unwrap();
            symlink(&victim, &lock).unwrap();
            data.give_to(65_534).unwrap();
            assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
            assert_eq!(fs::metadata(folder.path()).unwrap().uid(), 65_534);
        }
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_names_is_left_alone() {
        for hard in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let victim = folder.path().join("victim");
            fs::write(&victim, "not ours").unwrap();
            let lock = folder.path().join(LOCK_FILE);
            if hard {
                fs::hard_link(&victim, &lock).unwrap()
            } else {
                symlink(&victim, &lock).unwrap()
            }
            assert!(matches!(DataDir::open(folder.path()), Err(Error::Data { .. })), "hard link: {hard}");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "not ours");
        }
    }
}
