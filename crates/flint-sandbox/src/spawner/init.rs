//! The sandbox's init: reaps, tells how the main process ended, and takes everything else down by ending.
//!
//! Where there is no freezer it also stops and continues the sandbox: a signal that it sends to all reaches every process of
//! its pid namespace at once, before any of them can fork another one.

use std::io;

use super::child::STATUS;
use crate::message::{FREEZE_SIGNAL, Status, THAW_SIGNAL};
use crate::sys::{fds, process};

pub fn run(main: i32, message: (*const u8, usize), signals: bool) -> ! {
    // SAFETY: the range is the request's buffer in this process' own copy of memory; the function's process has its own.
    unsafe { libc::explicit_bzero(message.0.cast_mut().cast(), message.1) };
    process::set_name(c"init");
    for fd in 0..STATUS {
        // SAFETY: no owner in this process knows these numbers; holding them would keep the pipes open.
        unsafe { libc::close(fd) };
    }
    let wait = if signals { obey } else { process::wait_any };
    loop {
        match wait() {
            Ok((pid, status)) if pid == main => {
                let status = if libc::WIFSIGNALED(status) {
                    Status::Signal(libc::WTERMSIG(status))
                } else {
                    Status::Code(libc::WEXITSTATUS(status))
                };
                fds::write_all(STATUS, &status.encode()).ok();
                process::exit(0)
            }
            Ok(_) => {}
            Err(_) => process::exit(1),
        }
    }
}

/// The signals that [`obey`] waits for. They must be blocked before the main process is forked, which unblocks them.
pub fn signals() -> [libc::c_int; 3] {
    [libc::SIGCHLD, FREEZE_SIGNAL, THAW_SIGNAL]
}

/// Waits for a child's end, and meanwhile stops and continues everything else when the server asks for it.
fn obey() -> io::Result<(i32, i32)> {
    loop {
        if let Some(ended) = process::wait_any_now()? {
            return Ok(ended);
        }
        let signal = process::wait_signal(&signals())?;
        // The server is in no pid namespace that could be seen from here. A function's own signals are not obeyed.
        match (signal.number, signal.sender) {
            (FREEZE_SIGNAL, Some(0)) => process::signal_all(libc::SIGSTOP),
            (THAW_SIGNAL, Some(0)) => process::signal_all(libc::SIGCONT),
            _ => {}
        }
    }
}
