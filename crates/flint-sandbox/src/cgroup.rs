//! Control groups in all three layouts: version 2 alone, version 1 alone, and the hybrid of version 1 controllers with a
//! version 2 tree beside them.
//!
//! Limits go where the controllers are; freeze, kill and clone-into go to version 2 where it exists. Every slot has one
//! directory of the same name in each hierarchy, below a top directory named after the data directory's id.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::sys::fds;

/// What a hierarchy is used for; a bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    pub const NONE: Self = Self(0);
    pub const UNIFIED: Self = Self(1);
    pub const MEMORY: Self = Self(2);
    pub const PIDS: Self = Self(4);
    pub const CPU: Self = Self(8);
    pub const CPUACCT: Self = Self(16);
    pub const FREEZER: Self = Self(32);

    pub fn has(self, role: Self) -> bool {
        self.0 & role.0 == role.0
    }

    fn with(self, role: Self) -> Self {
        Self(self.0 | role.0)
    }
}

/// One mounted hierarchy and where this process is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub roles: Roles,
    pub mount: PathBuf,
    /// This process' own group, relative to `mount`; empty for its root.
    pub own: PathBuf,
}

impl Hierarchy {
    pub fn unified(&self) -> bool {
        self.roles.has(Roles::UNIFIED)
    }

    /// Where the top directory goes: below this process' own group, so that outer limits hold. In version 2 with
    /// controllers a group with processes can't have limited children, so there it goes beside it.
    fn bases(&self) -> Vec<PathBuf> {
        let own = if self.unified() && self.roles.has(Roles::MEMORY) {
            self.own.parent().map(Path::to_path_buf).unwrap_or_default()
        } else {
            self.own.clone()
        };
        let mut bases = vec![self.mount.join(own)];
        if bases[0] != self.mount {
            bases.push(self.mount.clone());
        }
        bases
    }
}

/// The hierarchies of this host that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Reads this process' own view. An unreadable `/proc` gives an empty layout.
    pub fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn parse(mountinfo: &str, own: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut taken = Roles::NONE;
        for line in mountinfo.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let head: Vec<&str> = head.split(' ').collect();
            let tail: Vec<&str> = tail.split(' ').collect();
            let (Some(root), Some(mount), Some(kind)) = (head.get(3), head.get(4), tail.first()) else { continue };
            let mount = PathBuf::from(unescape(mount));
            let mut roles = Roles::NONE;
            let own_path = match *kind {
                "cgroup2" => {
                    roles = roles.with(Roles::UNIFIED);
                    let has = controllers(&mount);
                    for word in has.split_whitespace() {
                        roles = roles.with(controller_role(word));
                    }
                    own.lines().find_map(|l| l.strip_prefix("0::"))
                }
                "cgroup" => {
                    let names = tail.get(2).copied().unwrap_or_default();
                    for word in names.split(',') {
                        roles = roles.with(controller_role(word));
                    }
                    own.lines().find_map(|l| {
                        let (_, rest) = l.split_once(':')?;
                        let (of, path) = rest.split_once(':')?;
                        of.split(',')
                            .any(|w| roles.has(controller_role(w)) && controller_role(w) != Roles::NONE)
                            .then_some(path)
                    })
                }
                _ => continue,
            };
            // A controller lives in one hierarchy; the same one may be mounted twice.
            roles = Roles(roles.0 & !taken.0);
            if roles == Roles::NONE {
                continue;
            }
            taken = taken.with(roles);
            let own_path = unescape(own_path.unwrap_or("/"));
            let root = unescape(root);
            let inside = own_path.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
            hierarchies.push(Hierarchy { roles, mount, own: PathBuf::from(inside.trim_start_matches('/')) });
        }
        // A version 2 tree without controllers still counts `cpu.stat`, and freezes and kills.
        Self { hierarchies }
    }

    pub fn find(&self, role: Roles) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.roles.has(role))
    }

    /// The hierarchy whose root holds the locks that servers of this host share.
    pub fn lock_home(&self) -> Option<&Path> {
        self.find(Roles::UNIFIED).or_else(|| self.find(Roles::MEMORY)).map(|h| h.mount.as_path())
    }
}

