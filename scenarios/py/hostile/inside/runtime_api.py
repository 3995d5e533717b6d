"""Attempts on the Runtime API, by the code that it belongs to.

Each says that it worked if what it did was taken. The control has a Runtime API without walls.
"""

import errno
import os
import re
import socket
import threading
import time

from attempts import case

AREA = "runtime_api"
RUNTIME = "/2018-06-01/runtime/"
EXTENSION = "/2020-01-01/extension/"


def prepare_control(facts):
    import naive
    api = naive.Naive(facts["request_id"])
    facts["api"] = api.address


def api(facts):
    host, port = facts.get("api", os.environ.get("AWS_LAMBDA_RUNTIME_API", "")).split(":")
    return host, int(port)


def send(facts, data, seconds=5, half=False):
    """What came back for these bytes, until the peer closed, fell silent, or one answer was whole."""
    with socket.create_connection(api(facts), timeout=seconds) as own:
        try:
            own.sendall(data)
            if half:
                own.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed before it had read everything
        return hear(own)


def hear(own):
    answer = b""
    try:
        while True:
            chunk = own.recv(65536)
            if not chunk:
                return answer
            answer += chunk
            head, found, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if found and length and len(body) >= int(length[1]):
                return answer
    except (TimeoutError, ConnectionResetError, BrokenPipeError):
        return answer


def status(answer):
    """The status; 0 if there was none: the connection was closed, or nothing came."""
    found = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return int(found[1]) if found else 0


