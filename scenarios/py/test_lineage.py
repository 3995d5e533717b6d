"""One chain is one trace, with no change to anyone's code, and a chain that runs in circles is stopped."""

import json
import os
import re
import subprocess

import botocore.exceptions
import pytest

import flint
import sdks
from test_dlq import Told, lines
from test_mappings import count, queue

HEADER = re.compile(
    r"Root=(?P<root>1-[0-9a-f]{8}-[0-9a-f]{24});Parent=[0-9a-f]{16};Sampled=[01];"
    r"Lineage=1:(?P<event>[0-9a-f]{32}):(?P<depth>\d+)(?P<passes>(,[0-9a-f]{8}:\d+)+)"
)

SEES = """
import os
def handler(event, context):
    return os.environ["_X_AMZN_TRACE_ID"]
"""

# What a function's SDK does, done by the same SDK outside: it takes the header from the environment.
CALLS_IN_JS = """
const { Lambda } = require(process.env.SDK);
new Lambda({ endpoint: process.env.AWS_ENDPOINT_URL, maxAttempts: 1 })
  .invoke({ FunctionName: process.argv[1], Payload: "{}" })
  .then((answer) => console.log(Buffer.from(answer.Payload).toString()));
"""


class Inside:
    """The environment of a function, as SDKs look at it."""

    def __init__(self, header):
        self.variables = {"AWS_LAMBDA_FUNCTION_NAME": "inside", "_X_AMZN_TRACE_ID": header}

    def __enter__(self):
        os.environ.update(self.variables)

    def __exit__(self, *_):
        for name in self.variables:
            del os.environ[name]


def read(header):
    found = HEADER.match(header)
    assert found, header
    passes = dict(part.split(":") for part in found["passes"].strip(",").split(","))
    return found["root"], found["event"], int(found["depth"]), [int(n) for n in passes.values()]


def with_header(client, operation, header):
    """Sends `X-Amzn-Trace-Id` with the calls of one client's operation."""
    def add(request, **_):
        request.headers.add_header("X-Amzn-Trace-Id", header)

    client.meta.events.register(f"before-sign.lambda.{operation}", add)


def test_every_invocation_starts_a_chain_of_its_own(shared, functions, name):
    shared.create(functions, name, SEES)
    first, second = (flint.invoke(functions, name, {}) for _ in range(2))
    root, event, depth, passes = read(first.json)
    assert event == first.request_id.replace("-", "") and depth == 0 and passes == [1]
    assert root.replace("-", "") == "1" + event
    assert read(second.json)[0] != root


def test_a_callers_root_is_kept(shared, functions, name):
    shared.create(functions, name, SEES)
    client = shared.client("lambda")
    theirs = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Odd=thing"
    with_header(client, "Invoke", theirs)
    told = flint.invoke(client, name, {}).json
    assert told.startswith("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:"), told
    assert told.endswith(";Odd=thing")


@pytest.mark.parametrize("odd", ["nothing", "Root=1-2-3", "Root=", "x" * 3000, "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=9:x"])
def test_a_header_that_is_none_starts_a_chain(shared, functions, odd):
    name = "sees-odd"
    try:
        shared.create(functions, name, SEES)
    except functions.exceptions.ResourceConflictException:
        pass
    client = shared.client("lambda")
    with_header(client, "Invoke", odd)
    read(flint.invoke(client, name, {}).json)


def check_two_hops(first, second):
    (root, event, depth, passes), (root_b, event_b, depth_b, passes_b) = read(first), read(second)
    assert root == root_b and event != event_b, (first, second)
    assert (depth, depth_b) == (0, 1) and (passes, passes_b) == ([1], [1, 1])


def test_a_call_by_the_python_sdk_goes_on_with_the_chain(shared, functions, name):
    for each in (name, f"{name}-b"):
        shared.create(functions, each, SEES)
    first = flint.invoke(functions, name, {}).json
    with Inside(first):
        second = flint.invoke(functions, f"{name}-b", {}).json
    check_two_hops(first, second)


def test_a_call_by_the_javascript_sdk_goes_on_with_the_chain(shared, functions, name):
    modules = sdks.javascript()
    for each in (name, f"{name}-b"):
        shared.create(functions, each, SEES)
    first = flint.invoke(functions, name, {}).json
    done = subprocess.run(
        ["node", "-e", CALLS_IN_JS, f"{name}-b"], capture_output=True, text=True, timeout=60, check=False,
        env={**flint.clean_environment(), **{k: str(v) for k, v in shared.environment().items()}, **Inside(first).variables,
             "SDK": str(modules / "node_modules/@aws-sdk/client-lambda")},
    )
    assert done.returncode == 0, done.stderr
    check_two_hops(first, json.loads(done.stdout))


def test_a_loop_of_calls_is_stopped_at_16(shared, functions, name):
    shared.create(functions, name, SEES)
    headers = [flint.invoke(functions, name, {}).json]
    while True:
        with Inside(headers[-1]):
            try:
                headers.append(flint.invoke(functions, name, {}).json)
            except functions.exceptions.RecursiveInvocationException as error:
                assert "recursive loop" in error.response["Error"]["Message"]
                break
    seen = [read(header) for header in headers]
    assert len(seen) == 16 and [s[3] for s in seen] == [[n] for n in range(1, 17)]
    assert len({s[0] for s in seen}) == 1 and [s[2] for s in seen] == list(range(16))
    flint.figure("sync_loop_passes", len(seen))