fn controller_role(name: &str) -> Roles {
    match name {
        "memory" => Roles::MEMORY,
        "pids" => Roles::PIDS,
        "cpu" => Roles::CPU,
        "cpuacct" => Roles::CPUACCT,
        "freezer" => Roles::FREEZER,
        _ => Roles::NONE,
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok().and_then(|d| u8::from_str_radix(d, 8).ok()))
            .flatten();
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

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
            if let Err(error) = fds::put(dir.as_raw_fd(), c"cgroup.subtree_control", "+memory +pids +cpu") {
                std::fs::remove_dir(&path).ok();
                last = error;
                continue;
            }
        }
        return Ok(Top { roles: hierarchy.roles, path, dir });
    }
    Err(io::Error::new(last.kind(), format!("{} under {}: {last}", name, hierarchy.mount.display())))
}

pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[derive(Debug)]
struct Part {
    roles: Roles,
    top: usize,
    /// Open until the launch: a live sandbox costs the spawner as few descriptors as can be.
    dir: Option<OwnedFd>,
}

/// One slot's directories.
#[derive(Debug)]
pub struct Group {
    name: CString,
    parts: Vec<Part>,
}

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

    fn is_unified(&self, role: Roles) -> bool {
        self.parts.iter().any(|p| p.roles.has(role) && p.roles.has(Roles::UNIFIED))
    }

    /// A file of the hierarchy with `role`: its version 1 name or its version 2 name, whichever applies.
    pub fn open(&self, role: Roles, v1: &CStr, v2: &CStr, flags: libc::c_int) -> Option<OwnedFd> {
        let name = if self.is_unified(role) { v2 } else { v1 };
        fds::open_at(self.dir(role)?, name, flags, 0).ok()
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

    /// Writes the limits. Memory and processes must hold; the CPU weight is as good as the host lets it be.
    ///
    /// The weight follows the reference's rule that 1,769 MB of memory stand for one CPU.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        let mib = limits.memory >> 20;
        let memory = self.dir(Roles::MEMORY).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let bytes = limits.memory.to_string();
        if self.is_unified(Roles::MEMORY) {
            fds::put(memory, c"memory.max", &bytes)?;
            fds::put(memory, c"memory.swap.max", "0").or_else(absent_is_fine)?;
            fds::put(memory, c"memory.oom.group", "1")?;
        } else {
            fds::put(memory, c"memory.limit_in_bytes", &bytes)?;
            fds::put(memory, c"memory.memsw.limit_in_bytes", &bytes).or_else(absent_is_fine)?;
        }
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
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Kills what `cgroup.procs` lists, a few rounds long: between two of them something may have forked.
fn kill_listed(dir: RawFd) {
    for _ in 0..64 {
        let Ok(file) = fds::open_at(dir, c"cgroup.procs", libc::O_RDONLY, 0) else { return };
        let mut text = Vec::new();
        if io::Read::read_to_end(&mut std::fs::File::from(file), &mut text).is_err() || text.is_empty() {
            return;
        }
        for pid in String::from_utf8_lossy(&text).lines().filter_map(|l| l.parse::<i32>().ok()).filter(|&p| p > 1) {
            // SAFETY: no pointers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
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

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpu,acct\\040x rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid() {
        let layout = Layout::parse(HYBRID, "4:memory:/a/b\n3:pids:/\n0::/\n", |_| "hugetlb\n".into());
        let memory = layout.find(Roles::MEMORY).unwrap();
        assert_eq!(
            (memory.mount.as_path(), memory.own.as_path()),
            (Path::new("/sys/fs/cgroup/memory"), Path::new("a/b"))
        );
        assert!(!memory.unified());
        assert_eq!(layout.find(Roles::CPUACCT).unwrap().mount, Path::new("/sys/fs/cgroup/cpu,acct x"));
        assert_eq!(layout.lock_home(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(layout.hierarchies.len(), 5);
    }

    #[test]
    fn unified_goes_beside_the_own_group() {
        let line = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(line, "0::/system.slice/flint.service\n", |_| "cpuset cpu io memory pids\n".into());
        let all = layout.find(Roles::MEMORY).unwrap();
        assert!(all.unified() && all.roles.has(Roles::PIDS));
        assert_eq!(all.bases()[0], Path::new("/sys/fs/cgroup/system.slice"));
    }

    #[test]
    fn a_mount_of_a_part_is_relative_to_that_part() {
        let line = "35 31 0:32 /box/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let layout = Layout::parse(line, "4:memory:/box/1/x\n", |_| String::new());
        assert_eq!(layout.hierarchies[0].own, Path::new("x"));
    }
}
