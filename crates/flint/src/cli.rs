//! What can be said on the command line. The help is the manual: an example with each command.

pub(crate) mod events;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use flint_model::{AccountId, Region};

use crate::values::{self, Since};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Run serverless functions from one binary that speaks the AWS wire APIs.
#[derive(Debug, Parser)]
#[command(name = "flint", version, styles = STYLES, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Examples:
  flint dev examples/thumbnail         serve it, deploy it, follow its logs
  flint up --data /var/lib/flint       start a server
  eval \"$(flint env)\"                  let boto3 and the AWS CLI find it
  flint deploy my-app                  create or update a function from a folder
  flint invoke my-app -p '{\"n\": 1}'    run it once
  flint logs my-app -f                 see what it says
  flint top                            see what all of them do

Every command has its own --help with an example.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server
    #[command(
        after_help = "Prints one line `ready URL` on standard output when it serves; its log goes to standard error.
`flint stop`, SIGTERM or Ctrl-C lets running calls end, then stops it. Started by root it gives root up at once;
without root it runs your own functions, and says what can not be enforced then.

Example:
  flint up --data /var/lib/flint --listen 127.0.0.1:4566"
    )]
    Up(Up),

    /// Stop a server on this machine
    #[command(
        after_help = "Asks the server of a data directory to end, as SIGTERM does, and waits: calls in flight have 30 s.

Example:
  flint stop --data /var/lib/flint"
    )]
    Stop(Stop),

    /// Serve the functions of folders on this machine: server, deploy on save, logs
    #[command(after_help = "The server accepts any credentials, on loopback only, and ends with this command.
Functions may call all that it serves and do everything in the account; `flint up` looks at their roles.
Standard output gets `ready URL`, then the functions' logs. What is saved is deployed at once.
A folder holds one function, or several: in sub-folders, in [functions.NAME] tables of its
flint.toml, or in a template.yaml (functions with plain values; the rest is refused by name).

Examples:
  flint dev examples/thumbnail
  flint dev orders mails
  flint dev --listen 127.0.0.1:0 --quiet my-app")]
    Dev(Dev),

    /// Create or update functions from folders
    #[command(after_help = "What is in the folder says what it is:
  app.py, handler.py, lambda_function.py, main.py   Python; requirements.txt is installed by pip
  index.mjs, index.js, app.mjs, ...                 Node.js; package.json is installed by npm
  Cargo.toml, go.mod                                a program, built for release
  bootstrap                                         a program as it is
A flint.toml in the folder may say more:

  name = \"thumbnail\"        handler = \"app.handler\"    runtime = \"python3.13\"
  memory = \"512 MiB\"        timeout = \"10 s\"           requirements = \"requirements.txt\"
  exclude = [\"*.png\"]       environment = { GREETING = \"hello\" }

A folder may hold several functions: in sub-folders, in [functions.NAME] tables of its
flint.toml, or in a template.yaml.

Examples:
  flint deploy examples/thumbnail
  flint deploy orders mails")]
    Deploy(Deploy),

    /// Show the functions that are deployed
    #[command(after_help = "Example:
  flint list
  flint list --json | jq -r '.[].name'")]
    List(List),

    /// Delete a function
    #[command(after_help = "Example:
  flint remove thumbnail
  flint remove examples/thumbnail --logs")]
    Remove(Remove),

    /// Run a function once and print its answer
    #[command(
        after_help = "The answer goes to standard output. If the function fails, that is its error document, and the
exit code is 1.

Examples:
  flint invoke hello -p '{\"name\": \"you\"}'
  flint invoke thumbnail -p @event.json --tail -o answer.json
  flint invoke thumbnail --again         # the event of the last time
  flint invoke thumbnail:live            # the version that an alias points to
  flint invoke countdown --stream        # the answer as the function writes it"
    )]
    Invoke(Invoke),

    /// Show what a function logged
    #[command(after_help = "Without --since it shows the last 10 minutes; with -n the last day.

Example:
  flint logs thumbnail --since 1h --filter ERROR
  flint logs thumbnail -n 20             # the last 20 lines
  flint logs thumbnail --errors          # only what failed
  flint logs thumbnail --request ID      # only what that call printed
  flint logs thumbnail -f --plain        # without the platform's START, END and REPORT lines")]
    Logs(Logs),

    /// Show the execution environments that are alive
    #[command(after_help = "Example:
  flint ps
  flint ps --watch
  flint ps --cold                      # where the time of each cold start went
  flint ps --json | jq '.[].State'")]
    Ps(Ps),

    /// Show what the functions do: calls, errors, durations, cold starts, memory
    #[command(
        after_help = "On a terminal it is drawn anew each interval until Ctrl-C; elsewhere it prints once, after one
