//! Crash states of a recorded trace of writes and syncs.
//!
//! A short life is recorded; at each of its changes to the disk the machine could have lost power. What the disk then holds is
//! what was flushed and any choice of what was not: every choice where they are few, many where they are not. Each state must
//! open, hold everything that was acknowledged, and nothing that was never written.

use anyhow::{Result, bail, ensure};
use flint_store::testing::{Rng, SimDisk, World};
use flint_store::{Batch, LogStore, MemoryStore, Options, Store};
use scenarios::figures::report;

/// Choices of one moment at most.
const PER_MOMENT: u64 = 256;

pub fn run(wanted: u64) -> Result<()> {
    let (mut states, mut moments, mut whole) = (0u64, 0u64, 0u64);
    for seed in 0.. {
        let mut cut = 1;
        loop {
            let disk = SimDisk::new();
            disk.power_off_at(cut);
            let (accepted, acknowledged, died) = live(&disk, seed);
            let choices = disk.choices();
            let (count, all) = if choices <= PER_MOMENT { (choices, true) } else { (PER_MOMENT / 4, false) };
            moments += 1;
            whole += u64::from(all);
            for n in 0..count {
                let after = disk.after_choice(if all { n } else { Rng::new(n).number() });
                judge(&after, &accepted, acknowledged)
                    .map_err(|e| e.context(format!("seed {seed}, change {cut}, choice {n}")))?;
                states += 1;
            }
            if states >= wanted || !died {
                break;
            }
            cut += 1;
        }
        if states >= wanted {
            break;
        }
    }
    println!("{states} crash states of {moments} moments, {whole} of them with every legal choice");
    report("crash_states", states as f64, "")?;
    report("acknowledged_lost", 0.0, "")
}

fn options(disk: &SimDisk) -> Options {
    Options {
        disk: std::sync::Arc::new(disk.clone()),
        segment_bytes: 16 << 10,
        checkpoint_layer_bytes: 8 << 10,
        checkpoint_log_bytes: 32 << 10,
        index_cache_bytes: 1 << 20,
    }
}

/// Everything that was handed over and could be committed, how much was acknowledged, and whether the power went.
fn live(disk: &SimDisk, seed: u64) -> (Vec<Batch>, u64, bool) {
    let (mut world, mut accepted, mut acknowledged) = (World::new(seed), Vec::new(), 0);
    let Ok((store, mut driver)) = LogStore::open_driven("/data", options(disk)) else { return (accepted, 0, true) };
    for _ in 0..30 {
        let batches: Vec<Batch> = (0..=world.rng.below(3)).map(|_| world.batch()).collect();
        let pending: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
        driver.turn();
        let mut died = false;
        for (pending, batch) in pending.into_iter().zip(batches) {
            if let Ok(version) = world.expect(batch.clone()) {
                accepted.push(batch);
                match pending.wait() {
                    Ok(_) => acknowledged = version,
                    Err(_) => died = true,
                }
            }
        }
        if died {
            return (accepted, acknowledged, true);
        }
    }
    (accepted, acknowledged, false)
}

fn judge(disk: &SimDisk, accepted: &[Batch], acknowledged: u64) -> Result<()> {
    let (store, _driver) = match LogStore::open_driven("/data", options(disk)) {
        Ok(opened) => opened,
        Err(e) => bail!("does not open: {e}"),
    };
    let version = store.version();
    ensure!(version >= acknowledged, "{acknowledged} were acknowledged, {version} are there");
    ensure!(version as usize <= accepted.len(), "{version} are there, {} were written", accepted.len());
    let mut world = World::new(0);
    world.model = MemoryStore::new();
    for batch in &accepted[..version as usize] {
        world.expect(batch.clone()).expect("it was committed before");
    }
    world.assert_same(&store);
    Ok(())
}
