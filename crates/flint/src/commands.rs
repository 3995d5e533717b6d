//! One file per command.

mod backup;
mod deploy;
mod dev;
mod dlq;
mod doctor;
mod env;
mod events;
mod hints;
mod invoke;
mod list;
mod logs;
mod one_call;
mod ps;
mod remove;
mod replay;
mod runtime;
mod stop;
mod top;
mod up;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory as _;
use flint_base::SystemClock;
use flint_dev::Client;

use crate::cli::{Cli, Command, Where};
use crate::surroundings;

/// Runs a command; its exit code where it is not an error that the caller reports.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(flags) => up::run(&flags),
        Command::Stop(flags) => stop::run(&flags),
        Command::Dev(flags) => dev::run(flags),
        Command::Deploy(flags) => waiting(deploy::run(flags)),
        Command::List(flags) => waiting(list::run(flags)),
        Command::Remove(flags) => waiting(remove::run(flags)),
        Command::Invoke(flags) => waiting(invoke::run(flags)),
        Command::Logs(flags) => waiting(logs::run(flags)),
        Command::Ps(flags) => waiting(ps::run(flags)),
        Command::Top(flags) => waiting(top::run(flags)),
        Command::Events(flags) => waiting(events::run(flags)),
        Command::Dlq(flags) => waiting(dlq::run(flags)),
        Command::Replay(flags) => waiting(replay::run(flags)),
        Command::Backup(flags) => backup::take(&flags),
        Command::Restore(flags) => backup::restore(&flags),
        Command::Env(flags) => env::run(&flags),
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Runtime(flags) => waiting(runtime::run(flags)),
        Command::Completions { shell } => {
            // Into memory first: a reader that goes away early is no failure.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flint", &mut script);
            std::io::stdout().lock().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a client's command on a runtime of its own.
fn waiting(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // An installation of requirements that was broken off is not waited for.
    runtime.shutdown_background();
    result
}

/// A client of the server that flags and variables name.
fn client(flags: &Where) -> Result<Client, flint_dev::Error> {
    Ok(Client::new(surroundings::wanted(flags).target()?, Arc::new(SystemClock::new())))
}
