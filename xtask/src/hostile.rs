//! `cargo xtask hostile [--v1-only]`: the hostile suite, as it is or with the version 2 tree of cgroups hidden.
//!
//! Hidden means: in a mount namespace of the suite's own the tree is unmounted, so that the server and everything else that
//! the suite starts see version 1 alone. The host keeps its mount.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cmd, trial};

/// Run by a shell in the new mount namespace: first the mount point, then the command.
const WITHOUT_VERSION_2: &str = r#"umount "$0" && exec "$@""#;

pub fn run(args: &[String]) -> Result<()> {
    let hide = match args {
        [] => false,
        [one] if one == "--v1-only" => true,
        _ => bail!("expected nothing or --v1-only, got {args:?}"),
    };
    let flint = trial::build(false)?;
    let mut suite = trial::pytest(&flint)?;
    suite.arg("hostile");
    if hide { cmd::run(&mut hidden(&suite)?) } else { cmd::run(&mut suite) }
}

/// The same command where only version 1 is mounted.
fn hidden(suite: &Command) -> Result<Command> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let tree = version_2(&mounts)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", WITHOUT_VERSION_2, &tree]);
    command.arg(suite.get_program()).args(suite.get_args());
    for (name, value) in suite.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    if let Some(dir) = suite.get_current_dir() {
        command.current_dir(dir);
    }
    Ok(command)
}

/// Where the version 2 tree is mounted; it must be the only one, and leave version 1's memory controller to work with.
fn version_2(mounts: &str) -> Result<String> {
    let of =
        |kind: &str| -> Vec<&str> { mounts.lines().filter(|line| line.contains(&format!(" - {kind} "))).collect() };
    if !of("cgroup").iter().any(|line| line.ends_with(",memory") || line.contains(",memory,")) {
        bail!("this host has no version 1 memory controller: there is nothing to test with version 2 hidden");
    }
    match of("cgroup2")[..] {
        [one] => Ok(one.split(' ').nth(4).context("a mount without a mount point")?.to_owned()),
        [] => bail!("no version 2 tree is mounted: `cargo xtask hostile` alone tests version 1 here"),
        _ => bail!("the version 2 tree is mounted more than once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_tree_beside_version_1_is_found() {
        let memory = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(version_2(&format!("{memory}{unified}")).unwrap(), "/sys/fs/cgroup/unified");
        for bad in [memory.to_owned(), unified.to_owned(), format!("{memory}{unified}{unified}")] {
            assert!(version_2(&bad).is_err(), "{bad}");
        }
    }
}
