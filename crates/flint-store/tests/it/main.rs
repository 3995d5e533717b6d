//! The store's integration tests: the shared suite, crashes, damage, faults of the disk, and kills.

mod blobs;
mod crash;
mod damage;
mod faults;
mod kill;
mod suite;

use std::sync::Arc;

use flint_store::testing::SimDisk;
use flint_store::{Keyspace, Options};

pub const SPACE: Keyspace = Keyspace::new("a");

/// A store on `disk` with segments of `segment` bytes.
pub fn options(disk: &SimDisk, segment: u64) -> Options {
    Options { disk: Arc::new(disk.clone()), segment_bytes: segment, journal_retention: 7 }
}
