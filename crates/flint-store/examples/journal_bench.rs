//! What a full journal costs: `cargo run --release -p flint-store --example journal_bench -- [DIR] [MIB]`.
//!
//! Writes six times as many MiB of entries as are kept, an entry a commit and 256 commits at a time, with the keeper behind;
//! says how large the index is each time that as much was written, how long a start takes, and how long it takes to find things.

use std::io;
use std::path::Path;
use std::sync::Arc;

use flint_base::{Clock, EventId, SystemClock};
use flint_model::{Lineage, Place};
use flint_store::journal::{self, Entry, Floor, Keeper, Kind, Limits};
use flint_store::{Batch, LogStore, Options, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many times what is kept is written.
const TIMES: usize = 6;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "target/journal-bench".to_owned());
    let kept = args.next().and_then(|n| n.parse().ok()).unwrap_or(1024u64) << 20;
    std::fs::create_dir_all(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let end = runtime.block_on(run(Path::new(&dir), kept));
    std::fs::remove_dir_all(&dir)?;
    end
}

async fn run(dir: &Path, kept: u64) -> io::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let place = Place {
        account: "000000000000".parse().map_err(io::Error::other)?,
        region: "us-east-1".parse().map_err(io::Error::other)?,
    };
    let entry = || {
        let lineage = Lineage::root(EventId::next());
        let mut entry = Entry::new(place.clone(), lineage, Kind::Settled, clock.now());
        entry.source = Some("arn:aws:sqs:us-east-1:000000000000:orders".to_owned());
        entry.attempt = 1;
        entry
    };
    let store = Arc::new(LogStore::open(dir, Options::default()).map_err(io::Error::other)?);
    let limits = Limits { well_bytes: kept, ..Limits::default() };
    let mut keeper = Keeper::new(store.clone(), clock.clone(), limits);
    let (begin, mut entries, mut slowest, mut keeping) = (clock.monotonic(), 0u64, 0.0f64, 0.0f64);
    let mut marked = EventId::next();
    let mut looked = clock.monotonic();
    let size = |path: &str| std::fs::metadata(dir.join(path)).map(|m| m.len()).unwrap_or(0) >> 20;
    let mut sizes = Vec::new();
    while sizes.len() < TIMES {
        let at = clock.monotonic();
        let pending: Vec<_> = (0..256).map(|_| store.commit(Batch { packed: vec![entry()], ..Batch::new() })).collect();
        entries += pending.len() as u64;
        for commit in pending {
            commit.await.map_err(io::Error::other)?;
        }
        slowest = slowest.max((clock.monotonic() - at).as_secs_f64());
        let written = store.journal_written().well;
        if written >= kept * (sizes.len() as u64 + 1) {
            sizes.push(size("state.redb"));
        }
        if written < kept * (TIMES as u64) - kept / 2 {
            marked = EventId::next();
            let one = Entry { lineage: Lineage::root(marked), ..entry() };
            store.commit(Batch { packed: vec![one], ..Batch::new() }).await.map_err(io::Error::other)?;
        }
        // As often as a server that takes 5,000 entries a second.
        if entries.is_multiple_of(25_600) {
            let at = clock.monotonic();
            keeper.pass(false, false).await.map_err(io::Error::other)?;
            keeping += (clock.monotonic() - at).as_secs_f64();
            looked = clock.monotonic();
        }
    }
    let seconds = (looked - begin).as_secs_f64();
    println!(
        "{entries} entries in {seconds:.1} s, {:.0} a second; slowest 256: {:.0} ms",
        entries as f64 / seconds,
        slowest * 1e3
    );
    println!(
        "keeper: {keeping:.1} s, {:.1} us an entry that went",
        keeping * 1e6 / (entries as f64 * (TIMES - 1) as f64 / TIMES as f64)
    );
    println!("index: {sizes:?} MiB, the first when full");
    keeper.pass(false, false).await.map_err(io::Error::other)?;
    let left = store.journal_written().well - Floor::read(&*store).map_err(io::Error::other)?.well;
    println!("{} MiB of entries are kept of {}", left >> 20, store.journal_written().well >> 20);
    let time = |what: &str, work: &dyn Fn() -> usize| {
        let at = clock.monotonic();
        let found = work();
        println!("{what}: {found} in {:.1} ms", (clock.monotonic() - at).as_secs_f64() * 1e3);
    };
    time("newest 50", &|| journal::recent(&*store, &place, None, 50).map_or(0, |found| found.len()));
    time("newest 20,000", &|| journal::recent(&*store, &place, None, 20_000).map_or(0, |found| found.len()));
    time("one event", &|| journal::of_event(&*store, &place, marked).map_or(0, |found| found.len()));
    time("one chain", &|| journal::of_root(&*store, &place, marked).map_or(0, |found| found.len()));
    drop(keeper);
    store.close();
    drop(store);
    let at = clock.monotonic();
    let store = LogStore::open(dir, Options::default()).map_err(io::Error::other)?;
    println!("start: {:.0} ms", (clock.monotonic() - at).as_secs_f64() * 1e3);
    time("one event after the start", &|| journal::of_event(&store, &place, marked).map_or(0, |found| found.len()));
    Ok(())
}
