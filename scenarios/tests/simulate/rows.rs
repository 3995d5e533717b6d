//! The store alone: callers that count in rows of their own and of others, and a ledger outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flint_store::{Batch, CommitError, Direction, Expect, Key, KeyRange, Keyspace, Store};

use crate::sim::{End, Life, Sim, Trouble, lock};

const ROWS: Keyspace = Keyspace::new("rows");
const SHARED: Keyspace = Keyspace::new("shared");

/// What must hold whatever happens to the server.
#[derive(Default)]
struct Ledger {
    /// Caller and number of each acknowledged row.
    acknowledged: Vec<(u64, u64)>,
    /// Rows that were handed over.
    sent: BTreeMap<u64, u64>,
    removed: Vec<(u64, u64)>,
}

pub fn run(sim: &Arc<Sim>) -> Result<(), String> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (callers, lives, each) = (1 + sim.below(6), 1 + sim.below(5), 5 + sim.below(60));
    for _ in 0..lives {
        sim.live(sim.trouble(), |life| work(Arc::clone(sim), life, Arc::clone(&ledger), callers, each))?;
        check(sim, &ledger)?;
    }
    Ok(())
}

async fn work(sim: Arc<Sim>, life: Life, ledger: Arc<Mutex<Ledger>>, callers: u64, each: u64) {
    let tasks: Vec<_> = (0..callers)
        .map(|caller| tokio::spawn(count(Arc::clone(&sim), life.clone(), Arc::clone(&ledger), caller, each)))
        .collect();
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
}

async fn count(sim: Arc<Sim>, life: Life, ledger: Arc<Mutex<Ledger>>, caller: u64, each: u64) {
    for _ in 0..each {
        tokio::time::sleep(sim.ms(0, 20)).await;
        life.clock.now();
        let n = {
            let mut ledger = lock(&ledger);
            let next = ledger.sent.entry(caller).or_default();
            *next += 1;
            *next
        };
        let key = Key::default().u64(caller).u64(n);
        let value = vec![caller as u8; 1 + sim.below(2000) as usize];
        // One row that all write, under a precondition: what was refused must not be there.
        let shared = life.store.get(SHARED, &Key::default()).expect("reads work");
        let mut batch = Batch::new().insert(ROWS, key, value);
        batch = match shared {
            Some(row) => batch.replace(SHARED, Key::default(), row.version, "x"),
            None => batch.expect(SHARED, Key::default(), Expect::Absent).put(SHARED, Key::default(), "x"),
        };
        let old = n.checked_sub(1 + sim.below(9)).filter(|old| *old > 0);
        if let Some(old) = old {
            batch = batch.delete(ROWS, Key::default().u64(caller).u64(old));
        }
        let outcome = life.store.commit(batch).await;
        let mut ledger = lock(&ledger);
        match outcome {
            Ok(_) => {
                ledger.acknowledged.push((caller, n));
                ledger.removed.extend(old.map(|old| (caller, old)));
                sim.say(format_args!("caller {caller}: {n} acknowledged"));
            }
            Err(CommitError::Conflict { .. }) => sim.say(format_args!("caller {caller}: {n} refused")),
            Err(CommitError::Full | CommitError::Busy) => sim.say(format_args!("caller {caller}: {n} no room")),
            // In doubt: its removal may have been done.
            Err(_) => {
                ledger.removed.extend(old.map(|old| (caller, old)));
                return;
            }
        }
    }
}

/// Looks at what the next life would find. What is in doubt when a life ends may be there or not.
fn check(sim: &Arc<Sim>, ledger: &Arc<Mutex<Ledger>>) -> Result<(), String> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let rows = Arc::clone(&found);
    let end = sim.live(Trouble::None, |life| async move {
        let rows_now = life.store.scan(ROWS, &KeyRange::all(), usize::MAX, Direction::Forward).expect("reads work");
        let key = |key: &Key| {
            let mut parts = key.parts();
            (parts.u64().unwrap_or(0), parts.u64().unwrap_or(0))
        };
        lock(&rows).extend(rows_now.iter().map(|row| key(&row.key)));
    })?;
    if end != End::Finished {
        return Err("a life without trouble crashed".to_owned());
    }
    let (found, mut ledger) = (lock(&found), lock(ledger));
    for (caller, n) in &ledger.acknowledged {
        let gone = !found.contains(&(*caller, *n));
        if gone && !ledger.removed.contains(&(*caller, *n)) {
            return Err(format!("row {n} of caller {caller} was acknowledged and is lost"));
        }
    }
    for (caller, n) in found.iter() {
        if ledger.sent.get(caller).is_none_or(|sent| n > sent) {
            return Err(format!("row {n} of caller {caller} was never sent"));
        }
    }
    // The truth from here on: what was in doubt is decided.
    ledger.acknowledged = found.clone();
    ledger.removed.clear();
    Ok(())
}
