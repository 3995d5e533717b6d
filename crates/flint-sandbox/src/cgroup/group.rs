//! One slot's directories: its limits and its files.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::layout::Roles;
use crate::sys::fds;

#[derive(Debug)]
pub(super) struct Part {
    pub(super) roles: Roles,
    pub(super) top: usize,
    /// Open until the launch: a live sandbox costs the spawner as few descriptors as can be.
    pub(super) dir: Option<OwnedFd>,
}

/// One slot's directories.
#[derive(Debug)]
pub struct Group {
    pub(super) name: CString,
    pub(super) parts: Vec<Part>,
}

/// Where version 1 limits the buffers of TCP sockets.
pub(super) const TCP_LIMIT: &CStr = c"memory.kmem.tcp.limit_in_bytes";

/// They may take this part of the memory on top of it, and never less than [`SOCKETS_LEAST`] bytes.
const SOCKETS_SHARE: u64 = 4;
const SOCKETS_LEAST: u64 = 16 << 20;

/// Over how long a CPU quota is counted: short, so that a function that has used its share up waits briefly.
pub const CPU_PERIOD_US: u64 = 20_000;

/// The limits of one launch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub memory: u64,
    pub pids: u32,
}

impl Group {
    /// The directory of the hierarchy with `role`.
    pub fn dir(&self, role: Roles) -> Option<RawFd> {
        self.parts.iter().find(|p| p.roles.has(role))?.dir.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Closes the directories; from now on the group can only be killed and removed.
    pub fn close(&mut self) {
        self.parts.iter_mut().for_each(|part| part.dir = None);
    }

    pub fn is_unified(&self, role: Roles) -> bool {
        self.parts.iter().any(|p| p.roles.has(role) && p.roles.has(Roles::UNIFIED))
    }

    /// A file of the hierarchy with `role`: its version 1 name or its version 2 name, whichever applies.
    pub fn open(&self, role: Roles, v1: &CStr, v2: &CStr, flags: libc::c_int) -> Option<OwnedFd> {
        let name = if self.is_unified(role) { v2 } else { v1 };
        fds::open_at(self.dir(role)?, name, flags, 0).ok()
    }

    /// The file that takes the group's CPU quota for each [`CPU_PERIOD_US`]. There is none as long as nothing is written.
    pub fn open_quota(&self) -> Option<OwnedFd> {
        if !self.is_unified(Roles::CPU) {
            fds::put(self.dir(Roles::CPU)?, c"cpu.cfs_period_us", &CPU_PERIOD_US.to_string()).ok()?;
        }
        self.open(Roles::CPU, c"cpu.cfs_quota_us", c"cpu.max", libc::O_WRONLY)
    }

    pub fn memory_is_v1(&self) -> bool {
        self.dir(Roles::MEMORY).is_some() && !self.is_unified(Roles::MEMORY)
    }

    /// The `tasks` files of the version 1 hierarchies, which the child joins by writing "0".
    pub fn open_tasks(&self) -> io::Result<Vec<OwnedFd>> {
        self.parts
            .iter()
            .filter(|p| !p.roles.has(Roles::UNIFIED))
            .filter_map(|p| p.dir.as_ref())
            .map(|dir| fds::open_at(dir.as_raw_fd(), c"tasks", libc::O_WRONLY, 0))
            .collect()
    }

    /// Limits what the group may write to a block device a second, where version 2 has the controller for it.
    pub fn limit_writes(&self, device: (u32, u32), bytes_per_second: u64) -> io::Result<()> {
        let Some(dir) = self.dir(Roles::UNIFIED) else { return Ok(()) };
        let line = format!("{}:{} wbps={bytes_per_second}", device.0, device.1);
        fds::put(dir, c"io.max", &line).or_else(absent_is_fine)
    }

    /// Writes the limits where the controllers for them are; a spawner with root does not start without those for memory
    /// and processes. The CPU weight is as good as the host lets it be.
    ///
    /// The weight follows the reference's rule that 1,769 MB of memory stand for one CPU.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        let mib = limits.memory >> 20;
        self.limit_memory(limits.memory)?;
        if let Some(dir) = self.dir(Roles::PIDS) {
            fds::put(dir, c"pids.max", &limits.pids.to_string())?;
        }
        if let Some(dir) = self.dir(Roles::CPU) {
            if self.is_unified(Roles::CPU) {
                let weight = (mib * 100 / 1769).clamp(1, 10_000);
                fds::put(dir, c"cpu.weight", &weight.to_string())?;
            } else {
                let shares = (mib * 1024 / 1769).clamp(2, 262_144);
                fds::put(dir, c"cpu.shares", &shares.to_string())?;
            }
        }
        Ok(())
    }

