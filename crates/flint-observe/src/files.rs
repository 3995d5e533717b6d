//! File operations that survive a power cut.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Makes the entries of `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("sync", dir))
}

/// Makes `dir` and what is missing above it, durably. `root` exists.
pub fn make_dirs(root: &Path, dir: &Path) -> Result<(), Error> {
    let mut missing: Vec<PathBuf> = Vec::new();
    for above in dir.ancestors().take_while(|above| *above != root) {
        if above.is_dir() {
            break;
        }
        missing.push(above.to_owned());
    }
    for dir in missing.iter().rev() {
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", dir)(e)),
            _ => sync_dir(dir.parent().unwrap_or(root))?,
        }
    }
    Ok(())
}

/// Replaces `path` by `bytes`: after a crash it holds either what it held or all of `bytes`.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("rename to", path))?;
    sync_dir(path.parent().unwrap_or(path))
}

/// Opens `path` for reading and writing at given places; makes it if it is missing.
pub fn open_writable(path: &Path) -> Result<File, Error> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}
