//! Finding and ending what an earlier life has left.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::c_path;
use super::layout::Layout;
use crate::sys::{fds, process};

/// Rounds of one call. What forks faster than that meets the next call; the caller has others to serve.
const ROUNDS: usize = 32;

/// Kills what `cgroup.procs` lists, until a round finds nobody new: between two of them something may have forked.
///
/// By descriptor, since a number that was read may be another process' by the time it is used. One that is listed again
/// after its descriptor was opened is the descriptor's process, or that has ended and the signal goes nowhere.
pub(super) fn kill_listed(dir: RawFd) {
    let mut held: HashMap<i32, OwnedFd> = HashMap::new();
    for _ in 0..ROUNDS {
        let Ok(file) = fds::open_at(dir, c"cgroup.procs", libc::O_RDONLY, 0) else { return };
        let mut text = Vec::new();
        if io::Read::read_to_end(&mut std::fs::File::from(file), &mut text).is_err() || text.is_empty() {
            return;
        }
        let mut new = false;
        for pid in String::from_utf8_lossy(&text).lines().filter_map(|l| l.parse::<i32>().ok()).filter(|&p| p > 1) {
            if let Some(process) = held.get(&pid) {
                // One that has ended makes room for the next one of that number.
                if !process::kill(process.as_raw_fd()) {
                    held.remove(&pid);
                }
            } else if let Ok(process) = process::open(pid) {
                held.insert(pid, process);
                new = true;
            }
        }
        if !new {
            return;
        }
    }
}

/// Finds every directory called `name` below the hierarchies' mounts: an earlier life may have started elsewhere.
pub fn find_tops(layout: &Layout, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Bounded: a host has hundreds of groups, ours sit near the root.
    let mut budget = 20_000_u32;
    for hierarchy in &layout.hierarchies {
        let mut queue = vec![(hierarchy.mount.clone(), 0)];
        while let Some((dir, depth)) = queue.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                budget = budget.saturating_sub(1);
                if budget == 0 {
                    return found;
                }
                if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                if entry.file_name().as_bytes() == name.as_bytes() {
                    found.push(entry.path());
                } else if depth < 8 && !entry.file_name().as_bytes().starts_with(b"flint-") {
                    queue.push((entry.path(), depth + 1));
                }
            }
        }
    }
    found
}

/// Something lives in or below this group.
pub fn populated(dir: &Path) -> bool {
    if let Ok(events) = std::fs::read_to_string(dir.join("cgroup.events")) {
        return events.lines().any(|l| l == "populated 1");
    }
    let own = std::fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty());
    own || std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .any(|e| e.file_type().is_ok_and(|t| t.is_dir()) && populated(&e.path()))
}

/// Kills everything below `dir` and removes it, once; `true` when it is gone.
pub fn sweep_once(dir: &Path) -> bool {
    if !dir.exists() {
        return true;
    }
    if std::fs::write(dir.join("cgroup.kill"), "1").is_err() {
        kill_below(dir);
    }
    remove_below(dir)
}

fn kill_below(dir: &Path) {
    // The old freezer holds even the killed.
    std::fs::write(dir.join("freezer.state"), "THAWED").ok();
    if let Ok(fd) = c_path(dir).and_then(|p| fds::open(&p, libc::O_DIRECTORY | libc::O_RDONLY)) {
        kill_listed(fd.as_raw_fd());
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            kill_below(&entry.path());
        }
    }
}

fn remove_below(dir: &Path) -> bool {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&entry.path());
        }
    }
    match std::fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
