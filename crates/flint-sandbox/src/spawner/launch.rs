//! The spawner's part of a launch: trees, limits, pipes, and the clone itself.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use super::child::{self, Confinement, Plan, UnpackPlan};
use super::ext4::Size;
use super::slot::Answer;
use super::tmp::{Tmp, WRITE_RATE};
use super::{Spawner, base, landlock};
use crate::cgroup::{Limits, Roles};
use crate::error::Stage;
use crate::message::{At as _, Failure, LaunchRequest, Reply, UnpackRequest};
use crate::sys::process::{Clone3, Forked};
use crate::sys::{fds, monotonic_ns, mount, process};
use crate::walls::{Wall, Walls};

/// Smallest memory limit: below it not even the set-up succeeds.
const LEAST_MEMORY: u64 = 4 << 20;

impl Spawner {
    pub(super) fn launch(
        &mut self,
        launch: &LaunchRequest<'_>,
        given: Vec<OwnedFd>,
        began_ns: u64,
        message: &[u8],
    ) -> Answer {
        let invalid = |errno| Failure { stage: Stage::Request, errno };
        if given.len() != usize::from(launch.has_code) + usize::from(launch.has_layer) {
            return Err(invalid(libc::EBADF));
        }
        if launch.memory < LEAST_MEMORY {
            return Err(invalid(libc::EINVAL));
        }
        let root = self.roots.get_mut(launch.root as usize).ok_or(invalid(libc::ENOENT))?;
        let sizes = root.sizes.directory(&self.survey, launch.memory).at(Stage::Proc)?;
        let root = root.namespace.as_raw_fd();
        let (uid, gid) = self.ids.of(launch.slot);
        let trees = given.iter().map(|dir| self.clone_directory(dir.as_raw_fd(), true)).collect::<io::Result<Vec<_>>>();
        let trees = trees.at(Stage::Trees)?;
        let code = if launch.has_code { trees.first() } else { None };
        let layer = if launch.has_layer { trees.last() } else { None };

        let slot = self.slots.get(launch.slot)?;
        if std::mem::replace(&mut slot.used, true) {
            return Err(invalid(libc::EBUSY));
        }
        slot.group.limit(Limits { memory: launch.memory, pids: launch.pids }).at(Stage::Limits)?;
        if let Some(images) = &mut self.images {
            let size = Size { bytes: launch.tmp_bytes, inodes: launch.tmp_inodes };
            slot.tmp = images.suited(slot.tmp.take(), size, uid);
            if self.strict && slot.tmp.is_none() {
                return Err(Failure { stage: Stage::Tmp, errno: libc::ENODEV });
            }
            // Without it the server's own writes may have to wait; the function runs all the same, unless all must hold.
            if let Some(tmp) = &slot.tmp
                && let Err(error) = slot.group.limit_writes(images.device_of(tmp), WRITE_RATE)
            {
                if self.strict {
                    return Err(Failure::new(Stage::Limits, &error));
                }
                tracing::warn!(%error, "writes to /tmp are not held below a rate");
            }
        }
        let (status, status_end) = fds::pipe().at(Stage::Clone)?;
        let (stdout, stdout_end) = fds::pipe().at(Stage::Clone)?;
        let (stderr, stderr_end) = fds::pipe().at(Stage::Clone)?;
        // So that the function can open /dev/stdout again.
        fds::chown(stdout_end.as_raw_fd(), uid, gid).at(Stage::Clone)?;
        fds::chown(stderr_end.as_raw_fd(), uid, gid).at(Stage::Clone)?;

        let text = |s: String| CString::new(s).expect("numbers hold no NUL");
        let plan = Plan {
            confinement: Confinement {
                root,
                tasks: &slot.tasks,
                net: slot.net.as_raw_fd(),
                user: (!self.rootless).then_some((uid, gid)),
                ids: (uid, gid),
                processes: slot.processes_by_rlimit(launch.pids),
                status: status_end.as_raw_fd(),
                lifeline: (self.lifeline.0.as_raw_fd(), self.lifeline.1.as_raw_fd()),
                open_files: launch.open_files,
                hostname: launch.hostname,
                landlock: self.landlock,
                rules: landlock::FUNCTION,
                walls: launch.walls,
            },
            code: code.map(|fd| fd.as_raw_fd()),
            layer: layer.map(|fd| fd.as_raw_fd()),
            tmp: slot.tmp.as_ref().and_then(Tmp::mount),
            tmp_options: text(format!(
                "size={},nr_inodes={},mode=1777,uid={uid},gid={gid}",
                launch.tmp_bytes.max(4096),
                launch.tmp_inodes.max(1)
            )),
            shm_options: text(format!(
                "size={},nr_inodes=1024,mode=1777,uid={uid},gid={gid}",
                (launch.memory / 2).min(64 << 20)
            )),
            null: self.null.as_raw_fd(),
            stdout: stdout_end.as_raw_fd(),
            stderr: stderr_end.as_raw_fd(),
            argv: pointers(&launch.argv),
            env: pointers(&launch.env),
            cwd: launch.cwd,
            filters: self.filters.sandbox(),
            survey: &self.survey,
            sizes,
            signals: slot.by_signals(),
            message: (message.as_ptr(), message.len()),
            cloned_ns: monotonic_ns(),
        };
        let cgroup = slot.group.dir(Roles::UNIFIED);
        let (pid, pidfd) = clone_into(cgroup, launch.walls, child::run, &plan)?;
        slot.launched(cgroup.is_some(), pid, &pidfd).at(Stage::Clone)?;
        Ok((Reply::Started { pid, began_ns }, vec![pidfd, status, stdout, stderr]))
    }