def test_recursion_can_be_allowed(shared, functions, name):
    shared.create(functions, name, SEES)
    assert functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    client = shared.client("lambda")
    header = flint.invoke(functions, name, {}).json
    with_header(client, "Invoke", re.sub(r"(,[0-9a-f]{8}):1$", r"\1:16", header))
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        client.invoke(FunctionName=name)
    said = caught.value.response
    assert said["Error"]["Code"] == "RecursiveInvocationException", said
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 400

    put = functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    assert put["RecursiveLoop"] == "Allow"
    assert functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
    assert read(flint.invoke(client, name, {}).json)[3] == [17]
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Perhaps")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.put_function_recursion_config(FunctionName=name + "x", RecursiveLoop="Allow")


PRINTS = """
import os
def handler(event, context):
    print("HEADER", os.environ["_X_AMZN_TRACE_ID"])
    return "done"
"""


def headers(logs, name):
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="HEADER")["events"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [e["message"].split(" ", 1)[1].strip() for e in events if e["message"].startswith("HEADER")]


def test_three_hops_are_one_trace(fresh):
    """An event that nobody waits for, its answer in a queue, the function behind the queue."""
    functions, sqs, logs, told = fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs"), Told(fresh)
    url, arn = queue(sqs, "answers")
    fresh.create(functions, "first", PRINTS)
    fresh.create(functions, "last", PRINTS)
    functions.put_function_event_invoke_config(FunctionName="first", DestinationConfig={"OnSuccess": {"Destination": arn}})
    functions.create_event_source_mapping(FunctionName="last", EventSourceArn=arn)
    event = functions.invoke(FunctionName="first", InvocationType="Event", Payload="{}")["ResponseMetadata"]["RequestId"]
    last = flint.until(lambda: headers(logs, "last"), 20, "the last hop")
    [first] = headers(logs, "first")
    (root, first_event, depth, _), (root_b, _, depth_b, passes_b) = read(first), read(last[0])
    assert root == root_b == f"1-{event[:8]}-{event[9:].replace('-', '')}"
    assert first_event == event.replace("-", "") and depth_b > depth and passes_b == [1, 1]

    chain = flint.until(lambda: (lambda c: c if len(c["Events"]) >= 2 else None)(told("events", "show", event)), 10, "the chain")
    assert chain["Complete"] and chain["TraceId"] == root
    targets = {entry.get("Target", "").rsplit(":", 1)[-1] for e in chain["Events"] for entry in e["Entries"]}
    assert {"first", "last"} <= targets, chain
    assert chain["Events"][1]["CauseId"] == event
    assert all(e["TraceId"] == root for e in lines(told, "events", "--trace", root, "-n", "100"))
    flint.figure("three_hops_traces", len({root, root_b}))


def test_a_loop_of_destinations_is_stopped_at_16(fresh):
    """Two functions that hand each other what they answer."""
    functions, sqs, logs, told = fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs"), Told(fresh)
    dead, dead_arn = queue(sqs, "dead")
    for name in ("ping", "pong"):
        fresh.create(functions, name, PRINTS, DeadLetterConfig={"TargetArn": dead_arn})
    for name, other in (("ping", "pong"), ("pong", "ping")):
        arn = functions.get_function_configuration(FunctionName=other)["FunctionArn"]
        functions.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn}})
    functions.invoke(FunctionName="ping", InvocationType="Event", Payload="{}")
    flint.until(lambda: sum(count(sqs, dead)) == 1, 30, lambda: len(headers(logs, "ping")))
    for name in ("ping", "pong"):
        seen = [read(header) for header in headers(logs, name)]
        assert len(seen) == 16 and len({s[0] for s in seen}) == 1, (name, seen)
    [group] = told("dlq")["Groups"]
    assert "RecursiveInvocation" in group["ErrorType"], group


def test_a_loop_over_a_queue_is_stopped_at_16(fresh):
    """fn -> queue -> fn: what the function's SDK would send, the same SDK sends from outside."""
    functions, sqs, logs, told = fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs"), Told(fresh)
    fresh.create(functions, "circle", PRINTS, Timeout=1)
    dead, dead_arn = queue(sqs, "dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = queue(sqs, "circle", RedrivePolicy=redrive, VisibilityTimeout="1")
    functions.create_event_source_mapping(FunctionName="circle", EventSourceArn=arn)
    sqs.send_message(QueueUrl=url, MessageBody="round")
    for passes in range(1, 17):
        seen = flint.until(
            lambda: (lambda all: all if len(all) == passes else None)(headers(logs, "circle")), 20, f"pass {passes}",
        )
        with Inside(seen[-1]):
            sqs.send_message(QueueUrl=url, MessageBody="round")
    flint.until(lambda: sum(count(sqs, dead)) == 1, 30, lambda: (count(sqs, url), count(sqs, dead)))
    seen = [read(header) for header in headers(logs, "circle")]
    assert len(seen) == 16 and [s[3] for s in seen] == [[n] for n in range(1, 17)]
    assert len({s[0] for s in seen}) == 1 and [s[2] for s in seen] == sorted(s[2] for s in seen)
    flint.figure("queue_loop_passes", len(seen))

    # It waits with the reason, and its lineage is shown.
    [group] = told("dlq")["Groups"]
    assert group["ErrorType"] == "RecursiveInvocationException" and "too often" in group["ErrorMessage"], group
    chain = told("events", "show", group["EventId"])
    assert chain["TraceId"] == seen[0][0] and len(chain["Events"]) == 17, chain
    assert [e["Depth"] for e in chain["Events"]] == sorted(e["Depth"] for e in chain["Events"])
    text = told.text("events", "show", group["EventId"])
    assert text.count("settled") == 16 and "RecursiveInvocationException" in text and "waits: flint dlq" in text, text

    # Allowed, it goes on.
    functions.put_function_recursion_config(FunctionName="circle", RecursiveLoop="Allow")
    assert told("dlq", "redrive", "--all")["Done"] == 1
    flint.until(lambda: len(headers(logs, "circle")) == 17, 20, "one pass more")
