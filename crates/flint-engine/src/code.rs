//! Packages: the archive as a blob, and its unpacked tree that environments mount read-only.
//!
//! `blobs/..` holds archives by hash; `code/HASH` the tree that the sandboxed helper unpacked from it. Both belong
//! to the service user, so the server can delete them and no function (another user, a read-only mount) can write
//! them. A tree appears under its name by rename, so it is whole or absent. A [`Code`] keeps both alive; when the last
//! one of a hash is dropped, the sweeper removes them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flint_sandbox::{Refusal, Sandboxes, UnpackError, UnpackLimits};
use flint_store::{BlobHash, Blobs};
use tokio::sync::Notify;

use crate::error::Error;
use crate::function::Package;

/// Packages of one data directory.
#[derive(Debug)]
pub(crate) struct CodeStore {
    blobs: Blobs,
    dir: PathBuf,
    sandboxes: Sandboxes,
    alive: Mutex<HashMap<BlobHash, Weak<Code>>>,
    /// One unpack or removal at a time: a tree is never removed while another request finds it there.
    gate: tokio::sync::Mutex<()>,
    condemned: Arc<Condemned>,
}

#[derive(Debug, Default)]
struct Condemned {
    hashes: Mutex<Vec<BlobHash>>,
    wake: Notify,
}

/// A package in use.
#[derive(Debug)]
pub(crate) struct Code {
    hash: BlobHash,
    path: Arc<Path>,
    condemned: Arc<Condemned>,
}

/// What an environment mounts.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    pub code: Arc<Code>,
    /// The layers, merged; one alone is its own tree.
    pub layers: Option<Arc<Code>>,
}

impl Code {
    /// The unpacked tree.
    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.condemned.hashes.lock().unwrap_or_else(PoisonError::into_inner).push(self.hash);
        self.condemned.wake.notify_one();
    }
}

impl CodeStore {
    /// Opens `dir/code` beside the blobs and removes what unfinished unpacks left.
    pub(crate) fn open(dir: &Path, blobs: Blobs, sandboxes: Sandboxes) -> Result<Arc<Self>, Error> {
        let dir = dir.join("code");
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let condemned = Arc::default();
        Ok(Arc::new(Self {
            blobs,
            dir,
            sandboxes,
            alive: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            condemned,
        }))
    }

    /// Checks, stores and unpacks an archive.
    ///
    /// Errors: `InvalidParameterValueException` for an archive that is empty, broken, hostile or too large.
    pub(crate) async fn add(self: &Arc<Self>, archive: Bytes) -> Result<(Package, Arc<Code>), Error> {
        if archive.is_empty() {
            return Err(empty());
        }
        let size = archive.len() as u64;
        let hash = BlobHash::of(&archive);
        let _gate = self.gate.lock().await;
        let code = self.handle(hash);
        if !code.path.exists() {
            let blobs = self.blobs.clone();
            blocking(move || blobs.put(&archive)).await?.map_err(storage)?;
            self.unpack(&code).await?;
        }
        Ok((Package { sha256: hash.to_string(), size }, code))
    }

    /// The package of a stored function. Unpacks it again if the tree is gone.
    pub(crate) async fn load(self: &Arc<Self>, package: &Package) -> Result<Arc<Code>, Error> {
        let damaged = |_| Error::Record { key: package.sha256.clone(), why: "not a hash".to_owned() };
        let hash: BlobHash = package.sha256.parse().map_err(damaged)?;
        let code = self.handle(hash);
        if !code.path.exists() {
            let _gate = self.gate.lock().await;
            if !code.path.exists() {
                self.unpack(&code).await?;
            }
        }
        Ok(code)
    }

