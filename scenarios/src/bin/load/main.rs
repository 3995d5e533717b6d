//! The load generator behind `cargo xtask bench cold`, `warm`, `floor`, `thousand`, `stream`, `gone`, `queue`, `restart`, `hop`
//! and `neighbour`, and behind `cargo xtask torture endings`.
//!
//! It starts a server of its own, drives it over signed keep-alive connections and prints what it measured, as measured.

mod cold;
mod endings;
mod floor;
mod gone;
mod hop;
mod kinds;
mod neighbour;
mod queue;
mod redis;
mod restart;
mod stream;
mod thousand;
mod warm;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let binary = binary()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["cold"] => runtime.block_on(cold::run(&binary)),
        ["warm"] => runtime.block_on(warm::run(&binary)),
        ["floor", clients, rows @ ..] => runtime.block_on(floor::run(&binary, clients.as_ref(), rows)),
        ["thousand"] => runtime.block_on(thousand::run(&binary)),
        ["hop"] => runtime.block_on(hop::run(&binary)),
        ["neighbour"] => runtime.block_on(neighbour::run(&binary)),
        ["gone"] => runtime.block_on(gone::run(&binary)),
        ["endings", state, commit, seconds] => {
            runtime.block_on(endings::run(&binary, state.as_ref(), commit, seconds.parse()?))
        }
        ["queue"] => runtime.block_on(queue::run(&binary)),
        ["bare"] => queue::bare(),
        ["restart"] => runtime.block_on(restart::run(&binary)),
        ["stream"] => runtime.block_on(stream::run(&binary)),
        _ => bail!(
            "load cold|warm|floor CLIENTS [ROW]...|thousand|stream|gone|queue|restart|hop|neighbour|endings STATE COMMIT SECONDS"
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool of the gate, told by its environment what to measure")]
fn binary() -> Result<PathBuf> {
    Ok(std::env::var_os("FLINT_BIN").context("FLINT_BIN names the binary")?.into())
}