interval. CALLS, ERRORS, THROTTLED and COLD count from the server's start; RATE, P50 and P99 are
of the interval, or of all calls if there was none in it. Durations are what the caller waited.

Example:
  flint top
  flint top --json | jq '.functions[] | {name, p99Ms}'"
    )]
    Top(Top),

    /// Show what happened to events
    #[command(after_help = events::EVENTS_HELP)]
    Events(events::Events),

    /// Show failures that wait for a person, one group for each cause; bring them back or drop them
    #[command(after_help = events::DLQ_HELP)]
    Dlq(events::Dlq),

    /// Run a recorded event again
    #[command(after_help = events::REPLAY_HELP)]
    Replay(events::Replay),

    /// Back a data directory up, while its server works or stopped
    #[command(
        after_help = "The backup is one moment's state: everything that was acknowledged before the command began is in it.
It appears under its name when it is whole and was read once. It holds the keys of the data
directory: keep it as safe. Function logs and the file `runtimes` are not part of it.

Example:
  flint backup --data /var/lib/flint /backups/monday"
    )]
    Backup(Backup),

    /// Restore a backup into a new data directory
    #[command(
        after_help = "Everything is verified before anything is written; a damaged or unfinished backup is refused.

Examples:
  flint restore /backups/monday --data /var/lib/flint
  flint restore /backups/monday --verify             # only read it from end to end"
    )]
    Restore(Restore),

    /// Print the variables that let AWS tools find the server
    #[command(after_help = "Examples:
  eval \"$(flint env --data /var/lib/flint)\" && aws lambda list-functions
  flint env --json")]
    Env(Env),

    /// Check what this host offers
    #[command(after_help = "Example:
  flint doctor")]
    Doctor(Doctor),

    /// Show the runtimes that the server has, and add to them
    #[command(after_help = "Example:
  flint runtime list
  flint runtime add /opt/python3.13 --data /var/lib/flint
  flint runtime explain nodejs22.x")]
    Runtime(Runtime),

    /// Print a completion script for a shell
    #[command(after_help = "Example:
  flint completions bash > /etc/bash_completion.d/flint")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What a server is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerFlags {
    /// Data directory [default: ./.flint for `dev`; for `up` /var/lib/flint, without root ~/.local/share/flint]
    #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,

    /// Address to listen on; port 0 asks for a free one
    #[arg(
        long,
        env = "FLINT_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:4566",
        hide_env_values = true
    )]
    pub listen: SocketAddr,

    /// Account of requests that name no other
    #[arg(long, env = "FLINT_ACCOUNT", value_name = "ID", default_value = "000000000000", hide_env_values = true)]
    pub account: AccountId,

    /// Region of requests that name no other
    #[arg(long, env = "FLINT_REGION", value_name = "NAME", default_value = "us-east-1", hide_env_values = true)]
    pub region: Region,

    /// User id that the server becomes after it has set up what needs root; only root may choose
    #[arg(long, env = "FLINT_USER", value_name = "UID", hide_env_values = true)]
    pub user: Option<u32>,

    /// Functions of several tenants: start only where every wall and every limit can be enforced
    #[arg(long, env = "FLINT_MULTI_TENANT", value_parser = BoolishValueParser::new(), hide_env_values = true)]
    pub multi_tenant: bool,

    /// Memory for all execution environments together [default: 80 % of what the host has free]
    #[arg(long, env = "FLINT_MEMORY_BUDGET", value_name = "SIZE", value_parser = values::megabytes, hide_env_values = true)]
    pub memory_budget: Option<u64>,

    /// Invocations that an account may have in flight
    #[arg(long, env = "FLINT_CONCURRENCY", value_name = "N", hide_env_values = true)]
    pub concurrency: Option<u64>,

    /// Invocations at once for events that nobody waits for [default: as many as the processors have time for]
    #[arg(long, env = "FLINT_BACKGROUND", value_name = "N", value_parser = clap::value_parser!(u64).range(1..), hide_env_values = true)]
    pub background: Option<u64>,

    /// Most memory that one function may ask for [default: 10240]
    #[arg(long, env = "FLINT_MAX_MEMORY", value_name = "SIZE", value_parser = values::megabytes, hide_env_values = true)]
    pub max_memory: Option<u64>,

    /// Most /tmp that one function may ask for [default: 10240]
    #[arg(long, env = "FLINT_MAX_TMP", value_name = "SIZE", value_parser = values::megabytes, hide_env_values = true)]
    pub max_tmp: Option<u64>,

    /// Longest timeout that a function may ask for [default: 15m]
    #[arg(long, env = "FLINT_MAX_TIMEOUT", value_name = "SPAN", value_parser = values::duration, hide_env_values = true)]
    pub max_timeout: Option<Duration>,

    /// The reference's limits exactly: CPU time by memory, 1,769 MB for one CPU, after the init
    #[arg(long, env = "FLINT_PARITY", value_parser = BoolishValueParser::new(), hide_env_values = true)]
    pub parity: bool,

    /// How long an idle execution environment is kept
    #[arg(long, env = "FLINT_IDLE_TIMEOUT", value_name = "SPAN", value_parser = values::duration, hide_env_values = true)]
    pub idle_timeout: Option<Duration>,

    /// How long the journal keeps what went well [default: 24h]
    #[arg(long, env = "FLINT_JOURNAL_AGE", value_name = "SPAN", value_parser = values::duration, hide_env_values = true)]
    pub journal_age: Option<Duration>,

    /// Bytes of what went well that the journal keeps, payloads included [default: 1GiB]
    #[arg(long, env = "FLINT_JOURNAL_SIZE", value_name = "SIZE", value_parser = values::megabytes, hide_env_values = true)]
    pub journal_size: Option<u64>,

    /// What the server logs on standard error, such as `debug` or `warn,flint=info`
    #[arg(long, env = "FLINT_LOG", value_name = "FILTER", hide_env_values = true)]
    pub log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub server: ServerFlags,

    /// Listen on an address that is not loopback although there is no TLS
    #[arg(long, env = "FLINT_PLAIN_HTTP", value_parser = BoolishValueParser::new(), hide_env_values = true)]
    pub plain_http: bool,

    /// File that holds the master key for secrets at rest, readable for its owner alone [default: master.key in the data
    /// directory]. FLINT_MASTER_KEY holds the key itself
    #[arg(long, env = "FLINT_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    pub master_key_file: Option<PathBuf>,

    /// Accept any credentials, on loopback only (what `flint dev` starts)
    #[arg(long, hide = true)]
    pub dev: bool,

    /// End when standard input does
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folders of functions, or templates [default: the current one, if it holds functions]
    #[arg(value_name = "DIR")]
    pub dirs: Vec<PathBuf>,

    /// Deploy once and not on save
    #[arg(long)]
    pub no_watch: bool,

    /// Name of the function [default: what flint.toml says, or the folder's name]
    #[arg(long)]
    pub name: Option<String>,

    /// Print nothing but the `ready` line
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub server: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Data directory of the server [default: ./.flint or that of `up`, where one runs]
    #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory to make; it must not exist yet
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// Data directory to back up [default: ./.flint where a server runs on it, or that of `up`]
    #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,

    /// Data directory to make; new or empty [default: that of `up`]
    #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,

    /// Verify the backup and restore nothing
    #[arg(long)]
    pub verify: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where the server is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// Server to talk to [default: that of --data, $AWS_ENDPOINT_URL, ./.flint or http://127.0.0.1:4566]
    #[arg(long, env = "FLINT_ENDPOINT", value_name = "URL", hide_env_values = true, help_heading = "Server")]
    pub endpoint: Option<String>,

    /// Region [default: $AWS_REGION or us-east-1]
    #[arg(long, env = "FLINT_REGION", value_name = "NAME", hide_env_values = true, help_heading = "Server")]
    pub region: Option<Region>,

    /// Data directory of the server: its address and keys are read there
    #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true, help_heading = "Server")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Folders of functions, or templates
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,

    /// Name of the function [default: what flint.toml says, or the folder's name]
    #[arg(long)]
    pub name: Option<String>,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the function, or the folder it was deployed from
    #[arg(value_name = "DIR|NAME")]
    pub function: String,

    /// Delete its log group as well
    #[arg(long)]
    pub logs: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// NAME[:VERSION|:ALIAS] or ARN
    pub function: String,

    /// Event: JSON, @FILE, or - for standard input [default: {}]
    #[arg(short, long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub payload: Option<String>,

    /// Send the event that was last given to this function with -p
    #[arg(long, conflicts_with = "payload")]
    pub again: bool,

    /// Hand the event over and do not wait: it is kept, run in its turn, and retried if the function fails
    #[arg(long = "async", conflicts_with_all = ["stream", "tail", "output"])]
    pub asynchronous: bool,

    /// Print the answer as the function writes it (response streaming)
    #[arg(long, conflicts_with_all = ["output", "json"])]
    pub stream: bool,

    /// Print the end of the invocation's log on standard error
    #[arg(long)]
    pub tail: bool,

    /// Write the answer to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Print answer, error, version, request id and log as one JSON object
    #[arg(long, conflicts_with = "output")]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Name or ARN of the function, or a log group (/...)
    pub function: String,

    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,

    /// From when on: a span (10m, 2h, 1d) or an instant (2026-11-21T09:00:00Z) [default: 10m; 1d with -n]
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,

    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tail: Option<u32>,

    /// Only lines that say that something failed: errors, time-outs, processes that ended
    #[arg(long)]
    pub errors: bool,

    /// Filter pattern: `ERROR`, `?a ?b`, `{ $.level = "warn" }`
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub filter: Option<String>,

    /// Only what one call printed: all from its START to its REPORT. `flint invoke --json` tells the id
    #[arg(long, value_name = "ID", conflicts_with = "filter")]
    pub request: Option<String>,

    /// Leave out the platform's lines: INIT_START, START, END, and REPORT where the call went well
    #[arg(long)]
    pub plain: bool,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only those of this function
    pub function: Option<String>,

    /// Show it again every second, until Ctrl-C
    #[arg(short, long, conflicts_with = "json")]
    pub watch: bool,

    /// Show where the time of each cold start went
    #[arg(long)]
    pub cold: bool,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only this function
    pub function: Option<String>,

    /// Time between two looks
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = values::interval)]
    pub interval: Duration,

    /// Print once, as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Env {
    /// Print as a JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Runtime {
    #[command(subcommand)]
    pub command: RuntimeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Runtime identifiers and the interpreters behind them
    #[command(after_help = "Example:
  flint runtime list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        server: Where,
    },

    /// Let functions run on a Python or Node.js installation in a folder of this machine
    #[command(
        after_help = "The folder is one installation: bin/python3.N with lib/python3.N, or bin/node. The server takes it at its
