"""The way from inside to the server's front, attacked by who may use it: asked as anybody, flooded, held up, overfed."""

import secrets
import threading
import time

import pytest

import arena as arenas
import flint
import inside

# Connections that one environment may have open at the server (`front/inside.rs`).
CONNECTIONS = 32

ASKS = """
import bare, os
def handler(event, context):
    own = [os.environ[n] for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    if event == "keys":
        return own
    body = b'"' + b"x" * event["fill"] + b'"' if "fill" in event else b""
    request = bare.signed("lambda", event.get("method", "GET"), event.get("signed", event["path"]), body, keys=event.get("keys"))
    request.full_url = os.environ["AWS_ENDPOINT_URL"] + event["path"]
    for name in event.get("without", []):
        request.headers.pop(name.capitalize(), None)
    for name, value in event.get("with", {}).items():
        request.add_header(name, value)
    try:
        status, answer = bare.send(request)
    except OSError as error:
        status, answer = 0, repr(error)
    return status, answer[:500]
"""

# Opens as many connections as it can, from as many processes as it may, says half of something on each and keeps them. The rest of
# what it says is for the test to see that what was accepted was ended.
FLOODS = """
import os, socket, time
def handler(event, context):
    host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    first = socket.create_connection((host, int(port)), timeout=30)
    first.sendall(event["says"].encode())
    began = time.monotonic()
    children = []
    for _ in range(4):
        child = os.fork()
        if child:
            children.append(child)
            continue
        held, until = [], time.monotonic() + event["seconds"]
        while time.monotonic() < until:
            try:
                own = socket.create_connection((host, int(port)), timeout=1)
                own.sendall(event["says"].encode())
                held.append(own)
            except OSError:
                time.sleep(0.02)
        os._exit(0)
    try:
        while first.recv(65536):
            pass
        ended = time.monotonic() - began
    except OSError as error:
        ended = time.monotonic() - began if isinstance(error, ConnectionError) else None
    for child in children:
        os.waitpid(child, 0)
    return ended
"""

CALLS = """
import json
from bare import sqs
def handler(event, context):
    return sqs("SendMessage", QueueUrl=event, MessageBody="x")
"""


@pytest.fixture(scope="module")
def powerful(arena):
    return inside.role(arena.server, "hostile-" + secrets.token_hex(4), [("*", "*")])


def function(arena, source, role):
    made = arena.function({"handler.py": source, "bare.py": inside.BARE})
    made.__enter__()
    arena.client.update_function_configuration(FunctionName=made.name, Role=role)
    arena.client.get_waiter("function_updated_v2").wait(FunctionName=made.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return made


def test_asked_as_somebody_else(arena, powerful, settled):
    """Each is a good request with one thing bent; the control is the same request as it should be."""
    functions = [function(arena, ASKS, powerful) for _ in range(2)]
    try:
        one, other = functions
        ask = lambda **event: tuple(one.invoke({"path": "/2015-03-31/functions/", **event}, tail=False).json)  # noqa: E731
        own, others = one.invoke("keys", tail=False).json, other.invoke("keys", tail=False).json
        arena.client.delete_function(FunctionName=other.name)
        flint.until(lambda: ask(keys=others)[0] == 403, 10, "they end with their environment")
        bent = {
            "without a signature": {"without": ["authorization"]},
            "without a token": {"without": ["x-amz-security-token"]},
            "with another's token": {"keys": [own[0], own[1], others[2]]},
            "with another's secret": {"keys": [own[0], others[1], own[2]]},
            "with credentials that are over": {"keys": others},
            "at another time": {"with": {"x-amz-date": "20200101T000000Z"}}, "for another path": {"signed": "/2015-03-31/layers/"},
            "as the server's own": {"keys": ["AKIAIOSFODNN7EXAMPLE", "x" * 40, own[2]]},
        }
        for name, event in bent.items():
            status, body = ask(**event)
            control = ask()[0] == 200
            arenas.decide(f"endpoint: ask {name}", status in (400, 403) and "Functions" not in body, control, detail=f"{status} {body[:200]}")
    finally:
        one.__exit__()


def test_too_much_at_once(arena, powerful, settled):
    """What the front bounds outside it bounds inside."""
    one = function(arena, ASKS, powerful)
    try:
        ask = lambda **event: tuple(one.invoke({"path": "/2015-03-31/functions/", **event}, tail=False).json)  # noqa: E731
        status, _ = ask(**{"with": {"x-padding": "x" * (70 << 10)}})
        arenas.decide("endpoint: a head without end", status == 431, ask(**{"with": {"x-padding": "x" * 1000}})[0] == 200, detail=str(status))
        ask = lambda fill: tuple(one.invoke(  # noqa: E731
            {"method": "POST", "path": "/2015-03-31/functions/peer/invocations", "fill": fill}, tail=False).json)
        status, said = ask(7 << 20)
        # 413, or the end of the connection for who does not listen while it sends.
        held = status in (413, 0)
        arenas.decide("endpoint: a body that is too large", held, ask(3 << 20)[0] == 200, detail=f"{status} {said}")
    finally:
        one.__exit__()


def test_a_flood_of_half_requests(arena, powerful, settled):
    """More connections than there are for everybody, none of which says what it wants; meanwhile everybody is served."""
    sqs = arena.server.client("sqs")
    url = sqs.create_queue(QueueName="hostile-" + secrets.token_hex(4))["QueueUrl"]
    flood, peer = function(arena, FLOODS, powerful), function(arena, CALLS, powerful)
    try:
        assert peer.invoke(url, tail=False).json[0] == 200
        before = sum(arena.host.descriptors().values())
        said = {}
        event = {"seconds": 8, "says": "GET /2015-03-31/functions/ HTTP/1.1\r\nHost: x\r\nA: "}
        thread = threading.Thread(target=lambda: said.update(answer=flood.invoke(event, tail=False)))
        thread.start()
        slowest, grown = 0.0, 0
        while thread.is_alive():
            arena.ask_peer()
            began = time.monotonic()
            answer = peer.invoke(url, tail=False)
            slowest = max(slowest, time.monotonic() - began)
            assert answer.error is None and answer.json[0] == 200, answer
            grown = max(grown, sum(arena.host.descriptors().values()) - before)
            time.sleep(0.05)
        thread.join()
    finally:
        flood.__exit__()
        peer.__exit__()
        sqs.delete_queue(QueueUrl=url)
    answer = said["answer"]
    assert answer.error is None, answer
    no_control = "without the wall the server's own descriptors would run out"
    arenas.decide("endpoint: a flood of half requests", grown <= CONNECTIONS + arenas.POOLS, None, no_control, f"descriptors +{grown}")
    arenas.decide("endpoint: hold others up", slowest <= arenas.PEER_LIMIT_S, None, no_control, f"{slowest:.2f} s")
    arenas.decide("endpoint: a head that never ends", answer.json is not None and answer.json < 13, None,
                  "the attempt is its own measure", f"ended after {answer.json} s")
    flint.figure("inside_flood_peer_slowest", slowest, "s")
