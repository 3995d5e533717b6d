//! Control groups in all three layouts: version 2 alone, version 1 alone, and the hybrid of version 1 controllers with a
//! version 2 tree beside them.
//!
//! Limits go where the controllers are; freeze, kill and clone-into go to version 2 where it exists. Every slot has one
//! directory of the same name in each hierarchy, below a top directory named after the data directory's id.
//!
//! Reading order: [`layout`] (what is mounted where), [`tops`] (the directories of one server), [`group`] (one slot's),
//! [`sweep`] (what an earlier life has left).

#[cfg(test)]
pub mod fake;
mod group;
mod layout;
mod sweep;
mod tops;

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub use group::{CPU_PERIOD_US, Group, Limits};
pub use layout::{Layout, Roles};
pub use sweep::{find_tops, populated, sweep_once};
pub use tops::Tops;

pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
