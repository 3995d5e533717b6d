//! EventBridge. For now: `TestEventPattern`.
