//! What ran, on which commit, and how it ended: `target/accept/N.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Line;
use crate::cmd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    NotRun,
}

pub struct Record {
    pub verdict: Verdict,
    /// Why it failed.
    pub why: String,
    pub seconds: f64,
    /// `NAME VALUE [UNIT]` lines.
    pub figures: Vec<String>,
}

pub struct State {
    path: PathBuf,
    commit: String,
    records: BTreeMap<String, Record>,
}

impl State {
    /// Starts afresh, or (`resume`) from what an earlier run on the same commit left.
    pub fn load(path: &Path, resume: bool) -> Result<Self> {
        let mut git = cmd::git();
        let commit = cmd::output(git.args(["rev-parse", "HEAD"]))?.trim().to_owned();
        let mut state = State { path: path.to_owned(), commit, records: BTreeMap::new() };
        if resume && path.exists() {
            let saved: Value = serde_json::from_slice(&std::fs::read(path)?).context("the saved state is damaged")?;
            if saved["commit"] == state.commit.as_str() {
                let records = saved["checks"].as_object().into_iter().flatten();
                state.records = records.map(|(key, value)| (key.clone(), Record::from_json(value))).collect();
            }
        }
        Ok(state)
    }

    /// Remembers how `key` ended, on disk as well.
    pub fn keep(&mut self, key: &str, record: Record) -> Result<()> {
        self.records.insert(key.to_owned(), record);
        let checks: serde_json::Map<_, _> = self.records.iter().map(|(k, r)| (k.clone(), r.to_json())).collect();
        let text = serde_json::to_string_pretty(&json!({ "commit": self.commit, "checks": checks }))?;
        std::fs::write(&self.path, text + "\n")?;
        Ok(())
    }

    pub fn verdict(&self, key: &str) -> Verdict {
        self.records.get(key).map_or(Verdict::NotRun, |record| record.verdict)
    }

    pub fn passed(&self, key: &str) -> bool {
        self.verdict(key) == Verdict::Pass
    }

    pub fn show(&self, key: &str) -> &'static str {
        self.verdict(key).word()
    }

    /// Time, figures and the reason of a failure, for the end of a line.
    pub fn figures(&self, key: &str) -> String {
        let Some(record) = self.records.get(key) else { return String::new() };
        let mut text = format!(" ({:.1} s)", record.seconds);
        if !record.why.is_empty() {
            text += &format!(": {}", record.why);
        }
        for figure in &record.figures {
            text += &format!("\n                  {figure}");
        }
        text
    }

    /// How many checks of `lines` passed and how many did not run.
    pub fn totals(&self, lines: &[Line]) -> (usize, usize) {
        let checks = lines.iter().flat_map(|l| l.checks.iter().map(move |c| format!("{}/{}", l.number, c.name)));
        let verdicts: Vec<_> = checks.map(|key| self.verdict(&key)).collect();
        let count = |wanted| verdicts.iter().filter(|v| **v == wanted).count();
        (count(Verdict::Pass), count(Verdict::NotRun))
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::NotRun => "not run",
        }
    }
}

impl Record {
    fn to_json(&self) -> Value {
        json!({ "verdict": self.verdict.word(), "why": self.why, "seconds": self.seconds, "figures": self.figures })
    }

    fn from_json(value: &Value) -> Self {
        let verdict = match value["verdict"].as_str() {
            Some("pass") => Verdict::Pass,
            Some("FAIL") => Verdict::Fail,
            _ => Verdict::NotRun,
        };
        let figures = value["figures"].as_array().into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned));
        Record {
            verdict,
            why: value["why"].as_str().unwrap_or_default().to_owned(),
            seconds: value["seconds"].as_f64().unwrap_or_default(),
            figures: figures.collect(),
        }
    }
}

/// The tool measures its own children; it has no `Clock`.
#[expect(clippy::disallowed_methods, reason = "wall time of child processes, never of the product")]
pub fn now() -> Instant {
    Instant::now()
}
