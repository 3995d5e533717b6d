//! `flint logs`: what a function logged.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use flint_dev::Client;
use flint_dev::client::logs::{LogEvent, LogFollower, LogQuery, group_of};

use crate::cli::Logs;
use crate::ui::{self, Paint};

/// Between two looks for new events.
pub(super) const POLL: Duration = Duration::from_millis(300);

pub(super) async fn run(flags: Logs) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let since = flags.since.instant(client.clock().now());
    let query = LogQuery { group: group_of(&flags.function), since: Some(since), pattern: flags.filter };
    if flags.follow {
        return follow(&client, LogFollower::new(query), flags.json).await;
    }
    let mut printer = Printer::new(flags.json);
    match client.log_events(&query, |event| printer.print(&event)).await {
        Ok(()) => {}
        // A function that never ran has no group yet: that is no mistake, if the function is there.
        Err(e) if e.is_not_found() && client.function(&flags.function).await.is_ok_and(|f| f.is_some()) => {}
        Err(e) => return Err(e.into()),
    }
    printer.result?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what comes, for ever: ends with an error of the server or of standard output.
pub(super) async fn follow(client: &Client, mut follower: LogFollower, json: bool) -> anyhow::Result<ExitCode> {
    let mut printer = Printer::new(json);
    loop {
        follower.poll(client, |event| printer.print(&event)).await?;
        std::mem::replace(&mut printer.result, Ok(()))?;
        tokio::time::sleep(POLL).await;
    }
}

/// Prints events until standard output takes no more.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    paint: Paint,
    pub(super) result: io::Result<()>,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, paint: Paint::stdout(), result: Ok(()) }
    }

    pub(super) fn print(&mut self, event: &LogEvent) {
        if self.result.is_ok() {
            self.result = ui::log_event(event, self.json, self.paint);
        }
    }
}
