"""Where hostile code meets Flint: the server, a peer that must go on answering, the controls, and the host's state.

Every case ends with `Arena.settled`: the peer has answered and the host is as it was before.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import flint

INSIDE = Path(__file__).with_name("inside")
PEER = "def handler(event, context):\n    return event\n"
PEER_LIMIT_S = 5

# The first of the host's ids that sandboxes have.
UIDS_FROM = 1_900_000_000

# Kinds of which there may be fewer than before, and the descriptors by which pools of the server may have filled.
COUNTED = ("processes", "namespaces", "loops", "shared memory")
POOLS = 64

# In the names of this run's things on the host: others may run the same beside it.
MARK = "hostile-" + secrets.token_hex(4)

# What the controls may take.
CONTROL_MEMORY = 2 << 30
CONTROL_PIDS = 2000


class Tally:
    """What the run says in the end."""

    def __init__(self):
        self.cases, self.fired, self.without, self.undecided, self.holes = [], [], [], [], []
        self.peer_max_s = 0.0

    def lines(self):
        yield from (f"no control: {name}: {why}" for name, why in self.without)
        yield from (f"hole: {name}: {why}" for name, why in self.holes)
        yield f"hostile cases {len(self.cases)}: controls fired {len(self.fired)}, without a control {len(self.without)}"

    def figures(self):
        flint.figure("hostile_cases", len(self.cases))
        flint.figure("hostile_controls_fired", len(self.fired))
        flint.figure("hostile_without_control", len(self.without))
        flint.figure("hostile_holes", len(self.holes))
        flint.figure("hostile_undecided", len(self.undecided))


TALLY = Tally()


def decide(name, inside, control, no_control=None, detail="", hole=None):
    """Counts a case and fails unless it was refused inside and fired in its control.

    `inside` is true if the wall held, false if it did not, None if nobody knows; `control` is true if the attempt worked
    without the wall, false if it did not, None if there is no control, for the reason in `no_control`. A known `hole` is
    asserted to be there, so that nobody forgets to take its mark away.
    """
    TALLY.cases.append(name)
    if control is None:
        assert no_control, name
        TALLY.without.append((name, no_control))
    elif control:
        TALLY.fired.append(name)
    if inside is None or control is False:
        TALLY.undecided.append(name)
    assert inside is not None, f"{name}: undecided: {detail}"
    if hole and not inside:
        TALLY.holes.append((name, hole))
    else:
        assert not hole, f"{name}: the hole is closed: take its mark away: {detail}"
        assert inside, f"{name}: it worked: {detail}"
    assert control is not False, f"{name}: proves nothing, its control did not fire: {detail}"


class Arena:
    """A server of its own, with a peer function."""

    def __init__(self, server, folder):
        self.server, self.folder = server, Path(folder)
        self.client = server.client("lambda", timeout=120)
        self.host = server.host()
        server.create(self.client, "peer", PEER, Timeout=10)
        # Where this server's groups are, so that nobody has to look through those of others again and again.
        found = self.host.cgroups()
        self.tops = [path for path in found if not any(path.startswith(other + "/") for other in found)]
        self.host.cgroups = self.cgroups
        self.host_namespaces = {
            kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid", "net", "ipc", "uts")
        }
        self.ask_peer()
        self.before = self.state()
        self.descriptors = sum(self.host.descriptors().values())

    # --- functions

    def function(self, files, name=None, **settings):
        """A function's name; it is deleted, and gone, when the block ends."""
        return Function(self, files, name or "hostile-" + secrets.token_hex(4), settings)

    def ask_peer(self):
        """Seconds until the peer answered."""
        began = time.monotonic()
        word = secrets.token_hex(8)
        answer = flint.invoke(self.client, "peer", word, tail=False)
        took = time.monotonic() - began
        assert answer.error is None and answer.json == word, answer
        TALLY.peer_max_s = max(TALLY.peer_max_s, took)
        assert took <= PEER_LIMIT_S, f"the peer took {took:.1f} s"
        return took

    # --- the host

    def cgroups(self):
        return [base for top in self.tops for base, _, _ in os.walk(top)]

    def state(self):
        """What hostile code might have changed. The descriptors are apart: pools fill and empty."""
        return {
            "processes": len(self.host.processes()), "mounts": self.host.mounts(), "loops": len(self.host.loops()),
            "namespaces": len(self.host.namespaces()), "name": os.uname().nodename,
            "core_pattern": Path("/proc/sys/kernel/core_pattern").read_text(),
            "shared memory": foreign_segments(),
            "shm": sorted(n for n in os.listdir("/dev/shm") if n.startswith(MARK)),
        }

    def settled(self, seconds=10):
        """The peer answers and the host is as before, once functions are deleted."""
        self.ask_peer()
        flint.until(lambda: not self.difference(), seconds, lambda: f"the host is as before: {self.difference()}", every=0.05)
        assert self.server.process.poll() is None, "the server lives"

    def difference(self):
        """What was, and what is, where it is not the same; of processes and the like there may be fewer."""
        now = self.state()
        worse = lambda key: now[key] > self.before[key] if key in COUNTED else now[key] != self.before[key]  # noqa: E731
        return {key: (self.before[key], now[key]) for key in now if worse(key)}

    def descriptors_settle(self):
        """After all cases the server and the spawner hold no more descriptors than their pools explain."""
        grown = lambda: sum(self.host.descriptors().values()) - self.descriptors  # noqa: E731
        flint.until(lambda: grown() <= POOLS, 20, lambda: f"descriptors settle: {self.descriptors}, +{grown()}", every=0.2)
        flint.figure("hostile_descriptors_grown", grown())

    def memory(self):
        """Proportional set size of the server, in MiB."""
        return pss(self.server.process.pid)

    # --- controls

    def control(self, program, event, seconds=120, memory=CONTROL_MEMORY):
        """Runs a program of `inside/` without the walls, in namespaces and a cgroup of its own; what it printed."""
        with Cage(memory) as cage:
            folder = self.folder / f"control-{secrets.token_hex(4)}"
            folder.mkdir()
            facts = {
                **event.get("facts", {}), "tmp": str(folder), "host_namespaces": self.host_namespaces,
                "cgroup": cage.name,
            }
            event = {**event, "facts": facts}
            arguments = [
                "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child",
                "--mount-proc", "--propagation", "private", "--", sys.executable, "-B", str(INSIDE / program),
            ]
            done = subprocess.run(
                arguments, input=json.dumps(event), text=True, errors="replace", capture_output=True, timeout=seconds,
                cwd=str(folder), preexec_fn=cage.join,
            )
            assert done.returncode == 0, f"{program}: {done.returncode}\n{done.stderr[-3000:]}"
            return json.loads(done.stdout)


