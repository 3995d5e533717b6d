//! What a process sees from inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use flint_model::ByteCount;
use flint_sandbox::{Exit, How, RootFile, RootSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{World, code, finish, launch, run, shell, tests};

tests! {
    true_runs,
    identity_and_rights,
    what_must_be_denied,
    what_must_work,
    proc_tells_of_the_function_alone,
    the_probes_find_something_without_a_sandbox,
    memory_of_init_holds_no_secrets,
    tmp_has_limits_in_bytes_and_files,
    tmp_does_not_eat_memory,
    code_layer_and_root_files_are_there_and_read_only,
    the_runtime_api_listener_is_reached_from_inside,
    what_listens_inside_is_reached_from_the_server,
    an_environment_is_exactly_what_was_given,
}

async fn true_runs(world: Arc<World>) {
    let (exit, out, err) = run(&world, launch(world.root, &["/bin/true"])).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    let (exit, out, err) = run(&world, shell(world.root, "echo hello; echo bad >&2; exit 7")).await;
    assert_eq!((exit.how, out.as_str(), err.as_str()), (How::Code(7), "hello\n", "bad\n"));
}

/// Runs a Python script that prints `name value` lines.
async fn facts(world: &World, script: &str) -> BTreeMap<String, String> {
    let (exit, out, err) = run(world, launch(world.root, &["/usr/bin/python3", "-I", "-c", script])).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    parse(&out)
}

fn parse(out: &str) -> BTreeMap<String, String> {
    out.lines().filter_map(|l| l.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

async fn identity_and_rights(world: Arc<World>) {
    let script = r#"
import os, socket
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
def say(name, value): print(name, value)
for k in ("Uid", "Gid"): say(k, status[k].split())
say("ids", (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()))
for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"): say(k, status[k].strip())
fds = []
for n in os.listdir("/proc/self/fd"):
    try: fds.append((int(n), os.readlink("/proc/self/fd/" + n).split(":")[0]))
    except OSError: pass
say("fds", sorted(fds))
say("pids", sorted(int(p) for p in os.listdir("/proc") if p.isdigit()))
say("root", sorted(os.listdir("/")))
say("dev", sorted(os.listdir("/dev")))
say("host", os.uname().nodename)
say("groups", sorted(set(l.split(":")[2] for l in open("/proc/self/cgroup").read().splitlines())))
say("interfaces", socket.if_nameindex())
say("limits", [l.split()[-3:-1] for l in open("/proc/self/limits") if l.startswith(("Max open files", "Max core"))])
say("user", __import__("pwd").getpwuid(os.getuid()).pw_name)
say("umask", os.umask(0))
"#;
    let facts = facts(&world, script).await;
    let is = |name: &str, value: &str| assert_eq!(facts[name], value, "{name}");
    // Real, effective, saved and that of file access.
    is("Uid", "['993', '993', '993', '993']");
    is("Gid", "['993', '993', '993', '993']");
    is("ids", "(993, 993, 993, 993, [])");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        is(set, "0000000000000000");
    }
    is("NoNewPrivs", "1");
    is("Seccomp", "2");
    is("fds", "[(0, '/dev/null'), (1, 'pipe'), (2, 'pipe')]");
    is("pids", "[1, 2]");
    is("dev", "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']");
    is("host", "sandbox");
    is("groups", "['/']");
    is("interfaces", "[(1, 'lo')]");
    is("limits", "[['0', '0'], ['1024', '1024']]");
    is("user", "sbx_user1051");
    is("umask", "18");
    assert!(!facts["root"].contains("work") && !facts["root"].contains("sys"), "{}", facts["root"]);
}

/// Tries what a hostile function would; prints `name errno` for each, 0 when it worked.
const PROBES: &str = r#"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(nr, *args):
    ctypes.set_errno(0)
    return 0 if libc.syscall(nr, *args) != -1 else ctypes.get_errno()
def attempt(name, act):
    try:
        result = act()
        print(name, result if isinstance(result, int) and not isinstance(result, bool) else 0)
    except OSError as e: print(name, e.errno)
def write(path):
    def act():
        with open(path, "w") as f: f.write("x")
    return act
def read(path):
    def act():
        with open(path, "rb") as f: f.read(1)
    return act
for path in ("/x", "/etc/x", "/usr/x", "/usr/lib/x", "/var/x", "/opt/x", "/var/task/x", "/dev/x", "/run/x",
             "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/etc/passwd"):
    attempt("write:" + path, write(path))
attempt("write:oom", write("/proc/self/oom_score_adj"))
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/auxv", "/etc/shadow", "/proc/kmsg"):
    attempt("read:" + path, read(path))
for path in ("/proc/1/root", "/proc/1/cwd", "/proc/1/fd", "/proc/1/ns"):
    attempt("list:" + path, lambda: len(os.listdir(path)) and 0)
def mem():
    fd = os.open("/proc/1/mem", os.O_RDONLY)
    os.pread(fd, 1, int(open("/proc/1/stat").read().rsplit(")", 1)[1].split()[24]))
attempt("mem", mem)
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
attempt("umount", lambda: call(166, b"/proc", 2))
attempt("pivot_root", lambda: call(155, b"/tmp", b"/tmp"))
attempt("chroot", lambda: call(161, b"/tmp"))
attempt("unshare:user", lambda: call(272, 0x10000000))
attempt("unshare:mount", lambda: call(272, 0x20000))
attempt("clone:user", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0) or 0)
attempt("clone3", lambda: call(435, 0, 0))
attempt("setns", lambda: call(308, 0, 0))
attempt("ptrace", lambda: call(101, 16, 1, 0, 0))
attempt("process_vm_readv", lambda: call(310, 1, 0, 0, 0, 0, 0))
attempt("bpf", lambda: call(321, 0, 0, 0))
attempt("perf", lambda: call(298, 0, 0, -1, -1, 0))
attempt("io_uring", lambda: call(425, 1, 0))
attempt("userfaultfd", lambda: call(323, 0))
attempt("keyctl", lambda: call(250, 0, -3, 1))
attempt("add_key", lambda: call(248, b"user", b"x", b"y", 1, -3))
attempt("init_module", lambda: call(175, 0, 0, 0))
attempt("kexec", lambda: call(246, 0, 0, 0, 0))
attempt("reboot", lambda: call(169, 0, 0, 0, 0))
attempt("sethostname", lambda: call(170, b"x", 1))
attempt("settimeofday", lambda: call(164, 0, 0))
attempt("mknod", lambda: call(133, b"/tmp/node", 0o20666, 0x103))
attempt("open_by_handle", lambda: call(304, 0, 0, 0))
attempt("setuid", lambda: call(105, 0))
attempt("x32:getpid", lambda: call(0x40000000 | 39))
attempt("personality", lambda: call(135, 0x0040000))
attempt("ioctl:TIOCSTI", lambda: call(16, 0, 0x5412, b"x"))
attempt("fsopen", lambda: call(430, b"proc", 0))
attempt("open_tree", lambda: call(428, -100, b"/", 1))
attempt("shmget", lambda: call(29, 0, 4096, 0o1600))
for name, family, kind in (("raw", socket.AF_INET, socket.SOCK_RAW), ("packet", 17, 3), ("vsock", 40, 1),
                           ("alg", 38, 5), ("audit", 16, 3)):
    protocol = {"raw": 1, "audit": 9}.get(name, 0)
    attempt("socket:" + name, lambda: socket.socket(family, kind, protocol).close())
attempt("kill:outside", lambda: os.kill(int(sys.argv[1]), 0))
attempt("connect:host", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 2).close())
attempt("connect:metadata", lambda: socket.create_connection(("169.254.169.254", 80), 2).close())
attempt("host:files", lambda: os.listdir(sys.argv[3]) and 0)
attempt("sys", lambda: os.listdir("/sys/class") and 0)
print("keys", len(open("/proc/keys").read()) if os.path.exists("/proc/keys") else 0)
print("cmdline", len(open("/proc/1/cmdline").read().strip("\0")))
print("mounts", sum(any(w in l for w in ("/work", "/root", "ext4", "xfs")) and " /tmp " not in l and " /usr " not in l and " /etc/" not in l
                    for l in open("/proc/self/mounts")))
