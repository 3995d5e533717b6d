//! `cargo xtask accept N`: issue N's acceptance, line by line, each with its commands, bounds and figures.
//!
//! A command reports figures by appending `NAME VALUE [UNIT]` lines to the file that `FLINT_FIGURES` names. What ran
//! is remembered in `target/accept/N.json`; `--resume` keeps what passed on the same commit.

mod issue_2;
mod issue_3;
mod issue_4;
mod issue_5;
mod state;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::state::{Record, State, Verdict};
use crate::{cmd, trial};

/// One line of an acceptance list.
pub struct Line {
    /// The number in the issue, or a word for what stands outside the list.
    pub number: &'static str,
    pub text: &'static str,
    pub checks: &'static [Check],
}

/// One command that proves (a part of) a line.
pub struct Check {
    pub name: &'static str,
    pub run: Run,
    /// The command is stopped after this many seconds, and has failed.
    pub limit_s: u64,
    pub bounds: &'static [Bound],
}

/// What to run, from the root of the workspace.
pub enum Run {
    /// A program and its arguments.
    Program(&'static [&'static str]),
    /// Scenario files of `scenarios/py`; one `*` in a name stands for anything.
    Scenarios(&'static [&'static str]),
}

/// What a figure must reach.
#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(&'static str, f64),
    AtMost(&'static str, f64),
}

pub fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let lines = match options.issue.as_str() {
        "2" => issue_2::LINES,
        "3" => issue_3::LINES,
        "4" => issue_4::LINES,
        "5" => issue_5::LINES,
        other => bail!("no acceptance table for issue {other}"),
    };
    let folder = trial::target_dir()?.join("accept");
    // Logs and figures of one issue do not stand in for those of another.
    let logs = folder.join(&options.issue);
    std::fs::create_dir_all(&logs)?;
    // One line alone leaves what is known of the others.
    let keep = options.resume || options.only.is_some();
    let mut state = State::load(&folder.join(format!("{}.json", options.issue)), keep)?;

    // What every check needs is built before the clock of the first one runs.
    let flint = trial::build(true)?;
    let began = state::now();
    let mut failed = 0;
    for line in lines {
        println!("{:>4}  {}", line.number, line.text);
        for check in line.checks {
            let key = format!("{}/{}", line.number, check.name);
            let wanted = options.only.as_ref().is_none_or(|only| only == line.number);
            let spent = began.elapsed();
            let fits = options.minutes.is_none_or(|minutes| spent + Duration::from_secs(check.limit_s) <= minutes);
            if wanted && fits && !(options.resume && state.passed(&key)) {
                let record = perform(check, &flint, &logs, &key)?;
                state.keep(&key, record)?;
            }
            let shown = state.show(&key);
            failed += usize::from(state.verdict(&key) == Verdict::Fail);
            println!("      {shown:<9} {}{}", check.name, state.figures(&key));
        }
    }
    let (pass, not_run) = state.totals(lines);
    println!("\n{pass} passed, {failed} failed, {not_run} not run (issue {})", options.issue);
    if failed > 0 {
        bail!("{failed} check(s) failed; their output is in {}", logs.display());
    }
    Ok(())
}

