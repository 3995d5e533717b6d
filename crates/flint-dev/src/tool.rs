//! Runs other programs: interpreters, installers, compilers.

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How often a program that is being written is tried again, and after how long.
const BUSY_TIMES: usize = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Runs a program to its end without standard input.
///
/// A program that someone still writes, or that a process just forked from us still holds open for writing, cannot be run for
/// a moment.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null());
    for _ in 0..BUSY_TIMES {
        match command.output() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(BUSY_PAUSE),
            done => return done,
        }
    }
    command.output()
}
