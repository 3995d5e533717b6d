//! EventBridge. For now: `TestEventPattern`. The language of patterns is [`flint_model::pattern`].

mod service;

pub use service::service;
