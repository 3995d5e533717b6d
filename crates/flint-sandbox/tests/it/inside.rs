//! What a process sees from inside.

use std::sync::Arc;

use flint_sandbox::How;

use crate::{World, launch, run, shell, tests};

tests! {
    true_runs,
    python_runs_in_full_isolation,
}

async fn true_runs(world: Arc<World>) {
    let (exit, out, err) = run(&world, launch(world.root, &["/bin/true"])).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    let (exit, out, err) = run(&world, shell(world.root, "echo hello; echo bad >&2; exit 7")).await;
    assert_eq!((exit.how, out.as_str(), err.as_str()), (How::Code(7), "hello\n", "bad\n"));
}

async fn python_runs_in_full_isolation(world: Arc<World>) {
    let script = r#"
import os, json
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid(), "groups": os.getgroups(),
    "caps": [status[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "nnp": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "fds": sorted(os.listdir("/proc/self/fd")), "env": dict(os.environ),
    "pids": sorted(p for p in os.listdir("/proc") if p.isdigit()),
    "root": sorted(os.listdir("/")), "host": os.uname().nodename,
    "cgroup": open("/proc/self/cgroup").read(),
}))
"#;
    let (exit, out, err) = run(&world, launch(world.root, &["/usr/bin/python3", "-c", script])).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    println!("{out}");
}
