//! kill -9 at random moments under load.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use flint_store::testing::Rng;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::book::Totals;
use crate::load::Size;
use crate::round::Round;
use crate::scratch::Scratch;

/// Kills of one server and one ledger; then all is judged and begins anew.
const BATCH: u64 = 100;
const SIZE: Size =
    Size { senders: 3, groups: 3, sinks: 2, callers: 2, attempts: true, pause: Duration::from_millis(6) };
/// In less time nothing is sent that waits for a minute.
const ATTEMPTS_FROM_S: u64 = 120;
/// Servers that are killed at the same time, beside each other.
const JOBS: u64 = 2;

/// What all of them share.
struct Campaign {
    binary: PathBuf,
    state: PathBuf,
    commit: String,
    kills: u64,
    ends_ns: u64,
    size: Size,
    done: Mutex<Done>,
}

struct Done {
    /// Kills whose rounds were judged, and those that rounds have begun to do.
    kills: u64,
    claimed: u64,
    totals: Totals,
    ready: Series,
}

/// Goes on where `state` says for the same commit; stops after `kills` in all, or `seconds`.
pub async fn run(binary: &Path, state: &Path, commit: &str, kills: u64, seconds: u64) -> Result<()> {
    let (before, totals) = load(state, commit);
    let began = monotonic_ns();
    let campaign = Arc::new(Campaign {
        binary: binary.to_owned(),
        state: state.to_owned(),
        commit: commit.to_owned(),
        kills,
        ends_ns: began.saturating_add(seconds.saturating_mul(1_000_000_000)),
        size: Size { attempts: seconds >= ATTEMPTS_FROM_S, ..SIZE },
        done: Mutex::new(Done { kills: before, claimed: before, totals, ready: Series::default() }),
    });
    let mut jobs = JoinSet::new();
    for job in 0..JOBS {
        let campaign = Arc::clone(&campaign);
        jobs.spawn(async move { campaign.work(Rng::new(began ^ job)).await });
    }
    while let Some(ended) = jobs.join_next().await {
        ended??;
    }
    let mut done = campaign.done();
    let each = ms(began, monotonic_ns()) / 1000.0 / (done.kills - before).max(1) as f64;
    println!("random kills: {}; {each:.2} s each", done.kills);
    report("random_kills", done.kills as f64, "")?;
    report("serving_again_p99", done.ready.percentile(99.0), "ms")?;
    done.totals.report()?;
    anyhow::ensure!(done.totals.is_clean(), "a promise was broken");
    Ok(())
}

impl Campaign {
    /// One round after the other, as long as kills are wanted and there is time.
    async fn work(&self, mut rng: Rng) -> Result<()> {
        while let Some(kills) = self.claim() {
            let folder = Scratch::new()?;
            let mut round = Round::new(&self.binary, folder.path(), self.size)?;
            round.start(&[]).await?;
            let (mut here, mut ready) = (0, Series::default());
            while here < kills && self.has_time() {
                // Sometimes a life dies young.
                tokio::time::sleep(Duration::from_millis(20 + rng.below(600))).await;
                ready.push(round.kill_and_start().await?);
                here += 1;
            }
            round.settle().await?;
            let mut totals = Totals::default();
            if !round.judged(&mut totals).await? {
                println!("  kept: {}", folder.keep()?.display());
            }
            self.add(here, kills, totals, ready)?;
        }
        Ok(())
    }

    /// How many kills the next round does.
    fn claim(&self) -> Option<u64> {
        let mut done = self.done();
        let kills = BATCH.min(self.kills.saturating_sub(done.claimed));
        done.claimed += kills;
        (kills > 0 && self.has_time()).then_some(kills)
    }

    fn add(&self, here: u64, claimed: u64, totals: Totals, ready: Series) -> Result<()> {
        let mut done = self.done();
        done.kills += here;
        done.claimed -= claimed - here;
        done.totals.merge(totals);
        done.ready.extend(ready);
        save(&self.state, &self.commit, done.kills, done.totals)?;
        let (p50, p99) = (done.ready.percentile(50.0), done.ready.percentile(99.0));
        println!("  {} kills; serving again: p50 {p50:.0} ms, p99 {p99:.0} ms", done.kills);
        Ok(())
    }

    fn has_time(&self) -> bool {
        monotonic_ns() < self.ends_ns
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(state: &Path, commit: &str) -> (u64, Totals) {
    let saved: Value =
        std::fs::read(state).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if saved["commit"] != commit {
        return Default::default();
    }
    let mut totals = Totals::default();
    for (name, number) in totals.numbers() {
        *number = saved[name].as_u64().unwrap_or(0);
    }
    (saved["kills"].as_u64().unwrap_or(0), totals)
}

fn save(state: &Path, commit: &str, kills: u64, mut totals: Totals) -> Result<()> {
    let mut saved = json!({ "commit": commit, "kills": kills });
    for (name, number) in totals.numbers() {
        saved[name] = (*number).into();
    }
    Ok(std::fs::write(state, saved.to_string())?)
}
