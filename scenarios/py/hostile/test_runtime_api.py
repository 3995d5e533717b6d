"""The Runtime API, attacked by the code that it belongs to: one event at a time, one answer, and nothing else there."""

import json
import re
import socket
import threading
import time

import pytest

import arena as arenas
import attempts
import flint
import runtime_api  # noqa: F401 - registers its cases

TIMEOUT_S = 2
OF_AREA = attempts.of_area("runtime_api")
LIGHT = [one for one in OF_AREA if one.batch]
ENDING = [one for one in OF_AREA if not one.batch]

# What the caller of a call that the attempt ends gets.
ANSWERS = {
    "answer twice": "first", "fail after an answer": "first", "answer twice in one breath": "first",
    "hide an answer between a length and chunks": "first",
    "answer from two sides at once": r"[0-7]", "answer the call before this one": None,
    "answer more slowly than it may take": "Sandbox.Timedout",
    "never take the answer to its question": "Sandbox.Timedout",
}

NEIGHBOUR = """
import time
def handler(event, context):
    if event:
        time.sleep(event)
    return "mine"
"""


@pytest.fixture(scope="module")
def control(arena):
    """The same attempts on an API without walls."""
    event = {"area": "runtime_api", "facts": {"timeout": 1, "request_id": "r-1", "neighbour_id": "r-2", "stale_id": "r-0"}}
    return arena.control("control.py", {**event, "names": [one.name for one in OF_AREA]})


class Neighbour:
    """A function whose call is in flight, with its id."""

    def __init__(self, arena, seconds):
        self.arena, self.seconds = arena, seconds

    def __enter__(self):
        self.function = self.arena.function({"handler.py": NEIGHBOUR}).__enter__()
        self.function.invoke(0)
        self.thread = threading.Thread(target=self.call)
        self.thread.start()
        self.id = flint.until(self.started, 5, "the neighbour's call has begun", every=0.05)
        return self

    def call(self):
        self.answer = self.function.invoke(self.seconds)

    def started(self):
        logs = self.arena.server.client("logs")
        found = logs.filter_log_events(logGroupName=f"/aws/lambda/{self.function.name}", filterPattern="START")
        lines = [event["message"] for event in found["events"] if event["message"].startswith("START ")]
        return re.search("RequestId: (\\S+)", lines[1])[1] if len(lines) == 2 else None

    def __exit__(self, *_):
        self.thread.join()
        self.function.__exit__()


@pytest.fixture(scope="module")
def light(arena):
    """What became of those that leave the call as it is, made in one call; and the neighbour's answer."""
    with Neighbour(arena, 3) as neighbour, arena.function(arenas.inside_files(), MemorySize=512) as function:
        facts = {"neighbour_id": neighbour.id}
        results = {}
        # While the neighbour's call is in flight.
        for name in ("answer for another function", "fail another function's call"):
            results.update(make(function, facts, [name]))
        assert neighbour.thread.is_alive(), "the neighbour's call was in flight"
        results.update(make(function, facts, [one.name for one in LIGHT if one.name not in results]))
    assert neighbour.answer.json == "mine", neighbour.answer
    return results


def make(function, facts, names):
    """{name: (state, detail)}; one by one if an attempt was taken as the answer, so that it is known which."""
    answer = function.invoke({"area": "runtime_api", "facts": facts, "names": names}, tail=False)
    try:
        found = answer.json
    except ValueError:
        found = None
    if answer.error is None and isinstance(found, dict):
        return found
    if len(names) == 1:
        return {names[0]: ("worked", repr(answer))}
    return {name: one for single in names for name, one in make(function, facts, [single]).items()}


@pytest.mark.parametrize("one", LIGHT, ids=lambda one: one.name)
def test_runtime_api(one, light, control, settled):
    arenas.check(one, {one.name: (light[one.name], control[one.name])})


