//! The memory limit where no cgroup holds it: the processes are looked at, and the sandbox is killed once it is over.
//!
//! What it can do is less than a limit: between two looks a sandbox may take more, and memory files that nobody has mapped
//! are not seen. It is for one user's own code, and is named where it applies.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::measure::{self, Held};
use crate::sandbox::Inner;
use crate::sandboxes::Command;

/// What a sandbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Private memory.
    pub heap: u64,
    /// With shared memory and mapped files of `/tmp`, which is in memory too.
    pub total: u64,
}

impl Allowed {
    /// Bytes that may still be taken; none when it is over.
    fn room(self, held: Held) -> Option<u64> {
        let heap = self.heap.checked_sub(held.heap)?;
        let total = self.total.checked_sub(held.total())?;
        Some(heap.min(total))
    }
}

/// What the watch has seen.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub now: AtomicU64,
    pub peak: AtomicU64,
    /// It was killed for what it held.
    pub over: AtomicBool,
    /// Stopped; there is nothing to see.
    pub frozen: AtomicBool,
}

/// No process fills memory faster than this, in bytes a millisecond.
const FASTEST: u64 = 4 << 20;
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

/// When to look again: before the room can be gone.
fn pause(room: u64) -> Duration {
    Duration::from_millis(room / FASTEST).clamp(SHORTEST, LONGEST)
}

/// Looks until the sandbox is gone, or kills it.
pub(crate) async fn watch(sandbox: Weak<Inner>, allowed: Allowed) {
    let mut wait = SHORTEST;
    loop {
        tokio::time::sleep(wait).await;
        let Some(inner) = sandbox.upgrade() else { return };
        if inner.has_exited() {
            return;
        }
        if inner.watched.frozen.load(Ordering::Acquire) {
            wait = LONGEST;
            continue;
        }
        let mut held = measure::upper_bound(&measure::processes(inner.pid));
        let mut room = allowed.room(held);
        if room.is_none() {
            // Perhaps it has forked: the spawner can tell shares.
            if let Some(exact) = by_shares(&inner).await {
                held = exact;
                room = allowed.room(exact);
            }
        }
        inner.watched.now.store(held.total(), Ordering::Relaxed);
        inner.watched.peak.fetch_max(held.total(), Ordering::Relaxed);
        match room {
            Some(room) => wait = pause(room),
            None => {
                inner.watched.over.store(true, Ordering::Release);
                inner.kill();
                return;
            }
        }
    }
}

async fn by_shares(inner: &Inner) -> Option<Held> {
    let (reply, answer) = oneshot::channel();
    inner.command(Command::Measure { slot: inner.slot, reply }).ok()?;
    answer.await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_left_of_both() {
        let allowed = Allowed { heap: 100, total: 150 };
        let room = |heap, shared| allowed.room(Held { heap, shared });
        assert_eq!(room(40, 0), Some(60));
        assert_eq!(room(40, 100), Some(10));
        assert_eq!(room(100, 50), Some(0));
        assert_eq!(room(101, 0), None);
        assert_eq!(room(0, 151), None);
        assert_eq!(room(u64::MAX, 1), None);
    }

    #[test]
    fn the_pause_is_over_before_the_room_is() {
        for room in [0, FASTEST * 3, FASTEST * 20, u64::MAX] {
            let pause = pause(room);
            assert!((SHORTEST..=LONGEST).contains(&pause));
            assert!(pause == SHORTEST || u128::from(room / FASTEST) >= pause.as_millis());
        }
    }
}
