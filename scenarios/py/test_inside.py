"""What a function sees of the host: nothing. The same probe, unconfined, is the control."""

import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import flint
import inside as inside_tools

PROBE = Path(__file__).with_name("inside_probe.py")
KINDS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")


@pytest.fixture(scope="module")
def seen(shared, functions, tmp_path_factory):
    """(what the function saw, what the control saw, the host's view of the function's processes)."""
    folder = tmp_path_factory.mktemp("host")
    os.chmod(folder, 0o755)
    text = secrets.token_hex(16)
    secret = folder / "secret"
    secret.write_text(text)
    os.chmod(secret, 0o644)
    (folder / "inside_probe.py").write_text(PROBE.read_text())
    marker = "flint-marker-" + secrets.token_hex(8)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", marker])
    listener = socket.create_server(("127.0.0.1", 0))
    careless = inside_tools.Careless()
    event = {
        "secret_path": str(secret), "secret": text, "marker": marker, "marker_pid": sleeper.pid,
        "port": listener.getsockname()[1], "server": list(shared.address),
        "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS if kind != "user"},
    }
    event["namespaces"]["user"] = os.readlink("/proc/self/ns/user")
    try:
        name = "inside-" + secrets.token_hex(4)
        shared.create(
            functions, name, {"inside_probe.py": PROBE.read_text()}, handler="inside_probe.handler", Timeout=30,
            MemorySize=256,
        )
        answer = flint.invoke(functions, name, event)
        assert answer.error is None, answer
        outside = []
        for pid in shared.host().processes():
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
            )
            outside.append(status)
        control = subprocess.run(
            [sys.executable, str(folder / "inside_probe.py")], text=True, capture_output=True, timeout=60,
            input=json.dumps({**event, "code": str(folder), "tmp": str(folder), "parent": sleeper.pid,
                              "server": careless.address}),
        )
        assert control.returncode == 0, control.stderr
        yield answer.json, json.loads(control.stdout), outside
    finally:
        listener.close()
        careless.close()
        sleeper.kill()
        sleeper.wait()


def test_the_control_succeeds_in_each(seen):
    _, control, _ = seen
    failed = {k: control["reasons"].get(k) for k, worked in control["worked"].items() if not worked}
    assert not failed, f"the probe proves nothing for {failed}"


def test_nothing_works_inside(seen):
    inside, control, _ = seen
    assert set(inside["worked"]) == set(control["worked"])
    worked = [what for what, worked in inside["worked"].items() if worked]
    assert not worked, worked
    flint.figure("denied_inside", len(inside["worked"]))


def test_own_uid_unprivileged_on_the_host(seen, shared):
    _, _, outside = seen
    assert outside, "the environment lives on"
    server = Path(f"/proc/{shared.process.pid}/status").read_text()
    server_uid = next(line for line in server.splitlines() if line.startswith("Uid:")).split()[1]
    uids = {uid for status in outside for uid in status["Uid"].split()}
    assert "0" not in uids and server_uid not in uids and all(int(uid) > 65535 for uid in uids), uids


def test_no_capability(seen):
    inside, _, outside = seen
    for status in (inside["status"], *outside):
        for group in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[group], 16) == 0, (group, status[group])
        assert status["NoNewPrivs"] == "1"
    assert inside["status"]["Seccomp"] == "2"


def test_own_processes_and_loopback_alone(seen):
    inside, _, _ = seen
    assert inside["interfaces"] == ["lo"]
    assert len(inside["processes"]) <= 3, inside["processes"]


def test_no_descriptor_leaks_in(seen):
    inside, _, _ = seen
    for number, target in inside["descriptors"].items():
        kind = target.split(":")[0]
        assert target == "/dev/null" or kind in ("pipe", "socket"), (number, target)
    assert len(inside["descriptors"]) <= 4, inside["descriptors"]


def test_two_functions_do_not_share_a_uid_or_files(shared, functions):
    source = """
import os
def handler(event, context):
    path = "/tmp/mark"
    was = os.path.exists(path)
    open(path, "w").write("x")
    return {"was": was, "files": os.listdir("/tmp")}
"""
    names = ["own-" + secrets.token_hex(4) for _ in range(2)]
    for name in names:
        shared.create(functions, name, source)
    assert [flint.invoke(functions, name, {}).json["was"] for name in names] == [False, False]
    assert flint.invoke(functions, names[0], {}).json["was"] is True, "/tmp lives as long as its environment"


def test_tmp_is_limited_in_bytes_and_inodes(shared, functions, name):
    source = """
import os
def handler(event, context):
    ends = {}
    try:
        with open("/tmp/big", "wb") as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
        ends["bytes"] = "no limit"
    except OSError as error:
        ends["bytes"] = error.errno
    os.unlink("/tmp/big")
    try:
        for n in range(2_000_000):
            open(f"/tmp/{n}", "w").close()
        ends["inodes"] = "no limit"
    except OSError as error:
        ends["inodes"] = error.errno
    return ends
"""
    shared.create(functions, name, source, Timeout=60, MemorySize=1024)
    assert flint.invoke(functions, name, {}).json == {"bytes": 28, "inodes": 28}
