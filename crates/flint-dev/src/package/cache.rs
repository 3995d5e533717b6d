//! What a package manager installed, kept beside the application by the hash of what was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Error;

/// How many installed folders an application keeps: to go back to yesterday's requirements costs nothing.
const KEPT: usize = 4;
/// An installation that is not finished after this long was broken off.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Installed files: in the application's cache, or in a folder that goes away with this.
#[derive(Debug)]
pub enum Installed {
    Cached(PathBuf),
    Temporary(TempDir),
}

impl Installed {
    pub fn path(&self) -> &Path {
        match self {
            Installed::Cached(path) => path,
            Installed::Temporary(dir) => dir.path(),
        }
    }

    /// Nothing.
    pub(super) fn empty(near: &Path) -> Result<Installed, Error> {
        tempfile::tempdir().map(Installed::Temporary).map_err(Error::file(near))
    }
}

/// Where an application's installed files are kept, in its folder. Not in `.flint`: that may be a server's data directory,
/// which belongs to another user, and what a caller with more rights writes must not pass through another's folder.
const FOLDER: &str = ".flint-cache";

/// The folder of `key` in `APP/.flint-cache/KIND`, filled by `install` if it is not there. Without a key, or if the
/// cache cannot be written, it is filled each time.
pub(super) fn installed(
    app_dir: &Path,
    kind: &str,
    key: Option<String>,
    install: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<Installed, Error> {
    let cache = app_dir.join(FOLDER).join(kind);
    let Some(key) = key.filter(|_| make(&cache).is_ok()) else {
        let dir = tempfile::tempdir().map_err(Error::file(app_dir))?;
        install(dir.path())?;
        return Ok(Installed::Temporary(dir));
    };
    let ready = cache.join(&hex::encode(Sha256::digest(key))[..32]);
    if ready.is_dir() {
        // Its time is when it was last of use.
        if let Ok(dir) = fs::File::open(&ready) {
            drop(dir.set_times(fs::FileTimes::new().set_modified(now_of(&cache)?)));
        }
        return Ok(Installed::Cached(ready));
    }
    // Filled beside its place and renamed: a broken-off installation is never taken for a whole one.
    let work = tempfile::Builder::new().prefix(".new-").tempdir_in(&cache).map_err(Error::file(&cache))?;
    install(work.path())?;
    match fs::rename(work.path(), &ready) {
        Ok(()) => drop(work.keep()),
        // Another deploy of the same app was quicker.
        Err(_) if ready.is_dir() => {}
        Err(e) => return Err(Error::File { path: ready, source: e }),
    }
    prune(&cache, &ready);
    Ok(Installed::Cached(ready))
}

/// Makes the cache, and tells version control to leave it alone.
fn make(cache: &Path) -> std::io::Result<()> {
    fs::create_dir_all(cache)?;
    let ignore = cache.with_file_name(".gitignore");
    if ignore.exists() { Ok(()) } else { fs::write(ignore, "*\n") }
}

/// The file system's idea of now, from a file made in `dir`.
fn now_of(dir: &Path) -> Result<SystemTime, Error> {
    tempfile::tempfile_in(dir).and_then(|f| f.metadata()?.modified()).map_err(Error::file(dir))
}

/// Removes the installed folders that were not of use for longest, and what broken-off installations left.
fn prune(cache: &Path, current: &Path) {
    let now = fs::metadata(current).and_then(|m| m.modified());
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let Ok(time) = entry.metadata().and_then(|m| m.modified()) else { continue };
        let unfinished = entry.file_name().to_string_lossy().starts_with('.');
        if unfinished {
            let age = now.as_ref().ok().and_then(|now| now.duration_since(time).ok()).unwrap_or_default();
            if age > LEFT_BEHIND {
                drop(fs::remove_dir_all(entry.path()));
            }
        } else if entry.path().is_dir() && entry.path() != current {
            found.push((time, entry.path()));
        }
    }
    found.sort();
    let surplus = (found.len() + 1).saturating_sub(KEPT);
    for (_, path) in found.into_iter().take(surplus) {
        // Left for the next time if it cannot be removed now.
        drop(fs::remove_dir_all(&path));
        drop(fs::remove_file(path.with_extension("zip")));
    }
}
