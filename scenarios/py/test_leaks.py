"""200 cold starts with every ending mixed in leave nothing of this data directory behind."""

import concurrent.futures
import random
import zlib

import pytest

import endings
import flint
import wire

COUNT = 200
INIT_TIMEOUTS = 4
WIDTH = 8


def plan(seed):
    """What each of the cold starts does: the ending and the source."""
    inits = [("init_error", endings.INIT_ERROR), ("init_exit", endings.INIT_EXIT)] * 10
    slow = [("init_timeout", endings.INIT_TIMEOUT)] * INIT_TIMEOUTS
    handler = ["ok", "raise", "exit", "crash", "killed", "oom", "oversize", "fork", "timeout", "hang_up"]
    rest = [(handler[n % len(handler)], endings.SOURCE) for n in range(COUNT - len(inits) - len(slow))]
    # One in a function that is the last of its kind: a timeout takes a second, so keep their share.
    acts = inits + slow + rest
    random.Random(seed).shuffle(acts)
    return acts


def test_nothing_is_left(fresh):
    client = fresh.client("lambda", timeout=120)
    host = fresh.host()
    seed = zlib.crc32(b"leaks")
    print("seed", seed)

    # Warm up as wide as the trial: pools fill and code paths open what they keep; what grows afterwards is a leak.
    with concurrent.futures.ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(lambda n: act(fresh, client, f"warm-{n}", "ok", endings.SOURCE), range(3 * WIDTH)))
    for n in range(3 * WIDTH):
        client.delete_function(FunctionName=f"warm-{n}")
    flint.until(lambda: not host.processes(), 10, "the warm-up's environments are gone", every=0.1)
    before = calm(host)

    ended = 0
    with concurrent.futures.ThreadPoolExecutor(WIDTH) as pool:
        jobs = [
            pool.submit(act, fresh, client, f"leak-{n}", ending, source) for n, (ending, source) in enumerate(plan(seed))
        ]
        for job in concurrent.futures.as_completed(jobs):
            job.result()
            ended += 1
    flint.figure("cold_starts", ended)
    for n in range(COUNT):
        client.delete_function(FunctionName=f"leak-{n}")

    # While it still serves: no process of a function, no mount, no growing pile of descriptors.
    flint.until(lambda: not host.processes(), 15, lambda: f"processes of functions end: {sorted(host.processes())[:5]}", every=0.1)
    assert host.mounts() == [] or fresh.process, host.mounts()

    # A pool's fill at the moment is no leak: less than a tenth of a descriptor for each environment that was.
    grown = lambda: sum(host.descriptors().values()) - sum(before.values())  # noqa: E731
    flint.until(lambda: grown() <= COUNT // 10, 20, lambda: f"descriptors settle (before {before}, now {host.descriptors()})", every=0.2)
    flint.figure("descriptors_grown", grown())

    # Once it has ended: nothing at all.
    assert fresh.stop() == 0
    flint.until(lambda: not any(host.left().values()), 3, lambda: f"left behind: {host.left()}", every=0.05)
    assert not flint.alive(host.spawner_pid)
    flint.figure("left_behind", sum(map(len, host.left().values())))


def calm(host):
    """The descriptors once their number has stood still for a second."""
    seen = []

    def still():
        seen.append(host.descriptors())
        return len(seen) > 10 and all(d == seen[-1] for d in seen[-10:])

    flint.until(still, 20, "descriptors stand still", every=0.1)
    return seen[-1]


def act(server, client, name, ending, source):
    """One function, one cold start, its ending."""
    server.create(client, name, source, Timeout=1 if "timeout" in ending else 15, MemorySize=128)
    if ending == "hang_up":
        # The function goes on for a moment and then ends its process.
        request = wire.Request(server, "POST", f"/2015-03-31/functions/{name}/invocations", b'{"end": "hang_up"}')
        with pytest.raises(TimeoutError):
            request.sign().send(timeout=0.15)
        return
    answer = flint.invoke(client, name, {"end": ending}, tail=False)
    fine = ending in ("ok", "fork")
    assert (answer.error is None) == fine, (ending, answer)
