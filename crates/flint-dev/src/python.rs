//! Finds this machine's Python interpreters: the one that installs a function's requirements must be of the version
//! that will run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, tool};

/// Where interpreters may be. The door fills it from `PATH`, the home folder and `PYENV_ROOT`.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Folders with programs, in order.
    pub path: Vec<PathBuf>,
    /// Folders such as `~/.pyenv/versions`, with one interpreter each below `VERSION/bin`.
    pub versions: Vec<PathBuf>,
}

/// A Python that runs and has pip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub binary: PathBuf,
    /// Version and platform, as the interpreter tells them; part of a cache's key.
    pub tag: String,
}

/// The minor version in `python3.N`.
pub fn minor(runtime: &str) -> Option<u32> {
    runtime.strip_prefix("python3.")?.parse().ok()
}

impl Search {
    /// A program by its name, from the folders with programs.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let runs = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        self.path.iter().map(|dir| dir.join(name)).find(runs)
    }

    /// The interpreter of a runtime identifier such as `python3.12`.
    ///
    /// `source` is what the server says of it: where that is a file of this machine, it is tried first.
    ///
    /// Errors: [`Error::NoInterpreter`].
    pub fn interpreter(&self, runtime: &str, source: Option<&Path>) -> Result<Interpreter, Error> {
        let missing = || Error::NoInterpreter { runtime: runtime.to_owned(), found: Vec::new() };
        let minor = minor(runtime).ok_or_else(missing)?;
        let mut candidates: Vec<PathBuf> = source.iter().map(|s| s.to_path_buf()).collect();
        candidates.extend(self.candidates(runtime));
        // A candidate may be a shim that finds nothing behind it: only one that answers counts.
        candidates.iter().find_map(|binary| ask(binary, minor)).ok_or_else(missing)
    }

    /// Where the interpreter of a runtime identifier may be, in order. Not all of them are there, and some are shims.
    pub(crate) fn candidates(&self, runtime: &str) -> Vec<PathBuf> {
        let Some(minor) = minor(runtime) else { return Vec::new() };
        let name = format!("python3.{minor}");
        let mut candidates: Vec<PathBuf> = self.path.iter().map(|dir| dir.join(&name)).collect();
        for versions in &self.versions {
            candidates.extend(version_dirs(versions, minor).into_iter().map(|dir| dir.join("bin").join(&name)));
        }
        candidates
    }
}

/// `3.12.4`, `3.12.1`, ... below `versions`, newest first.
fn version_dirs(versions: &Path, minor: u32) -> Vec<PathBuf> {
    let prefix = format!("3.{minor}.");
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(versions).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(patch) = name.to_str().and_then(|n| n.strip_prefix(&prefix)) else { continue };
        if let Ok(patch) = patch.parse() {
            found.push((patch, entry.path()));
        }
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.0));
    found.into_iter().map(|(_, path)| path).collect()
}

fn ask(binary: &Path, minor: u32) -> Option<Interpreter> {
    const SCRIPT: &str = "import sys,sysconfig,pip;print(sys.version_info[1]);\
                          print(sys.implementation.cache_tag,'.'.join(map(str,sys.version_info[:3])),\
                          sysconfig.get_platform(),pip.__version__)";
    if !binary.is_file() {
        return None;
    }
    // Isolated (-I): what lies in the current folder must not run.
    let output = tool::output(Command::new(binary).args(["-I", "-c", SCRIPT])).ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let (version, tag) = text.trim().split_once('\n')?;
    (version.trim().parse() == Ok(minor)).then(|| Interpreter { binary: binary.to_owned(), tag: tag.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_that_fails_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let program = |folder: &str, text: &str| {
            let path = dir.path().join(folder);
            fs::create_dir_all(&path).unwrap();
            let file = path.join("python3.12");
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let shim = program("shims", "#!/bin/sh\nexit 127\n");
        let other = program("other", "#!/bin/sh\necho 9; echo tag\n");
        program("versions/3.12.1/bin", "#!/bin/sh\necho 12; echo old\n");
        program("versions/3.12.10/bin", "#!/bin/sh\necho 12; echo new\n");
        let search = Search { path: vec![shim, other], versions: vec![dir.path().join("versions")] };
        assert_eq!(search.interpreter("python3.12", None).unwrap().tag, "new");
        assert!(search.interpreter("python3.11", None).is_err());
        assert!(search.interpreter("nodejs22.x", None).is_err());
    }
}
