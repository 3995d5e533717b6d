//! The operations: roles, their policies, their tags, and the pages of every list.

pub(crate) mod page;
pub(crate) mod policies;
pub(crate) mod roles;
pub(crate) mod tags;
