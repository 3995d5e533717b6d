//! Flags of `events`, `dlq` and `replay`.

use clap::{Args, Subcommand};

use super::Where;
use crate::values::Since;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Events {
    #[command(subcommand)]
    pub action: Option<EventsAction>,

    #[command(flatten)]
    pub look: Look,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsAction {
    /// Show one event: what led to it, what came of it, payload, answer and logs
    Show(ShowEvent),
}

/// Which entries of the journal.
#[derive(Debug, Args)]
pub(crate) struct Look {
    /// Only what this function had to do with
    #[arg(short = 'F', long, value_name = "NAME")]
    pub function: Option<String>,

    /// Only what came from there: an ARN, or the name at its end
    #[arg(long, value_name = "ARN")]
    pub source: Option<String>,

    /// Only runs that ended so: failed, succeeded, function_error, timed_out, out_of_memory, throttled, ...
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,

    /// Only what happened so: accepted, retried, dead_lettered, discarded, redriven, ...
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,

    /// Only the events of this chain: a trace id, or the id of its first event
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,

    /// Only this event
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,

    /// From when on: a span back from now, or an instant as in RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,

    /// Until when
    #[arg(long, value_name = "TIME")]
    pub until: Option<Since>,

    /// How many of the newest
    #[arg(short = 'n', long = "tail", value_name = "N", default_value_t = 30)]
    pub tail: u32,

    /// Go on with what happens, until Ctrl-C
    #[arg(short, long, conflicts_with_all = ["until", "id"])]
    pub follow: bool,

    /// Print as JSON, an object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct ShowEvent {
    /// The event's id, the beginning of it, or a trace id
    #[arg(value_name = "ID")]
    pub id: String,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub action: Option<DlqAction>,

    /// Only failures of this function
    #[arg(short = 'F', long, value_name = "NAME")]
    pub function: Option<String>,

    /// Only what came from there: an ARN, or the name at its end
    #[arg(long, value_name = "ARN")]
    pub source: Option<String>,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqAction {
    /// Show the failures of a group
    Show(ShowGroup),
    /// Bring failures back to where they failed
    Redrive(RedriveFlags),
    /// Drop failures for good
    Drop(DropFlags),
}

#[derive(Debug, Args)]
pub(crate) struct ShowGroup {
    /// The group's id
    #[arg(value_name = "GROUP")]
    pub group: String,

    /// How many of the oldest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct RedriveFlags {
    /// A group's id or an event's
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,

    /// Everything that waits
    #[arg(long)]
    pub all: bool,

    /// Events in a second, at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub rate: u32,

    /// Start it and do not wait for its end
    #[arg(long)]
    pub no_wait: bool,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct DropFlags {
    /// A group's id or an event's
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,

    /// Everything that waits
    #[arg(long)]
    pub all: bool,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The event's id, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,

    /// Run this version or alias [default: what the event was for]
    #[arg(long, value_name = "V")]
    pub version: Option<String>,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

pub(super) const EVENTS_HELP: &str =
    "One line for each thing that happened to an event, newest last. `show` tells one event's story: what led to
it, what came of it, its payload, its answer and what was logged meanwhile.

Examples:
  flint events --function orders --outcome failed
  flint events --source orders-queue -f
  flint events show 01998c1e-5f2c-7d10-9c6a-3a3c7b1f0e55";

pub(super) const DLQ_HELP: &str =
    "What failed for good and waits: messages in dead-letter queues and events that nobody waits for, one group
for each cause (the error's type and the innermost frame of the function's own code).

Examples:
  flint dlq
  flint dlq show 3fa29c11
  flint dlq redrive 3fa29c11 --rate 50   # after the fix is deployed
  flint dlq drop 3fa29c11";

pub(super) const REPLAY_HELP: &str =
    "The recorded event goes to its function once more, now, and its log comes to this terminal. What it
answers is compared with what it answered. The failure stays where it is: `flint dlq redrive` brings it back.

Examples:
  flint replay 01998c1e-5f2c-7d10-9c6a-3a3c7b1f0e55
  flint replay 01998c1e-5f2c-7 --version 7   # the beginning will do if no other begins so";
