//! The directories of one server: a top in every hierarchy, and below it one group for each slot.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use super::c_path;
use super::group::{Group, Part, TCP_LIMIT};
use super::layout::{Hierarchy, Layout, Roles};
use super::sweep::kill_listed;
use crate::sys::fds;

/// The top directory of one hierarchy.
#[derive(Debug)]
pub struct Top {
    pub roles: Roles,
    pub path: PathBuf,
    dir: OwnedFd,
}

/// The top directories of this server in every hierarchy.
#[derive(Debug)]
pub struct Tops(pub Vec<Top>);

impl Tops {
    /// Makes the directory `name` in every hierarchy that has a use.
    pub fn create(layout: &Layout, name: &str) -> io::Result<Self> {
        let unified = layout.find(Roles::UNIFIED).is_some();
        let mut tops = Vec::new();
        for hierarchy in &layout.hierarchies {
            // With version 2 there is no use for the old freezer.
            if unified && hierarchy.roles == Roles::FREEZER {
                continue;
            }
            tops.push(create_top(hierarchy, name)?);
        }
        Ok(Self(tops))
    }

    /// As [`Tops::create`], where it is possible: without root some hierarchies, and more often none.
    pub fn create_delegated(layout: &Layout, name: &str) -> Self {
        Self(layout.hierarchies.iter().filter_map(|hierarchy| create_top(hierarchy, name).ok()).collect())
    }

    /// There is a hierarchy with this role.
    pub fn have(&self, role: Roles) -> bool {
        self.0.iter().any(|top| top.roles.has(role))
    }

    /// Makes one slot's directories. On an error what was made is removed.
    pub fn create_group(&self, name: &CStr) -> io::Result<Group> {
        let mut group = Group { name: name.to_owned(), parts: Vec::new() };
        for (index, top) in self.0.iter().enumerate() {
            let made = fds::mkdir_at(top.dir.as_raw_fd(), name, 0o755)
                .and_then(|()| fds::open_at(top.dir.as_raw_fd(), name, libc::O_DIRECTORY | libc::O_RDONLY, 0));
            match made {
                Ok(dir) => group.parts.push(Part { roles: top.roles, top: index, dir: Some(dir) }),
                Err(error) => {
                    self.remove_group(&group).ok();
                    return Err(error);
                }
            }
        }
        Ok(group)
    }

    /// Kills everything in the group, whatever it forks meanwhile.
    pub fn kill_group(&self, group: &Group) {
        if let Some(dir) = self.open_group(group, Roles::UNIFIED)
            && fds::put(dir.as_raw_fd(), c"cgroup.kill", "1").is_ok()
        {
            return;
        }
        for role in [Roles::PIDS, Roles::MEMORY] {
            if let Some(dir) = self.open_group(group, role) {
                kill_listed(dir.as_raw_fd());
            }
        }
        self.thaw_group(group);
    }

    /// Thaws a group of a version 1 freezer.
    pub fn thaw_group(&self, group: &Group) {
        if let Some(dir) = self.open_group(group, Roles::FREEZER) {
            fds::put(dir.as_raw_fd(), c"freezer.state", "THAWED").ok();
        }
    }

    fn open_group(&self, group: &Group, role: Roles) -> Option<OwnedFd> {
        let part = group.parts.iter().find(|p| p.roles.has(role))?;
        let top = self.0[part.top].dir.as_raw_fd();
        fds::open_at(top, &group.name, libc::O_DIRECTORY | libc::O_RDONLY, 0).ok()
    }

    /// Removes a slot's directories; `Ok(false)` while something is still in one of them.
    pub fn remove_group(&self, group: &Group) -> io::Result<bool> {
        let mut empty = true;
        for part in &group.parts {
            match fds::rmdir_at(self.0[part.top].dir.as_raw_fd(), &group.name) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => empty = false,
                Err(error) => return Err(error),
            }
        }
        Ok(empty)
    }
}

fn create_top(hierarchy: &Hierarchy, name: &str) -> io::Result<Top> {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for base in hierarchy.bases() {
        let path = base.join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                last = error;
                continue;
            }
        }
        let dir = fds::open(&c_path(&path)?, libc::O_DIRECTORY | libc::O_RDONLY)?;
        if hierarchy.unified() && hierarchy.roles.has(Roles::MEMORY) {
            // The base may have been prepared already, or be managed; what counts is that our own children get them.
            let base_dir = fds::open(&c_path(&base)?, libc::O_DIRECTORY | libc::O_RDONLY)?;
            for controller in ["+memory", "+pids", "+cpu"] {
                fds::put(base_dir.as_raw_fd(), c"cgroup.subtree_control", controller).ok();
            }
            // Good to have: limits writes to a device.
            fds::put(base_dir.as_raw_fd(), c"cgroup.subtree_control", "+io").ok();
            fds::put(dir.as_raw_fd(), c"cgroup.subtree_control", "+io").ok();
            if let Err(error) = fds::put(dir.as_raw_fd(), c"cgroup.subtree_control", "+memory +pids +cpu") {
                std::fs::remove_dir(&path).ok();
                last = error;
                continue;
            }
        }
        if hierarchy.roles.has(Roles::CPU) {
            // All functions together weigh as much on each processor as one ordinary process. With the default they would
            // have one such share of the whole machine, and a busy server would let single ones wait for many milliseconds.
            // As it is better to have it than to do without functions, a refusal is none.
            let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
            if hierarchy.unified() {
                fds::put(dir.as_raw_fd(), c"cpu.weight", &(100 * processors).min(10_000).to_string()).ok();
            } else {
                fds::put(dir.as_raw_fd(), c"cpu.shares", &(1024 * processors).min(262_144).to_string()).ok();
            }
        }
        if hierarchy.roles.has(Roles::MEMORY) && !hierarchy.unified() {
            // No limit, but the kernel starts to count: doing so for the first group costs half a millisecond, and then
            // 20 us. It must not be a launch that pays, nor each one that finds itself alone.
            fds::put(dir.as_raw_fd(), TCP_LIMIT, "-1").ok();
        }
        return Ok(Top { roles: hierarchy.roles, path, dir });
    }
    Err(io::Error::new(last.kind(), format!("{} under {}: {last}", name, hierarchy.mount.display())))
}
