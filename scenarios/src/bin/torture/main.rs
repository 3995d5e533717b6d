//! The real server under torture, behind `cargo xtask torture`: kills at random moments and at every sync, calls that fail,
//! power cuts. Senders and sinks live outside; a ledger of their own says what must hold.
//!
//! Functions have no way out of their sandbox, so the sinks are consumers of queues.

mod book;
mod calls;
mod fuse;
mod images;
mod kills;
mod ledger;
mod load;
mod node;
mod round;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let binary = binary()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words.as_slice() {
        ["kills", state, commit, kills, seconds] => {
            runtime.block_on(kills::run(&binary, state.as_ref(), commit, kills.parse()?, seconds.parse()?))
        }
        ["syncs", step] => runtime.block_on(calls::syncs(&binary, step.parse()?)),
        ["images", n] => runtime.block_on(images::run(&binary, n.parse()?)),
        ["faults"] => runtime.block_on(calls::faults(&binary, false)),
        ["faults", "few"] => runtime.block_on(calls::faults(&binary, true)),
        _ => bail!("torture kills STATE COMMIT KILLS SECONDS|syncs STEP|faults [few]|images N"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool of the gate, told by its environment what to hurt")]
fn binary() -> Result<PathBuf> {
    Ok(std::env::var_os("FLINT_BIN").context("FLINT_BIN names the binary")?.into())
}
