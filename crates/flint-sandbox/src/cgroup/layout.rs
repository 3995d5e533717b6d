//! Where the hierarchies are mounted, what each is used for, and where this process is in them.

use std::path::{Path, PathBuf};

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

    pub(super) fn with(self, role: Self) -> Self {
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

    /// Making groups takes the directory. Version 2 also asks whoever moves or clones a process for the process list of
    /// the group above both places.
    fn may_make_groups(&self, base: &Path) -> bool {
        use rights::{ENTER, WRITE};
        rights::has(base, WRITE | ENTER) && (!self.unified() || rights::has(&base.join("cgroup.procs"), WRITE))
    }

    /// Where the top directory goes: below this process' own group, so that outer limits hold. In version 2 with
    /// controllers a group with processes can't have limited children, so there it goes beside it.
    pub(super) fn bases(&self) -> Vec<PathBuf> {
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
    /// The file that limits what the version 1 root group may write to a device; the kernel writes back on its account.
    pub write_throttle: Option<PathBuf>,
}

impl Layout {
    /// Reads this process' own view. An unreadable `/proc` gives an empty layout.
    pub fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    pub(super) fn parse(mountinfo: &str, own: &str, controllers: impl Fn(&Path) -> String) -> Self {
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
        Self { hierarchies, write_throttle: write_throttle(mountinfo) }
    }

    /// The hierarchies in which this user, who is not root, was given a directory to make groups in.
    pub fn delegated(&self) -> Self {
        let given = |h: &&Hierarchy| h.bases().iter().any(|base| h.may_make_groups(base));
        Self { hierarchies: self.hierarchies.iter().filter(given).cloned().collect(), write_throttle: None }
    }

    pub fn find(&self, role: Roles) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.roles.has(role))
    }

    /// The hierarchy whose root holds the locks that servers of this host share: that of the memory controller, because
    /// a server that does not see a version 2 tree without controllers must still meet those that do.
    pub fn lock_home(&self) -> Option<&Path> {
        self.find(Roles::MEMORY).or_else(|| self.find(Roles::UNIFIED)).map(|h| h.mount.as_path())
    }
}

/// Only where the mount shows the hierarchy's real root: write-back goes on no other group's account.
fn write_throttle(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - cgroup ")?;
        let mut head = head.split(' ').skip(3);
        let (root, mount) = (head.next()?, head.next()?);
        let blkio = tail.split(' ').nth(1)?.split(',').any(|word| word == "blkio");
        (blkio && root == "/").then(|| PathBuf::from(unescape(mount)).join("blkio.throttle.write_bps_device"))
    })
}

/// What this process' effective user may do with a file.
mod rights {
    use std::path::Path;

    pub const WRITE: libc::c_int = libc::W_OK;
    pub const ENTER: libc::c_int = libc::X_OK;

    pub fn has(path: &Path, rights: libc::c_int) -> bool {
        let Ok(path) = super::super::c_path(path) else { return false };
        // SAFETY: `path` is NUL-terminated.
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), rights, libc::AT_EACCESS) == 0 }
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
    fn writes_are_throttled_in_the_root_group_alone() {
        let line = "40 31 0:37 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n";
        let found = write_throttle(&format!("{HYBRID}{line}"));
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")));
        assert_eq!(write_throttle(&line.replace(" / ", " /box ")), None);
        assert_eq!(write_throttle(HYBRID), None);
    }

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
        assert_eq!(layout.lock_home(), Some(Path::new("/sys/fs/cgroup/memory")));
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