/// Runs one check and judges it.
fn perform(check: &Check, flint: &Path, folder: &Path, key: &str) -> Result<Record> {
    let stem = key.replace(['/', ' '], "-");
    let log = folder.join(format!("{stem}.log"));
    let figures = folder.join(format!("{stem}.figures"));
    File::create(&figures)?;
    let mut command = match &check.run {
        Run::Program(words) => {
            let (program, rest) = words.split_first().context("an empty command")?;
            let mut command = Command::new(program);
            command.args(rest);
            command.current_dir(cmd::root());
            command
        }
        Run::Scenarios(files) => {
            let mut command = trial::pytest(flint)?;
            for file in *files {
                command.args(matching(file)?);
            }
            command
        }
    };
    command.env("FLINT_FIGURES", &figures).env("FLINT_BIN", flint);
    command.env("COLD_TARGET_DIR", folder.join("cold"));
    let out = File::create(&log)?;
    command.stderr(out.try_clone()?).stdout(out);

    eprintln!("+ {}", cmd::shown(&command));
    let began = state::now();
    let status = cmd::run_within(&mut command, Duration::from_secs(check.limit_s))?;
    let seconds = began.elapsed().as_secs_f64();
    let figures = std::fs::read_to_string(&figures)?;
    let broken = check.bounds.iter().find_map(|bound| bound.broken(&figures));
    let (verdict, why) = match status {
        None => (Verdict::Fail, format!("stopped after {} s", check.limit_s)),
        Some(status) if !status.success() => (Verdict::Fail, format!("{status}, see {}", log.display())),
        Some(_) => broken.map_or((Verdict::Pass, String::new()), |why| (Verdict::Fail, why)),
    };
    let figures = figures.lines().map(str::to_owned).collect();
    Ok(Record { verdict, why, seconds, figures })
}

/// The scenario files that a name with `*` stands for, in order; any other name as it is.
fn matching(name: &str) -> Result<Vec<String>> {
    let Some((head, tail)) = name.split_once('*') else { return Ok(vec![name.to_owned()]) };
    let entries = std::fs::read_dir(cmd::root().join("scenarios/py"))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.retain(|found| found.len() >= name.len() - 1 && found.starts_with(head) && found.ends_with(tail));
    names.sort_unstable();
    if names.is_empty() {
        bail!("no scenario file is called {name}");
    }
    Ok(names)
}

impl Bound {
    /// Why the bound does not hold, if it does not. Every value of that name must hold; a missing one breaks it.
    fn broken(&self, figures: &str) -> Option<String> {
        let (name, holds, word, bound): (_, fn(f64, f64) -> bool, _, _) = match self {
            Bound::AtLeast(name, bound) => (*name, |value, bound| value >= bound, "at least", *bound),
            Bound::AtMost(name, bound) => (*name, |value, bound| value <= bound, "at most", *bound),
        };
        let values: Vec<f64> = figures
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
            })
            .collect();
        if values.is_empty() {
            return Some(format!("the figure {name} is missing"));
        }
        let value = values.into_iter().find(|value| !holds(*value, bound))?;
        Some(format!("{name} is {value}, wanted {word} {bound}"))
    }
}

struct Options {
    issue: String,
    minutes: Option<Duration>,
    only: Option<String>,
    resume: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut words = args.iter();
        let issue = words.next().context("which issue? `cargo xtask accept N`")?.clone();
        let mut options = Options { issue, minutes: None, only: None, resume: false };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--minutes" => {
                    let minutes: u64 = words.next().context("--minutes wants a number")?.parse()?;
                    options.minutes = Some(Duration::from_secs(minutes * 60));
                }
                "--only" => options.only = Some(words.next().context("--only wants a line")?.clone()),
                "--resume" => options.resume = true,
                other => bail!("unknown option `{other}`"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, matching};

    #[test]
    fn a_star_stands_for_the_files_that_are_there() {
        assert!(matching("test_bo*.py").unwrap().contains(&"test_boto3.py".to_owned()));
        assert_eq!(matching("hostile").unwrap(), ["hostile"]);
        assert!(matching("test_none_is_called_so*.py").is_err());
    }

    #[test]
    fn bounds_are_judged() {
        let figures = "ratio 0.95 x\nseconds 12.5 s\n";
        assert_eq!(Bound::AtLeast("ratio", 0.9).broken(figures), None);
        assert_eq!(Bound::AtMost("seconds", 15.0).broken(figures), None);
        assert!(Bound::AtLeast("ratio", 1.0).broken(figures).is_some());
        assert!(Bound::AtMost("missing", 1.0).broken(figures).is_some());
    }
}
