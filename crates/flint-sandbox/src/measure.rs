//! How much memory the processes of a sandbox hold, read from `/proc`: for where no cgroup counts it.
//!
//! Two ways. What anybody may read counts a page once for each process that maps it, so that it is an upper bound after
//! forks. What takes the right to look into the processes counts each page by shares.

use std::fs;

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Private memory, in memory and swapped out.
    pub heap: u64,
    /// Mapped memory of files that are nowhere on a disk: shared memory, memory files, what is mapped of `/tmp`.
    pub shared: u64,
}

impl Held {
    pub fn total(self) -> u64 {
        self.heap.saturating_add(self.shared)
    }
}

/// The processes below a sandbox's init; it adopts all that lose their parents, so that none is missed but those that are
/// born or lose their parents meanwhile.
pub fn processes(init: u32) -> Vec<u32> {
    // More than a sandbox may have.
    const MAX: usize = 8192;
    let mut found = Vec::new();
    let mut queue = vec![init];
    while let Some(pid) = queue.pop() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect();
            queue.extend(&children);
            found.extend(children);
        }
        if found.len() > MAX {
            break;
        }
    }
    found
}

/// An upper bound of what these processes hold; those that have ended hold nothing.
pub fn upper_bound(pids: &[u32]) -> Held {
    sum(pids, "status", &["RssAnon:", "VmSwap:"], &["RssShmem:"])
}

/// What these processes hold, shared pages by shares.
pub fn by_shares(pids: &[u32]) -> Held {
    sum(pids, "smaps_rollup", &["Pss_Anon:", "SwapPss:"], &["Pss_Shmem:"])
}

fn sum(pids: &[u32], file: &str, heap: &[&str], shared: &[&str]) -> Held {
    pids.iter().fold(Held::default(), |sum, pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        Held { heap: sum.heap.saturating_add(add(&text, heap)), shared: sum.shared.saturating_add(add(&text, shared)) }
    })
}

/// The sum of these lines, which are in kB.
fn add(text: &str, names: &[&str]) -> u64 {
    let kilobytes = |line: &str| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    text.lines().filter_map(kilobytes).sum::<u64>().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_in_bytes() {
        let status = "Name:\tx\nRssAnon:\t    1200 kB\nRssShmem:\t 8 kB\nVmSwap:\t      34 kB\nVmPTE: 5 kB\n";
        assert_eq!(add(status, &["RssAnon:", "VmSwap:"]), 1234 * 1024);
        assert_eq!(add(status, &["RssShmem:"]), 8192);
        assert_eq!(add("RssAnon: lots\n", &["RssAnon:"]), 0);
    }

    #[test]
    fn this_process_holds_something_by_both_counts() {
        let own = [std::process::id()];
        assert!(upper_bound(&own).heap > 0 && by_shares(&own).heap > 0);
        assert_eq!(upper_bound(&[]), Held::default());
    }

    #[test]
    fn children_are_found_whatever_thread_made_them() {
        let spawn = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut children = [spawn(), std::thread::spawn(spawn).join().unwrap()];
        let found = processes(std::process::id());
        for child in &mut children {
            assert!(found.contains(&child.id()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