class Function:
    def __init__(self, arena, files, name, settings):
        self.arena, self.files, self.name, self.settings = arena, files, name, settings

    def __enter__(self):
        settings = {"Timeout": 30, "MemorySize": 256, **self.settings}
        handler = settings.pop("Handler", "handler.handler")
        self.arena.server.create(self.arena.client, self.name, self.files, handler=handler, **settings)
        return self

    def __exit__(self, *_):
        self.arena.client.delete_function(FunctionName=self.name)

    def invoke(self, event=None, tail=True):
        return flint.invoke(self.arena.client, self.name, event, tail=tail)


class Cage:
    """A cgroup with limits for memory and processes, in whatever version this host has them."""

    def __init__(self, memory, pids=CONTROL_PIDS):
        self.name = f"{MARK}-{secrets.token_hex(6)}"
        self.folders = []
        for controller, settings in (
            ("memory", {"memory.limit_in_bytes": memory, "memory.max": memory}), ("pids", {"pids.max": pids}),
        ):
            base = controller_base(controller)
            assert base, f"no cgroup of this host can limit {controller}, so no control may run"
            folder = base / self.name
            folder.mkdir(exist_ok=True)
            for name, value in settings.items():
                if (folder / name).exists():
                    (folder / name).write_text(str(value))
            if folder not in self.folders:
                self.folders.append(folder)

    def join(self):
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for folder in self.folders:
            flint.until(lambda folder=folder: removed(folder), 10, f"{folder} is empty", every=0.02)


def removed(folder):
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def controller_base(controller):
    """Where groups with this controller can be made: version 1, or version 2 where it is enabled for children."""
    old = Path("/sys/fs/cgroup") / controller
    if (old / "cgroup.procs").exists() and not (old / "cgroup.controllers").exists():
        return old
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        enabled = Path(base, "cgroup.subtree_control")
        if enabled.exists():
            if controller not in enabled.read_text().split():
                try:
                    enabled.write_text(f"+{controller}")
                except OSError:
                    continue
            return Path(base)
    return None


def foreign_segments():
    """System V segments of the host whose makers have ids that only sandboxes have."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return sum(int(line.split()[7]) >= UIDS_FROM for line in lines)


def pss(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no Pss of {pid}")


class Watch:
    """While it is open: the peer is asked again and again, and the server's memory is looked at."""

    def __init__(self, arena):
        self.arena, self.stop = arena, threading.Event()
        self.longest, self.peak, self.errors, self.asked = 0.0, 0.0, [], 0

    def __enter__(self):
        self.start = self.arena.memory()
        self.threads = [threading.Thread(target=self.ask), threading.Thread(target=self.look)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def ask(self):
        while not self.stop.is_set():
            try:
                self.longest = max(self.longest, self.arena.ask_peer())
                self.asked += 1
            except Exception as error:  # noqa: BLE001 - told by the one who waits
                self.errors.append(repr(error))
            self.stop.wait(0.05)

    def look(self):
        while not self.stop.is_set():
            self.peak = max(self.peak, self.arena.memory())
            self.stop.wait(0.02)

    @property
    def growth(self):
        return self.peak - self.start


def below(folder):
    """(path, bytes) of everything below a folder that the server changes meanwhile."""
    for base, folders, names in os.walk(folder):
        for name in folders + names:
            path = Path(base, name)
            try:
                yield path, path.lstat().st_size
            except FileNotFoundError:
                continue


def inside_files():
    return {path.name: path.read_text() for path in INSIDE.glob("*.py")}


def compare(arena, area, facts, control_facts=None, **settings):
    """{name: (inside, control)} of an area's attempts, each as (state, detail)."""
    with arena.function(inside_files(), **settings) as function:
        answer = function.invoke({"area": area, "facts": facts}, tail=False)
    assert answer.error is None, answer
    control = arena.control("control.py", {"area": area, "facts": {**facts, **(control_facts or {})}})
    return {name: (answer.json.get(name), control.get(name)) for name in {**answer.json, **control}}


def check(one, results):
    """Decides a case of `attempts` by what `compare` found."""
    inside, control = results[one.name]
    print(f"{one}: inside {inside}, control {control}"[:400])
    held = {"refused": True, "worked": False}.get(inside[0])
    fired, why = {"worked": True}.get(control[0], False), one.no_control
    if one.no_control:
        fired = None
    elif control[0] == "absent":
        fired, why = None, f"this kernel or host has no such thing ({control[1]})"
    decide(repr(one), held, fired, why, f"inside {inside}, control {control}", one.hole)