    /// One tree of several, later ones on top; made of hard links, so it costs names only.
    ///
    /// The trees were written by our own helper: plain files, directories, and links that stay inside.
    pub(crate) async fn merge(self: &Arc<Self>, layers: Vec<Arc<Code>>) -> Result<Option<Arc<Code>>, Error> {
        if layers.len() < 2 {
            return Ok(layers.into_iter().next());
        }
        let named: String = layers.iter().map(|layer| layer.hash.to_string()).collect();
        let merged = self.handle(BlobHash::of(named.as_bytes()));
        let _gate = self.gate.lock().await;
        if !merged.path.exists() {
            let staging = self.dir.join(format!(".staging-{}", merged.hash));
            let target = merged.path.clone();
            blocking(move || {
                match fs::remove_dir_all(&staging) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => fs::create_dir(&staging)?,
                }
                for layer in &layers {
                    overlay(&layer.path, &staging)?;
                }
                fs::rename(&staging, &target)
            })
            .await?
            .map_err(no_space)?;
        }
        Ok(Some(merged))
    }

    /// Removes packages as their last users go. Runs until the server ends.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            self.condemned.wake.notified().await;
            let hashes = std::mem::take(&mut *self.condemned.hashes.lock().unwrap_or_else(PoisonError::into_inner));
            for hash in hashes {
                let _gate = self.gate.lock().await;
                if self.forget(&hash) {
                    self.remove(hash).await;
                }
            }
        }
    }

    /// Removes every package that no stored function refers to: what a crash left between blob and commit.
    pub(crate) async fn keep_only(&self, wanted: impl Fn(&BlobHash) -> bool) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let mut found = self.blobs.list().map_err(storage)?;
        for entry in fs::read_dir(&self.dir)? {
            found.extend(entry?.file_name().to_string_lossy().parse::<BlobHash>());
        }
        for hash in found.into_iter().filter(|hash| !wanted(hash)) {
            self.remove(hash).await;
        }
        Ok(())
    }

    fn handle(&self, hash: BlobHash) -> Arc<Code> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = alive.get(&hash).and_then(Weak::upgrade) {
            return code;
        }
        let path = self.dir.join(hash.to_string()).into();
        let code = Arc::new(Code { hash, path, condemned: self.condemned.clone() });
        alive.insert(hash, Arc::downgrade(&code));
        code
    }

    /// True if nobody uses `hash` any more.
    fn forget(&self, hash: &BlobHash) -> bool {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = alive.get(hash).is_none_or(|code| code.strong_count() == 0);
        if unused {
            alive.remove(hash);
        }
        unused
    }

    async fn remove(&self, hash: BlobHash) {
        let tree = self.dir.join(hash.to_string());
        let blobs = self.blobs.clone();
        let removed = blocking(move || {
            match fs::remove_dir_all(&tree) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::from(e)),
                _ => {}
            }
            blobs.remove(&hash).map_err(storage)
        });
        if let Err(error) = removed.await.and_then(|inner| inner) {
            tracing::warn!(%hash, %error, "a package could not be removed");
        }
    }

    async fn unpack(&self, code: &Code) -> Result<(), Error> {
        let archive = self.blobs.open_file(&code.hash).map_err(storage)?;
        let staging = self.dir.join(format!(".staging-{}", code.hash));
        let made = self.unpack_into(&staging, archive.into(), &code.path).await;
        if made.is_err() {
            let staging = staging.clone();
            // The refusal is what the caller must hear; what can't be removed now is swept at the next start.
            let _ = blocking(move || fs::remove_dir_all(staging)).await;
        }
        made
    }

    async fn unpack_into(&self, staging: &Path, archive: OwnedFd, target: &Path) -> Result<(), Error> {
        match fs::remove_dir_all(staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => fs::create_dir(staging).map_err(no_space)?,
        }
        let folder: OwnedFd = fs::File::open(staging)?.into();
        let unpacked = self.sandboxes.unpack(archive, folder, UnpackLimits::default()).await.map_err(refusal)?;
        if unpacked.files == 0 {
            return Err(empty());
        }
        fs::rename(staging, target).map_err(no_space)?;
        let dir = self.dir.clone();
        blocking(move || fs::File::open(dir)?.sync_all()).await?.map_err(no_space)
    }
}

/// Links what is in `from` into `to`, in place of what is there under the same name.
fn overlay(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let there = fs::symlink_metadata(&target).ok().map(|meta| meta.is_dir());
        let is_dir = entry.file_type()?.is_dir();
        match there {
            Some(true) if !is_dir => fs::remove_dir_all(&target)?,
            Some(false) => fs::remove_file(&target)?,
            _ => {}
        }
        if is_dir {
            if there != Some(true) {
                fs::create_dir(&target)?;
            }
            overlay(&entry.path(), &target)?;
        } else {
            // Of a symbolic link this links the link itself.
            fs::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Io(io::Error::other(e)))
}

fn no_space(error: io::Error) -> Error {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => Error::DiskFull,
        _ => Error::Io(error),
    }
}

fn storage(error: flint_store::Error) -> Error {
    match error {
        flint_store::Error::Full(_) => Error::DiskFull,
        other => Error::Io(io::Error::other(other)),
    }
}

fn empty() -> Error {
    Error::InvalidParameter("Uploaded file must be a non-empty zip".to_owned())
}

/// The reference's words for what it would refuse too, ours for the rest.
fn refusal(error: UnpackError) -> Error {
    match error {
        UnpackError::Refused(Refusal::TooLarge(limit)) => {
            Error::InvalidParameter(format!("Unzipped size must be smaller than {} bytes", limit.bytes()))
        }
        UnpackError::Refused(Refusal::NotZip(_)) => Error::InvalidParameter(
            "Could not unzip uploaded file. Please check your file, then try to upload again.".to_owned(),
        ),
        UnpackError::Refused(why) => Error::InvalidParameter(format!("Could not unzip uploaded file: {why}")),
        UnpackError::NoSpace => Error::DiskFull,
        other => Error::Sandbox(other.to_string()),
    }
}

/// `CodeSha256` as the reference gives it: base64 of the digest.
pub(crate) fn base64_of_hex(hex: &str) -> String {
    match hex.parse::<BlobHash>() {
        Ok(hash) => BASE64_STANDARD.encode(hash.as_bytes()),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_lie_on_top() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("one/python/a.py", "1");
        write("one/python/b.py", "1");
        write("one/swap/inner", "1");
        write("two/python/b.py", "2");
        write("two/swap", "2");
        std::os::unix::fs::symlink("b.py", dir.path().join("two/python/c.py")).expect("linked");
        let merged = dir.path().join("merged");
        fs::create_dir(&merged).expect("made");
        for layer in ["one", "two"] {
            overlay(&dir.path().join(layer), &merged).expect("merges");
        }
        let read = |path: &str| fs::read_to_string(merged.join(path)).expect("there");
        assert_eq!((read("python/a.py").as_str(), read("python/b.py").as_str()), ("1", "2"));
        assert_eq!((read("python/c.py").as_str(), read("swap").as_str()), ("2", "2"));
        assert_eq!(
            fs::read_to_string(dir.path().join("one/python/b.py")).expect("there"),
            "1",
            "layers stay as they are"
        );
    }
}