"#;

async fn probe_args(port: u16) -> [String; 3] {
    [std::process::id().to_string(), port.to_string(), env!("CARGO_MANIFEST_DIR").to_owned()]
}

async fn what_must_be_denied(world: Arc<World>) {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = probe_args(host.local_addr().unwrap().port()).await;
    let argv = ["/usr/bin/python3", "-I", "-c", PROBES, &args[0], &args[1], &args[2]];
    let (exit, out, err) = run(&world, launch(world.root, &argv)).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    let facts = parse(&out);
    assert!(facts.len() > 60, "{out}");
    let mut open: Vec<_> = facts.iter().filter(|(name, value)| *value == "0" && !zero_is_good(name)).collect();
    // The real one is covered by the null device, which anyone may write.
    open.retain(|(name, _)| !["write:/proc/sysrq-trigger", "read:/proc/kmsg"].contains(&name.as_str()));
    assert!(open.is_empty(), "these worked: {open:?}\n{out}");
    for name in ["keys", "cmdline", "mounts"] {
        assert_eq!(facts[name], "0", "{name}\n{out}");
    }
    for name in ["mount", "unshare:user", "clone:user", "setns", "ptrace", "bpf", "keyctl", "mknod", "setuid"] {
        assert_eq!(facts[name], "1", "{name} is not permitted");
    }
    assert_eq!(facts["clone3"], "38");
}

