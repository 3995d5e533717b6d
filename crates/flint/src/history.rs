//! The last event that was given to each function: kept in the state directory of whoever calls, for `flint invoke --again`.
//!
//! Events may hold secrets: only their owner can read the files. What cannot be kept is not kept; no call fails for it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flint_model::function::FunctionRef;

/// The file of a function that is named by its name or ARN.
fn file(dir: &Path, function: &str) -> Option<PathBuf> {
    let name = function.parse::<FunctionRef>().ok()?.name;
    Some(dir.join("events").join(format!("{name}.json")))
}

/// Keeps an event.
pub(crate) fn keep(dir: &Path, function: &str, event: &[u8]) {
    let Some(path) = file(dir, function) else { return };
    // Nothing depends on it.
    drop(write(&path, event));
}

fn write(path: &Path, event: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(event)?;
    drop(file);
    fs::rename(new, path)
}

/// The last event of a function, if there was one.
pub(crate) fn last(dir: &Path, function: &str) -> Option<Vec<u8>> {
    fs::read(file(dir, function)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_is_kept_by_function() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(dir.path(), "f"), None);
        keep(dir.path(), "f", b"1");
        keep(dir.path(), "arn:aws:lambda:us-east-1:000000000000:function:f:1", b"2");
        keep(dir.path(), "../f", b"3");
        assert_eq!(last(dir.path(), "f").as_deref(), Some(&b"2"[..]));
        assert_eq!(fs::read_dir(dir.path().join("events")).unwrap().count(), 1);
        keep(Path::new("/proc/nowhere"), "f", b"1");
    }
}
