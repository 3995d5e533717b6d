//! How sandboxes end, are stopped and limited.

use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;
use flint_sandbox::{Error, Exit, How, Stage};
use tokio::io::AsyncReadExt as _;

use crate::{World, alive, cgroups_named, code_of, eventually, finish, launch, run, shell, tests};

tests! {
    exit_codes_and_signals,
    setup_failures_are_named,
    launches_that_can_not_work_are_refused,
    oom_takes_the_whole_group,
    kill_takes_a_fork_tree,
    a_process_that_left_the_session_dies_with_the_main_one,
    frozen_sandboxes_stand_still_and_can_be_killed,
    processes_are_limited,
    use_is_measured,
    a_dropped_sandbox_leaves_nothing,
    many_at_once_and_nothing_is_left,
    host_ids_differ_between_neighbours,
}

async fn exit_codes_and_signals(world: Arc<World>) {
    for (script, how) in [
        ("exit 0", How::Code(0)),
        ("exit 255", How::Code(255)),
        ("kill -SEGV $$", How::Signal(11)),
        ("kill -TERM $$", How::Signal(15)),
        ("kill -KILL $$", How::Signal(9)),
        // Orphans end with the main process.
        ("sleep 100 & sleep 100 & exit 3", How::Code(3)),
    ] {
        let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
        let (one, two) = tokio::join!(sandbox.exited(), sandbox.exited());
        assert_eq!(one, Exit { how, oom: false }, "{script}");
        assert_eq!(one, two);
        finish(&mut sandbox).await;
        assert_eq!(sandbox.exited().await, one);
        sandbox.gone().await;
    }
}

async fn setup_failures_are_named(world: Arc<World>) {
    let (exit, _, _) = run(&world, launch(world.root, &["/nothing"])).await;
    assert_eq!(exit.how, How::SetupFailed { stage: Stage::Exec, errno: ENOENT });
    let mut bad = shell(world.root, "true");
    bad.cwd = "/not/there".into();
    let (exit, _, _) = run(&world, bad).await;
    assert_eq!(exit.how, How::SetupFailed { stage: Stage::Cwd, errno: ENOENT });
}

const ENOENT: i32 = 2;

async fn launches_that_can_not_work_are_refused(world: Arc<World>) {
    let good = || shell(world.root, "true");
    let mut no_program = good();
    no_program.argv.clear();
    let mut nul = good();
    nul.argv.push("a\0b".into());
    let mut bad_name = good();
    bad_name.env.push(("a=b".into(), "".into()));
    let mut huge = good();
    huge.env.push(("A".into(), "x".repeat(200_000).into()));
    for launch in [no_program, nul, bad_name, huge] {
        let refused = world.sandboxes.launch(launch).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let mut tiny = good();
    tiny.memory = ByteCount(1);
    let mut no_dir = good();
    no_dir.code = Some(Arc::new(std::fs::File::open("/etc/passwd").unwrap().into()));
    for launch in [tiny, no_dir] {
        let refused = world.sandboxes.launch(launch).await;
        assert!(matches!(refused, Err(Error::Setup { .. })), "{refused:?}");
    }
    let (exit, _, _) = run(&world, good()).await;
    assert_eq!(exit.how, How::Code(0), "and the spawner lives on");
}

async fn oom_takes_the_whole_group(world: Arc<World>) {
    // The hungry one is a grandchild; the main process only waits and would survive it.
    let script = "python3 -c 'x = [b\"x\" * (1 << 20) for _ in range(10000)]' & sleep 60 & wait; sleep 60";
    let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
    finish(&mut sandbox).await;
    let exit = sandbox.exited().await;
    assert_eq!(exit, Exit { how: How::Signal(9), oom: true });
    assert!(sandbox.oom_killed());
    let peak = sandbox.memory_peak().bytes();
    assert!((120 << 20..=128 << 20).contains(&peak), "{peak}");
    sandbox.gone().await;
}

async fn kill_takes_a_fork_tree(world: Arc<World>) {
    let script = "f() { for i in 1 2 3 4 5 6; do (trap '' TERM INT HUP; sleep 100) & done; }; f; f; f; echo up; wait";
    let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
    let (mut out, _err) = sandbox.take_output().unwrap();
    out.read_u8().await.unwrap();
    let pid = sandbox.pid();
    sandbox.kill();
    sandbox.kill();
    assert_eq!(sandbox.exited().await.how, How::Signal(9));
    // The pipe's end proves that nobody who held it lives.
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).await.unwrap();
    sandbox.gone().await;
    assert!(!alive(pid));
}

async fn a_process_that_left_the_session_dies_with_the_main_one(world: Arc<World>) {
    let script = "setsid sh -c 'setsid sleep 100 & sleep 100' & sleep 0.1; exit 5";
    let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
    // Ends only when the escapees, who hold the pipes, are dead.
    finish(&mut sandbox).await;
    assert_eq!(code_of(sandbox.exited().await), 5);
    sandbox.gone().await;
}

