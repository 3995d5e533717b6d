//! What the command line does before and after the wire: finds the application in a folder, packages it, deploys it,
//! and talks to a server.
//!
//! This room is a client of the wire API like any other: it never touches a server's insides, reads no environment
//! variable (the door hands in what it needs) and takes time from a `Clock`.
//!
//! Reading order: [`error`], [`client`], [`target`], [`app`], [`python`], [`package`], [`deploy`], [`watch`].

pub mod app;
mod check;
pub mod client;
pub mod deploy;
pub mod error;
pub mod package;
pub mod python;
pub mod target;
mod tool;
pub mod watch;

pub use app::App;
pub use app::project::Project;
pub use client::{Client, Credentials, Endpoint, Source, Target};
pub use deploy::{Deployed, Deployer, Progress, deploy};
pub use error::Error;
pub use target::Wanted;
pub use watch::Watch;