next start. Functions can then read everything in the folder. For whoever starts the server, on its machine.

Example:
  flint runtime add /opt/python3.13 --data /var/lib/flint"
    )]
    Add {
        /// Such as /opt/python3.13
        folder: PathBuf,

        /// Data directory of the server [default: /var/lib/flint]
        #[arg(long, env = "FLINT_DATA", value_name = "DIR", hide_env_values = true)]
        data: Option<PathBuf>,
    },

    /// What runs a function with this runtime identifier, and what to do if nothing does
    #[command(after_help = "Example:
  flint runtime explain python3.12")]
    Explain {
        /// Such as python3.12, nodejs22.x or provided.al2023
        identifier: String,

        #[command(flatten)]
        server: Where,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split_whitespace()).map(|c| c.command).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands().filter(|c| c.get_subcommands().next().is_none()) {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }

    #[test]
    fn reads_the_contract() {
        let Ok(Command::Up(up)) = parse("flint up --data d --listen 127.0.0.1:0 --region eu-west-1") else { panic!() };
        assert_eq!((up.server.listen.port(), up.server.region.as_str(), up.dev), (0, "eu-west-1", false));
        let Ok(Command::Dev(dev)) = parse("flint dev app --quiet --idle-timeout 5s") else { panic!() };
        assert_eq!((dev.dirs, dev.quiet), (vec!["app".into()], true));
        assert_eq!(dev.server.idle_timeout, Some(Duration::from_secs(5)));
        let Ok(Command::Invoke(invoke)) = parse("flint invoke f -p -1 --tail -o out") else { panic!() };
        assert_eq!((invoke.payload.as_deref(), invoke.tail, invoke.output), (Some("-1"), true, Some("out".into())));
        let Ok(Command::Logs(logs)) = parse("flint logs f -f --since 1h --filter -x") else { panic!() };
        assert_eq!((logs.follow, logs.filter.as_deref()), (true, Some("-x")));
        let Ok(Command::Logs(logs)) = parse("flint logs f -n 5 --errors") else { panic!() };
        assert_eq!((logs.tail, logs.errors, logs.since), (Some(5), true, None));
        let Ok(Command::Stop(stop)) = parse("flint stop --data d") else { panic!() };
        assert_eq!(stop.data, Some("d".into()));
        assert!(matches!(parse("flint runtime add /opt/x --data d"), Ok(Command::Runtime(_))));
        assert!(matches!(parse("flint runtime list --json"), Ok(Command::Runtime(_))));
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for (line, part) in [
            ("flint up --account 12", "twelve digits"),
            ("flint up --region US", "lower-case"),
            ("flint up --listen 4566", "invalid"),
            ("flint up --memory-budget lots", "not a size"),
            ("flint dev --plain-http", "unexpected"),
            ("flint logs f --since soon", "no time"),
            ("flint logs f -n 0", "1..=100000"),
            ("flint lsit", "list"),
            ("flint invoke", "required"),
            ("flint invoke f --again -p 1", "cannot be used"),
            ("flint deploy", "required"),
            ("flint top --interval 1ms", "100ms"),
            ("flint invoke f --json -o x", "cannot be used"),
            ("flint nothing", "unrecognized"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
