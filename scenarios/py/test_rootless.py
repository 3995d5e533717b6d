"""Without root: one user's own functions run, isolated as far as a user can isolate; what is not enforced is named."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flint
import inside as inside_tools
from test_inside import KINDS, PROBE

# Nobody else's: no such user is in the password file, and no server's range of ids holds it.
USER = 61_234
EXCEPTIONS = {"own-user-id", "memory-limit", "cpu-weight", "freeze", "tmp-in-memory"}


class Home:
    """A place that the user can reach, with the binary in it."""

    def __init__(self, path):
        self.path = Path(path)
        self.binary = self.path / "flint"
        shutil.copy(flint.BINARY, self.binary)
        self.binary.chmod(0o755)
        self.own = self.path / "own"
        self.own.mkdir()
        os.chown(self.own, USER, USER)

    @property
    def as_user(self):
        """For `subprocess`: start it as the user, with no group but his own."""
        environment = {**flint.clean_environment(), "HOME": str(self.own)}
        return {"user": USER, "group": USER, "extra_groups": [], "env": environment, "cwd": self.own}

    def run(self, *args, **settings):
        return subprocess.run(
            [self.binary, *args], **{**self.as_user, **settings}, capture_output=True, text=True, timeout=30,
            stdin=subprocess.DEVNULL,
        )

    def server(self, name, *args):
        return UserServer(self, self.own / name, *args)


class UserServer(flint.Server):
    """A `flint up` that the user starts."""

    def __init__(self, home, data, *args):
        super().__init__(data, *args, binary=home.binary, settings=home.as_user)
        self.log = home.path / f"{data.name}.stderr"


@pytest.fixture(scope="module")
def home():
    # Not pytest's own folder: its parents are closed to everyone but root.
    with flint.scratch("flint-rootless-") as folder:
        os.chmod(folder, 0o755)
        yield Home(folder)


@pytest.fixture(scope="module")
def server(home):
    with home.server("shared") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.client("lambda")


def processes(server):
    """Everything below the server and its spawner."""
    return set(flint.descendants(server.process.pid)) - {server.spawner()}


def test_python_and_node_answer(server, client):
    server.create(client, "py", "def handler(event, context):\n    return {'got': event['n'], 'left': context.get_remaining_time_in_millis()}")
    answer = flint.invoke(client, "py", {"n": 7})
    assert answer.json["got"] == 7 and 0 < answer.json["left"] <= 3000
    assert "REPORT RequestId: " + answer.request_id in answer.tail
    assert flint.invoke(client, "py", {"n": 8}).json["got"] == 8
    node = max(r["Identifier"] for r in server.runtimes() if r["Identifier"].startswith("nodejs"))
    source = {"index.mjs": "export const handler = async (event) => ({ got: event.n + 1, version: process.version })"}
    server.create(client, "node", source, handler="index.handler", Runtime=node)
    assert flint.invoke(client, "node", {"n": 1}).json["got"] == 2


def test_a_layer_is_mounted_read_only(server, client):
    layer = client.publish_layer_version(
        LayerName="words", Content={"ZipFile": flint.zipped({"python/words.py": "WORD = 'layered'"})}
    )
    source = """
import words
def handler(event, context):
    try:
        open("/opt/new", "w")
        return "written"
    except OSError as error:
        return [words.WORD, error.errno]
"""
    server.create(client, "layered", source, Layers=[layer["LayerVersionArn"]])
    assert flint.invoke(client, "layered", {}).json == ["layered", 30]


def test_errors_timeouts_and_exits_are_told_as_ever(server, client):
    source = """
import os, time
def handler(event, context):
    if event == "raise":
        raise ValueError("as asked")
    if event == "exit":
        os._exit(3)
    if event == "sleep":
        time.sleep(60)
    return event
"""
    server.create(client, "ends", source, Timeout=1)
    raised = flint.invoke(client, "ends", "raise")
    assert raised.error == "Unhandled" and raised.json["errorType"] == "ValueError"
    assert "exit status 3" in flint.invoke(client, "ends", "exit").json["errorMessage"]
    began = time.monotonic()
    late = flint.invoke(client, "ends", "sleep")
    assert "timed out after 1.00 seconds" in late.json["errorMessage"]
    assert time.monotonic() - began < 5
    assert flint.invoke(client, "ends", "fine").json == "fine"


def test_tmp_has_its_size_and_its_number_of_files(server, client):
    source = """
