//! What this host offers for isolation: for `flint doctor` and for the one line that says what is missing.

/// How the host's control groups are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// All controllers in version 1 hierarchies.
    V1,
    /// Controllers on version 1, a version 2 tree beside it for freeze and kill.
    Hybrid,
    /// Everything in the unified version 2 tree.
    V2,
    /// No cgroup file system is mounted or writable.
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
    /// Network namespaces can be made.
    pub network_namespaces: bool,
    /// User namespaces can be made.
    pub user_namespaces: bool,
    pub seccomp: bool,
    /// `clone3`, `open_tree`, `fsopen`, `mount_setattr` are there (Linux 5.12).
    pub mount_api: bool,
    /// What is missing for sandboxes, each as a phrase; empty when `spawner::start` can work.
    pub missing: Vec<String>,
}

/// Looks at this host without changing it.
pub fn probe() -> Capabilities {
    unimplemented!()
}
