//! The driver of version 2 on a fake tree: what it writes where, on any host.
//!
//! A plain directory stands for the mount. What the kernel puts into every new group is laid into it by hand, so that this
//! shows what the driver asks for, and not that a kernel does it: version 2 alone is not proven.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{Layout, Roles};
use super::{Group, Limits, Tops, populated};

const FILES: [&str; 16] = [
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.events",
    "memory.max",
    "memory.swap.max",
    "memory.oom.group",
    "memory.current",
    "memory.peak",
    "memory.events",
    "pids.max",
    "cpu.weight",
    "cpu.max",
    "cpu.stat",
    "io.max",
];

pub struct Fake {
    tree: tempfile::TempDir,
    pub tops: Tops,
}

impl Fake {
    /// A server that a service manager has started in a group of its own.
    pub fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("system.slice/flint.service")).unwrap();
        fs::create_dir(tree.path().join("system.slice/flint-ab")).unwrap();
        for group in ["", "system.slice", "system.slice/flint.service", "system.slice/flint-ab"] {
            lay(&tree.path().join(group));
        }
        let mount = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw,nsdelegate\n", tree.path().display());
        let layout =
            Layout::parse(&mount, "0::/system.slice/flint.service\n", |_| "cpuset cpu io memory pids\n".into());
        let tops = Tops::create(&layout, "flint-ab").unwrap();
        Self { tree, tops }
    }

    pub fn group(&self, name: &str) -> (Group, PathBuf) {
        let group = self.tops.create_group(&CString::new(name).unwrap()).unwrap();
        let path = self.tree.path().join("system.slice/flint-ab").join(name);
        lay(&path);
        (group, path)
    }
}

fn lay(group: &Path) {
    for file in FILES {
        fs::write(group.join(file), "").unwrap();
    }
}

fn text(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap()
}

#[test]
fn the_top_goes_beside_the_own_group_and_hands_the_controllers_down() {
    let fake = Fake::new();
    assert_eq!(fake.tops.0.len(), 1, "one hierarchy for everything");
    assert_eq!(fake.tops.0[0].path, fake.tree.path().join("system.slice/flint-ab"));
    assert_eq!(text(&fake.tops.0[0].path, "cgroup.subtree_control"), "+memory +pids +cpu");
    assert!(text(&fake.tree.path().join("system.slice"), "cgroup.subtree_control").starts_with("+io"));
    assert!(fake.tops.have(Roles::MEMORY) && fake.tops.have(Roles::PIDS) && fake.tops.have(Roles::CPU));
    assert!(!fake.tops.have(Roles::FREEZER));
}

#[test]
fn limits_are_hard_and_for_the_whole_group() {
    let fake = Fake::new();
    let (group, path) = fake.group("s7");
    group.limit(Limits { memory: 1769 << 20, pids: 1024 }).unwrap();
    group.limit_writes((7, 3), 104_857_600).unwrap();
    for (file, wanted) in [
        ("memory.max", "1854930944"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "1024"),
        ("cpu.weight", "100"),
        ("io.max", "7:3 wbps=104857600"),
        ("cpu.max", ""),
        ("cgroup.procs", ""),
    ] {
        assert_eq!(text(&path, file), wanted, "{file}");
    }
    // A kernel without swap has no limit for it; one without the others is refused.
    fs::remove_file(path.join("memory.swap.max")).unwrap();
    assert!(group.limit(Limits { memory: 128 << 20, pids: 4 }).is_ok());
    fs::remove_file(path.join("memory.oom.group")).unwrap();
    assert!(group.limit(Limits { memory: 128 << 20, pids: 4 }).is_err());
}

#[test]
fn children_are_born_in_the_group_and_it_dies_by_one_write() {
    let fake = Fake::new();
    let (group, path) = fake.group("s1");
    assert!(group.dir(Roles::UNIFIED).is_some(), "what clone3 is given");
    assert!(group.open_tasks().unwrap().is_empty(), "nothing is joined by writing");
    fake.tops.kill_group(&group);
    assert_eq!(text(&path, "cgroup.kill"), "1");
    fs::write(path.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    assert!(populated(&path));
    fs::write(path.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    assert!(!populated(&path));
}
