"""Answers that are bent: the caller gets what was sent, unharmed, or an error; never half of it as a success."""

import base64
import json
import re

import botocore.eventstream
import pytest

import answers  # noqa: F401 - registers its cases
import arena as arenas
import attempts
import wire

CASES = attempts.of_area("answers")
NAMES = {one.name for one in CASES}
# Headers that an answer of ours may have; nothing that a function says makes others.
KNOWN = {
    "content-type", "content-length", "date", "x-amz-executed-version", "x-amz-log-result", "x-amz-function-error",
    "x-amzn-requestid", "x-amzn-trace-id", "transfer-encoding", "connection", "server",
}


@pytest.fixture(scope="module")
def control(arena):
    event = {"area": "answers", "facts": {"request_id": "r-1"}, "names": sorted(NAMES)}
    return arena.control("control.py", event)


class Caller:
    """What a caller without an SDK sees."""

    def __init__(self, arena, function, name, streaming=False):
        event = json.dumps({"area": "answers", "facts": {}, "direct": name}).encode()
        path = (f"/2021-11-15/functions/{function.name}/response-streaming-invocations" if streaming else
                f"/2015-03-31/functions/{function.name}/invocations")
        request = wire.Request(arena.server, "POST", path, event, headers={"X-Amz-Log-Type": "Tail"})
        response = request.sign().send(timeout=30)
        self.status, self.headers, self.body = response.status, response.headers, response.body
        self.events = frames(response.body) if streaming else []

    @property
    def error(self):
        return self.headers.get("x-amz-function-error")

    @property
    def error_type(self):
        return json.loads(self.body)["errorType"] if self.error else None

    @property
    def end(self):
        """The last event's document, and the bytes of those before."""
        kind, payload = self.events[-1]
        assert kind == "InvokeComplete", self.events
        return json.loads(payload), b"".join(p for k, p in self.events if k == "PayloadChunk")

    def __repr__(self):
        shown = {name: value[:60] for name, value in self.headers.items()}
        return f"{self.status} {shown} {self.body[:200]!r} {[(k, p[:80]) for k, p in self.events][-3:]}"


def frames(data):
    buffer = botocore.eventstream.EventStreamBuffer()
    buffer.add_data(data)
    return [(event.headers.get(":event-type"), event.payload) for event in buffer]


def verbatim(body):
    """The caller gets these very bytes as a success, and no header of the function's."""
    return lambda got: got.status == 200 and got.error is None and got.body == body and own_headers(got)


def own_headers(got):
    return set(got.headers) <= KNOWN and got.headers["x-amz-executed-version"] == "$LATEST" \
        and got.headers["content-type"] == "application/json" \
        and got.headers["x-amzn-requestid"] != "forged" and got.headers.get("x-amz-log-result") != "Zm9yZ2Vk"


def fails(kind):
    return lambda got: got.status == 200 and got.error == "Unhandled" and got.error_type == kind and own_headers(got)


def fails_with(body):
    return lambda got: got.status == 200 and got.error == "Unhandled" and got.body == body and own_headers(got)


def stream_fails(kind, most=None):
    def check(got):
        end, body = got.end
        code = end.get("ErrorCode", "")
        return got.status == 200 and re.fullmatch(kind, code) is not None and (most is None or len(body) <= most)
    return check


def stream_is(body):
    def check(got):
        end, found = got.end
        return got.status == 200 and "ErrorCode" not in end and found == body
    return check


def tail_is_whole(got):
    """The last bytes of the log are in one header, as base64, whatever they are."""
    tail = base64.b64decode(got.headers["x-amz-log-result"], validate=True)
    return got.status == 200 and own_headers(got) and len(tail) <= 4096 and b"REPORT RequestId" in tail


ANSWERS = {
    "one byte more than an answer may have": fails("Function.ResponseSizeTooLarge"),
    "a hundred thousand brackets": verbatim(b"[" * 100_000 + b"]" * 100_000),
    "numbers that are none": verbatim(b'{"a":NaN,"b":-Infinity,"c":1e999999,"d":0x10}'),
    "half a surrogate": verbatim(b'{"a":"\\ud800","b":"\\udc00\\ud800"}'),
    "bytes that are no text": verbatim(b'\xff\xfe\x00"\x80'),
    "no document at all": verbatim(b'{"a":'),
    "an object with the same name twice": verbatim(b'{"errorType":"a","errorType":"b","__proto__":{"x":1}}'),
    "headers for the caller": verbatim(b'"x"'),
    "headers for the next hop": verbatim(b'"x"'),
    "a status of its own": verbatim(
        b'{"statusCode":500,"headers":{"Set-Cookie":"a=b"},"body":"x","isBase64Encoded":true}'),
    "an error's document as a success": verbatim(b'{"errorType":"Sandbox.Timedout","errorMessage":"forged"}'),
    "an error that is no document": fails_with(b"<html>\r\nX-Amz-Evil: 1\r\n\r\n"),
    "an error's type with a line break": fails_with(b'{"errorType":"a\\r\\nX-Evil: 1","errorMessage":"b"}'),
    "an error's type of ten thousand letters": fails_with(b'{"errorType":"a","errorMessage":"b"}'),
    "an error larger than any answer": fails("Function.ResponseSizeTooLarge"),
    "an answer that is shorter than it says": fails("Runtime.ExitError"),
    "chunks that break off": fails("Runtime.ExitError"),
    "a chunk that lies": fails("Runtime.ExitError"),
    "an answer without an end": fails("Function.ResponseSizeTooLarge"),
    "a log that is no text": tail_is_whole,
}
STREAMS = {
    "a stream without an end": stream_fails(r"Sandbox\.Timedout", most=64 << 20),
    "a stream that breaks off": stream_fails(r"Runtime\.ExitError", most=4),
    "a stream's error in broken base64": stream_fails("Broken"),
    "a stream's error with a type that is none": stream_fails(r"[A-Za-z0-9._:-]{1,256}"),
    "a stream whose kind is a trick": stream_is(b"half"),
}


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_answers(one, arena, control, settled):
    streaming = one.name in STREAMS
    timeout = 2 if one.name == "a stream without an end" else 20
    with arena.function(arenas.inside_files(), Timeout=timeout) as function:
        with arenas.Watch(arena) as watch:
            got = Caller(arena, function, one.name, streaming)
        right = (STREAMS if streaming else ANSWERS)[one.name](got)
        # The one after it is answered as if nothing had been.
        after = function.invoke({"area": "answers", "facts": {}, "names": []}, tail=False)
    assert watch.growth <= 64, f"the server grew by {watch.growth:.0f} MiB"
    state = "refused" if right and after.json == {} else "worked"
    arenas.check(one, {one.name: ((state, f"{got} {after}"), control[one.name])})


def test_each_is_looked_at():
    assert NAMES == set(ANSWERS) | set(STREAMS)
