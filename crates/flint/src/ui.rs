//! How it looks: data on standard output, everything else on standard error; colours and progress on a terminal only.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use flint_base::Timestamp;
use flint_dev::client::logs::LogEvent;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::surroundings;

/// An error of the door with its advice.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Advised {
    pub message: String,
    pub hint: String,
}

/// What a piece of text is, to be shown by colour.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warn,
    Quiet,
    Strong,
}

/// Paints for one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn stdout() -> Self {
        Self(io::stdout().is_terminal() && !surroundings::no_color())
    }

    pub(crate) fn stderr() -> Self {
        Self(io::stderr().is_terminal() && !surroundings::no_color())
    }

    /// Paints nothing.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self(false)
    }

    pub(crate) fn text(self, tone: Tone, text: impl fmt::Display) -> String {
        if !self.0 {
            return text.to_string();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Prints the error in a line and what to do in another (in the same one where a server did not start); returns the exit
/// code.
///
/// A reader that went away (`flint logs | head`) is no failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let paint = Paint::stderr();
    // A server that does not start says it all in one line, for whoever started it (a wrapper, a service manager).
    let of_server = error.downcast_ref::<flint_server::Error>().and_then(flint_server::Error::hint);
    let todo = of_server.map_or_else(String::new, |hint| format!("; try: {hint}"));
    let mut lines = format!("{}: {}{todo}\n", paint.text(Tone::Bad, "error"), one_line(error));
    // What a compiler or an installer said is more than a line, and better than one.
    if let Some(flint_dev::Error::Build { output, .. }) = error.downcast_ref()
        && output.lines().count() > 1
    {
        lines.insert_str(0, &format!("{}\n", output.trim_end()));
    }
    let of_client = || error.downcast_ref::<flint_dev::Error>().and_then(flint_dev::Error::hint);
    let of_door = || error.downcast_ref::<Advised>().map(|e| e.hint.clone());
    let hint = of_client().or_else(of_door);
    if let Some(hint) = hint.filter(|h| !h.is_empty()) {
        lines.push_str(&format!("{}: {hint}\n", paint.text(Tone::Good, "try")));
    }
    // Nobody is left to be told if this fails.
    drop(io::stderr().write_all(lines.as_bytes()));
    ExitCode::FAILURE
}

fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors repeat their cause in their own text, some without the operating system's number.
        let plain = cause.split(" (os error").next().unwrap_or(&cause);
        if !text.contains(plain) {
            text = format!("{text}: {cause}");
        }
    }
    text.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A line on standard output.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// A line on standard error, for what is not data.
pub(crate) fn note(text: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Data as indented JSON on standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(serde_json::to_string_pretty(value)?)?)
}

/// What a tenant wrote, without what a terminal would obey; line breaks and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "\u{FFFD}")
}

/// The same in one line.
pub(crate) fn one_cell(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

/// Rows with aligned columns on standard output. Cells are one line each, whatever is in them.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(table_text(head, rows).as_bytes())?;
    out.flush()
}

