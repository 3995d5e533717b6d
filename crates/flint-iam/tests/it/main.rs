//! IAM and STS through the switchboard, over a store in memory.

mod roles;
mod sessions;
mod support;
