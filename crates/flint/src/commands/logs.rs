//! `flint logs`: what a function logged.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use flint_dev::Client;
use flint_dev::client::logs::{LogEvent, LogFollower, LogQuery, group_of};

use crate::cli::Logs;
use crate::ui::{self, LogLook};

/// Between two looks for new events.
pub(super) const POLL: Duration = Duration::from_millis(300);

pub(super) async fn run(flags: Logs) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let since = flags.since.instant(client.clock().now());
    let query = LogQuery { group: group_of(&flags.function), since: Some(since), pattern: flags.filter };
    let mut printer = Printer::new(LogLook { json: flags.json, plain: flags.plain, ..LogLook::stdout() });
    if flags.follow {
        let mut follower = LogFollower::new(query);
        loop {
            printer.poll(&client, &mut follower).await?;
            tokio::time::sleep(POLL).await;
        }
    }
    match client.log_events(&query, |event| printer.print(&event)).await {
        Ok(()) => {}
        // A function that never ran has no group yet: that is no mistake, if the function is there.
        Err(e) if e.is_not_found() && client.function(&flags.function).await.is_ok_and(|f| f.is_some()) => {}
        Err(e) => return Err(e.into()),
    }
    printer.result?;
    Ok(ExitCode::SUCCESS)
}

/// Prints events until standard output takes no more.
#[derive(Debug)]
pub(super) struct Printer {
    look: LogLook,
    result: io::Result<()>,
}

impl Printer {
    pub(super) fn new(look: LogLook) -> Self {
        Self { look, result: Ok(()) }
    }

    fn print(&mut self, event: &LogEvent) {
        if self.result.is_ok() {
            self.result = ui::log_event(event, &self.look);
        }
    }

    /// Prints what is new: ends with an error of the server or of standard output.
    pub(super) async fn poll(&mut self, client: &Client, follower: &mut LogFollower) -> anyhow::Result<()> {
        follower.poll(client, |event| self.print(&event)).await?;
        Ok(std::mem::replace(&mut self.result, Ok(()))?)
    }
}
