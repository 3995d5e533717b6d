//! Deterministic simulation: the server's own code on one thread, with a virtual clock, a seeded source of chance and a disk
//! that crashes. The same seed gives the same trace, whatever happens in it.
//!
//! ```text
//! simulate                         a few seeds, each planted bug, and a look whether traces repeat
//! simulate seeds A..B [--jobs N]   those seeds; a failure prints its seed
//! simulate bugs                    each planted bug must be found
//! simulate states N                crash states of a recorded trace
//! simulate one SEED [--bug NAME] [--trace]
//! ```
//! Every seed runs in a process of its own, so that nothing of another run is left in it.

mod bugs;
mod entropy;
mod events;
mod function;
mod mutant;
mod outside;
mod rows;
mod runner;
mod sim;
mod states;
mod store;

use std::process::ExitCode;

use crate::bugs::Bug;
use crate::sim::Sim;

/// Longest that one run may take, in seconds of the real clock; it takes a tenth of one.
const RUN_LIMIT_S: u32 = 60;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["one", seed, options @ ..] => one(seed, options),
        // What cargo and its friends ask a test binary.
        ["--list", ..] => ExitCode::SUCCESS,
        other => match runner::run(other) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("simulate: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// One run; its outcome in one line.
fn one(seed: &str, options: &[&str]) -> ExitCode {
    let Ok(seed) = seed.parse::<u64>() else {
        eprintln!("simulate one SEED");
        return ExitCode::FAILURE;
    };
    let bug = options.iter().position(|word| *word == "--bug").and_then(|at| options.get(at + 1));
    let bug = bug.map(|name| Bug::named(name).expect("a bug that is known"));
    // A run that makes no progress ends by a signal, and counts as a finding.
    entropy::limit(RUN_LIMIT_S);
    entropy::start(seed);
    let sim = Sim::new(seed, bug, options.contains(&"--trace"));
    // Mostly the whole, sometimes the store alone, which has more crashes to a second.
    let outcome = if seed % 4 == 3 { rows::run(&sim) } else { events::run(&sim) };
    let (hash, lines) = sim.trace();
    println!("{seed} {hash:016x} {lines} {} {}", sim.crashes(), outcome.as_ref().err().map_or("ok", String::as_str));
    // 2: the simulation's finding; anything else is a bug of the simulation.
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
