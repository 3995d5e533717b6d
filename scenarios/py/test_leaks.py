"""200 cold starts with every ending mixed in leave nothing of this data directory behind."""

import concurrent.futures
import random
import zlib

import endings
import flint

COUNT = 200
INIT_TIMEOUTS = 4


def plan(seed):
    """What each of the cold starts does: the ending and the source."""
    inits = [("init_error", endings.INIT_ERROR), ("init_exit", endings.INIT_EXIT)] * 10
    slow = [("init_timeout", endings.INIT_TIMEOUT)] * INIT_TIMEOUTS
    handler = ["ok", "raise", "exit", "crash", "killed", "oom", "oversize", "fork", "timeout"]
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

    # Warm up: pools fill and code paths open what they keep, so that what grows afterwards is a leak.
    act(fresh, client, "warm", "ok", endings.SOURCE)
    client.delete_function(FunctionName="warm")
    flint.until(lambda: not host.processes(), 10, "the warm-up's environment is gone", every=0.1)
    before = host.descriptors()

    ended = 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
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
    flint.until(lambda: not host.processes(), 15, f"processes of functions end: {sorted(host.processes())[:5]}", every=0.1)
    assert host.mounts() == [] or fresh.process, host.mounts()

    def settled():
        now = host.descriptors()
        return all(now[pid] <= before[pid] + 24 for pid in before)

    flint.until(settled, 20, f"descriptors settle (before {before}, now {host.descriptors()})", every=0.2)
    flint.figure("descriptors_grown", sum(host.descriptors().values()) - sum(before.values()))

    # Once it has ended: nothing at all.
    assert fresh.stop() == 0
    flint.until(lambda: not any(host.left().values()), 3, f"left behind: {host.left()}", every=0.05)
    assert not flint.alive(host.spawner_pid)
    flint.figure("left_behind", sum(map(len, host.left().values())))


def act(server, client, name, ending, source):
    """One function, one cold start, its ending."""
    server.create(client, name, source, Timeout=1 if "timeout" in ending else 15, MemorySize=128)
    answer = flint.invoke(client, name, {"end": ending}, tail=False)
    fine = ending in ("ok", "fork")
    assert (answer.error is None) == fine, (ending, answer)
