//! SQS: queues that keep what they took.