fn zero_is_good(name: &str) -> bool {
    ["keys", "cmdline", "mounts"].contains(&name)
}

/// The control: the same script, unconfined and as root, gets through at many places, so the script is no dud.
async fn the_probes_find_something_without_a_sandbox(_: Arc<World>) {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = probe_args(host.local_addr().unwrap().port()).await;
    // Only the harmless ones: what looks, not what changes the machine.
    let look = PROBES
        .lines()
        .filter(|l| {
            !l.starts_with("attempt(")
                || ["connect:host", "host:files", "\"sys\"", "\"mem\"", "kill:outside", "raw", "keyctl", "shmget"]
                    .iter()
                    .any(|n| l.contains(n))
        })
        .filter(|l| !l.contains("attempt(\"write") && !l.contains("kmsg"))
        .collect::<Vec<_>>()
        .join("\n");
    let look = look.split("for path in (\"/x\"").next().unwrap().to_owned()
        + &look[look.find("for path in (\"/proc/1/root\"").unwrap()..];
    let output = crate::output("/usr/bin/python3", &["-I", "-c", &look, &args[0], &args[1], &args[2]], "/").await;
    let facts = parse(&String::from_utf8_lossy(&output.stdout));
    for name in ["connect:host", "host:files", "sys", "kill:outside", "socket:raw", "shmget", "keyctl"] {
        assert_eq!(facts.get(name).map(String::as_str), Some("0"), "{name}: {output:?}");
    }
}

