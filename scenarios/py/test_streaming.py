"""Response streaming over the wire: InvokeWithResponseStream with boto3, from the first byte to the end or the failure."""

import json
import time
from pathlib import Path

import pytest

import clients
import flint

APP = """
const s = awslambda.streamifyResponse;
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
exports.parts = s(async (event, stream) => {
  await wait(20);
  stream.write(JSON.stringify({ at: Date.now() }));
  await wait(300);
  stream.end("end");
});
exports.large = s(async (event, stream) => {
  const block = Buffer.alloc(65536, "x");
  for (let i = 0; i < event.blocks; i++) {
    if (!stream.write(block)) await new Promise((r) => stream.once("drain", r));
  }
  stream.end();
});
exports.http = s(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 418 });
  stream.write("tea");
  stream.end();
});
exports.middle = s(async (event, stream) => { stream.write("half"); throw new TypeError("no way"); });
exports.before = s(async () => { throw new TypeError("early"); });
exports.leaves = s(async (event, stream) => { stream.write("half"); await wait(50); process.exit(3); });
exports.slow = s(async (event, stream) => { stream.write("half"); await wait(60000); });
exports.plain = async (event) => ({ got: event });
"""


@pytest.fixture(scope="module", params=["own-node", "aws-lambda-ric"])
def streaming(request, shared, functions):
    """Makes a function per handler, and reads a call's events; on our runtime, and on the official client."""
    made = {}
    recipe = clients.CLIENTS[request.param](shared)
    settings_of_all = {
        "Runtime": recipe["Runtime"], "MemorySize": 256,
        "Environment": {"Variables": {"CLIENT": request.param, **recipe.get("variables", {})}},
    }

    def call(handler, payload=None, tail=True, **settings):
        if handler not in made:
            made[handler] = f"stream-{request.param}-{handler}"
            files = {**recipe["files"], "app.js": APP}
            shared.create(functions, made[handler], files, handler=f"app.{handler}", **settings_of_all, **settings)
        answer = functions.invoke_with_response_stream(
            FunctionName=made[handler], Payload=json.dumps(payload or {}).encode(), LogType="Tail" if tail else "None"
        )
        assert answer["StatusCode"] == 200
        return answer["EventStream"]

    call.name = lambda handler: made[handler]
    return call


def events(stream):
    """The bytes of all chunks, and the closing event."""
    body, complete = b"", None
    for event in stream:
        assert complete is None, "nothing follows the end"
        if "PayloadChunk" in event:
            body += event["PayloadChunk"]["Payload"]
        else:
            complete = event["InvokeComplete"]
    assert complete is not None, "the stream says that it is over"
    return body, complete


def test_parts_arrive_as_they_are_written(streaming):
    streaming("parts")
    best, until = 1000, time.monotonic() + 30
    # A busy host makes single ones late; one that gathers parts is late by 200 ms each time.
    while best > 5 and time.monotonic() < until:
        stream = iter(streaming("parts", tail=False))
        first = next(stream)
        now = time.time() * 1000
        written = json.loads(first["PayloadChunk"]["Payload"])["at"]
        rest, complete = events(stream)
        assert (rest, "ErrorCode" in complete) == (b"end", False)
        assert time.time() * 1000 - now > 200, "the first part waited for the last"
        best = min(best, now - written)
    flint.figure("streaming.first_part", best, "ms")
    assert best <= 5


def resident(pid):
    """What a process holds in memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_a_large_stream_costs_the_server_little(shared, streaming):
    events(streaming("large", {"blocks": 1}, Timeout=60))
    pid = shared.process.pid
    before, peak, total = resident(pid), 0, 0
    for number, event in enumerate(streaming("large", {"blocks": 1600})):
        if "PayloadChunk" in event:
            total += len(event["PayloadChunk"]["Payload"])
        if number == 10:
            time.sleep(1)  # a caller who does not read for a while
        if number % 20 == 0:
            peak = max(peak, resident(pid))
    assert total == 1600 * 65536
    flint.figure("streaming.server_memory", max(0, peak - before) / (1 << 20), "MiB")
    assert peak - before <= 16 << 20


def test_an_http_answer_has_its_head_before_the_body(streaming):
    body, complete = events(streaming("http"))
    assert body == b'{"statusCode":418}' + bytes(8) + b"tea" and "ErrorCode" not in complete


@pytest.mark.parametrize(("handler", "body", "kind", "message"), [
    ("middle", b"half", "TypeError", "no way"),
    ("before", b"", "TypeError", "early"),
    ("leaves", b"half", "Runtime.ExitError", "exit status 3"),
    ("slow", b"half", "Sandbox.Timedout", "timed out after 1.00 seconds"),
])
def test_a_stream_that_fails_says_so_at_its_end(streaming, handler, body, kind, message):
    found, complete = events(streaming(handler, **({"Timeout": 1} if handler == "slow" else {})))
    assert found == body
    assert complete["ErrorCode"]
    document = json.loads(complete["ErrorDetails"])
    assert document["errorType"] == kind and message in document["errorMessage"]
    # The environment, or the next, is there for the next call.
    assert events(streaming(handler))[0] == body


def test_what_is_no_stream_is_one_chunk(streaming):
    body, complete = events(streaming("plain", [1]))
    assert (json.loads(body), "ErrorCode" in complete) == ({"got": [1]}, False)


def test_a_caller_who_takes_one_piece_gets_it_whole(functions, streaming):
    events(streaming("large", {"blocks": 1}, Timeout=60))
    answer = flint.invoke(functions, streaming.name("large"), {"blocks": 3})
    assert (answer.error, answer.body) == (None, b"x" * 3 * 65536)
    # Six megabytes are the most in one piece.
    answer = flint.invoke(functions, streaming.name("large"), {"blocks": 100})
    assert answer.json["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_caller_who_leaves_takes_nothing_along(functions, streaming):
    stream = streaming("large", {"blocks": 400}, Timeout=60)
    next(iter(stream))
    stream.close()
    assert events(streaming("large", {"blocks": 2}))[0] == b"x" * 2 * 65536


def test_the_tail_of_the_log_comes_last(streaming):
    import base64

    _, complete = events(streaming("http"))
    tail = base64.b64decode(complete["LogResult"]).decode()
    assert "START RequestId: " in tail and "REPORT RequestId: " in tail
