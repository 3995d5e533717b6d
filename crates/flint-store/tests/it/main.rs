//! The store's integration tests: the shared suite, crashes, damage, faults of the disk, and kills.

mod backup;
mod blobs;
mod crash;
mod damage;
mod faults;
mod index;
mod kill;
mod retention;
mod suite;

use std::sync::Arc;

use flint_store::testing::SimDisk;
use flint_store::{Keyspace, Options};

pub const SPACE: Keyspace = Keyspace::new("a");

/// A store on `disk` with segments of `segment` bytes, and checkpoints every two segments or 8 KiB of rows.
pub fn options(disk: &SimDisk, segment: u64) -> Options {
    Options {
        disk: Arc::new(disk.clone()),
        segment_bytes: segment,
        checkpoint_layer_bytes: 8 << 10,
        checkpoint_log_bytes: 2 * segment,
        index_cache_bytes: 1 << 20,
    }
}

/// As [`options`], but without checkpoints.
pub fn log_only(disk: &SimDisk, segment: u64) -> Options {
    Options { checkpoint_layer_bytes: 1 << 30, checkpoint_log_bytes: 1 << 30, ..options(disk, segment) }
}
