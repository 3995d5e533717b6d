//! Whole-system trials. The stories are Python (`py/`, stock SDKs over the wire); this crate holds what must be quick:
//! the load generator (`load`), the bare server that it compares with (`floor`), the torture of the real server (`torture`)
//! and the smallest functions (`echo-bootstrap`, `picky-bootstrap`). Nothing here is shipped.

pub mod archive;
pub mod client;
pub mod clock;
pub mod figures;
pub mod host;
pub mod lean;
pub mod runtime;
pub mod server;
pub mod usage;
