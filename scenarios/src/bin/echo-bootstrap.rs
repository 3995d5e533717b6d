//! The smallest function: a Runtime API client over one plain socket that answers what it was asked.
//!
//! The payload `"start"` is answered with the moment before the first `next` (CLOCK_MONOTONIC, nanoseconds).

use std::io::Error;
use std::process::ExitCode;

use scenarios::clock::monotonic_ns;
use scenarios::runtime::Runtime;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo-bootstrap: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let mut runtime = Runtime::connect()?;
    let started = monotonic_ns();
    loop {
        let (id, payload) = runtime.next_event()?;
        let answer = if payload == b"\"start\"" { started.to_string().into_bytes() } else { payload };
        runtime.answer(&id, "response", &answer)?;
    }
}
