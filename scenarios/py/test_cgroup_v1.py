"""With the version 2 tree hidden: version 1 freezes, limits and ends, and what can't be enforced is refused to tenants."""

import subprocess
from pathlib import Path

import pytest

import flint


def hidden(*mounts):
    """A program that becomes the server where these are not mounted; the host keeps its mounts."""
    script = " && ".join([*(f"umount {mount}" for mount in mounts), 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def mounted(kind, controller=None):
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split()[0] == kind and (controller is None or controller in tail.split()[2].split(",")):
            return head.split()[4]
    return None


UNIFIED = mounted("cgroup2")
V1 = mounted("cgroup", "memory")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    assert UNIFIED and V1, "this test needs a host with version 1 controllers and a version 2 tree"
    with flint.Server(tmp_path_factory.mktemp("v1") / "data", before=hidden(UNIFIED)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.client("lambda")


SOURCE = """
import os, threading, time
TICKS, KEPT = [0], []
def tick():
    while True:
        TICKS[0] += 1
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
def handler(event, context):
    if event == "heap" or (event == "child" and os.fork() == 0):
        while True:
            KEPT.append(bytearray(10 << 20))
    if event == "child":
        os.wait()
        time.sleep(30)
    if event == "sleep":
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(60)
    if event == "forks":
        pids = []
        try:
            while len(pids) < 3000:
                pid = os.fork()
                if pid == 0:
                    time.sleep(60)
                    os._exit(0)
                pids.append(pid)
        except OSError as error:
            return [error.errno, len(pids)]
        finally:
            for pid in pids:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
    return TICKS[0]
"""


def test_it_runs_on_version_1_alone(server, client):
    server.create(client, "one", SOURCE, Timeout=10)
    assert flint.invoke(client, "one", None).json >= 0
    groups = server.host().cgroups()
    assert any(g.startswith(V1) for g in groups)
    assert not any(g.startswith(UNIFIED) for g in groups), groups


def test_an_idle_one_is_frozen(server, client):
    frozen = lambda: [  # noqa: E731
        g for g in server.host().cgroups()
        if (f := Path(g, "freezer.state")).exists() and Path(g, "tasks").read_text() and f.read_text().strip() == "FROZEN"
    ]
    before = flint.invoke(client, "one", None).json
    flint.until(frozen, 5, "the old freezer holds it")
    assert flint.invoke(client, "one", None).json - before < 50


def test_memory_and_processes_are_limited_and_the_group_dies_whole(server, client):
    for way in ("heap", "child"):
        answer = flint.invoke(client, "one", way)
        assert answer.json["errorType"] == "Runtime.OutOfMemory", (way, answer)
    server.create(client, "forks", SOURCE, Timeout=60, MemorySize=2048)
    error, count = flint.invoke(client, "forks", "forks").json
    assert error == 11 and 900 <= count <= 1024, (error, count)


def test_a_timeout_ends_all_of_it(server, client):
    server.create(client, "late", SOURCE, Timeout=1)
    assert "timed out" in flint.invoke(client, "late", "sleep").json["errorMessage"]
    client.delete_function(FunctionName="late")
    client.delete_function(FunctionName="one")
    client.delete_function(FunctionName="forks")
    flint.until(lambda: not server.host().processes(), 5, "no process is left")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left(tmp_path, end):
    server = flint.Server(tmp_path / "data", before=hidden(UNIFIED)).start()
    client = server.client("lambda")
    server.create(client, "one", SOURCE)
    flint.invoke(client, "one", None)
    host = server.host()
    assert host.processes()
    server.stop() if end == "stop" else server.kill()
    flint.until(lambda: not any(host.left().values()), 10, lambda: f"left: {host.left()}")


def refusal(data, mounts, *args):
    done = subprocess.run(
        [*hidden(*mounts), flint.BINARY, "up", "--data", str(data), "--listen", "127.0.0.1:0", *args],
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
    )
    assert done.returncode != 0 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done
    return done.stderr


def test_tenants_are_taken_in_only_with_every_limit(data):
    with flint.Server(data, "--multi-tenant"):
        pass
    for controller, word in (("memory", "memory"), ("pids", "pids"), ("cpu", "cpu-weight")):
        said = refusal(data, [mounted("cgroup", controller)], "--multi-tenant")
        assert "--multi-tenant" in said and word in said, said
    # Without any word of tenants memory and processes have to be capped all the same.
    assert "memory" in refusal(data, [mounted("cgroup", "memory")])
    assert "pids" in refusal(data, [mounted("cgroup", "pids")])
