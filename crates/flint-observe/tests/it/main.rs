//! The logs from outside: through the service, the sink and the hub, and across restarts.

mod crash;
mod events;
mod groups;
mod harness;
mod output;
mod pages;
mod retention;
