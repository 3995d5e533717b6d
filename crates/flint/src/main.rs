//! The one binary: reads the command line, then hands over.
//!
//! `up` must reach `flint_server::run` while the process has one thread: the server forks its spawner there. Nothing
//! before it may start a thread or a tokio runtime.
//!
//! Reading order: [`cli`] (what can be said), [`surroundings`] (the one place that reads the environment),
//! [`commands`] (one file each), [`ui`] (how it looks).

mod cli;
mod commands;
mod history;
mod surroundings;
mod ui;
mod values;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => ui::report(&error),
    }
}