def request(method, path, body=b"", headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: runtime", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def taken(facts, data, **how):
    """(whether it was taken, what came)"""
    answer = send(facts, data, **how)
    return 200 <= status(answer) < 300, answer[:200].decode("latin-1")


def any_taken(facts, messages, **how):
    """True if one of them was, and which."""
    for name, data in messages.items():
        worked, answer = taken(facts, data, **how)
        if worked:
            return True, f"{name}: {answer}"
    return False, f"{len(messages)} refused"


def respond(request_id, body=b'"hostile"', end="response", headers=()):
    return request("POST", f"{RUNTIME}invocation/{request_id}/{end}", body, headers)


# Whose turn it is.


@case(AREA, "answer an id that never was")
def _(facts):
    return taken(facts, respond("11111111-2222-3333-4444-555555555555"))


@case(AREA, "answer for another function")
def _(facts):
    return taken(facts, respond(facts["neighbour_id"]))


@case(AREA, "fail another function's call")
def _(facts):
    return taken(facts, respond(facts["neighbour_id"], end="error"))


@case(AREA, "ask for a second event while busy")
def _(facts):
    return taken(facts, request("GET", RUNTIME + "invocation/next"), seconds=2)


@case(AREA, "report a failed init after it")
def _(facts):
    return taken(facts, request("POST", RUNTIME + "init/error", b'{"errorType":"x","errorMessage":"y"}'))


# Which path it is.


@case(AREA, "reach beyond the API by dots in the path")
def _(facts):
    paths = [
        RUNTIME + "../../2018-06-01/ping/../secret", RUNTIME + "invocation/../../../etc/passwd", "/../../etc/passwd",
        RUNTIME + "invocation/%2e%2e/%2e%2e/next", RUNTIME + "./invocation/../invocation/x/response",
    ]
    return any_taken(facts, {path: request("GET", path) for path in paths})


@case(AREA, "hide an id behind an encoding")
def _(facts):
    own = facts["request_id"]
    hidden = {
        "percent": "".join(f"%{ord(c):02x}" for c in own), "nul": own + "%00", "upper": own.upper() + "x",
        "slash": "%2f" + own, "query": own + "?x=1", "semicolon": own + ";x", "unicode": own.replace("-", "%e2%80%90"),
    }
    return any_taken(facts, {name: respond(path) for name, path in hidden.items()})


@case(AREA, "reach the server's own services")
def _(facts):
    paths = ["/", "/2015-03-31/functions/", "/2015-03-31/functions/peer/invocations", "/metrics", "/health", "/debug/pprof",
             "/2018-06-01/", "/2019-01-01/runtime/invocation/next"]
    messages = {path: request("GET", path) for path in paths}
    messages["absolute"] = request("GET", "http://127.0.0.1:4566/2015-03-31/functions/")
    messages["proxy"] = b"CONNECT 127.0.0.1:4566 HTTP/1.1\r\nHost: 127.0.0.1:4566\r\n\r\n"
    return any_taken(facts, messages)


@case(AREA, "use methods that are not offered")
def _(facts):
    own = facts["request_id"]
    messages = {
        f"{method} {path}": request(method, path)
        for method in ("DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "BREW", "get", "PRI")
        for path in (RUNTIME + "invocation/next", f"{RUNTIME}invocation/{own}/response")
    }
    return any_taken(facts, messages, seconds=2)


# Broken HTTP. What is taken would be the answer of the call in flight.


def broken(facts, lines, rest=b"", **how):
    head = [f"POST {RUNTIME}invocation/{facts['request_id']}/response HTTP/1.1".encode(), b"Host: runtime", *lines]
    return taken(facts, b"\r\n".join(head) + b"\r\n\r\n" + rest, **how)


@case(AREA, "send two lengths that disagree")
def _(facts):
    return broken(facts, [b"Content-Length: 1", b"Content-Length: 3"], b"123")


@case(AREA, "send a length that is no number")
def _(facts):
    for text in (b"-1", b"+3", b"0x3", b"3, 4", b"99999999999999999999999", b"\xd9\xa3", b""):
        worked, answer = broken(facts, [b"Content-Length: " + text], b"123", seconds=2)
        if worked:
            return True, f"{text}: {answer}"
    return False


@case(AREA, "send chunks that are none")
def _(facts):
    for rest in (b"zz\r\nhello\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx", b"3\nabc\n0\n\n"):
        worked, answer = broken(facts, [b"Transfer-Encoding: chunked"], rest, seconds=2, half=True)
        if worked:
            return True, f"{rest}: {answer}"
    return False


@case(AREA, "send headers that are none")
def _(facts):
    for line in (b"X-A : 1", b"X-A\0: 1", b"X-A: a\0b", b" X-Folded: 1", b"no colon at all", b": nameless", b"X-A: a\rb"):
        worked, answer = broken(facts, [b"Content-Length: 3", line], b"123", seconds=2)
        if worked:
            return True, f"{line}: {answer}"
    return False


@case(AREA, "speak another protocol")
def _(facts):
    own = f"{RUNTIME}invocation/{facts['request_id']}/response".encode()
    return any_taken(facts, {
        "no version": b"POST " + own + b"\r\nContent-Length: 1\r\n\r\n1",
        "version 9.9": b"POST " + own + b" HTTP/9.9\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 80 + b"\n",
        "nothing": b"\r\n" * 100 + b"\n",
    }, seconds=2)


@case(AREA, "send a header of a megabyte")
def _(facts):
    return broken(facts, [b"Content-Length: 3", b"X-A: " + b"x" * (1 << 20)], b"123")


@case(AREA, "send a thousand headers")
def _(facts):
    return broken(facts, [b"Content-Length: 3", *[b"X-%d: 1" % n for n in range(1000)]], b"123")


@case(AREA, "send a path of a megabyte")
def _(facts):
    return taken(facts, request("POST", RUNTIME + "invocation/" + "x" * (1 << 20) + "/response"))


@case(AREA, "name no such way to answer")
def _(facts):
    line = b"Lambda-Runtime-Function-Response-Mode: teleport"
    return broken(facts, [b"Content-Length: 3", line], b"123")


# Floods.


@case(AREA, "hold thousands of connections", "limited", seconds=30, also=(errno.EMFILE,))
def _(facts):
    """More than are served at a time: each one that sent a request would have an answer."""
    held, answered = [], 0
    try:
        for _ in range(500):
            try:
                own = socket.create_connection(api(facts), timeout=1)
            except TimeoutError:
                break  # nobody accepts any more
            held.append(own)
            own.sendall(request("GET", "/2018-06-01/ping"))
        until = time.monotonic() + 2
        while time.monotonic() < until and answered < 400:
            answered = 0
            for own in held:
                own.setblocking(False)
                try:
                    answered += own.recv(1, socket.MSG_PEEK) == b"H"
                except OSError:
                    pass
            time.sleep(0.1)
    finally:
        for own in held:
            own.close()
    return answered >= 400, f"{answered} of {len(held)}"


@case(AREA, "send without reading the answers", "limited", seconds=30)
def _(facts):
    """Requests in a row on one connection: an API that reads on and on keeps the answers in its memory."""
    one = request("GET", "/2018-06-01/ping")
    sent, most = 0, (256 << 20) // len(one)
    with socket.create_connection(api(facts), timeout=2) as own:
        try:
            while sent < most:
                own.sendall(one * 1000)
                sent += 1000
        except (TimeoutError, ConnectionError):
            return False, f"{sent} requests"
    return True, f"{sent} requests"


@case(AREA, "register extensions after the init")
def _(facts):
    return taken(facts, register("late", ["INVOKE"]))


def register(name, events):
    import json
    body = json.dumps({"events": events}).encode()
    return request("POST", EXTENSION + "register", body, [f"Lambda-Extension-Name: {name}"])


@case(AREA, "act as an extension that is not there")
def _(facts):
    line = ["Lambda-Extension-Identifier: 11111111-2222-3333-4444-555555555555"]
    return any_taken(facts, {
        "next": request("GET", EXTENSION + "event/next", b"", line),
        "exit": request("POST", EXTENSION + "exit/error", b"{}", line),
        "init": request("POST", EXTENSION + "init/error", b"{}", line),
        "telemetry": request("PUT", "/2022-07-01/telemetry", b"{}", line),
        "logs": request("PUT", "/2020-08-15/logs", b"{}", line),
    }, seconds=2)


# Each of these ends the call in flight, and so has a call of its own. `direct` ones return the body that the caller gets.


@case(AREA, "answer twice", batch=False)
def _(facts):
    first = send(facts, respond(facts["request_id"], b'"first"'))
    assert status(first) == 202, first
    return taken(facts, respond(facts["request_id"], b'"second"'))


@case(AREA, "fail after an answer", batch=False)
def _(facts):
    first = send(facts, respond(facts["request_id"], b'"first"'))
    assert status(first) == 202, first
    return taken(facts, respond(facts["request_id"], b'{"errorType":"Late"}', "error"))


@case(AREA, "answer twice in one breath", batch=False)
def _(facts):
    """Two answers in one packet, by the same connection."""
    both = respond(facts["request_id"], b'"first"') + respond(facts["request_id"], b'"second"')
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(both)
        first = hear(own)
        if facts.get("control"):
            return status(first) == 202, "it took what came as one"
        second = first.partition(b"\r\n\r\n")[2].partition(b"}")[2] or hear(own)
    assert status(first) == 202, first
    return 200 <= status(second) < 300, second[:100].decode("latin-1")


@case(AREA, "hide an answer between a length and chunks", batch=False)
def _(facts):
    """By its length the first request ends elsewhere than by its chunks, which are what counts."""
    lines = ["Transfer-Encoding: chunked"]
    chunks = b"7\r\n\"first\"\r\n0\r\n\r\n" + respond(facts["request_id"], b'"second"')
    first = request("POST", f"{RUNTIME}invocation/{facts['request_id']}/response", b"x" * 3, lines)[:-3] + chunks
    with socket.create_connection(api(facts), timeout=2) as own:
        own.sendall(first)
        answers = hear(own)
        if not facts.get("control"):
            answers += hear(own)
    assert status(answers) == 202, answers
    if facts.get("control"):
        return True, "it took what came as one"
    return answers.count(b"HTTP/1.1 202") != 1, answers.decode("latin-1")


@case(AREA, "answer from two sides at once", batch=False)
def _(facts):
    """Eight connections at the same moment: one may be taken. The control takes them all."""
    gate, got = threading.Barrier(8), []

    def one(number):
        with socket.create_connection(api(facts), timeout=5) as own:
            gate.wait()
            own.sendall(respond(facts["request_id"], b'"%d"' % number))
            got.append(status(hear(own)))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got.count(202) != 1, got


@case(AREA, "answer the call before this one", batch=False)
def _(facts):
    return taken(facts, respond(facts["stale_id"]))


@case(AREA, "answer more slowly than it may take", "limited", batch=False)
def _(facts):
    """A byte every now and then, for longer than the function may run."""
    seconds = facts["timeout"] + (0.5 if facts.get("control") else 60)
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(respond(facts["request_id"], b"x" * 100)[:-100])
        until = time.monotonic() + seconds
        sent = 0
        while time.monotonic() < until:
            own.sendall(b"1")
            sent += 1
            time.sleep(0.1)
        own.sendall(b"1" * (100 - sent))
        return status(hear(own)) == 202


@case(AREA, "never take the answer to its question", "limited", batch=False)
def _(facts):
    """Holds requests half open until its time is over."""
    held = [socket.create_connection(api(facts), timeout=5) for _ in range(30)]
    for own in held:
        own.sendall(b"POST " + RUNTIME.encode())
    time.sleep(facts["timeout"] + (0.5 if facts.get("control") else 60))
    return all(own.fileno() >= 0 for own in held)
