//! The real server under torture, behind `cargo xtask torture`: kills at random moments and at every sync, calls that fail,
//! power cuts. Senders and sinks live outside; a ledger of their own says what must hold.
//!
//! What functions do with an event they tell the sinks by queues: a destination's, or one to which they send from inside.

mod book;
mod calls;
mod ends;
mod functions;
mod fuse;
mod images;
mod kills;
mod ledger;
mod load;
mod node;
mod round;
mod scratch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let binary = binary()?;
    let swept = scratch::sweep()?;
    if swept > 0 {
        println!("removed what {swept} dead runs left");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    runtime.block_on(async {
        // On a signal all is dropped: servers end, what is mounted is unmounted.
        tokio::select! {
            done = run(&binary, &words) => done,
            signal = scratch::told_to_end() => bail!("ended by {}", signal?),
        }
    })
}

async fn run(binary: &Path, words: &[&str]) -> Result<()> {
    match words {
        ["kills", state, commit, kills, seconds] => {
            kills::run(binary, state.as_ref(), commit, kills.parse()?, seconds.parse()?).await
        }
        ["syncs", step] => calls::syncs(binary, step.parse()?).await,
        ["images", n] => images::run(binary, n.parse()?).await,
        ["faults"] => calls::faults(binary, false).await,
        ["faults", "few"] => calls::faults(binary, true).await,
        _ => bail!("torture kills STATE COMMIT KILLS SECONDS|syncs STEP|faults [few]|images N"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool of the gate, told by its environment what to hurt")]
fn binary() -> Result<PathBuf> {
    Ok(std::env::var_os("FLINT_BIN").context("FLINT_BIN names the binary")?.into())
}
