//! `kill -9` under load: what the process said was committed is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use flint_store::testing::Rng;
use flint_store::{Batch, Key, LogStore, Options, Store};

use crate::SPACE;

const CHILD: &str = "FLINT_STORE_KILL_CHILD";
const WRITERS: u64 = 8;

fn options() -> Options {
    // Small, so that kills meet checkpoints too.
    Options { segment_bytes: 256 << 10, checkpoint_layer_bytes: 64 << 10, ..Options::default() }
}

/// Not a test of its own: the process that [`killed_under_load`] starts and kills.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child from an ordinary run")]
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(LogStore::open(dir, options()).unwrap());
    let start = store.version();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for n in 0.. {
                    let key = Key::default().u64(start).u64(writer).u64(n);
                    let batch = Batch::new().insert(SPACE, key.clone(), key.as_bytes().to_vec());
                    let version =
                        store.commit(batch.put(SPACE, Key::default().u64(writer), "x")).wait().unwrap().version;
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acked {start} {writer} {n} {version}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn killed_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(20);
    let mut acked: Vec<[u64; 4]> = Vec::new();
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kill_after = 1 + rng.below(1500) as usize;
        let mut count = 0;
        for line in lines {
            let Ok(line) = line else { break };
            let Some(at) = line.find("acked ") else { continue };
            let numbers: Vec<u64> = line[at + 6..].split(' ').filter_map(|n| n.parse().ok()).collect();
            // A line cut short by the kill was never said.
            if let Ok(numbers) = <[u64; 4]>::try_from(numbers) {
                acked.push(numbers);
            }
            count += 1;
            if count == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = LogStore::open(dir.path(), options()).unwrap();
        for [start, writer, n, version] in &acked {
            let key = Key::default().u64(*start).u64(*writer).u64(*n);
            let found = store.get(SPACE, &key).unwrap().unwrap_or_else(|| panic!("round {round}: {key:?} is lost"));
            assert_eq!((found.version, &found.value[..]), (*version, key.as_bytes()));
        }
        assert!(count >= kill_after, "round {round}: the child wrote {count}");
    }
}
