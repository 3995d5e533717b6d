"""Answers that are bent: each is posted to the Runtime API as it stands, whatever our runtime would have made of it.

An attempt says that it worked if the API took it. What matters inside is what the caller then gets.
"""

import os
import socket
import time

from attempts import case
from runtime_api import RUNTIME, api, hear, request, respond, send, status

AREA = "answers"
# What an answer may have, as the reference has it.
LIMIT = 6_291_556


def prepare_control(facts):
    import runtime_api
    runtime_api.prepare_control(facts)


def answer(name, body=b'"x"', end="response", headers=(), expect="contained"):
    """A case that posts this and sees whether it was taken."""

    @case(AREA, name, expect, batch=False, seconds=20)
    def _(facts):
        made = body() if callable(body) else body
        got = send(facts, respond(facts["request_id"], made, end, headers), seconds=10)
        return 200 <= status(got) < 300, got[:100].decode("latin-1")


answer("one byte more than an answer may have", lambda: b'"' + b"x" * (LIMIT - 1) + b'"', expect="denied")
answer("a hundred thousand brackets", b"[" * 100_000 + b"]" * 100_000)
answer("numbers that are none", b'{"a":NaN,"b":-Infinity,"c":1e999999,"d":0x10}')
answer("half a surrogate", b'{"a":"\\ud800","b":"\\udc00\\ud800"}')
answer("bytes that are no text", b'\xff\xfe\x00"\x80')
answer("no document at all", b'{"a":')
answer("an object with the same name twice", b'{"errorType":"a","errorType":"b","__proto__":{"x":1}}')
answer("headers for the caller", headers=[
    "Set-Cookie: session=stolen", "X-Amz-Function-Error: none", "X-Amz-Executed-Version: 99", "Location: http://127.0.0.1/",
    "X-Amz-Log-Result: Zm9yZ2Vk", "Access-Control-Allow-Origin: *", "X-Amzn-RequestId: forged", "Content-Encoding: gzip",
])
answer("headers for the next hop", headers=[
    "Connection: X-Amz-Function-Error, close", "Keep-Alive: timeout=9999", "Upgrade: h2c", "Trailer: X-Amz-Function-Error",
    "TE: trailers", "Proxy-Authenticate: Basic",
])
answer("a status of its own", b'{"statusCode":500,"headers":{"Set-Cookie":"a=b"},"body":"x","isBase64Encoded":true}',
       headers=["Status: 500", "X-Status: 500", "Lambda-Runtime-Status: 500"])
answer("an error's document as a success", b'{"errorType":"Sandbox.Timedout","errorMessage":"forged"}',
       headers=["Lambda-Runtime-Function-Error-Type: Sandbox.Timedout"])
answer("an error that is no document", b"<html>\r\nX-Amz-Evil: 1\r\n\r\n", "error")
answer("an error's type with a line break", b'{"errorType":"a\\r\\nX-Evil: 1","errorMessage":"b"}', "error")
answer("an error's type of ten thousand letters", b'{"errorType":"a","errorMessage":"b"}', "error",
       headers=["Lambda-Runtime-Function-Error-Type: " + "T" * 10_000])
answer("an error larger than any answer", lambda: b'{"errorType":"a","errorMessage":"' + b"x" * LIMIT + b'"}', "error",
       expect="denied")


# Answers that do not end, or end too soon. The process ends with them, so that nothing comes after.


def chunked(facts, streaming=False):
    lines = ["Transfer-Encoding: chunked"]
    if streaming:
        lines.append("Lambda-Runtime-Function-Response-Mode: streaming")
    lines.append("Content-Type: text/plain; x=\"y\"")
    head = request("POST", f"{RUNTIME}invocation/{facts['request_id']}/response", b"", lines)
    return head.replace(b"Content-Length: 0\r\n", b"")


def leave(facts):
    if not facts.get("control"):
        os._exit(0)


@case(AREA, "an answer that is shorter than it says", "contained", batch=False)
def _(facts):
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(respond(facts["request_id"], b'"' + b"x" * 1000 + b'"')[:-500])
        own.shutdown(socket.SHUT_WR)
        hear(own)
    leave(facts)
    return True


@case(AREA, "chunks that break off", "contained", batch=False)
def _(facts):
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(chunked(facts) + b'5\r\n"xxx"\r\n')
        own.shutdown(socket.SHUT_WR)
        hear(own)
    leave(facts)
    return True


@case(AREA, "a chunk that lies", "contained", batch=False)
def _(facts):
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(chunked(facts) + b'5\r\n"xxx"YYYYY\r\n0\r\n\r\n')
        hear(own)
    leave(facts)
    return True


def pour(facts, streaming):
    """A piece after the other, without an end: as fast as it goes, or slowly and for longer than the call may take."""
    size = 0x4000 if streaming else 0x100000
    sent, block = 0, b"%x\r\n" % size + b"x" * size + b"\r\n"
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(chunked(facts, streaming))
        try:
            while sent < 40 or not facts.get("control"):
                own.sendall(block)
                sent += 1
                time.sleep(0.005 if streaming else 0)
        except OSError:
            pass
    return sent


@case(AREA, "an answer without an end", "denied", batch=False)
def _(facts):
    return pour(facts, False) >= 40


@case(AREA, "a stream without an end", "limited", batch=False)
def _(facts):
    return pour(facts, True) >= 40


@case(AREA, "a stream that breaks off", "contained", batch=False)
def _(facts):
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(chunked(facts, True) + b"4\r\nhalf\r\n")
        time.sleep(0.1)
    leave(facts)
    return True


def trailing(facts, lines):
    """A stream whose trailers say that it failed."""
    end = b"4\r\nhalf\r\n0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
    with socket.create_connection(api(facts), timeout=5) as own:
        head = chunked(facts, True).replace(
            b"\r\n\r\n", b"\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n")
        own.sendall(head + end)
        return 200 <= status(hear(own)) < 300


@case(AREA, "a stream's error in broken base64", "contained", batch=False)
def _(facts):
    return trailing(facts, [b"Lambda-Runtime-Function-Error-Type: Broken", b"Lambda-Runtime-Function-Error-Body: %%%!"])


@case(AREA, "a stream's error with a type that is none", "contained", batch=False)
def _(facts):
    return trailing(facts, [b"Lambda-Runtime-Function-Error-Type: \x01<script>", b"Lambda-Runtime-Function-Error-Body: e30="])


@case(AREA, "a stream whose kind is a trick", "contained", batch=False)
def _(facts):
    """Its content type would be a header of the caller's answer."""
    line = b'Content-Type: text/html; charset="\xe2\x80\xae'
    with socket.create_connection(api(facts), timeout=5) as own:
        own.sendall(chunked(facts, True).replace(b'Content-Type: text/plain; x="y"', line) + b"4\r\nhalf\r\n0\r\n\r\n")
        got = hear(own)
    return 200 <= status(got) < 300, got[:100].decode("latin-1")


@case(AREA, "a log that is no text", "contained", batch=False)
def _(facts):
    """The tail of the log goes into a header of the answer."""
    os.write(1 if not facts.get("control") else 2, b"\r\nX-Evil: 1\r\n\r\n\xff\x00\x1b[2J" + bytes(range(256)) * 20 + b"\n")
    return True
