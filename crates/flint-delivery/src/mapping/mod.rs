//! Event source mappings: from a source to a function.
//!
//! A mapping has one poller. It waits at its source (a record that arrives wakes it), cuts what it gets into batches, and
//! starts each in a task of its own as far as there is room: what the mapping allows (`pace`) and a permit of the
//! [`Governor`](crate::governor::Governor). Reading order: `batch` and `answer` (pure), `pace` (pure), `registry` (which
//! mappings there are), `poller`, `run` (one batch from function to source).

pub(crate) mod answer;
pub(crate) mod batch;
pub(crate) mod pace;
pub(crate) mod poller;
pub(crate) mod registry;
mod run;