async fn what_must_work(world: Arc<World>) {
    let script = r#"
import os, socket, subprocess, threading, multiprocessing, tempfile, select, ssl, sqlite3, getpass
def say(name, ok): print(name, ok)
with tempfile.NamedTemporaryFile() as f: f.write(b"x" * 1000); f.flush(); say("tmp", f.name.startswith("/tmp/"))
say("subprocess", subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout.strip() == "hi")
result = []
t = threading.Thread(target=lambda: result.append(1)); t.start(); t.join(); say("thread", result == [1])
with multiprocessing.Pool(2) as p: say("pool", p.map(abs, [-1, -2]) == [1, 2])
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname()); say("loopback", True)
os.mkfifo("/tmp/fifo"); say("fifo", True)
say("null", open("/dev/null", "w").write("x") == 1)
say("random", len(open("/dev/urandom", "rb").read(8)) == 8)
with open("/dev/stdout", "w") as f: f.write("stdout again\n")
with open("/dev/shm/x", "w") as f: say("shm", f.write("x") == 1)
say("tls", len(ssl.create_default_context().get_ca_certs()) >= 0)
say("sqlite", sqlite3.connect("/tmp/db").execute("select 1").fetchone() == (1,))
say("resolve", socket.gethostbyname("localhost") == "127.0.0.1")
import time; say("zone", time.tzname[0] == "UTC")
import shutil; shutil.copy2("/etc/passwd", "/tmp/copy"); say("copy", True)
os.symlink("copy", "/tmp/link"); os.chmod("/tmp/copy", 0o600); os.rename("/tmp/copy", "/tmp/other"); say("names", True)
say("meminfo", int(open("/proc/meminfo").readline().split()[1]) > 0)
"#;
    let mut launch = launch(world.root, &["/usr/bin/python3", "-I", "-c", script]);
    launch.memory = ByteCount::from_mib(512);
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    let facts = parse(&out);
    let bad: Vec<_> = facts.iter().filter(|(name, v)| *v != "True" && *name != "stdout").collect();
    assert!(bad.is_empty() && facts.contains_key("stdout") && facts.len() >= 17, "{bad:?}\n{out}");
}

/// Every entry of `/proc` that has content is one of those that are meant to; the covers are the real null device.
async fn proc_tells_of_the_function_alone(world: Arc<World>) {
    let script = r#"
import os, stat
def say(name, value): print(name, value)
told, null = [], os.makedev(1, 3)
for name in sorted(os.listdir("/proc")):
    path = "/proc/" + name
    if name.isdigit() or os.path.islink(path): continue
    mode = os.stat(path)
    if stat.S_ISDIR(mode.st_mode):
        if os.listdir(path): told.append(name)
        continue
    if stat.S_ISCHR(mode.st_mode):
        if mode.st_rdev != null: told.append(name + " is another device")
        continue
    try:
        with open(path, "rb") as f:
            if f.read(1): told.append(name)
    except OSError as e: pass
say("told", told)
say("links", sorted(n for n in os.listdir("/proc") if os.path.islink("/proc/" + n)))
say("total", open("/proc/meminfo").readline().split()[1])
say("processors", open("/proc/cpuinfo").read().count("processor"))
say("stat", open("/proc/stat").read().count("\ncpu"))
say("load", open("/proc/loadavg").read().strip())
say("boot_id", repr(open("/proc/sys/kernel/random/boot_id").read()))
say("uuid", len(open("/proc/sys/kernel/random/uuid").read()))
refused = 0
for name in ("meminfo", "cpuinfo", "stat", "loadavg"):
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC):
        try: os.close(os.open("/proc/" + name, flags)); say("opened", name)
        except OSError: refused += 1
say("refused", refused)
try: say("sizes", os.listdir("/var/proc"))
except OSError as e: say("sizes", e.errno)
"#;
    let mut launch = launch(world.root, &["/usr/bin/python3", "-I", "-c", script]);
    launch.memory = ByteCount::from_mib(200);
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!(exit.how, How::Code(0), "{out}{err}");
    let facts = parse(&out);
    let host = std::thread::available_parallelism().unwrap().get().min(2).to_string();
    assert_eq!(
        facts["told"],
        "['cpuinfo', 'filesystems', 'loadavg', 'meminfo', 'stat', 'sys', 'sysvipc', 'uptime', 'version']"
    );
    assert_eq!(facts["links"], "['mounts', 'net', 'self', 'thread-self']");
    assert_eq!(facts["total"], "204800", "KiB");
    assert_eq!((&facts["processors"], &facts["stat"]), (&host, &host));
    assert_eq!((facts["load"].as_str(), facts["boot_id"].as_str()), ("0.00 0.00 0.00 1/1 1", "''"));
    assert_eq!(
        (facts["uuid"].as_str(), facts["refused"].as_str(), facts["sizes"].as_str()),
        ("37", "12", "13"),
        "{out}"
    );
    assert!(!facts.contains_key("opened"), "{out}");
}