@pytest.mark.parametrize("one", ENDING, ids=lambda one: one.name)
def test_runtime_api_in_a_call_of_its_own(one, arena, control, settled):
    wanted = ANSWERS[one.name]
    timeout = TIMEOUT_S if wanted == "Sandbox.Timedout" else 15
    with arena.function(arenas.inside_files(), Timeout=timeout) as function:
        event = {"area": "runtime_api", "facts": {"timeout": timeout}}
        before = function.invoke({**event, "names": []}, tail=False)
        assert before.error is None, before
        event["facts"]["stale_id"] = before.request_id
        answer = function.invoke({**event, "direct": one.name}, tail=False)
        if wanted == "Sandbox.Timedout":
            held = answer.error == "Unhandled" and answer.json["errorType"] == wanted
            inside = ("refused" if held else "worked", repr(answer))
        elif wanted is None:
            inside = answer.json
        else:
            assert answer.error is None and re.fullmatch(wanted, answer.json), answer
            inside = function.invoke({**event, "direct": "recall"}, tail=False).json
    arenas.check(one, {one.name: (inside, control[one.name])})


# Before the first event: while extensions may register.

FLOOD = """
import http.client, json, os, threading
api = lambda: http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=30)
statuses = []
def waits(identifier):
    own = api()
    own.request("GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": identifier})
    own.getresponse().read()
for number in range(50):
    own = api()
    own.request("POST", "/2020-01-01/extension/register", json.dumps({"events": ["INVOKE"]}),
                {"Lambda-Extension-Name": f"flood-{number}"})
    answer = own.getresponse()
    statuses.append(answer.status)
    identifier = answer.headers.get("Lambda-Extension-Identifier")
    answer.read()
    if answer.status == 200:
        threading.Thread(target=waits, args=(identifier,), daemon=True).start()
def handler(event, context):
    for _ in range(10):
        threading.Thread(target=lambda: None, daemon=True).start()
    os._exit(statuses.count(200))
"""


def test_a_flood_of_extensions(arena, settled):
    """More than ten at their registration; how many there were is told by the exit status."""
    with arena.function({"handler.py": FLOOD}, Timeout=15) as function:
        answer = function.invoke()
    said = re.search("exit status (\\d+)", answer.json["errorMessage"]) if answer.error else None
    registered = int(said[1]) if said else None
    # Without the wall all of them are taken: what counts is that fifty were asked for.
    arenas.decide("runtime_api: a flood of extensions", registered == 10, None, "the attempt is its own count", repr(answer))


SUBSCRIBE = """
import http.client, json, os, threading
def ask(method, path, body, **headers):
    own = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=30)
    own.request(method, path, json.dumps(body), {k.replace("_", "-"): v for k, v in headers.items()})
    answer = own.getresponse()
    return answer.status, answer.headers, answer.read().decode()
_, headers, _ = ask("POST", "/2020-01-01/extension/register", {"events": ["INVOKE"]}, Lambda_Extension_Name="hearer")
me = headers["Lambda-Extension-Identifier"]
statuses = {}
for uri in json.loads(os.environ["URIS"]):
    statuses[uri] = ask("PUT", "/2022-07-01/telemetry", {
        "schemaVersion": "2022-12-13", "types": ["platform", "function"], "buffering": {"timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": uri}}, Lambda_Extension_Identifier=me)[0]
def waits():
    while True:
        ask("GET", "/2020-01-01/extension/event/next", None, Lambda_Extension_Identifier=me)
threading.Thread(target=waits, daemon=True).start()
def handler(event, context):
    print("something to tell")
    return statuses
"""


