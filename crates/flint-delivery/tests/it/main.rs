//! Delivery against a store in memory, with time that stands still until everyone sleeps, and rooms that are played.

mod asynchronous;
mod fakes;
mod mapping_operations;
mod mappings;
mod restarts;
mod settings;
mod sources;
