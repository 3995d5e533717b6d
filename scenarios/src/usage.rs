//! What processes cost, from `/proc`.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Processor time of `pids` and all their threads so far, in microseconds.
pub fn cpu_us(pids: &[u32]) -> Result<u64> {
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
    let mut total = 0;
    for pid in pids {
        let stat = std::fs::read_to_string(file(*pid, "stat"))?;
        // The name, in brackets, may hold anything; utime and stime are the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(')').context("a process' name")?;
        let mut fields = fields.split_whitespace().skip(11);
        for _ in 0..2 {
            let ticks: u64 = fields.next().context("utime and stime")?.parse()?;
            total += ticks * tick_us;
        }
    }
    Ok(total)
}

/// Proportional share of the memory of `pid`, in MiB.
pub fn pss_mib(pid: u32) -> Result<f64> {
    kib(&file(pid, "smaps_rollup"), "Pss:")
}

/// Resident memory of `pid`, in MiB.
pub fn rss_mib(pid: u32) -> Result<f64> {
    kib(&file(pid, "status"), "VmRSS:")
}

/// The most that [`rss_mib`] was since [`forget_peak`].
pub fn peak_mib(pid: u32) -> Result<f64> {
    kib(&file(pid, "status"), "VmHWM:")
}

/// Lets the peak start from what is resident now.
pub fn forget_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(file(pid, "clear_refs"), "5")?)
}

/// The children of `pid` that carry `name`.
pub fn child(pid: u32, name: &str) -> Result<u32> {
    for task in std::fs::read_dir(file(pid, "task"))? {
        let children = std::fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_whitespace() {
            let child: u32 = child.parse()?;
            if std::fs::read_to_string(file(child, "comm")).is_ok_and(|comm| comm.trim() == name) {
                return Ok(child);
            }
        }
    }
    anyhow::bail!("{pid} has no child named {name}")
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn kib(path: &PathBuf, key: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{key} of a process"))?;
    let value: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(value / 1024.0)
}
