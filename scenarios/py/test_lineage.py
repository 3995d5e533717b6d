"""One chain is one trace, with no change to anyone's code, and a chain that runs in circles is stopped."""

import json
import os
import re
import subprocess

import botocore.exceptions
import pytest

import flint
import sdks

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
