//! What this host offers for isolation: for `flint doctor` and for the one line that says what is missing.

use std::path::Path;

use crate::cgroup::{Layout, Roles};

/// How the host's control groups are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// All controllers in version 1 hierarchies.
    V1,
    /// Controllers on version 1, a version 2 tree beside it for freeze and kill.
    Hybrid,
    /// Everything in the unified version 2 tree.
    V2,
    /// No cgroup file system is mounted.
    None,
}

/// What this process may do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub root: bool,
    pub cgroups: CgroupMode,
    pub memory_limit: bool,
    pub pids_limit: bool,
    pub cpu_weight: bool,
    pub cpu_usage: bool,
    /// Idle sandboxes can be frozen.
    pub freeze: bool,
    /// Every kind of namespace is there: user, mount, pid, network, ipc, uts, cgroup.
    pub namespaces: bool,
    pub seccomp: bool,
    /// `clone3`, `open_tree`, `fsopen` and `mount_setattr` are there (Linux 5.12).
    pub mount_api: bool,
    /// `/tmp` can be an image on a loop device, apart from the function's memory.
    pub tmp_images: bool,
    /// Writes to such a `/tmp` can be held below a rate, so that they don't hold up the server's own.
    pub tmp_throttle: bool,
    /// What is missing for sandboxes, each as a phrase; empty when `spawner::start` can work.
    pub missing: Vec<String>,
}

/// Looks at this host without changing it.
pub fn probe() -> Capabilities {
    let layout = Layout::detect();
    let unified = layout.find(Roles::UNIFIED).is_some();
    let memory = layout.find(Roles::MEMORY);
    let cgroups = match (unified, memory) {
        (true, Some(memory)) if memory.unified() => CgroupMode::V2,
        (true, _) => CgroupMode::Hybrid,
        (false, Some(_)) => CgroupMode::V1,
        (false, None) => CgroupMode::None,
    };
    let has = |role| layout.find(role).is_some();
    let mut found = Capabilities {
        root: crate::spawner::is_root(),
        cgroups,
        memory_limit: memory.is_some(),
        pids_limit: has(Roles::PIDS),
        cpu_weight: has(Roles::CPU),
        cpu_usage: has(Roles::CPUACCT) || unified,
        freeze: unified || has(Roles::FREEZER),
        namespaces: ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
            .iter()
            .all(|kind| Path::new("/proc/self/ns").join(kind).exists()),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        mount_api: has_mount_api(),
        tmp_images: (has_word("/proc/filesystems", "ext4") || has_module("ext4"))
            && (has_word("/proc/misc", "loop-control") || has_module("loop")),
        tmp_throttle: layout.write_throttle.as_deref().is_some_and(Path::exists)
            || layout.find(Roles::UNIFIED).is_some_and(|h| has_word(h.mount.join("cgroup.controllers"), "io")),
        missing: Vec::new(),
    };
    for (there, phrase) in [
        (found.root, "root at the start (the server gives it up at once)"),
        (found.memory_limit, "the memory cgroup controller"),
        (found.pids_limit, "the pids cgroup controller"),
        (found.freeze, "a cgroup freezer"),
        (found.namespaces, "all kinds of Linux namespaces"),
        (found.seccomp, "seccomp filters"),
        (found.mount_api, "Linux 5.12 or newer"),
    ] {
        if !there {
            found.missing.push(phrase.to_owned());
        }
    }
    found
}

/// A file of the kernel's names this.
fn has_word(file: impl AsRef<Path>, word: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|found| found == word))
}

/// The running kernel can load this module when it is asked for what is in it.
fn has_module(name: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = std::fs::read_to_string(Path::new("/lib/modules").join(release.trim()).join("modules.dep"));
    list.is_ok_and(|text| text.lines().any(|line| line.contains(&format!("/{name}.ko"))))
}

/// Asks with arguments that can't succeed: a kernel without the call answers ENOSYS.
fn has_mount_api() -> bool {
    // SAFETY: null pointers and bad descriptors are refused by the kernel, nothing is changed.
    let refused = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, std::ptr::null::<libc::c_char>(), 0, 0, 0) };
    refused != -1 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_described() {
        let found = probe();
        assert_eq!(found.missing.is_empty(), found.root && found.memory_limit && found.pids_limit && found.freeze);
    }
}
