//! `flint logs`: what a function logged.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use flint_dev::Client;
use flint_dev::client::logs::{LogEvent, LogFollower, LogQuery, group_of};

use super::hints;
use super::one_call::OneCall;
use crate::cli::Logs;
use crate::ui::{self, LogLook};
use crate::values::Since;

/// Between two looks for new events.
pub(super) const POLL: Duration = Duration::from_millis(300);
/// How far back a look goes that was told nothing.
const SINCE: Since = Since::Ago(Duration::from_secs(600));
/// The same where only the last lines are wanted, whenever they came.
const SINCE_OF_TAIL: Since = Since::Ago(Duration::from_secs(86_400));

pub(super) async fn run(flags: Logs) -> anyhow::Result<ExitCode> {
    let client = super::client(&flags.server)?;
    let since =
        flags.since.unwrap_or(if flags.tail.is_some() || flags.request.is_some() { SINCE_OF_TAIL } else { SINCE });
    let instant = since.instant(client.clock().now());
    let query = LogQuery { group: group_of(&flags.function), since: Some(instant), pattern: flags.filter.clone() };
    let look = LogLook { errors: flags.errors, json: flags.json, plain: flags.plain, ..LogLook::stdout() };
    let mut printer = Printer::new(look);
    printer.call = flags.request.as_deref().map(OneCall::new);
    let last = flags.tail.map(|n| n as usize);
    if flags.follow {
        let mut follower = LogFollower::new(query);
        printer.last = last;
        loop {
            printer.poll(&client, &mut follower).await?;
            tokio::time::sleep(POLL).await;
        }
    }
    printer.last = last;
    match client.log_events(&query, |event| printer.take(event)).await {
        Ok(()) => {}
        // A function that never ran has no group yet: that is no mistake, if the function is there.
        Err(e) if e.is_not_found() && client.function(&flags.function).await.is_ok_and(|f| f.is_some()) => {}
        Err(e) => return Err(hints::advised(&client, &flags.function, e).await),
    }
    printer.flush()?;
    if printer.printed == 0 {
        ui::note(nothing(&flags, since));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that there was nothing, where that was looked for, and where else to look.
fn nothing(flags: &Logs, since: Since) -> String {
    let which = if flags.filter.is_some() || flags.request.is_some() || flags.errors || flags.plain {
        "no such lines"
    } else {
        "no lines"
    };
    let (span, wider) = match since {
        SINCE => ("in the last 10 minutes", "; try --since 1d"),
        SINCE_OF_TAIL => ("in the last day", "; try --since 30d"),
        _ => ("since then", ""),
    };
    format!("{which} {span}{wider}")
}

/// Prints events until standard output takes no more.
#[derive(Debug)]
pub(super) struct Printer {
    look: LogLook,
    result: io::Result<()>,
    printed: usize,
    /// How many of the first look's lines are wanted; then all are.
    last: Option<usize>,
    held: VecDeque<LogEvent>,
    /// Only this call's lines.
    call: Option<OneCall>,
}

impl Printer {
    pub(super) fn new(look: LogLook) -> Self {
        Self { look, result: Ok(()), printed: 0, last: None, held: VecDeque::new(), call: None }
    }

    /// Prints an event, or holds it until it is known whether it is among the last.
    fn take(&mut self, event: LogEvent) {
        if self.call.as_mut().is_some_and(|call| !call.takes(&event)) {
            return;
        }
        let Some(last) = self.last else { return self.print(&event) };
        if !ui::is_shown(&event, &self.look) {
            return;
        }
        self.held.push_back(event);
        if self.held.len() > last {
            self.held.pop_front();
        }
    }

    fn print(&mut self, event: &LogEvent) {
        if self.result.is_ok() && ui::is_shown(event, &self.look) {
            self.result = ui::log_event(event, &self.look);
            self.printed += 1;
        }
    }

    /// Prints what is held; gives an error of standard output.
    fn flush(&mut self) -> io::Result<()> {
        for event in std::mem::take(&mut self.held) {
            self.print(&event);
        }
        std::mem::replace(&mut self.result, Ok(()))
    }

    /// Prints what is new: ends with an error of the server or of standard output.
    pub(super) async fn poll(&mut self, client: &Client, follower: &mut LogFollower) -> anyhow::Result<()> {
        follower.poll(client, |event| self.take(event)).await?;
        self.last = None;
        Ok(self.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize, message: &str) -> LogEvent {
        let (event_id, message) = (id.to_string(), message.to_owned());
        LogEvent { event_id, log_stream_name: "s".into(), timestamp: 0, ingestion_time: 0, message }
    }

    #[test]
    fn only_the_last_lines_that_are_shown_are_held() {
        let mut printer = Printer::new(LogLook { errors: true, ..LogLook::stdout() });
        printer.last = Some(2);
        for (id, message) in ["[ERROR] 0", "fine", "[ERROR] 2", "[ERROR] 3", "fine"].iter().enumerate() {
            printer.take(event(id, message));
        }
        assert_eq!(printer.held.iter().map(|e| e.event_id.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    }
}