    /// Starts the unpack helper: it gets the archive and the staging directory and nothing else.
    pub(super) fn unpack(&mut self, request: &UnpackRequest, given: Vec<OwnedFd>, began_ns: u64) -> Answer {
        let invalid = |errno| Failure { stage: Stage::Request, errno };
        let [archive, staging] = &given[..] else { return Err(invalid(libc::EBADF)) };
        if self.unpack_root.is_none() {
            self.unpack_root = Some(self.builder().build_empty()?);
        }
        let root = self.unpack_root.as_ref().expect("it has just been made").as_raw_fd();
        let tree = self.clone_directory(staging.as_raw_fd(), false).at(Stage::Trees)?;
        let slot = self.slots.get(request.slot)?;
        if std::mem::replace(&mut slot.used, true) {
            return Err(invalid(libc::EBUSY));
        }
        slot.group.limit(Limits { memory: request.memory, pids: 4 }).at(Stage::Limits)?;
        // It has none.
        if let (Some(tmp), Some(images)) = (slot.tmp.take(), &mut self.images) {
            images.spare(tmp);
        }
        let (result, result_end) = fds::pipe().at(Stage::Clone)?;
        let plan = UnpackPlan {
            confinement: Confinement {
                root,
                tasks: &slot.tasks,
                net: slot.net.as_raw_fd(),
                user: (!self.rootless).then_some(self.service),
                ids: self.service,
                processes: slot.processes_by_rlimit(4),
                status: result_end.as_raw_fd(),
                lifeline: (self.lifeline.0.as_raw_fd(), self.lifeline.1.as_raw_fd()),
                open_files: 256,
                hostname: b"unpack",
                landlock: self.landlock,
                rules: landlock::UNPACK,
                walls: Walls::default(),
            },
            archive: archive.as_raw_fd(),
            staging: tree.as_raw_fd(),
            request: *request,
            filters: self.filters.unpack(),
        };
        let cgroup = slot.group.dir(Roles::UNIFIED);
        let (pid, pidfd) = clone_into(cgroup, Walls::default(), child::run_unpack, &plan)?;
        slot.launched(cgroup.is_some(), pid, &pidfd).at(Stage::Clone)?;
        Ok((Reply::Started { pid, began_ns }, vec![pidfd, result]))
    }

    /// A detached copy of the mount below a directory that the server has opened.
    fn clone_directory(&self, fd: RawFd, read_only: bool) -> io::Result<OwnedFd> {
        if !fds::is_dir(fd)? {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        let tree = if self.rootless {
            mount::clone_tree(base::reopen(fd)?.as_raw_fd(), c"")?
        } else {
            mount::clone_tree(fd, c"")?
        };
        let read_only = if read_only { mount::RDONLY } else { mount::NOEXEC };
        mount::set_attributes(tree.as_raw_fd(), read_only | mount::NOSUID | mount::NODEV)?;
        Ok(tree)
    }
}

/// Clones a child into namespaces of its own, and into `cgroup`. It enters its root by itself.
fn clone_into<T>(
    cgroup: Option<RawFd>,
    walls: Walls,
    child: extern "C" fn(&T) -> !,
    plan: &T,
) -> Result<(u32, OwnedFd), Failure> {
    let own = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    let flags = if walls.stand(Wall::Namespaces) { own as u64 } else { 0 };
    // SAFETY: the spawner has one thread; the child runs `child`, which does not return.
    match unsafe { process::clone3(&Clone3 { flags, cgroup }) }.at(Stage::Clone)? {
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Forked::Child => child(plan),
    }
}

/// A null-terminated array of C strings for `execve`.
fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}
