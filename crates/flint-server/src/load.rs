//! How busy the processors are.

use std::sync::Mutex;
use std::sync::PoisonError;

use flint_delivery::LoadProbe;

/// Ticks since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

/// A probe that answers the share of the host's processor time that was in use since it was last asked.
pub(crate) fn probe() -> LoadProbe {
    let last = Mutex::new(read());
    std::sync::Arc::new(move || {
        let now = read()?;
        let before = last.lock().unwrap_or_else(PoisonError::into_inner).replace(now)?;
        share(before, now)
    })
}

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read() -> Option<Ticks> {
    // A few hundred bytes that the kernel makes up: this does not wait for a disk.
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line: `cpu user nice system idle iowait irq softirq steal guest guest_nice` (proc_stat(5)); guests are
/// part of user and nice already.
fn parse(stat: &str) -> Option<Ticks> {
    let fields: Vec<u64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).take(8).collect();
    Some(Ticks { idle: fields.get(3)? + fields.get(4).unwrap_or(&0), all: fields.iter().sum() })
}

fn share(before: Ticks, now: Ticks) -> Option<f32> {
    let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
    let idle = now.idle.saturating_sub(before.idle).min(all);
    Some((all - idle) as f32 / all as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_share_of_busy_time() {
        let before = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3").expect("a line");
        assert_eq!(before, Ticks { idle: 800, all: 1_000 });
        let after = parse("cpu  150 0 125 720 105 0 0 0 50 0\n").expect("a line");
        assert_eq!(share(before, after), Some(0.75));
        assert_eq!(share(after, after), None);
        for bent in ["", "cpu", "cpu x", "intr 1 2"] {
            assert_eq!(parse(bent), None, "{bent}");
        }
        assert!(read().is_some());
    }
}
