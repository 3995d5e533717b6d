"""More than one's share, and code that can't be ended: limited or contained, and the peer goes on answering.

While each runs, the peer is asked all the time and the server's memory is watched; after it, everything is gone.
"""

import concurrent.futures
import json
import os
import re
import signal
from pathlib import Path

import pytest

import arena as arenas
import attempts
import flint
import resources  # noqa: F401 - registers its cases

MEMORY_MB = 128
GROWTH_MIB = 64
FACTS = {
    "processes": 1024, "descriptors": 1024, "memory": MEMORY_MB, "tmp_mib": 512, "timeout": 2,
    # As many inodes as the larger of the two kinds of /tmp has.
    "files": 512 * 64,
    # A function's is its own.
    "request_id": "00000000-0000-0000-0000-000000000000",
}

OOM = r"Runtime\.OutOfMemory"
TIMED_OUT = r"Sandbox\.Timedout"
# What the caller hears: an error type, `refused` where the code itself ran into the limit, or `worked` where it may do
# what it does and nothing comes of it. Several where more than one limit may come first.
HEARD = {
    "fork bomb": TIMED_OUT,
    "thread bomb": "refused",
    "spin": TIMED_OUT,
    "sleep beyond its time": TIMED_OUT,
    "eight busy processes": TIMED_OUT,
    "stop itself": TIMED_OUT,
    "kill everything": "worked",
    "die by a signal": r"Runtime\.ExitError",
    "leave orphans that ignore signals": "worked",
    "200 MiB of logs": "worked",
    "one endless line": "worked",
    "forge the platform's lines": "worked",
    "heap": OOM,
    "a child's heap": OOM,
    "anonymous files": OOM,
    "shared memory": f"refused|{OOM}",
    "socket buffers": f"refused|{OOM}",
    "pipes full of data": f"refused|{OOM}",
    "descriptors": "refused",
    "bytes in /tmp": f"refused|{OOM}",
    "files in /tmp": f"refused|{OOM}",
    "a deep tree": "worked",
    "names that nobody can type or delete": "worked",
}
CASES = attempts.of_area("resources")


@pytest.fixture(scope="module")
def controls(arena):
    """Each case's control, on its way while the cases run."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield {
            one.name: pool.submit(
                arena.control, "control.py", {"area": "resources", "facts": FACTS, "names": [one.name]}
            )
            for one in CASES
        }


@pytest.fixture(scope="module")
def growth():
    """MiB by which the server grew, at most."""
    seen = [0.0]
    yield seen
    flint.figure("server_growth_mib", max(seen), "MiB")
    flint.figure("peer_answer_max_s", arenas.TALLY.peer_max_s, "s")


def heard(answer):
    if answer.error:
        return answer.json["errorType"]
    return answer.json[0]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_resources(one, arena, controls, growth):
    settings = {"Timeout": 20, "MemorySize": MEMORY_MB}
    if HEARD[one.name] == TIMED_OUT:
        settings["Timeout"] = FACTS["timeout"]
    if one.name == "fork bomb":
        # Enough for as many processes as it may have, so that their number is what ends it.
        settings["MemorySize"] = 3008
    with arena.function(arenas.inside_files(), **settings) as function:
        with arenas.Watch(arena) as watch:
            answer = function.invoke({"area": "resources", "facts": FACTS, "direct": one.name})
            words = heard(answer)
            extra = AFTER.get(one.name, lambda *_: None)(arena, function, answer)
    growth.append(watch.growth)
    arena.settled()
    assert not watch.errors and watch.asked, watch.errors[:3]
    assert watch.growth <= GROWTH_MIB, f"the server grew by {watch.growth:.0f} MiB"
    held = re.fullmatch(HEARD[one.name], words) is not None and extra is None
    state, detail = controls[one.name].result()[one.name]
    print(f"{one.name}: {words}; peer {watch.longest:.2f} s, server +{watch.growth:.1f} MiB; control {state} {detail}")
    fired = True if state == "worked" else False
    arenas.decide(repr(one), held, fired, one.no_control, f"{answer} {extra} control {state} {detail}")


# What is to be seen beyond the answer; a text is what is wrong.


def logs_are_bounded(arena, function, answer):
    """The log holds what the rate allows and says what was dropped."""
    size = sum(size for _, size in arenas.below(Path(arena.server.data) / "logs"))
    if size > 64 << 20:
        return f"the log store holds {size >> 20} MiB"
    told = flint.until(lambda: dropped(arena, function), 10, "the log tells what was dropped", every=0.2)
    return None if told else "nothing tells what was dropped"


def dropped(arena, function):
    logs = arena.server.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function.name}")
    return any("dropped" in event["message"] for page in pages for event in page["events"])


def meter_is_its_own(arena, function, answer):
    reports = [line for line in answer.tail.splitlines() if line.startswith("REPORT ")]
    if len(reports) != 2 or "900000" in reports[-1] or "Memory Size: 128 MB" not in reports[-1]:
        return f"the last REPORT is not the platform's: {reports}"
    variables = {k: str(v) for k, v in arena.server.environment().items()}
    top = json.loads(arena.server.run("top", "--json", "--endpoint", arena.server.url, env=variables).stdout)
    mine = next(f for f in top["functions"] if f["name"] == function.name)
    return None if mine["p99Ms"] < 60_000 else f"the meter believed it: {mine}"


def every_signal(arena, function, answer):
    """All others that end a process."""
    numbers = [
        signal.SIGHUP, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL,
        signal.SIGUSR1, signal.SIGSEGV, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGSYS, signal.SIGRTMIN,
    ]
    for number in numbers:
        event = {"area": "resources", "facts": {**FACTS, "signal": int(number)}, "direct": "die by a signal"}
        got = function.invoke(event, tail=False)
        if got.error != "Unhandled" or got.json["errorType"] != "Runtime.ExitError" or "signal: " not in got.json["errorMessage"]:
            return f"signal {number}: {got}"
    return None


def still_serves(arena, function, answer):
    """The environment, or one after it, takes the next call."""
    again = function.invoke({"area": "resources", "facts": FACTS, "direct": "forge the platform's lines"}, tail=False)
    return None if again.error is None else f"the next call: {again}"


AFTER = {
    "200 MiB of logs": logs_are_bounded, "one endless line": logs_are_bounded, "die by a signal": every_signal,
    "forge the platform's lines": meter_is_its_own, "kill everything": still_serves,
    "leave orphans that ignore signals": still_serves, "fork bomb": still_serves, "heap": still_serves,
    "stop itself": still_serves, "a deep tree": still_serves, "names that nobody can type or delete": still_serves,
}

assert set(HEARD) == {one.name for one in CASES} and os.geteuid() == 0