async fn memory_of_init_holds_no_secrets(world: Arc<World>) {
    // Put together at run time, so that the bytes are in no binary.
    let marker = format!("{}-{}-marker", "secret", std::process::id());
    let mut one = shell(world.root, "sleep 60");
    one.env.push(("SECRET".into(), marker.clone().into()));
    let one = world.sandboxes.launch(one).await.unwrap();
    let two = world.sandboxes.launch(shell(world.root, "echo up; sleep 60")).await.unwrap();
    let mut two = two;
    let (mut out, _err) = two.take_output().unwrap();
    out.read_u8().await.unwrap();
    for (who, pid) in [("spawner", world.spawner), ("own init", one.pid()), ("other init", two.pid())] {
        let memory = memory_of(pid);
        assert!(memory.len() > 100_000, "{who}: {} bytes", memory.len());
        assert!(!holds(&memory, marker.as_bytes()), "{who} holds another's variable");
        assert!(!holds(&memory, b"CARGO_MANIFEST_DIR=/"), "{who} holds the server's environment");
    }
    for pid in [world.spawner, one.pid()] {
        assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap().iter().filter(|b| **b != 0).count(), 0);
        assert_eq!(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap().iter().filter(|b| **b != 0).count(), 0);
    }
    one.gone().await;
    two.gone().await;
}

/// All writable private memory of a process.
fn memory_of(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mem = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|l| l.contains(" rw-p ")) {
        let (from, rest) = line.split_once('-').unwrap();
        let (to, _) = rest.split_once(' ').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut part = vec![0; (to - from) as usize];
        if let Ok(n) = mem.read_at(&mut part, from) {
            all.extend_from_slice(&part[..n]);
        }
    }
    all
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

async fn tmp_has_limits_in_bytes_and_files(world: Arc<World>) {
    let script = r#"
import errno, os
n = 0
try:
    with open("/tmp/big", "wb", 0) as f:
        while True: n += f.write(b"x" * 65536)
except OSError as e: print("bytes", n, errno.errorcode[e.errno])
os.unlink("/tmp/big")
n = 0
try:
    while True: open("/tmp/%d" % n, "w").close(); n += 1
except OSError as e: print("files", n, errno.errorcode[e.errno])
"#;
    let mut launch = launch(world.root, &["/usr/bin/python3", "-I", "-c", script]);
    launch.tmp = ByteCount::from_mib(4);
    launch.tmp_inodes = 100;
    let (_, out, err) = run(&world, launch).await;
    let facts = parse(&out);
    let number = |name: &str| -> u64 {
        facts[name].strip_suffix(" ENOSPC").unwrap_or_else(|| panic!("{out}{err}")).parse().unwrap()
    };
    // What was asked for, and at most what the file system keeps for directories and counts by the block.
    assert!((4 << 20..6 << 20).contains(&number("bytes")), "{out}");
    assert!((99..=120).contains(&number("files")), "{out}");
}

async fn tmp_does_not_eat_memory(world: Arc<World>) {
    let script =
        "dd if=/dev/zero of=/tmp/big bs=1M count=200 && grep ' /tmp ' /proc/mounts && stat -c %a:%u /tmp && ls -A /tmp";
    let mut launch = shell(world.root, script);
    launch.memory = ByteCount::from_mib(32);
    let (exit, out, err) = run(&world, launch).await;
    assert_eq!(exit, Exit { how: How::Code(0), oom: false }, "{out}{err}");
    assert!(out.contains(" /tmp ext4 rw,nosuid,nodev,noatime"), "{out}");
    assert!(out.ends_with("\n1777:993\nbig\n"), "{out}");
}