async fn frozen_sandboxes_stand_still_and_can_be_killed(world: Arc<World>) {
    let script = "while :; do echo x; sleep 0.005; done";
    let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
    let (mut out, _err) = sandbox.take_output().unwrap();
    out.read_u8().await.unwrap();
    for _ in 0..3 {
        sandbox.freeze().unwrap();
        sandbox.freeze().unwrap();
        // What was on its way; then silence.
        let mut buffer = [0; 4096];
        tokio::time::sleep(Duration::from_millis(20)).await;
        while out.try_read(&mut buffer).is_ok_and(|n| n > 0) {}
        let used = sandbox.cpu_time();
        let silence = tokio::time::timeout(Duration::from_millis(150), out.read_u8()).await;
        assert!(silence.is_err(), "a frozen sandbox spoke");
        assert_eq!(sandbox.cpu_time(), used);
        sandbox.thaw().unwrap();
        sandbox.thaw().unwrap();
        out.read_u8().await.unwrap();
    }
    sandbox.freeze().unwrap();
    sandbox.kill();
    assert_eq!(sandbox.exited().await.how, How::Signal(9));
    sandbox.gone().await;
}

async fn processes_are_limited(world: Arc<World>) {
    let script = r#"
import os, time
n = 0
try:
    while n < 500:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        n += 1
except OSError as e: print(n, e.errno)
"#;
    let mut launch = launch(world.root, &["/usr/bin/python3", "-I", "-c", script]);
    launch.pids = 40;
    let (_, out, err) = run(&world, launch).await;
    // 40 with init and the main process.
    assert_eq!(out, "38 11\n", "{err}");
}

async fn use_is_measured(world: Arc<World>) {
    let script = "python3 -c 'x = bytearray(50 << 20); sum(i for i in range(300000))'; echo done; sleep 60";
    let mut sandbox = world.sandboxes.launch(shell(world.root, script)).await.unwrap();
    let (mut out, _err) = sandbox.take_output().unwrap();
    out.read_u8().await.unwrap();
    let (peak, now, cpu) = (sandbox.memory_peak(), sandbox.memory_now(), sandbox.cpu_time());
    assert!(peak > ByteCount::from_mib(50) && peak < ByteCount::from_mib(100), "{peak}");
    assert!(now < ByteCount::from_mib(30) && now > ByteCount(0), "{now}");
    assert!(cpu > Duration::from_millis(10) && cpu < Duration::from_secs(5), "{cpu:?}");
    let phases = sandbox.started().unwrap();
    assert!(phases.total() > Duration::from_micros(100) && phases.total() < Duration::from_secs(1), "{phases:?}");
    assert!(!sandbox.oom_killed());
    sandbox.gone().await;
}

async fn a_dropped_sandbox_leaves_nothing(world: Arc<World>) {
    let sandbox = world.sandboxes.launch(shell(world.root, "sleep 100")).await.unwrap();
    let pid = sandbox.pid();
    assert!(alive(pid));
    drop(sandbox);
    eventually("the process is gone", || !alive(pid)).await;
    eventually("nothing is live", || world.sandboxes.census().live == 0).await;
    // A launch whose caller leaves at once.
    for _ in 0..20 {
        let call = world.sandboxes.launch(shell(world.root, "sleep 100"));
        tokio::time::timeout(Duration::from_micros(300), call).await.ok();
    }
    eventually("nothing is live", || world.sandboxes.census().live == 0).await;
    eventually("only idle slots are left", || slots_left(&world) <= world.options.idle_slots + 1).await;
}

fn slots_left(world: &World) -> usize {
    let top = format!("flint-{}", world.options.data_id);
    let tops = cgroups_named(&top);
    tops.iter()
        .map(|t| std::fs::read_dir(t).unwrap().flatten().filter(|e| e.path().is_dir()).count())
        .max()
        .unwrap_or(0)
}

async fn many_at_once_and_nothing_is_left(world: Arc<World>) {
    let settled = || {
        let census = world.sandboxes.census();
        census.live == 0 && census.leaving == 0 && census.idle == world.options.idle_slots
    };
    eventually("the pool is full", settled).await;
    let fds_before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let spawner_fds = format!("/proc/{}/fd", world.spawner);
    let tasks: Vec<_> = (0..60)
        .map(|i| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let script = match i % 4 {
                    0 => format!("exit {i}"),
                    1 => format!("sleep 0.0{i}; exit {i}"),
                    2 => format!("sleep 100 & exit {i}"),
                    _ => "kill -9 $$".to_owned(),
                };
                let (exit, _, _) = run(&world, shell(world.root, &script)).await;
                match i % 4 {
                    3 => assert_eq!(exit.how, How::Signal(9)),
                    _ => assert_eq!(exit.how, How::Code(i)),
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    eventually("nothing is live", settled).await;
    eventually("only idle slots are left", || slots_left(&world) == world.options.idle_slots).await;
    eventually("the server's descriptors are closed", || {
        std::fs::read_dir("/proc/self/fd").unwrap().count() <= fds_before + 2
    })
    .await;
    eventually("the spawner's descriptors are closed", || {
        std::fs::read_dir(&spawner_fds).unwrap().count() < 30 + 12 * world.options.idle_slots
    })
    .await;
}

async fn host_ids_differ_between_neighbours(world: Arc<World>) {
    let mut one = world.sandboxes.launch(shell(world.root, "echo; sleep 60")).await.unwrap();
    let mut two = world.sandboxes.launch(shell(world.root, "echo; sleep 60")).await.unwrap();
    let mut ids = Vec::new();
    for sandbox in [&mut one, &mut two] {
        sandbox.take_output().unwrap().0.read_u8().await.unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("Uid:")).unwrap().to_owned();
        let all: Vec<u32> = line.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
        assert!(all.iter().all(|&id| id == all[0] && id >= 1_900_000_000), "{line}");
        ids.push(all[0]);
    }
    assert_ne!(ids[0], ids[1]);
    one.gone().await;
    two.gone().await;
}