/// Rows with aligned columns. The last column is not padded.
pub(crate) fn table_text<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| one_cell(cell))).collect();
    let mut widths = head.map(|h| h.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format = |cells: &[&str]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", Paint::stdout().text(Tone::Quiet, format(&head)));
    for row in &rows {
        text.push_str(&format(&row.each_ref().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// Text that is drawn again and again: in place on a terminal, one after the other elsewhere.
#[derive(Debug)]
pub(crate) struct Screen {
    live: bool,
    drawn: bool,
}

impl Screen {
    /// `live` asks for drawing in place; there must be a terminal for it.
    pub(crate) fn new(live: bool) -> Self {
        Self { live: live && io::stdout().is_terminal(), drawn: false }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn draw(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.live {
            // The other screen, without a cursor, so that what was there comes back. Each line is cleared to its end as it
            // is written, and the rest below: nothing flickers.
            let enter = if self.drawn { "" } else { "\x1b[?1049h\x1b[?25l" };
            write!(out, "{enter}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\r\n"))?;
        } else {
            write!(out, "{}{text}", if self.drawn { "\n" } else { "" })?;
        }
        self.drawn = true;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live && self.drawn {
            drop(io::stdout().lock().write_all(b"\x1b[?25h\x1b[?1049l"));
        }
    }
}

/// How log events are shown.
#[derive(Clone, Debug)]
pub(crate) struct LogLook {
    /// Only those that say that something failed.
    pub errors: bool,
    /// One JSON object a line.
    pub json: bool,
    /// Without the platform's lines.
    pub plain: bool,
    /// Stands before each line: the function, where there are several.
    pub label: Option<String>,
    pub paint: Paint,
}

impl LogLook {
    pub(crate) fn stdout() -> Self {
        Self { errors: false, json: false, plain: false, label: None, paint: Paint::stdout() }
    }
}

/// Whether the event is among those that are to be shown.
pub(crate) fn is_shown(event: &LogEvent, look: &LogLook) -> bool {
    let message = event.message.trim_end();
    let hides = look.errors || look.plain && is_of_platform(message);
    !hides || is_failure(message)
}

fn is_of_platform(message: &str) -> bool {
    ["START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "INIT_START ", "INIT_REPORT "]
        .iter()
        .any(|prefix| message.starts_with(prefix))
}

/// One log event as a line: time, the end of the stream's name, message; with `json` as an object.
pub(crate) fn log_event(event: &LogEvent, look: &LogLook) -> io::Result<()> {
    let message = event.message.trim_end();
    let of_platform = is_of_platform(message);
    if look.json {
        return line(serde_json::to_string(event)?);
    }
    let paint = look.paint;
    let time = Timestamp::from_millis(event.timestamp).to_iso8601();
    let chars = event.log_stream_name.chars().count();
    let stream: String = event.log_stream_name.chars().skip(chars.saturating_sub(8)).collect();
    let message = match message {
        m if is_failure(m) => paint.text(Tone::Bad, m),
        m if of_platform => paint.text(Tone::Quiet, m),
        m if has_level(m, &["WARN", "WARNING"]) => paint.text(Tone::Warn, m),
        m if has_level(m, &["DEBUG", "TRACE"]) => paint.text(Tone::Quiet, m),
        m => m.to_owned(),
    };
    let label = look.label.as_ref().map_or(String::new(), |label| format!("{} ", paint.text(Tone::Strong, label)));
    line(format_args!("{} {label}{message}", paint.text(Tone::Quiet, format_args!("{time} {stream}"))))
}

/// Whether the line is one by which a runtime marks an error.
fn is_failure(message: &str) -> bool {
    ["Task timed out", "Status: error", "Status: timeout", "Runtime exited"].iter().any(|w| message.contains(w))
        || has_level(message, &["ERROR", "FATAL", "CRITICAL"])
}

/// The level as the runtimes write it: `[ERROR] ...` by Python, a column by Node.js, `"level":"ERROR"` in JSON.
fn has_level(message: &str, levels: &[&str]) -> bool {
    let bracketed = message.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let column = message.split('\t').nth(2);
    let member = message.starts_with('{').then(|| message.split_once("\"level\"")).flatten();
    let value = member.and_then(|(_, rest)| rest.split('"').nth(1));
    [bracketed, column, value].into_iter().flatten().any(|said| levels.iter().any(|l| said.eq_ignore_ascii_case(l)))
}

/// A spinner on a terminal's standard error, gone when dropped; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Spinner {
    bar: RefCell<Option<ProgressBar>>,
}

impl Spinner {
    pub(crate) fn new() -> Self {
        Self { bar: RefCell::new(None) }
    }
}

impl flint_dev::Progress for Spinner {
    fn step(&self, what: &str) {
        if !io::stderr().is_terminal() {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is legal"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(what.to_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `1.2 ms`, `3.45 s`.
pub(crate) fn span(span: Duration) -> String {
    let ms = span.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms < 3_600_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms => format!("{:.1} h", ms / 3_600_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("inner\n  detail").context("outer");
        assert_eq!(one_line(&error), "outer: inner detail");
        let missing = anyhow::Error::new(std::io::Error::from_raw_os_error(2)).context("x: No such file or directory");
        assert_eq!(one_line(&missing), "x: No such file or directory");
    }

    #[test]
    fn what_tenants_write_moves_no_cursor() {
        let text = table_text(["A", "B"], &[["x\u{1b}[2J".to_owned(), "one\ntwo\r\u{7}".to_owned()]]);
        assert_eq!(text, "A      B\nx\u{FFFD}[2J  one two\u{FFFD}\u{FFFD}\n");
        assert_eq!(harmless("{\n\t\"a\": \u{9b}1m}"), "{\n\t\"a\": \u{FFFD}1m}");
    }

    #[test]
    fn levels_are_found_as_the_runtimes_write_them() {
        for bad in [
            "[ERROR] ValueError: x",
            "2026-11-21T12:00:00.000Z\tid\tERROR\tInvoke Error",
            r#"{"timestamp":"t","level":"ERROR","message":"m"}"#,
            r#"{"level": "error"}"#,
            "2026-11-21T12:00:00.000Z id Task timed out after 3.00 seconds",
            "REPORT RequestId: x Status: error",
            "RequestId: x Error: Runtime exited with error: signal: killed",
        ] {
            assert!(is_failure(bad), "{bad}");
        }
        for good in ["an ERROR in a sentence", "[INFO] ERROR", r#"{"level":"INFO","message":"ERROR"}"#, ""] {
            assert!(!is_failure(good), "{good}");
        }
        assert!(has_level("[WARNING]\tx", &["WARN", "WARNING"]));
    }

    #[test]
    fn spans_are_short() {
        let of = |ms| span(Duration::from_micros(ms));
        assert_eq!([of(1234), of(123_456), of(3_450_000), of(120_000_000)], ["1.2 ms", "123 ms", "3.5 s", "2 min"]);
    }

    #[test]
    fn nothing_is_painted_away_from_a_terminal() {
        assert_eq!(Paint(false).text(Tone::Bad, "x"), "x");
        assert_eq!(Paint(true).text(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