async fn code_layer_and_root_files_are_there_and_read_only(world: Arc<World>) {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    let bound = dir.path().join("bound");
    let task = dir.path().join("task");
    for (path, text) in [(&layer, "a layer"), (&bound, "a bind"), (&task, "the code")] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("text"), text).unwrap();
    }
    // An ancestor that others can't enter.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let spec = RootSpec {
        binds: vec![flint_sandbox::Bind { source: bound, target: "/var/lang".into() }],
        files: vec![RootFile {
            path: "/var/runtime/deep/boot".into(),
            mode: 0o755,
            content: b"#!/bin/sh\nfor f in /var/task /opt /var/lang; do cat $f/text; echo; echo x >$f/new; done\necho x >>$0\n"
                .as_slice()
                .into(),
        }],
    };
    let root = world.sandboxes.define_root(spec).await.unwrap();
    let mut launch = launch(root, &["/var/runtime/deep/boot"]);
    launch.code = Some(code(&task));
    launch.layers = vec![code(&layer)];
    launch.cwd = "/var/task".into();
    let (_, out, err) = run(&world, launch).await;
    assert_eq!(out, "the code\na layer\na bind\n", "{err}");
    assert_eq!(err.matches("Read-only file system").count(), 3, "{err}");
    assert_eq!(err.matches("Permission denied").count(), 1, "{err}");
    for bad in ["relative", "/a/../b", "/"] {
        let spec = RootSpec {
            files: vec![RootFile { path: bad.into(), mode: 0o644, content: [].into() }],
            ..Default::default()
        };
        let refused = world.sandboxes.define_root(spec).await;
        assert!(matches!(refused, Err(flint_sandbox::Error::Invalid(_))), "{bad}: {refused:?}");
    }
    let spec = RootSpec {
        binds: vec![flint_sandbox::Bind { source: "/does/not/exist".into(), target: "/var/lang".into() }],
        ..Default::default()
    };
    let refused = world.sandboxes.define_root(spec).await;
    assert!(matches!(refused, Err(flint_sandbox::Error::Setup { .. })), "{refused:?}");
}

async fn the_runtime_api_listener_is_reached_from_inside(world: Arc<World>) {
    let script = "import socket; s = socket.create_connection(('127.0.0.1', 9001)); print(s.recv(5).decode())";
    let mut sandbox =
        world.sandboxes.launch(launch(world.root, &["/usr/bin/python3", "-I", "-c", script])).await.unwrap();
    let listener = sandbox.take_listener().unwrap();
    assert!(sandbox.take_listener().is_none());
    let (mut connection, from) = listener.accept().await.unwrap();
    assert!(from.ip().is_loopback());
    connection.write_all(b"hello").await.unwrap();
    let (out, err) = finish(&mut sandbox).await;
    assert_eq!(out, "hello\n", "{err}");
    sandbox.gone().await;
}

async fn an_environment_is_exactly_what_was_given(world: Arc<World>) {
    let mut launch = launch(world.root, &["/usr/bin/env"]);
    launch.env = vec![("A".into(), "b c=d\nnext".into()), ("EMPTY".into(), "".into())];
    let (_, out, _) = run(&world, launch).await;
    assert_eq!(out, "A=b c=d\nnext\nEMPTY=\n");
}

async fn what_listens_inside_is_reached_from_the_server(world: Arc<World>) {
    let script = "import socket; s = socket.create_server(('sandbox.localdomain', 4243)); c, _ = s.accept(); \
                  c.sendall(b'hello'); print(c.recv(5).decode())";
    let sandbox = world.sandboxes.launch(launch(world.root, &["/usr/bin/python3", "-c", script])).await.unwrap();
    let reach = sandbox.reach();
    assert_eq!(reach.connect(0).await.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let began = tokio::time::timeout(crate::PATIENCE, async {
        loop {
            match reach.connect(4243).await {
                Ok(connection) => break connection,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let mut connection = began.await.expect("it listens in time");
    let mut word = [0; 5];
    connection.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
    // Not the host's own network, where the same port may be anybody's.
    assert!(connection.peer_addr().unwrap().ip().is_loopback());
    connection.write_all(b"hello").await.unwrap();
    assert_eq!(sandbox.exited().await.how, How::Code(0));
    sandbox.gone().await;
    assert_eq!(reach.connect(4243).await.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
}
