//! Whether a process without root may make the namespaces that a sandbox takes: tried by a child that ends at once.

use std::io;
use std::os::fd::AsRawFd as _;

use crate::sys::{fds, mount, process};

/// A step of the trial, in order.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    User = 1,
    Maps = 2,
    Others = 3,
    Proc = 4,
}

/// What the child writes into its maps; made before the fork.
struct Maps {
    uid: String,
    gid: String,
}

/// Errors: one phrase that says what to do.
pub(super) fn try_them() -> Result<(), String> {
    let (uid, gid) = process::ids();
    let line = |id: u32| format!("{id} {id} 1");
    let maps = Maps { uid: line(uid), gid: line(gid) };
    let (read, write) = fds::pipe().map_err(|e| e.to_string())?;
    // SAFETY: the child makes system calls only and does not return.
    let pid = unsafe { process::fork() }.map_err(|e| e.to_string())?;
    if pid == 0 {
        let answer = match attempt(&maps) {
            Ok(()) => [0, 0],
            Err((step, error)) => [step as u8, error.raw_os_error().unwrap_or(libc::EIO) as u8],
        };
        fds::write_all(write.as_raw_fd(), &answer).ok();
        process::exit(0);
    }
    drop(write);
    let mut answer = [0; 2];
    let came = io::Read::read_exact(&mut std::fs::File::from(read), &mut answer);
    // SAFETY: no pointers that are used; it is our own child, which has ended or is about to.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    match (came, answer) {
        (Ok(()), [0, 0]) => Ok(()),
        (Ok(()), [step, errno]) => Err(advice(step, i32::from(errno), apparmor_restricts())),
        (Err(_), _) => Err("the trial broke off".to_owned()),
    }
}

/// No allocation: the process that was forked may have had threads.
fn attempt(maps: &Maps) -> Result<(), (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    process::prctl(libc::PR_SET_DUMPABLE, 1).map_err(at(Step::Maps))?;
    process::unshare(libc::CLONE_NEWUSER).map_err(at(Step::User))?;
    fds::put(libc::AT_FDCWD, c"/proc/self/setgroups", "deny").map_err(at(Step::Maps))?;
    fds::put(libc::AT_FDCWD, c"/proc/self/uid_map", &maps.uid).map_err(at(Step::Maps))?;
    fds::put(libc::AT_FDCWD, c"/proc/self/gid_map", &maps.gid).map_err(at(Step::Maps))?;
    let others = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWPID;
    process::unshare(others).map_err(at(Step::Others))?;
    // The next child is the first process of the new pid namespace.
    // SAFETY: as above.
    if unsafe { process::fork() }.map_err(at(Step::Others))? == 0 {
        let made = mount::new_fs(c"proc", &[], mount::NOSUID | mount::NODEV | mount::NOEXEC);
        process::exit(made.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |_| 0));
    }
    match process::wait_any().map_err(at(Step::Proc))? {
        (_, status) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => Ok(()),
        (_, status) => Err((Step::Proc, io::Error::from_raw_os_error(libc::WEXITSTATUS(status)))),
    }
}

fn apparmor_restricts() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|t| t.trim() == "1")
}

fn advice(step: u8, errno: i32, apparmor: bool) -> String {
    let error = io::Error::from_raw_os_error(errno);
    if apparmor && step != Step::Proc as u8 {
        return "AppArmor keeps them from programs without a profile \
                (sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile with `userns`)"
            .to_owned();
    }
    match step {
        1 if errno == libc::ENOSPC => {
            "there may be no more of them (sysctl -w user.max_user_namespaces=15000)".to_owned()
        }
        1 => format!(
            "this host or container refuses them ({error}; where it exists: sysctl -w kernel.unprivileged_userns_clone=1)"
        ),
        2 => format!("their user can't be mapped ({error})"),
        3 => format!("other namespaces can't be made in them ({error})"),
        _ => format!("/proc can't be mounted in them ({error}): it is partly hidden here, as in most containers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        for (step, errno, apparmor, part) in [
            (1, libc::ENOSPC, false, "max_user_namespaces"),
            (1, libc::EPERM, false, "unprivileged_userns_clone"),
            (2, libc::EPERM, true, "AppArmor"),
            (4, libc::EPERM, true, "/proc"),
        ] {
            assert!(advice(step, errno, apparmor).contains(part), "{step} {errno}");
        }
    }

    #[test]
    fn the_trial_ends_and_says_something() {
        // As root nothing refuses it, or a container does: both are answers.
        if let Err(problem) = try_them() {
            assert!(!problem.is_empty());
        }
    }
}
