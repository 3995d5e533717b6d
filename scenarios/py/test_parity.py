"""`--parity`: a function gets exactly the CPU time that goes with its memory, and its init all that is free."""

import statistics

import pytest

import flint

# Burns until it has used so much CPU time, and tells how long that took.
SOURCE = """
import time

def burn(seconds):
    wall, used = time.monotonic(), time.process_time()
    n = 0
    while time.process_time() - used < seconds:
        n += sum(range(200))
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - used}

def loop(rounds):
    wall, used = time.monotonic(), time.process_time()
    for _ in range(rounds):
        sum(range(2000))
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - used}

INIT = burn(0.3)

def handler(event, context):
    if "rounds" in event:
        return loop(event["rounds"])
    return {"init": INIT, "call": burn(event["burn"])}
"""

SMALL, WHOLE = 128, 1769


@pytest.fixture(scope="module")
def parity(tmp_path_factory):
    with flint.Server(tmp_path_factory.mktemp("parity") / "data", "--parity") as server:
        client = server.client("lambda", timeout=120)
        for memory in (SMALL, WHOLE):
            server.create(client, f"f{memory}", SOURCE, Timeout=120, MemorySize=memory)
        yield client


def test_time_goes_with_memory(parity):
    def took(memory, rounds):
        answer = flint.invoke(parity, f"f{memory}", {"rounds": rounds}, tail=False)
        assert answer.error is None, answer
        return answer.json

    # Three tenths of a second of a whole CPU, found by trying.
    rounds = int(1000 * 0.3 / min(took(WHOLE, 1000)["cpu"] for _ in range(5))) + 1
    took(SMALL, 100)
    # One at a time, in turns, so that a slow moment of the host meets both. A CPU that was whole and not had is the host's
    # doing: such a pair says nothing.
    pairs = []
    for _ in range(12):
        whole, small = took(WHOLE, rounds), took(SMALL, rounds)
        if whole["wall"] < 1.1 * whole["cpu"]:
            pairs.append((small["wall"], whole["wall"]))
        if len(pairs) == 3:
            break
    print("seconds", pairs)
    assert len(pairs) == 3, "the host was too busy to measure anything"
    ratio = statistics.median(small / whole for small, whole in pairs)
    flint.figure("parity_ratio", ratio)
    assert 13.8 * 0.85 <= ratio <= 13.8 * 1.15, pairs


def test_never_during_the_init(parity):
    answer = flint.invoke(parity, f"f{SMALL}", {"burn": 0.05}, tail=False)
    assert answer.error is None, answer
    init, call = answer.json["init"], answer.json["call"]
    # A thirteenth of a CPU in the call; in the init whatever is free, which is most of one even on a busy host.
    assert call["wall"] > 8 * call["cpu"], answer.json
    assert init["wall"] < 4 * init["cpu"], answer.json


def test_weights_alone_without_it(shared, functions, name):
    """The control: what the option does is not there without it."""
    shared.create(functions, name, SOURCE, Timeout=60, MemorySize=SMALL)
    call = flint.invoke(functions, name, {"burn": 0.2}, tail=False).json["call"]
    assert call["wall"] < 4 * call["cpu"], call