import os
def handler(event, context):
    ends = {}
    with open("/tmp/big", "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError as error:
            ends["bytes"] = [error.errno, os.stat("/tmp/big").st_size >> 20]
    os.unlink("/tmp/big")
    count = 0
    try:
        while True:
            open(f"/tmp/{count}", "w").close()
            count += 1
    except OSError as error:
        ends["files"] = error.errno
    return ends
"""
    server.create(client, "tmp", source, Timeout=60, MemorySize=128)
    ends = flint.invoke(client, "tmp", {}).json
    assert ends["bytes"][0] == 28 and 500 <= ends["bytes"][1] <= 512 and ends["files"] == 28, ends


def test_who_holds_too_much_memory_is_killed(server, client):
    """Looked at and not capped: the documented error comes all the same."""
    source = """
import mmap, os, time
KEPT = []
def handler(event, context):
    if event == "child":
        if os.fork() == 0:
            KEPT.append(bytearray(400 << 20))
            time.sleep(60)
        os.wait()
    if event == "shared":
        KEPT.append(mmap.mmap(-1, 1 << 30))
        for n in range(0, 1 << 30, 4096):
            KEPT[-1][n] = 1
    if event == "forks":
        # 60 MB in five processes, and no page of it twice.
        KEPT.append(bytearray(os.urandom(1 << 20)) * 60)
        pids = [os.fork() for _ in range(4)] if os.getpid() == PARENT else []
        if 0 in pids or os.getpid() != PARENT:
            time.sleep(1)
            os._exit(0)
        for pid in pids:
            os.waitpid(pid, 0)
    if event == "heap":
        while True:
            KEPT.append(bytearray(10 << 20))
    return "alive"
PARENT = os.getpid()
"""
    server.create(client, "eater", source, Timeout=20, MemorySize=128)
    for way in ("heap", "child"):
        answer = flint.invoke(client, "eater", way)
        assert answer.error == "Unhandled" and answer.json["errorType"] == "Runtime.OutOfMemory", (way, answer)
        assert "Max Memory Used: 128 MB" in answer.tail, answer.tail
    # Private memory and /tmp together bound what is shared.
    answer = flint.invoke(client, "eater", "shared")
    assert answer.json.get("errorType") == "Runtime.OutOfMemory", answer
    assert flint.invoke(client, "eater", "forks").json == "alive", "shared pages count once"


def test_processes_are_limited_by_environment(server, client):
    source = """
import os, signal
def handler(event, context):
    pids = []
    try:
        while len(pids) < 3000:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            pids.append(pid)
        return "no limit"
    except OSError as error:
        return [error.errno, len(pids)]
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
"""
    server.create(client, "forks", source, Timeout=60, MemorySize=2048)
    error, count = flint.invoke(client, "forks", {}).json
    assert error == 11 and 900 <= count <= 1024, (error, count)
    # Another one's count is its own.
    assert flint.invoke(client, "py", {"n": 1}).json["got"] == 1


def test_an_idle_one_stands_still(server, client):
    source = """
import threading, time
TICKS = [0]
def tick():
    while True:
        TICKS[0] += 1
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
def handler(event, context):
    return TICKS[0]
"""
    server.create(client, "ticks", source)
    first = flint.invoke(client, "ticks", {}).json
    pids = [p for p in processes(server) if "bootstrap" in cmdline(p) or "python" in cmdline(p)]
    assert pids
    flint.until(lambda: [p for p in pids if state(p) == "T"], 5, "the idle one is stopped")
    time.sleep(1)
    assert flint.invoke(client, "ticks", {}).json - first < 50, "it did not tick while nobody called"


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture(scope="module")
def seen(home, server, client):
    """(what the function saw, what the control saw, the host's view of the function's processes)."""
    text, marker = secrets.token_hex(16), "flint-marker-" + secrets.token_hex(8)
    secret = home.path / "secret"
    secret.write_text(text)
    secret.chmod(0o644)
    (home.path / "inside_probe.py").write_text(PROBE.read_text())
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", marker])
    careless = inside_tools.Careless()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        event = {
            "secret_path": str(secret), "secret": text, "marker": marker, "marker_pid": sleeper.pid,
            "port": listener.getsockname()[1], "server": list(server.address),
            "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS},
        }
        try:
            source = {"inside_probe.py": PROBE.read_text()}
            server.create(client, "probe", source, handler="inside_probe.handler", Timeout=30, MemorySize=256)
            answer = flint.invoke(client, "probe", event)
            assert answer.error is None, answer
            outside = [status(pid) for pid in processes(server)]
            control = subprocess.run(
                [sys.executable, str(home.path / "inside_probe.py")], text=True, capture_output=True, timeout=60,
                input=json.dumps({**event, "code": str(home.path), "tmp": str(home.path), "parent": sleeper.pid,
                                  "server": careless.address}),
            )
            assert control.returncode == 0, control.stderr
            yield answer.json, json.loads(control.stdout), outside
        finally:
            careless.close()
            sleeper.kill()
            sleeper.wait()


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_nothing_of_the_probe_works_inside(seen):
    """The same list as with root, none left out; unconfined, as the control, all of it works."""
    inside, control, _ = seen
    assert all(control["worked"].values()), control["reasons"]
    assert set(inside["worked"]) == set(control["worked"])
    assert not [what for what, worked in inside["worked"].items() if worked]
    flint.figure("denied_inside_rootless", len(inside["worked"]))


def test_no_capability_and_nothing_but_its_own_to_see(seen):
    inside, _, outside = seen
    assert outside, "the environments live on"
    for seen_status in (inside["status"], *outside):
        for group in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(seen_status[group], 16) == 0, (group, seen_status[group])
        assert seen_status["NoNewPrivs"] == "1"
    assert inside["status"]["Seccomp"] == "2"
    assert inside["uid"] == 993
    assert inside["interfaces"] == ["lo"] and len(inside["processes"]) <= 3
    assert len(inside["descriptors"]) <= 4, inside["descriptors"]
    # The named exception: on the host they are the user.
    assert {uid for s in outside for uid in s["Uid"].split()} == {str(USER)}


def test_the_server_has_no_rights_over_the_spawners_namespaces(server):
    """Who owns a user namespace has every right over it from the one above: the server is not in the one above."""
    own = os.readlink("/proc/self/ns/user")
    of = lambda pid: os.readlink(f"/proc/{pid}/ns/user")  # noqa: E731
    assert len({own, of(server.process.pid), of(server.spawner())}) == 3
    seen_status = status(server.process.pid)
    assert int(seen_status["CapEff"], 16) == int(seen_status["CapBnd"], 16) == 0
    assert seen_status["NoNewPrivs"] == "1"
    # Tried: as the server, by its own descriptors of namespaces. The control is a process of the same user outside.
    attempt = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[2] != "0":
    if libc.setns(os.open(f"/proc/{sys.argv[2]}/ns/user", os.O_RDONLY), 0x10000000):
        sys.exit("could not become as the server")
    libc.prctl(4, 0)
os.setresgid(*[int(sys.argv[3])] * 3), os.setresuid(*[int(sys.argv[3])] * 3)
print(libc.setns(int(sys.argv[1]), 0x10000000), ctypes.get_errno())
"""
    with open(f"/proc/{server.spawner()}/ns/user") as namespace:
        number = namespace.fileno()

        def tries(joins):
            done = subprocess.run(
                [sys.executable, "-c", attempt, str(number), str(joins), str(USER)], pass_fds=[number],
                capture_output=True, text=True, timeout=20,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.split()

        assert tries(0) == ["0", "0"], "the control: the owner may, from above"
        assert tries(server.process.pid) == ["-1", "1"]


def test_what_is_not_enforced_is_said_once_and_by_doctor(home, server):
    lines = [line for line in server.log.read_text().splitlines() if "not enforced here" in line]
    assert len(lines) == 1 and all(name in lines[0] for name in EXCEPTIONS), lines
    told = home.run("doctor", "--json")
    assert told.returncode == 0, told
    checks = {check["what"]: check for check in json.loads(told.stdout)}
    assert EXCEPTIONS <= set(checks)
    assert all(checks[name]["state"] == "weak" and checks[name]["found"] for name in EXCEPTIONS)
    named = {c for c, check in checks.items() if check["found"].startswith("not enforced: ")}
    assert named == EXCEPTIONS, "and nothing else is named"
    text = home.run("doctor").stdout
    assert all(name in text for name in EXCEPTIONS)
    assert "--multi-tenant refuses" in text
    flint.figure("rootless_exceptions", len(named))


def test_several_tenants_are_refused(home):
    refused = home.run("up", "--data", str(home.own / "tenants"), "--listen", "127.0.0.1:0", "--multi-tenant")
    assert refused.returncode != 0 and refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "--multi-tenant" in refused.stderr and "root" in refused.stderr and "memory-limit" in refused.stderr
    variable = {**home.as_user["env"], "FLINT_MULTI_TENANT": "1"}
    refused = home.run("up", "--data", str(home.own / "tenants"), "--listen", "127.0.0.1:0", env=variable)
    assert refused.returncode != 0 and "--multi-tenant" in refused.stderr


def test_another_user_can_not_be_chosen(home):
    refused = home.run("up", "--data", str(home.own / "other"), "--listen", "127.0.0.1:0", "--user", "1234")
    assert refused.returncode != 0 and "--user" in refused.stderr


def test_dev_serves_a_folder(home):
    folder = home.own / "hello"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context):\n    print('said hello')\n    return 'hello'\n")
    dev = subprocess.Popen(
        [home.binary, "dev", "hello", "--listen", "127.0.0.1:0"], **home.as_user, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        url = dev.stdout.readline().split()[1]
        answer = lambda: home.run("invoke", "hello", "--endpoint", url).stdout.strip()  # noqa: E731
        assert flint.until(lambda: answer() == '"hello"', 20, "the folder is deployed", every=0.2)
        below = flint.descendants(dev.pid)
        assert below
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(20) == 0
        flint.until(lambda: not [p for p in below if flint.alive(p)], 5, "all that it started has ended")
    finally:
        dev.kill()
        dev.wait()


def test_a_server_of_idle_priority_runs_functions(home):
    server = home.server("idle")
    server.before = ["/usr/bin/chrt", "-i", "0"]
    with server:
        client = server.client("lambda")
        server.create(client, "idle", "def handler(event, context):\n    return 1")
        assert flint.invoke(client, "idle", {}).json == 1


@pytest.mark.parametrize("end", ["stop", "kill", "kill both"])
def test_nothing_is_left(home, end):
    before = mounts()
    server = home.server("left-" + end.replace(" ", "-")).start()
    client = server.client("lambda")
    source = "import subprocess\nsubprocess.Popen(['/bin/sh', '-c', 'trap \"\" TERM; sleep 600'], start_new_session=True)\ndef handler(event, context):\n    return 1"
    server.create(client, "orphan", source)
    assert flint.invoke(client, "orphan", {}).json == 1
    flint.until(lambda: len(processes(server)) >= 4, 5, "init, the function, its shell and that one's sleep")
    spawner, pids = server.spawner(), processes(server)
    if end == "stop":
        assert server.stop() == 0
    else:
        if end == "kill both":
            os.kill(spawner, signal.SIGKILL)
        server.kill()
    flint.until(lambda: not [p for p in {spawner, *pids} if flint.alive(p)], 5, "no process is left")
    assert mounts() == before
    # And the data directory serves again.
    with server:
        assert flint.invoke(server.client("lambda"), "orphan", {}).json == 1


def mounts():
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_where_user_namespaces_are_refused_one_line_says_so(home):
    """In a user namespace that allows no further one, as a host does that switches them off."""
    script = f"""
import os, sys
__import__("ctypes").CDLL(None).unshare(0x10000000)
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write("{USER} {USER} 1")
open("/proc/self/gid_map", "w").write("{USER} {USER} 1")
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
    # `max_user_namespaces` is counted by namespace: this writes the new one's own.
    refused = subprocess.run(
        ["/usr/bin/python3", "-c", script, str(home.binary), "up", "--data", str(home.own / "none"), "--listen", "127.0.0.1:0"],
        **home.as_user, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
    )
    assert refused.returncode != 0 and refused.stdout == "", refused
    assert len(refused.stderr.splitlines()) == 1 and "max_user_namespaces" in refused.stderr, refused.stderr
