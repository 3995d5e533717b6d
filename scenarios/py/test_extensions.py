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


SUBSCRIBER = """
import http.server, threading
heard = []
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def do_POST(self):
        for record in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            inner = record["record"]
            what = inner if isinstance(inner, str) else inner.get("requestId", "-")
            heard.append(record["type"])
            os.write(1, b"HEARD %s %s\\n" % (record["type"].removeprefix("platform.").encode(), what.encode()))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 4243), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
wanted = {"schemaVersion": "2022-12-13", "types": ["platform", "function"], "buffering": {"timeoutMs": 100},
          "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243"}}
api.request("PUT", "/2022-07-01/telemetry", json.dumps(wanted), {"Lambda-Extension-Identifier": me})
answer = api.getresponse()
assert (answer.status, answer.read()) == (200, b"OK"), answer.status
while True:
"""


def test_a_subscriber_hears_all_and_then_the_end(fresh):
    client = fresh.client("lambda")
    source = SOURCE.replace("while True:", SUBSCRIBER.strip(), 1)
    content = flint.zipped({"extensions/watcher!": WATCHER, "watcher.py": source})
    layer = client.publish_layer_version(LayerName=f"hearer-{uuid.uuid4().hex[:8]}", Content={"ZipFile": content})
    name = f"heard-{uuid.uuid4().hex[:8]}"
    handler = "def handler(event, context):\n    print(f'line {event}\\n', end='')\n    return context.aws_request_id\n"
    fresh.create(client, name, handler, Layers=[layer["LayerVersionArn"]], Timeout=20, MemorySize=256)
    asked = [flint.invoke(client, name, n, tail=False).json for n in range(1000)]
    client.delete_function(FunctionName=name)

    def over():
        lines = lines_of(fresh, name)
        return lines if "GONE" in lines else None

    lines = flint.until(over, 20, lambda: f"the extension's last words; {lines_of(fresh, name)[-5:]}", every=0.5)
    heard = [line.removeprefix("HEARD ") for line in lines if line.startswith("HEARD ")]
    expected = ["initStart -", "telemetrySubscription -", "initRuntimeDone -", "initReport -"]
    for n, one in enumerate(asked):
        expected += [f"start {one}", f"function line {n}", f"runtimeDone {one}", f"report {one}"]
    assert heard == expected, "each once and in order"
    told = [line.removeprefix("TOLD ") for line in lines if line.startswith("TOLD ")]
    assert told == asked, "each once and in order"
    last = [at for at, line in enumerate(lines) if line.startswith("HEARD ")][-1]
    assert last < lines.index("BYE spindown") < lines.index("GONE"), "what was due came before the end"
    flint.figure("telemetry_invocations_in_order", len(told))


def test_subscriptions_of_strangers_are_refused(shared, functions, name):
    source = """
import http.client, json, os
def handler(event, context):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("PUT", event["path"], "{}", event["headers"])
    answer = api.getresponse()
    return [answer.status, json.loads(answer.read())["errorType"]]
"""
    shared.create(functions, name, source)
    for path in ("/2022-07-01/telemetry", "/2020-08-15/logs"):
        ask = lambda headers: flint.invoke(functions, name, {"path": path, "headers": headers}).json
        assert ask({}) == [403, "Extension.MissingExtensionIdentifier"]
        assert ask({"Lambda-Extension-Identifier": "x"}) == [403, "Extension.UnknownExtensionIdentifier"]
