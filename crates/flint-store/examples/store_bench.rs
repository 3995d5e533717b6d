//! `store_bench DIR [SECONDS [CALLERS]]`: the log against the disk's own speed, one line of JSON.
//! `store_bench DIR ready SENDS`: the start after a kill, with so many records, one line of JSON.

use std::path::Path;

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(dir) = args.next() else {
        return Err(std::io::Error::other("usage: store_bench DIR [SECONDS [CALLERS]]"));
    };
    let mut args = args.peekable();
    if args.next_if_eq("ready").is_some() {
        let sends = args.next().map_or(Ok(100_000), |n| n.parse()).map_err(std::io::Error::other)?;
        println!("{}", serde_json::to_string(&flint_store::bench::ready(Path::new(&dir), sends)?)?);
        return Ok(());
    }
    let mut number = |default: u32| args.next().map_or(Ok(default), |n| n.parse().map_err(std::io::Error::other));
    let (seconds, callers) = (number(10)?, number(64)?);
    let report = flint_store::bench::run(Path::new(&dir), seconds, callers as usize)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
