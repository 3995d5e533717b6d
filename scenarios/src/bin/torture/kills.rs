//! kill -9 at random moments under load.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use flint_store::testing::Rng;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use serde_json::{Value, json};

use crate::book::Totals;
use crate::load::Size;
use crate::round::Round;

/// Kills of one server and one ledger; then all is judged and begins anew.
const BATCH: u64 = 50;
const SIZE: Size = Size { senders: 4, groups: 4, sinks: 2, pause: Duration::from_millis(4) };

/// Goes on where `state` says for the same commit; stops after `kills` in all, or `seconds`.
pub async fn run(binary: &Path, state: &Path, commit: &str, kills: u64, seconds: u64) -> Result<()> {
    let (mut done, mut totals) = load(state, commit);
    let (began, mut ready) = (monotonic_ns(), Series::default());
    let mut rng = Rng::new(began);
    while done < kills && ms(began, monotonic_ns()) < seconds as f64 * 1000.0 {
        let folder = tempfile::Builder::new().prefix("flint-torture-").tempdir()?;
        let mut round = Round::new(binary, folder.path(), SIZE)?;
        round.start(&[]).await?;
        let mut here = 0;
        while here < BATCH.min(kills - done) && ms(began, monotonic_ns()) < seconds as f64 * 1000.0 {
            tokio::time::sleep(Duration::from_millis(20 + rng.below(600))).await;
            round.kill()?;
            here += 1;
            // Sometimes the next life dies young.
            let Some(span) = round.start(&[]).await? else { anyhow::bail!("the server does not start again") };
            ready.push(span);
        }
        round.settle().await?;
        done += here;
        totals.add(&round.scene.book());
        round.end().await?;
        save(state, commit, done, totals)?;
        println!(
            "  {done} kills; serving again: p50 {:.0} ms, p99 {:.0} ms",
            ready.percentile(50.0),
            ready.percentile(99.0)
        );
    }
    println!("random kills: {done}");
    report("random_kills", done as f64, "")?;
    report("serving_again_p99", ready.percentile(99.0), "ms")?;
    totals.report()?;
    anyhow::ensure!(totals.is_clean(), "a promise was broken");
    Ok(())
}

fn load(state: &Path, commit: &str) -> (u64, Totals) {
    let saved: Value =
        std::fs::read(state).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if saved["commit"] != commit {
        return Default::default();
    }
    let number = |name: &str| saved[name].as_u64().unwrap_or(0);
    let totals = Totals {
        lost: number("lost"),
        duplicates: number("duplicates"),
        order: number("order"),
        deduplication: number("deduplication"),
        acknowledged: number("acknowledged"),
        repeated: number("repeated"),
    };
    (number("kills"), totals)
}

fn save(state: &Path, commit: &str, kills: u64, totals: Totals) -> Result<()> {
    let Totals { lost, duplicates, order, deduplication, acknowledged, repeated } = totals;
    let saved = json!({
        "commit": commit, "kills": kills, "lost": lost, "duplicates": duplicates, "order": order,
        "deduplication": deduplication, "acknowledged": acknowledged, "repeated": repeated,
    });
    Ok(std::fs::write(state, saved.to_string())?)
}
