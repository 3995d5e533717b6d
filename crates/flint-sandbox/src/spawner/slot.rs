//! Slots: what one sandbox lives in. A host id, a network namespace with its listeners, a directory in every cgroup
//! hierarchy.
//!
//! A slot serves one sandbox and is then taken down: nothing of a tenant can stay behind in it. They are made and taken
//! down off the path of a launch. An index, and with it a host id, is used again only when its cgroups are gone; network
//! namespaces are closed a few at a time, because the kernel takes dead ones down in one long step that blocks new ones.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use super::tmp::{Images, Tmp};
use crate::api::{Options, RUNTIME_API};
use crate::cgroup::{Group, Roles, Tops};
use crate::error::Stage;
use crate::measure;
use crate::message::{At as _, Failure, Reply, SLOT_FILES, SlotFile, SlotForm};
use crate::sys::{fds, process, socket};

/// A reply and its descriptors.
pub type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// Network namespaces that are closed in one go.
const NETS_PER_ROUND: usize = 4;

/// Network namespaces that may wait for a quiet moment to be closed.
const NETS_WAITING: usize = 32;

/// Connections that wait to be accepted: a function has one client and a few extensions.
const BACKLOG: libc::c_int = 128;

pub struct Slot {
    pub group: Group,
    pub net: OwnedFd,
    /// Opened for the one child that joins by them.
    pub tasks: Vec<OwnedFd>,
    pub used: bool,
    /// The pidfd of init where there is no version 2 tree: a child that has not joined its groups yet is in none of the
    /// lists that a kill would read, and the end of init ends everything in its pid namespace.
    init: Option<OwnedFd>,
    /// `/tmp`, prepared or in use; none where it is a tmpfs of the sandbox's own.
    pub tmp: Option<Tmp>,
    /// Its number on the host; 0 before the launch.
    pid: u32,
    /// Who is not root has fewer ways to limit and to end.
    rootless: bool,
}

impl Slot {
    /// Closes what only the launch needed.
    pub fn launched(&mut self, cgroup: bool, pid: u32, pidfd: &OwnedFd) -> io::Result<()> {
        self.pid = pid;
        if !cgroup || self.rootless {
            self.init = Some(pidfd.try_clone()?);
        }
        self.tasks.clear();
        self.group.close();
        if let Some(tmp) = &mut self.tmp {
            tmp.handed_over();
        }
        Ok(())
    }

    /// Signals to init take the place of a freezer.
    pub fn by_signals(&self) -> bool {
        self.rootless && [Roles::UNIFIED, Roles::FREEZER].iter().all(|&role| self.group.dir(role).is_none())
    }

    /// The limit of processes where no cgroup counts them. Since Linux 5.14 the resource limit counts those of one user
    /// namespace; before, all of the user's, his desktop included, so that it can't be set.
    pub fn processes_by_rlimit(&self, most: u32) -> Option<u32> {
        (self.rootless && self.group.dir(Roles::PIDS).is_none() && crate::probe::counts_by_namespace()).then_some(most)
    }

    fn has_ended(&self) -> bool {
        self.init.as_ref().is_none_or(|init| fds::poll_one(init.as_raw_fd(), libc::POLLIN, 0).is_ok_and(|e| e != 0))
    }

    fn kill(&self, tops: &Tops) {
        if let Some(init) = &self.init {
            process::kill(init.as_raw_fd());
        }
        // Also where the end of init would do: among hundreds that want to run it may be a second before init gets to end.
        tops.kill_group(&self.group);
    }
}

pub struct Slots {
    count: u32,
    wanted: Wanted,
    live: BTreeMap<u32, Slot>,
    /// Indices that were used and are free again; the one that rested longest comes first.
    free: VecDeque<u32>,
    next: u32,
    leaving: Vec<(u32, Group)>,
    dead_nets: Vec<OwnedFd>,
}

impl Slots {
    pub fn new(options: &Options) -> Self {
        Self {
            count: options.uid_count,
            wanted: Wanted {
                cpu_quota: options.cpu_quota,
                rootless: options.rootless,
                endpoint_port: options.endpoint_port,
            },
            live: BTreeMap::new(),
            free: VecDeque::new(),
            next: 0,
            leaving: Vec::new(),
            dead_nets: Vec::new(),
        }
    }

    pub fn get(&mut self, index: u32) -> Result<&mut Slot, Failure> {
        self.live.get_mut(&index).ok_or(Failure { stage: Stage::Request, errno: libc::ENOENT })
    }

    pub fn create(&mut self, tops: &Tops, host_net: RawFd, images: Option<&mut Images>) -> Answer {
        // Fresh indices first: the longer a host id rests, the better.
        let index = if self.next < self.count {
            self.next += 1;
            self.next - 1
        } else {
            self.work(tops);
            match self.free.pop_front() {
                Some(index) => index,
                None => return Ok((Reply::Full, Vec::new())),
            }
        };
        match make(index, tops, host_net, self.wanted) {
            Ok((mut slot, mask, form, files)) => {
                slot.tmp = images.and_then(Images::usual);
                self.live.insert(index, slot);
                Ok((Reply::Slot { slot: index, mask, form }, files))
            }
            Err(failure) => {
                self.free.push_back(index);
                Err(failure)
            }
        }
    }

