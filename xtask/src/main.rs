//! The project's own tool: `cargo xtask COMMAND`.
//!
//! It leans on no crate of the workspace, so that it still runs when one of them does not compile
//! (`codegen` writes sources of `flint-wire`).

mod accept;
mod bench;
mod cmd;
mod codegen;
mod hostile;
mod simulate;
mod tidy;
mod torture;
mod trial;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  tidy                     arrows, licences, generated files, file sizes, links
  codegen [--check]        write (or check) the static shape tables of flint-wire
  test [--release] [-k X]  README's test command: unit, integration and scenario tests
  bench [store|cold|warm|floor|thousand|stream|gone]
                           measure and print honest figures (release build)
  torture [kills|syncs|faults|states|images|endings] [...]
                           the real server under kills, failing calls, power cuts; `torture help` says more
  simulate [--seeds A..B] [--trace]
                           the server's own code on one thread with a virtual clock and a disk that crashes; planted bugs
  hostile [--v1-only]      the hostile suite; with the version 2 tree of cgroups hidden
  accept N [--minutes M] [--only LINE] [--resume]
                           issue N's acceptance, line by line
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "tidy" => tidy::run(),
        "codegen" => codegen::run(rest),
        "test" => trial::run(rest),
        "bench" => bench::run(rest),
        "hostile" => hostile::run(rest),
        "torture" => torture::run(rest),
        "simulate" => simulate::run(rest),
        "accept" => accept::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
