//! What a server holds of its host: processes, mounts, cgroups, network namespaces, descriptors, loop devices, bytes.
//!
//! Told apart from every other server's by the id of its data directory, which its cgroups carry.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// One server's share of the host. Goes on answering when the server is gone.
#[derive(Clone, Debug)]
pub struct Host {
    id: String,
    data: PathBuf,
    server: u32,
    spawner: u32,
}

/// How much there is of each; what a leak would grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub processes: usize,
    /// In the host's mount table, and in the spawner's.
    pub mounts: usize,
    pub cgroups: usize,
    pub network_namespaces: usize,
    /// Of server and spawner, without log files: of those a bounded number stays open.
    pub descriptors: usize,
    pub loop_devices: usize,
    /// In the data directory, without the log store and the record store.
    pub bytes: u64,
}

impl Holdings {
    /// Each count with its name.
    pub fn rows(&self) -> [(&'static str, u64); 7] {
        [
            ("processes", self.processes as u64),
            ("mounts", self.mounts as u64),
            ("cgroups", self.cgroups as u64),
            ("network namespaces", self.network_namespaces as u64),
            ("descriptors", self.descriptors as u64),
            ("loop devices", self.loop_devices as u64),
            ("bytes", self.bytes),
        ]
    }

    /// Whether the kernel holds nothing of it any more.
    pub fn is_empty_of_kernel(&self) -> bool {
        self.processes + self.mounts + self.cgroups + self.network_namespaces + self.loop_devices == 0
    }

    /// What is more than it was, each with the difference.
    pub fn more_than(&self, before: &Self) -> Vec<(&'static str, u64)> {
        let rows = self.rows().into_iter().zip(before.rows());
        rows.filter(|((_, now), (_, then))| now > then).map(|((name, now), (_, then))| (name, now - then)).collect()
    }
}

/// What is there to grow in the data directory: the logs of functions, and the store of records with its log and index.
const STORES: [&str; 3] = ["logs", "log", "state.redb"];

impl Host {
    pub fn new(data: &Path, [server, spawner]: [u32; 2]) -> Result<Self> {
        let data = data.canonicalize()?;
        let meta = fs::metadata(&data)?;
        Ok(Self { id: format!("{:x}{:012x}", meta.dev(), meta.ino()), data, server, spawner })
    }

    pub fn holdings(&self) -> Holdings {
        let processes = self.processes();
        Holdings {
            mounts: self.mounts(),
            cgroups: self.cgroups().len(),
            network_namespaces: self.network_namespaces(&processes),
            descriptors: [self.server, self.spawner].into_iter().map(|pid| self.descriptors(pid)).sum(),
            loop_devices: self.loop_devices(),
            bytes: self.bytes(),
            processes: processes.len(),
        }
    }

    /// Every cgroup directory of this server, in every hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut queue = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = queue.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    queue.push(entry.path());
                    if entry.path().to_string_lossy().contains(&self.id) {
                        found.push(entry.path());
                    }
                }
            }
        }
        found
    }

    /// Who runs in them.
    pub fn processes(&self) -> BTreeSet<u32> {
        let listed = self.cgroups().into_iter().flat_map(|dir| processes_in(&dir));
        listed.filter(|pid| ![self.server, self.spawner].contains(pid)).collect()
    }

    fn mounts(&self) -> usize {
        let own = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let data = self.data.to_string_lossy();
        let named = own.lines().filter(|line| line.contains(&*data) || line.contains(&self.id)).count();
        // The spawner shares the host's table; were it ever to get one of its own, what piles up there counts as well.
        let spawner = fs::read_to_string(format!("/proc/{}/mountinfo", self.spawner)).unwrap_or_default();
        named + spawner.lines().count().saturating_sub(own.lines().count())
    }

    /// Those that the spawner holds open, and those that processes are in.
    fn network_namespaces(&self, processes: &BTreeSet<u32>) -> usize {
        let of = |path: String| fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned());
        let own = of("/proc/self/ns/net".to_owned());
        let mut all: BTreeSet<String> = processes.iter().filter_map(|pid| of(format!("/proc/{pid}/ns/net"))).collect();
        all.extend(targets(self.spawner).into_iter().filter(|target| target.starts_with("net:[")));
        all.iter().filter(|name| Some(*name) != own.as_ref()).count()
    }

    fn descriptors(&self, pid: u32) -> usize {
        let logs = self.data.join("logs");
        targets(pid).iter().filter(|target| !Path::new(target).starts_with(&logs)).count()
    }

    fn loop_devices(&self) -> usize {
        let file = |dir: PathBuf| fs::read_to_string(dir.join("loop/backing_file")).unwrap_or_default();
        let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| file(entry.path()));
        devices.filter(|backing| backing.contains(&*self.data.to_string_lossy())).count()
    }

    fn bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.data).into_iter().flatten().flatten();
        let counted = entries.filter(|entry| !STORES.iter().any(|store| entry.file_name() == *store));
        counted.map(|entry| bytes_below(&entry.path())).sum()
    }
}

/// The numbers that `cgroup.procs` lists; none where the group is gone.
pub fn processes_in(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn targets(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes_below(&entry.path())).sum()
}
