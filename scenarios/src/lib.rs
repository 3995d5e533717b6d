//! Whole-system trials. The stories are Python (`py/`, stock SDKs over the wire); this crate holds what must be quick:
//! the load generator (`load`), the bare server that it compares with (`floor`) and the smallest function
//! (`echo-bootstrap`). Nothing here is shipped.

pub mod client;
pub mod clock;
pub mod figures;
pub mod host;
pub mod lean;
pub mod server;
pub mod usage;
