//! IAM and STS through the switchboard, over a store in memory.

mod rights;
mod roles;
mod sessions;
mod support;
