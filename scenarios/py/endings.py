"""A function that ends in every way there is, and the golden files that say what each must look like."""

import json
import re
from pathlib import Path

SOURCE = """
import ctypes, os, signal, sys, time

def handler(event, context):
    end = event.get("end", "ok")
    print("before", end, flush=True)
    if end == "timeout":
        time.sleep(60)
    elif end == "raise":
        raise RuntimeError("as asked")
    elif end == "exit":
        os._exit(event.get("code", 1))
    elif end == "sys_exit":
        sys.exit(3)
    elif end == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(5)
    elif end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(5)
    elif end == "oom":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20)))
    elif end == "oversize":
        return "x" * 6_300_000
    elif end == "not_json":
        return {1, 2}
    elif end == "hang_up":
        time.sleep(0.4)
        os._exit(1)
    elif end == "fork":
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                time.sleep(600)
        return "forked"
    return end
"""

INIT_ERROR = "import nothing_of_that_name\n"
INIT_EXIT = "import os\nos._exit(7)\n"
INIT_TIMEOUT = "import time\ntime.sleep(60)\ndef handler(event, context):\n    return 1\n"
SYNTAX_ERROR = "def handler(event, context)\n    return 1\n"


def golden(name):
    return json.loads(Path(__file__).with_name("golden").joinpath(name + ".json").read_text())


def matches(pattern, value):
    """Whether `value` is what a golden file says: `re:` starts a pattern, `any` is anything, the rest is literal."""
    if isinstance(pattern, str):
        if pattern == "any":
            return True
        if pattern.startswith("re:"):
            return isinstance(value, str) and re.fullmatch(pattern[3:], value, re.DOTALL) is not None
        return pattern == value
    if isinstance(pattern, dict):
        return isinstance(value, dict) and pattern.keys() == value.keys() and all(
            matches(p, value[k]) for k, p in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and len(pattern) == len(value) and all(map(matches, pattern, value))
    return pattern == value


def check(name, answer, lines):
    """Compares an answer and its log lines with a golden file; `{id}` stands for the request id."""
    expected = json.loads(json.dumps(golden(name)).replace("{id}", answer.request_id))
    assert answer.status == expected["status"], answer
    assert answer.error == expected["function_error"], answer
    assert matches(expected["document"], answer.json), f"\nwanted {expected['document']}\ngot    {answer.json}"
    position = 0
    for pattern in expected["log"]:
        found = next((i for i in range(position, len(lines)) if matches(pattern, lines[i])), None)
        assert found is not None, f"no line for {pattern!r} after line {position} of\n" + "\n".join(lines)
        position = found + 1