    pub fn kill(&mut self, index: u32, tops: &Tops) -> Answer {
        self.get(index)?.kill(tops);
        Ok((Reply::Done, Vec::new()))
    }

    /// Kills every sandbox.
    pub fn kill_all(&mut self, tops: &Tops) {
        self.live.values().filter(|slot| slot.used).for_each(|slot| slot.kill(tops));
    }

    /// All that were killed have ended, as far as pidfds tell.
    pub fn have_ended(&self) -> bool {
        self.live.values().all(Slot::has_ended)
    }

    /// How much memory a sandbox holds.
    pub fn measure(&mut self, index: u32) -> Answer {
        let slot = self.get(index)?;
        if slot.init.is_none() || slot.has_ended() {
            return Err(Failure { stage: Stage::Request, errno: libc::ESRCH });
        }
        Ok((Reply::Measured(measure::by_shares(&measure::processes(slot.pid))), Vec::new()))
    }

    /// A TCP socket for the server in the namespace of a slot that is in use. All that it can reach is what listens there.
    pub fn socket(&mut self, index: u32, host_net: RawFd) -> Answer {
        let slot = self.get(index)?;
        if !slot.used {
            return Err(Failure { stage: Stage::Request, errno: libc::ENOENT });
        }
        process::set_ns(slot.net.as_raw_fd(), libc::CLONE_NEWNET).at(Stage::Net)?;
        let made = socket::tcp();
        process::set_ns(host_net, libc::CLONE_NEWNET).at(Stage::Net)?;
        Ok((Reply::Done, vec![made.at(Stage::Net)?]))
    }

    /// Kills what is left in the slot and takes it down, now or (the answer says so) when it is empty.
    pub fn destroy(&mut self, index: u32, tops: &Tops, images: Option<&mut Images>) -> Answer {
        let slot = self.live.remove(&index).ok_or(Failure { stage: Stage::Request, errno: libc::ENOENT })?;
        if slot.used {
            slot.kill(tops);
        }
        let Slot { group, net, tmp, used, .. } = slot;
        match (tmp, images) {
            (Some(tmp), Some(images)) if used => images.give_back(tmp),
            (Some(tmp), Some(images)) => images.spare(tmp),
            _ => {}
        }
        self.leaving.push((index, group));
        self.dead_nets.push(net);
        // Under load there may be no quiet moment for `work`.
        if self.dead_nets.len() > NETS_WAITING {
            self.dead_nets.drain(..NETS_PER_ROUND);
        }
        self.settle(index, tops)
    }

    /// Whether a slot that was given back is taken down: its cgroups empty and removed, its host id free.
    pub fn settle(&mut self, index: u32, tops: &Tops) -> Answer {
        self.remove_empty(tops);
        let leaving = self.leaving.iter().any(|(other, _)| *other == index);
        Ok((if leaving { Reply::Leaving } else { Reply::Done }, Vec::new()))
    }

    /// Everything that sandboxes use or would have used as `/tmp`.
    pub fn take_tmps(&mut self) -> impl Iterator<Item = Tmp> + '_ {
        self.live.values_mut().filter_map(|slot| slot.tmp.take())
    }

    pub fn has_work(&self) -> bool {
        !self.leaving.is_empty() || !self.dead_nets.is_empty()
    }

    /// One round of taking down.
    pub fn work(&mut self, tops: &Tops) {
        self.remove_empty(tops);
        self.dead_nets.drain(..self.dead_nets.len().min(NETS_PER_ROUND));
    }

    fn remove_empty(&mut self, tops: &Tops) {
        let free = &mut self.free;
        self.leaving.retain(|(index, group)| match tops.remove_group(group) {
            Ok(true) => {
                free.push_back(*index);
                false
            }
            Ok(false) | Err(_) => {
                tops.kill_group(group);
                true
            }
        });
    }
}

type Made = (Slot, u32, SlotForm, Vec<OwnedFd>);

/// How slots are here.
#[derive(Clone, Copy)]
struct Wanted {
    /// Their CPU quota can be set.
    cpu_quota: bool,
    rootless: bool,
    endpoint_port: Option<u16>,
}

fn make(index: u32, tops: &Tops, host_net: RawFd, wanted: Wanted) -> Result<Made, Failure> {
    let Wanted { cpu_quota, rootless, endpoint_port } = wanted;
    let name = CString::new(format!("s{index}")).expect("digits hold no NUL");
    let Network { net, listener, endpoint } = make_network(host_net, endpoint_port).at(Stage::Network)?;
    let group = tops.create_group(&name).at(Stage::Cgroup)?;
    match open_files(&group, listener, endpoint, cpu_quota) {
        Ok((mask, mut form, files)) => {
            form.signals = rootless;
            let tasks = group.open_tasks();
            match tasks {
                Ok(tasks) => {
                    let slot = Slot { group, net, tasks, used: false, init: None, tmp: None, pid: 0, rootless };
                    Ok((slot, mask, form, files))
                }
                Err(error) => {
                    tops.remove_group(&group).ok();
                    Err(Failure::new(Stage::Cgroup, &error))
                }
            }
        }
        Err(error) => {
            tops.remove_group(&group).ok();
            Err(Failure::new(Stage::Cgroup, &error))
        }
    }
}

