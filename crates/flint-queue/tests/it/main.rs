//! Queues over a store in memory and virtual time: what must hold across restarts and refused writes.

mod dropped;
mod ends;
mod fifo;
mod full;
mod letters;
mod life;
mod ports;
mod support;
