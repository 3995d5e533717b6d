"""Every way a function can end: the caller's document field by field, and the log lines, against golden files.

The golden files (`golden/*.json`) name the page that they follow.
"""

import pytest

import endings
import flint


def lines_of(logs, function, answer):
    """The log lines up to this call's REPORT, once it has arrived."""
    group = f"/aws/lambda/{function}"

    def all_lines():
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        found = [e["message"] for page in pages for e in page["events"]]
        return found if any(m.startswith(f"REPORT RequestId: {answer.request_id}") for m in found) else None

    lines = flint.until(all_lines, 10, f"the REPORT line of {answer}", every=0.1)
    return [line[:-1] if line.endswith("\n") and "Task timed out" not in line else line for line in lines]


ENDS = {
    "ok": {}, "raise": {}, "not_json": {}, "timeout": {}, "exit": {}, "exit_0": {"end": "exit", "code": 0},
    "sys_exit": {}, "crash": {}, "killed": {}, "oom": {}, "oversize": {},
}


@pytest.mark.parametrize("end", ENDS)
def test_in_the_handler(shared, functions, logs, name, end):
    timeout = 1 if end == "timeout" else 20
    shared.create(functions, name, endings.SOURCE, Timeout=timeout, MemorySize=128)
    answer = flint.invoke(functions, name, {"end": end, **ENDS[end]})
    endings.check(end, answer, lines_of(logs, name, answer))
    assert "REPORT RequestId: " + answer.request_id in answer.tail, answer
    # Whatever happened, the next call is served.
    assert flint.invoke(functions, name, {"end": "ok"}).json == "ok"


INITS = {
    "init_error": (endings.INIT_ERROR, "app.handler"),
    "init_syntax": (endings.SYNTAX_ERROR, "app.handler"),
    "init_handler": ("x = 1\n", "app.nowhere"),
    "init_exit": (endings.INIT_EXIT, "app.handler"),
    "init_timeout": (endings.INIT_TIMEOUT, "app.handler"),
}


@pytest.mark.parametrize("end", INITS)
def test_in_the_init(shared, functions, logs, name, end):
    source, handler = INITS[end]
    shared.create(functions, name, source, handler=handler, Timeout=1 if end == "init_timeout" else 10)
    answer = flint.invoke(functions, name, {})
    endings.check(end, answer, lines_of(logs, name, answer))


def test_metering(shared, functions, logs, name):
    """Billed is the duration rounded up to a whole millisecond; the init counts once."""
    import re

    shared.create(functions, name, "import time\ndef handler(event, context):\n    time.sleep(0.12)\n")
    flint.invoke(functions, name, {})
    answer = flint.invoke(functions, name, {})
    report = next(line for line in answer.tail.splitlines() if line.startswith("REPORT"))
    duration = float(re.search(r"\tDuration: ([\d.]+) ms", report).group(1))
    billed = int(re.search(r"Billed Duration: (\d+) ms", report).group(1))
    assert 120 <= duration < 400 and duration <= billed < duration + 1.01, report


def test_children_end_with_their_environment(shared, functions, name):
    shared.create(functions, name, endings.SOURCE, Timeout=5)
    host = shared.host()
    before = host.processes()
    assert flint.invoke(functions, name, {"end": "fork"}).json == "forked"
    assert len(host.processes() - before) >= 4
    flint.invoke(functions, name, {"end": "exit"})
    flint.until(lambda: len(host.processes() - before) == 0, 2, "the forked children are gone", every=0.05)


def test_a_tail_of_four_kilobytes(shared, functions, name):
    shared.create(functions, name, "def handler(event, context):\n    for n in range(2000):\n        print('line', n)\n")
    answer = flint.invoke(functions, name, {})
    assert len(answer.tail.encode()) <= 4096 and "line 1999" in answer.tail and "REPORT" in answer.tail
