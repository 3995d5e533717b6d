//! `flint doctor`: what this host offers, as a checklist with what to do.

use std::process::ExitCode;

use flint_server::host::{self, Capabilities, CgroupMode, Exception, Host};
use serde::Serialize;

use crate::cli::Doctor;
use crate::surroundings;
use crate::ui::{self, Paint, Tone};

/// One line of the list.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Ok,
    /// Flint runs, with less.
    Weak,
    /// Flint does not run functions without it.
    Missing,
}

pub(super) fn run(flags: &Doctor) -> anyhow::Result<ExitCode> {
    let checks = checks(&host::look(surroundings::homes()));
    if flags.json {
        ui::json(&checks)?;
    } else {
        print(&checks)?;
    }
    let fails = checks.iter().any(|c| c.state == State::Missing);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(checks: &[Check]) -> anyhow::Result<()> {
    let paint = Paint::stdout();
    for check in checks {
        let mark = match check.state {
            State::Ok => paint.text(Tone::Good, "ok     "),
            State::Weak => paint.text(Tone::Warn, "weak   "),
            State::Missing => paint.text(Tone::Bad, "missing"),
        };
        ui::line(format_args!("{mark}  {:19}  {}", check.what, check.found))?;
        if let Some(todo) = &check.todo {
            ui::line(format_args!("         {}", paint.text(Tone::Quiet, format_args!("try: {todo}"))))?;
        }
    }
    let missing = checks.iter().filter(|c| c.state == State::Missing).count();
    let weak = checks.iter().filter(|c| c.state == State::Weak).count();
    match (missing, weak) {
        (0, 0) => ui::line("\nthis host runs functions with every wall and limit")?,
        (0, weak) => ui::line(format_args!("\nthis host runs functions; {weak} of these points are weak"))?,
        (missing, _) => ui::line(format_args!("\nthis host does not run functions yet: {missing} missing"))?,
    }
    Ok(())
}

fn checks(host: &Host) -> Vec<Check> {
    let c = &host.capabilities;
    let mut list = vec![
        privilege(c),
        need("mount interface", c.mount_api, "new mount calls", "kernel too old", "use Linux 5.12 or newer"),
        need(
            "namespaces",
            c.namespaces,
            "all kinds",
            "not all kinds",
            "use a kernel with all namespaces, and sysctl -w user.max_user_namespaces=15000",
        ),
        need("seccomp", c.seccomp, "filters work", "no filters", "use a kernel with CONFIG_SECCOMP_FILTER"),
        cgroups(c),
    ];
    if c.root {
        list.extend([
            limit("memory limit", c.memory_limit, "enable the memory controller for this cgroup"),
            limit("process limit", c.pids_limit, "enable the pids controller for this cgroup"),
            limit("CPU weight", c.cpu_weight, "enable the cpu controller for this cgroup"),
            limit("freezing", c.freeze, "mount a version 2 tree: mount -t cgroup2 none /sys/fs/cgroup/unified"),
            limit("CPU metering", c.cpu_usage, "enable the cpuacct or cpu controller for this cgroup"),
            tmp(c.tmp_images),
            limit(
                "/tmp write rate",
                c.tmp_throttle,
                "mount the blkio controller (version 1), or enable io (version 2)",
            ),
        ]);
    }
    // Said already where one of the lines above shows it.
    let shown = list.iter().any(|check| check.state == State::Missing && check.what != "namespaces");
    for missing in c.missing.iter().filter(|_| !shown) {
        list.push(Check { what: "sandbox", state: State::Missing, found: missing.clone(), todo: None });
    }
    list.extend(c.exceptions.iter().map(exception));
    list.push(tenants(c));
    list.push(runtimes(&host.runtimes));
    list
}

/// Without root Flint runs, for one user's own functions.
fn privilege(c: &Capabilities) -> Check {
    let (state, found, todo) = if c.root {
        (State::Ok, "root", None)
    } else {
        let todo = "start flint as root for every wall and limit; it drops its privileges itself";
        (State::Weak, "not root: for your own functions, without what is named below", Some(todo))
    };
    Check { what: "privilege", state, found: found.into(), todo: todo.map(Into::into) }
}

/// What is not enforced, by its name.
fn exception(exception: &Exception) -> Check {
    Check { what: exception.name, state: State::Weak, found: format!("not enforced: {}", exception.means), todo: None }
}

fn tenants(c: &Capabilities) -> Check {
    let against = c.against_tenants();
    let (state, found) = match against.len() {
        0 => (State::Ok, "--multi-tenant starts here".to_owned()),
        _ => (State::Weak, "--multi-tenant refuses to start here".to_owned()),
    };
    Check { what: "several tenants", state, found, todo: None }
}

fn need(what: &'static str, there: bool, yes: &str, no: &str, todo: &str) -> Check {
    let (state, found) = if there { (State::Ok, yes) } else { (State::Missing, no) };
    Check { what, state, found: found.into(), todo: (!there).then(|| todo.into()) }
}

fn limit(what: &'static str, there: bool, todo: &str) -> Check {
    let (state, found) = if there { (State::Ok, "enforced") } else { (State::Weak, "not enforced") };
    Check { what, state, found: found.into(), todo: (!there).then(|| todo.into()) }
}

fn tmp(images: bool) -> Check {
    let (state, found) = if images {
        (State::Ok, "on disk, apart from memory")
    } else {
        (State::Weak, "in memory, on the function's account: less room than it says")
    };
    let todo = (!images).then(|| "load the modules: modprobe -a loop ext4".to_owned());
    Check { what: "/tmp", state, found: found.into(), todo }
}

fn cgroups(c: &Capabilities) -> Check {
    let (state, found, todo) = match c.cgroups {
        CgroupMode::V2 => (State::Ok, "version 2", None),
        CgroupMode::Hybrid => (State::Ok, "controllers on version 1, freeze and kill on version 2", None),
        CgroupMode::V1 => {
            let todo = "mount a version 2 tree as well: mount -t cgroup2 none /sys/fs/cgroup/unified";
            (State::Weak, "version 1 only: freeze and kill are slower", Some(todo))
        }
        CgroupMode::None if !c.root => {
            let todo = "with systemd: systemd-run --user --scope -p Delegate=yes flint up";
            (State::Weak, "none is delegated to you", Some(todo))
        }
        CgroupMode::None => (State::Missing, "none that can be written", Some("mount -t cgroup2 none /sys/fs/cgroup")),
    };
    Check { what: "cgroups", state, found: found.into(), todo: todo.map(Into::into) }
}

fn runtimes(found: &[(String, String)]) -> Check {
    let named =
        |(id, version): &(String, String)| if version.is_empty() { id.clone() } else { format!("{id} ({version})") };
    let (state, todo) = if found.iter().any(|(id, _)| id.starts_with("python")) {
        (State::Ok, None)
    } else {
        (State::Weak, Some("install python3 for Python functions; a `bootstrap` runs without".to_owned()))
    };
    Check { what: "runtimes", state, found: found.iter().map(named).collect::<Vec<_>>().join(", "), todo }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(there: bool) -> Capabilities {
        Capabilities {
            root: true,
            cgroups: if there { CgroupMode::V2 } else { CgroupMode::None },
            memory_limit: there,
            pids_limit: there,
            cpu_weight: there,
            cpu_usage: there,
            freeze: there,
            namespaces: there,
            seccomp: there,
            mount_api: there,
            tmp_images: there,
            tmp_throttle: there,
            missing: if there { Vec::new() } else { vec!["seccomp filters".into()] },
            exceptions: Vec::new(),
        }
    }

    #[test]
    fn says_what_to_do_about_all_that_is_not_there() {
        let good = Host { capabilities: capabilities(true), runtimes: vec![("python3.12".into(), "3.12.1".into())] };
        assert!(checks(&good).iter().all(|c| c.state == State::Ok && c.todo.is_none()));
        let bad = Host { capabilities: capabilities(false), runtimes: vec![] };
        let bad = checks(&bad);
        let of = |what| bad.iter().find(|c| c.what == what).expect(what);
        assert_eq!((of("privilege").state, of("several tenants").state), (State::Ok, State::Weak));
        let others = bad.iter().filter(|c| !["privilege", "several tenants"].contains(&c.what));
        assert!(others.clone().count() > 8 && others.into_iter().all(|c| c.state != State::Ok && c.todo.is_some()));
    }

    #[test]
    fn without_root_each_exception_is_named() {
        let exceptions = vec![Exception { name: "own-user-id", means: "they are you" }];
        let capabilities = Capabilities {
            root: false,
            memory_limit: false,
            cgroups: CgroupMode::None,
            exceptions,
            ..capabilities(true)
        };
        let list = checks(&Host { capabilities, runtimes: vec![("python3.12".into(), "3.12.1".into())] });
        assert!(list.iter().all(|c| c.state != State::Missing), "{list:?}");
        let named = list.iter().find(|c| c.what == "own-user-id").expect("it is named");
        assert!(named.state == State::Weak && named.found.contains("they are you"));
        assert!(list.iter().all(|c| c.what != "memory limit"));
    }
}
