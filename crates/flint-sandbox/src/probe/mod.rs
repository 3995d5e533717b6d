//! What this host offers for isolation: for `flint doctor` and for the one line that says what is missing.

mod namespaces;

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
    /// The hierarchies that this process may make groups in; without root those that were delegated to its user.
    pub cgroups: CgroupMode,
    pub memory_limit: bool,
    pub pids_limit: bool,
    pub cpu_weight: bool,
    pub cpu_usage: bool,
    /// Idle sandboxes can be frozen by a cgroup.
    pub freeze: bool,
    /// Every kind of namespace is there: user, mount, pid, network, ipc, uts, cgroup. Without root: and may be made.
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
    /// What sandboxes that this process starts do not have, by name.
    pub exceptions: Vec<Exception>,
}

impl Capabilities {
    /// Why functions of several tenants must not run side by side here, as phrases; empty when they may.
    pub fn against_tenants(&self) -> Vec<String> {
        let mut all = self.missing.clone();
        if !self.root {
            all.insert(0, "root at the start: without it functions share one user id".to_owned());
        }
        all.extend(self.exceptions.iter().map(|e| format!("{} ({})", e.name, e.means)));
        all
    }
}

/// A wall or a limit that is not enforced, or not fully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Stable: documents and tests name it.
    pub name: &'static str,
    /// What that means for who runs functions, as a phrase.
    pub means: &'static str,
}

const OWN_USER_ID: Exception = Exception {
    name: "own-user-id",
    means: "functions run with your own user id and groups; one that broke out would have your files",
};
const MEMORY_LIMIT: Exception = Exception {
    name: "memory-limit",
    means: "memory is looked at every few milliseconds and a function killed that is over; in between it may take more, \
            and memory files that are not mapped, and the buffers of sockets, are not seen",
};
const PROCESS_LIMIT: Exception =
    Exception { name: "process-limit", means: "a function may start as many processes as you may (Linux before 5.14)" };
const CPU_WEIGHT: Exception =
    Exception { name: "cpu-weight", means: "functions get CPU time as any process does, whatever their memory" };
const FREEZE: Exception = Exception {
    name: "freeze",
    means: "idle functions are stopped by a signal, which their own processes can see in each other",
};
const TMP_IN_MEMORY: Exception =
    Exception { name: "tmp-in-memory", means: "/tmp keeps its files in memory, beside the limit" };

const TMP_WRITE_RATE: Exception =
    Exception { name: "tmp-write-rate", means: "who fills /tmp holds up the server's own writes" };

/// Looks at this host without changing it. Without root it tries, in a child, to make namespaces.
pub fn probe() -> Capabilities {
    let root = crate::spawner::is_root();
    let layout = Layout::detect();
    let layout = if root { layout } else { layout.delegated() };
    let unified = layout.find(Roles::UNIFIED).is_some();
    let memory = layout.find(Roles::MEMORY);
    let cgroups = match (unified, memory) {
        (true, Some(memory)) if memory.unified() => CgroupMode::V2,
        (true, _) => CgroupMode::Hybrid,
        (false, Some(_)) => CgroupMode::V1,
        (false, None) => CgroupMode::None,
    };
    let has = |role| layout.find(role).is_some();
    let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let tried = if root { Ok(()) } else { namespaces::try_them() };
    let mut found = Capabilities {
        root,
        cgroups,
        memory_limit: memory.is_some(),
        pids_limit: has(Roles::PIDS),
        cpu_weight: has(Roles::CPU),
        cpu_usage: has(Roles::CPUACCT) || unified,
        freeze: unified || has(Roles::FREEZER),
        namespaces: kinds.iter().all(|kind| Path::new("/proc/self/ns").join(kind).exists()) && tried.is_ok(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        mount_api: has_mount_api(),
        tmp_images: root
            && (has_word("/proc/filesystems", "ext4") || has_module("ext4"))
            && (has_word("/proc/misc", "loop-control") || has_module("loop")),
        tmp_throttle: layout.write_throttle.as_deref().is_some_and(Path::exists)
            || layout.find(Roles::UNIFIED).is_some_and(|h| has_word(h.mount.join("cgroup.controllers"), "io")),
        missing: Vec::new(),
        exceptions: Vec::new(),
    };
    found.exceptions = exceptions(&found);
    for (there, phrase) in [
        (!root || found.memory_limit, "the memory cgroup controller"),
        (!root || found.pids_limit, "the pids cgroup controller"),
        (!root || found.freeze, "a cgroup freezer"),
        (found.namespaces || tried.is_err(), "all kinds of Linux namespaces"),
        (found.seccomp, "seccomp filters"),
        (found.mount_api, "Linux 5.12 or newer"),
    ] {
        if !there {
            found.missing.push(phrase.to_owned());
        }
    }
    if let Err(problem) = tried {
        found.missing.push(format!("root at the start, or unprivileged user namespaces: {problem}"));
    }
    found
}

fn exceptions(found: &Capabilities) -> Vec<Exception> {
    let rootless = !found.root;
    [
        (rootless, OWN_USER_ID),
        (rootless && !found.memory_limit, MEMORY_LIMIT),
        (rootless && !found.pids_limit && !counts_by_namespace(), PROCESS_LIMIT),
        (!found.cpu_weight, CPU_WEIGHT),
        (rootless && !found.freeze, FREEZE),
        (!found.tmp_images, TMP_IN_MEMORY),
        (found.tmp_images && !found.tmp_throttle, TMP_WRITE_RATE),
    ]
    .into_iter()
    .filter_map(|(holds, exception)| holds.then_some(exception))
    .collect()
}

/// Since Linux 5.14 the limit of processes of a user counts those of one user namespace.
pub(crate) fn counts_by_namespace() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    newer(&release, (5, 14))
}

fn newer(release: &str, least: (u32, u32)) -> bool {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
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
        let walls = found.namespaces && found.seccomp && found.mount_api;
        let limits = !found.root || (found.memory_limit && found.pids_limit && found.freeze);
        assert_eq!(found.missing.is_empty(), walls && limits, "{found:?}");
    }

    #[test]
    fn tenants_are_kept_apart_only_by_root_with_every_limit() {
        let full = Capabilities {
            root: true,
            cgroups: CgroupMode::Hybrid,
            memory_limit: true,
            pids_limit: true,
            cpu_weight: true,
            cpu_usage: true,
            freeze: true,
            namespaces: true,
            seccomp: true,
            mount_api: true,
            tmp_images: true,
            tmp_throttle: true,
            missing: Vec::new(),
            exceptions: Vec::new(),
        };
        let against = |found: Capabilities| Capabilities { exceptions: exceptions(&found), ..found }.against_tenants();
        assert_eq!(against(full.clone()), [""; 0]);
        let weightless = against(Capabilities { cpu_weight: false, ..full.clone() });
        assert!(weightless.len() == 1 && weightless[0].starts_with("cpu-weight ("), "{weightless:?}");
        // Every limit delegated is not enough.
        let rootless = against(Capabilities { root: false, ..full });
        assert!(rootless[0].contains("root") && rootless.iter().any(|l| l.starts_with("own-user-id")), "{rootless:?}");
    }

    #[test]
    fn releases_are_compared_by_number() {
        for (release, is) in
            [("6.18.44-fc\n", true), ("5.14.0", true), ("5.13.19-x", false), ("4.19", false), ("?", false)]
        {
            assert_eq!(newer(release, (5, 14)), is, "{release}");
        }
    }
}