def test_telemetry_as_a_way_out(arena, settled):
    """The server sends telemetry to whom an extension names: never to anybody outside of the sandbox."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        port = listener.getsockname()[1]
        uris = [
            f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://[::1]:{port}/", f"http://0.0.0.0:{port}/",
            f"http://sandbox.localdomain@127.0.0.1:{port}/", f"http://sandbox.localdomain.:{port}/",
            f"http://sandbox.localdomain:{port}/\r\nX: 1", f"https://sandbox.localdomain:{port}/", f"ftp://sandbox:{port}/",
            "http://sandbox.localdomain:9001/2018-06-01/runtime/invocation/next", f"http://sandbox.localdomain:{port}/",
        ]
        variables = {"Variables": {"URIS": json.dumps(uris)}}
        with arena.function({"handler.py": SUBSCRIBE}, Environment=variables, Timeout=15) as function:
            answer = function.invoke()
            assert answer.error is None, answer
            function.invoke()
            reached = accepted(listener)
        # The last one is legal, and leads to the sandbox's own loopback, where nobody listens.
        wrong = {uri: status for uri, status in answer.json.items() if status == 200 and "sandbox.localdomain:" not in uri}
        # The control: the listener hears those who do reach it.
        socket.create_connection(("127.0.0.1", port)).close()
        fired = accepted(listener)
    held = not reached and not wrong and answer.json[uris[-1]] == 200
    arenas.decide("runtime_api: telemetry as a way out of the sandbox", held, fired, detail=f"{answer} {reached}")


def accepted(listener):
    try:
        listener.accept()[0].close()
        return True
    except TimeoutError:
        return False


# A runtime of its own, without ours between.

ROGUE = """#!/usr/bin/python3 -S
import os, socket, sys, threading, time
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def connect():
    return socket.create_connection((host, int(port)))
def ask(own, method, path, body=b""):
    own.sendall(b"%s /2018-06-01/runtime/%s HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (method, path, len(body), body))
    answer = own.recv(65536)
    while b"\\r\\n\\r\\n" not in answer:
        answer += own.recv(65536)
    head, _, rest = answer.partition(b"\\r\\n\\r\\n")
    fields = dict(l.lower().split(b": ", 1) for l in head.split(b"\\r\\n")[1:] if b": " in l)
    while len(rest) < int(fields.get(b"content-length", 0)):
        rest += own.recv(65536)
    return int(head.split()[1]), fields.get(b"lambda-runtime-aws-request-id"), rest
def answer(own, one, body):
    return ask(own, b"POST", b"invocation/" + one + b"/response", body)
"""

TWO_POLLERS = ROGUE + """
# Many ask for the same event at the same time; each that gets one answers it with its number.
def poll(number):
    own = connect()
    while True:
        status, one, body = ask(own, b"GET", b"invocation/next")
        if status == 200:
            answer(own, one, b'%d' % number)
        else:
            time.sleep(0.001)
for number in range(4):
    threading.Thread(target=poll, args=(number,)).start()
"""

EARLY = ROGUE + """
# Answers before there is a question, then behaves.
own = connect()
early = answer(own, b"11111111-2222-3333-4444-555555555555", b'"early"')[0]
while True:
    _, one, body = ask(own, b"GET", b"invocation/next")
    answer(own, one, b'%d' % early)
"""


@pytest.mark.parametrize(("name", "source", "wanted"), [
    ("many pollers for one event", TWO_POLLERS, r"[0-3]"), ("answer before the question", EARLY, "400"),
])
def test_a_runtime_of_its_own(arena, settled, name, source, wanted):
    """Calls are answered, each once, whatever the runtime does beside."""
    with arena.function({"bootstrap!": source}, Runtime="provided.al2023", Handler="x", Timeout=5) as function:
        answers = [function.invoke(tail=False) for _ in range(30)]
    held = all(a.error is None and re.fullmatch(wanted, a.body.decode()) for a in answers)
    arenas.decide(f"runtime_api: {name}", held, None, "the caller's answer is the proof", repr(answers[-1]))


def test_an_init_that_fails_at_length(arena, settled):
    """Two megabytes of error document: the caller hears of a failed init, and not all of that."""
    source = ROGUE + """
document = b'{"errorType":"Long","errorMessage":"' + b"x" * (2 << 20) + b'"}'
status = ask(connect(), b"POST", b"init/error", document)[0]
sys.exit(0 if status == 413 else 9)
"""
    began = time.monotonic()
    with arena.function({"bootstrap!": source}, Runtime="provided.al2023", Handler="x", Timeout=5) as function:
        answer = function.invoke(tail=False)
    held = answer.error == "Unhandled" and len(answer.body) < 4096 and "exit status 9" not in answer.body.decode()
    arenas.decide("runtime_api: an init error of two megabytes", held, None, "the caller's answer is the proof", repr(answer))
    assert time.monotonic() - began < 20
