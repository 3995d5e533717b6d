//! The spawner's helper: a process of its own for what takes the kernel tens of milliseconds and nobody waits for.
//!
//! It is forked once, at the start, so that it never holds the channel to the server or the lifeline of sandboxes, whose
//! ends mean that the spawner is gone. It ends when the spawner has, after the work that it still has.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use crate::sys::{fds, loops, process, socket};

/// Shut the file system of the descriptor beside the message down and let go of it.
const END: u8 = 1;
/// Limit the rate of these devices, by their minor numbers.
const LIMIT: u8 = 2;
/// Remove these devices, by their own numbers.
const REMOVE: u8 = 3;

/// Numbers that one message holds.
const NUMBERS_MAX: usize = 4000;

pub struct Helper {
    socket: OwnedFd,
}

impl Helper {
    /// Forks it. `throttle` is the file for the limits of devices, `rate` the bytes per second for each of them.
    pub fn start(control: &OwnedFd, throttle: Option<&OwnedFd>, rate: u64) -> io::Result<Self> {
        let (ours, its) = socket::pair()?;
        fds::set_nonblocking(ours.as_raw_fd())?;
        // SAFETY: the spawner has one thread; the child leaves through `exit`.
        if unsafe { process::fork() }? == 0 {
            process::set_name(c"flint-helper");
            if let Ok(throttled) = keep_only(&its, control, throttle) {
                serve(throttled, rate);
            }
            process::exit(0);
        }
        Ok(Self { socket: ours })
    }

    /// Takes a file system down. Dirty pages are dropped, not written: the file behind them ends a moment later.
    pub fn end(&self, root: OwnedFd) {
        // A helper with too much to do: then here.
        if socket::send(self.socket.as_raw_fd(), &[END], &[root.as_raw_fd()]).is_err() {
            loops::shut_down_fs(root.as_raw_fd()).ok();
        }
    }

    /// The kernel takes tens of milliseconds for the first limit of a device.
    ///
    /// Errors: a helper with too much to do, to be asked again later.
    pub fn limit(&self, minors: impl Iterator<Item = u32>) -> io::Result<()> {
        socket::send(self.socket.as_raw_fd(), &message(LIMIT, minors), &[])
    }

    /// The kernel takes tens of milliseconds to remove a device. One that stays is harmless, and used by the next life.
    pub fn remove(&self, numbers: impl Iterator<Item = u32>) {
        socket::send(self.socket.as_raw_fd(), &message(REMOVE, numbers), &[]).ok();
    }
}

/// Sets the bytes per second that may be written to a device; 0: no limit.
pub fn limit(throttle: RawFd, minor: u32, rate: u64) -> io::Result<()> {
    fds::write_all_at(throttle, format!("{}:{minor} {rate}", loops::MAJOR).as_bytes(), 0)
}

fn message(kind: u8, numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    std::iter::once(kind).chain(numbers.take(NUMBERS_MAX).flat_map(u32::to_le_bytes)).collect()
}

const SOCKET: RawFd = 0;
const CONTROL: RawFd = 1;
const THROTTLE: RawFd = 2;

/// Leaves socket, control and, if there is one, throttle open at their numbers; says whether there is one.
fn keep_only(socket: &OwnedFd, control: &OwnedFd, throttle: Option<&OwnedFd>) -> io::Result<bool> {
    // Above the targets first.
    let kept = [Some(socket), Some(control), throttle].map(|fd| fd.map(|fd| fds::dup_above(fd.as_raw_fd(), 16)));
    let mut open = SOCKET;
    for (number, fd) in (SOCKET..).zip(kept) {
        if let Some(fd) = fd {
            fds::dup_onto(fd?.as_raw_fd(), number)?;
            open = number + 1;
        }
    }
    fds::close_from(open)?;
    Ok(throttle.is_some())
}

fn serve(throttled: bool, rate: u64) {
    let mut buffer = vec![0; 1 + 4 * NUMBERS_MAX];
    while let Ok((n, given)) = socket::receive(SOCKET, &mut buffer) {
        let Some((kind, rest)) = buffer[..n].split_first() else { return };
        let numbers = rest.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match *kind {
            END => given.iter().for_each(|root| drop(loops::shut_down_fs(root.as_raw_fd()))),
            LIMIT if throttled => numbers.for_each(|minor| drop(limit(THROTTLE, minor, rate))),
            REMOVE => numbers.for_each(|number| drop(loops::remove(CONTROL, number))),
            _ => {}
        }
    }
}