/// A network namespace with loopback up, the Runtime API's listener bound in it, and the endpoint's if one is wanted.
fn make_network(host_net: RawFd, endpoint_port: Option<u16>) -> io::Result<Network> {
    process::unshare(libc::CLONE_NEWNET)?;
    let make = || {
        socket::loopback_up()?;
        Ok(Network {
            listener: socket::listen_loopback(RUNTIME_API.port(), BACKLOG)?,
            endpoint: endpoint_port.map(|port| socket::listen_loopback(port, BACKLOG)).transpose()?,
            net: fds::open(c"/proc/self/ns/net", libc::O_RDONLY)?,
        })
    };
    let made = make();
    process::set_ns(host_net, libc::CLONE_NEWNET)?;
    made
}

struct Network {
    net: OwnedFd,
    listener: OwnedFd,
    endpoint: Option<OwnedFd>,
}

fn open_files(
    group: &Group,
    listener: OwnedFd,
    endpoint: Option<OwnedFd>,
    cpu_quota: bool,
) -> io::Result<(u32, SlotForm, Vec<OwnedFd>)> {
    let unified = group.dir(Roles::UNIFIED).is_some();
    let freeze_home = if unified { Roles::UNIFIED } else { Roles::FREEZER };
    let cpu_stat = group.dir(Roles::CPUACCT).is_none();
    let cpu = if cpu_stat {
        group.open(Roles::UNIFIED, c"cpu.stat", c"cpu.stat", libc::O_RDONLY)
    } else {
        group.open(Roles::CPUACCT, c"cpuacct.usage", c"cpu.stat", libc::O_RDONLY)
    };
    let oom = group.open(Roles::MEMORY, c"memory.oom_control", c"memory.events", libc::O_RDONLY);
    let oom_event = match &oom {
        Some(control) if group.memory_is_v1() => Some(watch_oom(group, control.as_raw_fd())?),
        _ => None,
    };
    let mut files: [(SlotFile, Option<OwnedFd>); SLOT_FILES] = [
        (SlotFile::Listener, Some(listener)),
        (SlotFile::Freeze, group.open(freeze_home, c"freezer.state", c"cgroup.freeze", libc::O_WRONLY)),
        (SlotFile::Kill, group.open(Roles::UNIFIED, c"cgroup.kill", c"cgroup.kill", libc::O_WRONLY)),
        (SlotFile::MemoryUsage, group.open(Roles::MEMORY, c"memory.usage_in_bytes", c"memory.current", libc::O_RDONLY)),
        (SlotFile::MemoryPeak, group.open(Roles::MEMORY, c"memory.max_usage_in_bytes", c"memory.peak", libc::O_RDONLY)),
        (SlotFile::Oom, oom),
        (SlotFile::OomEvent, oom_event),
        (SlotFile::Cpu, cpu),
        (SlotFile::CpuQuota, if cpu_quota { group.open_quota() } else { None }),
        (SlotFile::Endpoint, endpoint),
    ];
    let mut mask = 0;
    let mut out = Vec::with_capacity(SLOT_FILES);
    for (kind, file) in &mut files {
        if let Some(file) = file.take() {
            mask |= 1 << *kind as u8;
            out.push(file);
        }
    }
    let form = SlotForm { freezer_v1: !unified, cpu_stat, cpu_max: group.is_unified(Roles::CPU), signals: false };
    Ok((mask, form, out))
}

/// Version 1 tells of an out-of-memory kill by an eventfd; it has no group kill of its own.
fn watch_oom(group: &Group, control: RawFd) -> io::Result<OwnedFd> {
    let event = fds::event_fd()?;
    let dir = group.dir(Roles::MEMORY).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    fds::put(dir, c"cgroup.event_control", &format!("{} {control}", event.as_raw_fd()))?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Fake;

    #[test]
    fn the_server_gets_the_files_of_version_2() {
        let fake = Fake::new();
        let (group, _) = fake.group("s0");
        let (mask, form, files) =
            open_files(&group, fds::event_fd().unwrap(), Some(fds::event_fd().unwrap()), true).unwrap();
        use SlotFile::{Cpu, CpuQuota, Endpoint, Freeze, Kill, Listener, MemoryPeak, MemoryUsage, Oom};
        let all = [Listener, Freeze, Kill, MemoryUsage, MemoryPeak, Oom, Cpu, CpuQuota, Endpoint];
        // No eventfd tells of a kill for memory: the kernel kills the group.
        assert_eq!(mask, all.iter().fold(0, |mask, file| mask | 1 << *file as u8));
        assert_eq!(files.len(), all.len());
        assert_eq!(form, SlotForm { freezer_v1: false, cpu_stat: true, cpu_max: true, signals: false });
    }
}