    fn limit_memory(&self, memory: u64) -> io::Result<()> {
        let Some(dir) = self.dir(Roles::MEMORY) else { return Ok(()) };
        let bytes = memory.to_string();
        if self.is_unified(Roles::MEMORY) {
            fds::put(dir, c"memory.max", &bytes)?;
            fds::put(dir, c"memory.swap.max", "0").or_else(absent_is_fine)?;
            fds::put(dir, c"memory.oom.group", "1")
        } else {
            fds::put(dir, c"memory.limit_in_bytes", &bytes)?;
            match fds::put(dir, c"memory.memsw.limit_in_bytes", &bytes) {
                // A kernel that does not count swap can be told not to use it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fds::put(dir, c"memory.swappiness", "0").or_else(absent_is_fine)
                }
                other => other,
            }?;
            // Version 1 counts the buffers of TCP sockets apart, and without a limit of their own they are nobody's.
            let sockets = (memory / SOCKETS_SHARE).max(SOCKETS_LEAST);
            fds::put(dir, TCP_LIMIT, &sockets.to_string()).or_else(absent_is_fine)
        }
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files stands in for a hierarchy; the kernel's would have them.
    fn group(roles: Roles, files: &[&str]) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let path = CString::new(dir.path().to_str().unwrap()).unwrap();
        let open = fds::open(&path, libc::O_DIRECTORY | libc::O_RDONLY).unwrap();
        let part = Part { roles, top: 0, dir: Some(open) };
        (dir, Group { name: c"s1".into(), parts: vec![part] })
    }

    fn read(dir: &tempfile::TempDir, file: &str) -> String {
        std::fs::read_to_string(dir.path().join(file)).unwrap()
    }

    #[test]
    fn version_2_limits_writes_and_cpu() {
        let (dir, group) = group(Roles::UNIFIED.with(Roles::CPU), &["io.max", "cpu.max"]);
        group.limit_writes((7, 1024), 5 << 20).unwrap();
        assert_eq!(read(&dir, "io.max"), "7:1024 wbps=5242880");
        let quota = group.open_quota().expect("the file is there");
        fds::write_all(quota.as_raw_fd(), b"1447 20000").unwrap();
        assert_eq!(read(&dir, "cpu.max"), "1447 20000");
        std::fs::remove_file(dir.path().join("io.max")).unwrap();
        group.limit_writes((7, 1024), 1).expect("a tree without the controller is no error");
    }

    #[test]
    fn version_1_has_a_period_and_then_a_quota() {
        let (dir, group) = group(Roles::CPU, &["cpu.cfs_period_us", "cpu.cfs_quota_us"]);
        let quota = group.open_quota().expect("the file is there");
        fds::write_all(quota.as_raw_fd(), b"1447").unwrap();
        assert_eq!((read(&dir, "cpu.cfs_period_us"), read(&dir, "cpu.cfs_quota_us")), ("20000".into(), "1447".into()));
        std::fs::remove_file(dir.path().join("cpu.cfs_period_us")).unwrap();
        assert!(group.open_quota().is_none(), "over an unknown period a quota would mean something else");
    }
}
