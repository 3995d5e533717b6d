//! Interpreters in places of the operator's own: `flint runtime add` writes their folders into a file of the data directory, and the
//! server reads it at its start.
//!
//! Functions can read everything in such a folder, and root looks for interpreters there. So the file counts only if it is
//! root's, or of the user who starts a server without root: what the user that root's server becomes could write, after a
//! break-in, must not open another tree of the host.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flint_runtime::{Catalog, Match};

use crate::error::Error;

/// One folder a line.
pub(crate) const FILE: &str = "runtimes";
/// Folders that the file may name, and its bytes.
const FOLDERS_MAX: usize = 256;
const BYTES_MAX: u64 = 1024 * 1024;

/// What was added.
#[derive(Debug)]
pub struct Added {
    pub path: PathBuf,
    /// Runtime identifiers and versions.
    pub found: Vec<(String, String)>,
    pub is_new: bool,
}

/// Adds an installation to what the server of a data directory offers from its next start on.
///
/// Errors: [`Error::Runtime`] if the folder is no installation; [`Error::Data`] if the data directory can't be
/// written.
pub fn add(data: &Path, folder: &Path) -> Result<Added, Error> {
    let refused = |reason: &str, hint: &str| Error::Runtime {
        folder: folder.to_owned(),
        reason: reason.to_owned(),
        hint: hint.to_owned(),
    };
    let failed = |source| Error::Data { path: data.to_owned(), source };
    if !fs::metadata(data).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let path = fs::canonicalize(folder).map_err(|e| refused(&e.to_string(), "check the path"))?;
    let is_line = path.to_str().is_some_and(|text| !text.contains(['\n', '\r']));
    let catalog = Catalog::installation(&path, Vec::new());
    if catalog.interpreters().is_empty() || !is_line {
        return Err(refused(
            "holds no Python or Node.js installation",
            "name the folder that has bin/python3.N and lib/python3.N, or bin/node, as files of its own",
        ));
    }
    let found: Vec<(String, String)> = catalog
        .available()
        .into_iter()
        .filter_map(|id| Some((id.clone(), catalog.resolve(&id, Match::Exact).ok()?.version)))
        .filter(|(_, version)| !version.is_empty())
        .collect();
    let mut folders = read(data).map_err(failed)?;
    let is_new = !folders.contains(&path);
    if is_new {
        if folders.len() == FOLDERS_MAX {
            return Err(refused("would be one folder too many", "take some out of the file `runtimes` there"));
        }
        folders.push(path.clone());
        write(data, &folders).map_err(failed)?;
    }
    Ok(Added { path, found, is_new })
}

/// The folders of the file; none if there is no file, or if others than whoever starts the server could have written it.
pub(crate) fn read(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut options = OpenOptions::new();
    // Neither a link out of the directory nor a pipe that never ends.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(data.join(FILE)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || !is_ours(meta.uid()) || meta.mode() & 0o022 != 0 || meta.nlink() != 1 {
        tracing::warn!("the file `{FILE}` of the data directory could have been written by others: it is not read");
        return Ok(Vec::new());
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    let folders = text.lines().map(PathBuf::from).filter(|folder| folder.is_absolute());
    Ok(folders.take(FOLDERS_MAX).collect())
}

/// A server that root starts believes root alone; without root, its own user as well.
fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

fn write(data: &Path, folders: &[PathBuf]) -> io::Result<()> {
    let new = data.join("runtimes.new");
    // Whatever has that name is somebody else's: never written through.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    for folder in folders {
        writeln!(file, "{}", folder.display())?;
    }
    file.sync_all()?;
    fs::rename(new, data.join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn installation(dir: &Path) -> PathBuf {
        let folder = fs::canonicalize(dir).unwrap().join("py");
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("lib/python3.14")).unwrap();
        let binary = folder.join("bin/python3.14");
        fs::write(&binary, b"\x7fELF....").unwrap();
        // Writable by others, so that nobody runs it to ask its version.
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_added_once_and_read_back() {
        let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = installation(dir.path());
        let added = add(data.path(), &folder).unwrap();
        assert_eq!((added.found, added.is_new), (vec![("python3.14".into(), "3.14.0".into())], true));
        assert!(!add(data.path(), &folder.join("../py")).unwrap().is_new);
        assert_eq!(read(data.path()).unwrap(), [folder]);
    }

    #[test]
    fn what_is_no_installation_is_refused() {
        let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = installation(dir.path());
        for wrong in [dir.path(), &folder.join("bin"), Path::new("/"), Path::new("/nonexistent")] {
            let error = add(data.path(), wrong).unwrap_err();
            assert!(matches!(error, Error::Runtime { .. }), "{error}");
        }
        assert!(add(&data.path().join("none"), &folder).is_err());
        assert_eq!(read(data.path()).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_read() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        fs::write(&path, "/opt/x\nrelative\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(data.path()).unwrap(), [Path::new("/opt/x")]);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1_000), None).unwrap();
            assert!(read(data.path()).unwrap().is_empty());
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(data.path()).unwrap().is_empty());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(&path, data.path().join("other")).unwrap();
        assert!(read(data.path()).unwrap().is_empty());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(data.path().join("other"), &path).unwrap();
        assert!(read(data.path()).is_err());
    }
}
