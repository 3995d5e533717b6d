"""Extensions from a layer: told of every invocation, in order, and of the end."""

import uuid

import pytest

import flint

HANDLER = "def handler(event, context):\n    return context.aws_request_id\n"

# Printed lines of an extension are lines of the function's log.
WATCHER = """#!/bin/sh
# The interpreter of the runtime, wherever it is.
python=$(command -v python3 || ls /var/lang/bin/python3* | head -1)
exec "$python" -S /opt/watcher.py "$(basename "$0")"
"""

SOURCE = """
import http.client, json, os, sys, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, body=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    api.request(method, "/2020-01-01/extension/" + path, body and json.dumps(body), headers)
    answer = api.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    return answer, json.loads(text)
answer, facts = ask("POST", "register", {"events": ["INVOKE", "SHUTDOWN"]}, Lambda_Extension_Name=sys.argv[1])
me = answer.headers["Lambda-Extension-Identifier"]
while True:
    _, event = ask("GET", "event/next", Lambda_Extension_Identifier=me)
    if event["eventType"] == "SHUTDOWN":
        os.write(1, b"BYE %s\\n" % event["shutdownReason"].encode())
        time.sleep(0.1)
        os.write(1, b"GONE\\n")
        sys.exit(0)
    os.write(1, b"TOLD %s\\n" % event["requestId"].encode())
"""


@pytest.fixture
def watched(fresh):
    client = fresh.client("lambda")
    content = flint.zipped({"extensions/watcher!": WATCHER, "watcher.py": SOURCE})
    layer = client.publish_layer_version(LayerName=f"watcher-{uuid.uuid4().hex[:8]}", Content={"ZipFile": content})
    name = f"watched-{uuid.uuid4().hex[:8]}"
    fresh.create(client, name, HANDLER, Layers=[layer["LayerVersionArn"]], Timeout=20, MemorySize=256)
    return fresh, client, name


def lines_of(server, name):
    logs = server.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
    return [event["message"].rstrip("\n") for page in pages for event in page["events"]]


def test_every_invocation_and_the_end_are_told(watched):
    server, client, name = watched
    asked = [flint.invoke(client, name, tail=False).json for _ in range(1000)]
    # A change of the function ends its idle environments.
    client.delete_function(FunctionName=name)

    def over():
        lines = lines_of(server, name)
        return lines if "GONE" in lines else None

    lines = flint.until(over, 10, lambda: f"the extension's last words; {lines_of(server, name)[-5:]}", every=0.2)
    told = [line.removeprefix("TOLD ") for line in lines if line.startswith("TOLD ")]
    assert told == asked, "each once and in order"
    assert [line for line in lines if line.startswith(("BYE", "GONE"))] == ["BYE spindown", "GONE"]
    host = server.host()
    flint.until(lambda: not host.processes(), 5, lambda: f"no process is left: {host.processes()}", every=0.1)


def test_subscriptions_are_refused_by_name(shared, functions, name):
    source = """
import http.client, json, os
def handler(event, context):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("PUT", event, "{}")
    answer = api.getresponse()
    return [answer.status, json.loads(answer.read())]
"""
    shared.create(functions, name, source)
    for path, api in (("/2022-07-01/telemetry", "Telemetry"), ("/2020-08-15/logs", "Logs")):
        expected = [501, {"errorMessage": f"{api} API is not supported", "errorType": f"{api}.NotSupported"}]
        assert flint.invoke(functions, name, path).json == expected
