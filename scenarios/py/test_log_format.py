"""The log format JSON, over the wire: the platform's events and the runtimes' own logging as documents, filtered by level."""

import json

import pytest

import clients
import flint

PYTHON = """
import logging
log = logging.getLogger("mine")
def handler(event, context):
    log.debug("fine"); log.info("plain"); log.warning("odd", extra={"order": 7})
    if event: raise ValueError("no way")
"""

NODE = """
exports.handler = async (event) => {
  console.debug("fine"); console.info("plain"); console.warn("odd");
  if (event) throw new RangeError("no way");
};
"""


def shown(answer):
    """What each document of the tail is about."""
    found = []
    for line in answer.tail.splitlines():
        document = json.loads(line)
        message = document.get("message")
        text = message if isinstance(message, str) else None
        error = document.get("errorMessage") or (message or {}).get("errorMessage") if text is None else None
        found.append(document.get("type") or text or error)
    return found


@pytest.mark.parametrize("language", ["python", "node"])
@pytest.mark.parametrize(("levels", "good", "bad"), [
    ({}, ["platform.start", "plain", "odd", "platform.report"],
     ["platform.start", "plain", "odd", "no way", "platform.runtimeDone", "platform.report"]),
    ({"ApplicationLogLevel": "DEBUG", "SystemLogLevel": "DEBUG"},
     ["platform.start", "fine", "plain", "odd", "platform.runtimeDone", "platform.report"],
     ["platform.start", "fine", "plain", "odd", "no way", "platform.runtimeDone", "platform.report"]),
    ({"ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN"}, [],
     ["no way", "platform.runtimeDone", "platform.report"]),
])
def test_documents_and_levels(shared, functions, name, language, levels, good, bad):
    runtime = shared.python() if language == "python" else clients.node(shared)
    files = {"app.py": PYTHON} if language == "python" else {"app.js": NODE}
    made = shared.create(functions, name, files, Runtime=runtime, Timeout=10,
                         LoggingConfig={"LogFormat": "JSON", **levels})
    assert made["LoggingConfig"]["LogFormat"] == "JSON"
    # The first call's tail begins with its own events, too: what init says is in the log stream only.
    assert shown(flint.invoke(functions, name, False)) == good
    answer = flint.invoke(functions, name, True)
    assert answer.error == "Unhandled" and shown(answer) == bad
    report = json.loads(answer.tail.splitlines()[-1])
    record = report["record"]
    assert (record["requestId"], record["status"], record["errorType"]) == (answer.request_id, "error", "Function.Unknown")
    assert set(record["metrics"]) == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB"}


def test_a_timeout_is_a_status(shared, functions, name):
    shared.create(functions, name, "import time\ndef handler(event, context):\n    time.sleep(60)\n", Timeout=1,
                  LoggingConfig={"LogFormat": "JSON"})
    answer = flint.invoke(functions, name)
    assert answer.json["errorType"] == "Sandbox.Timedout"
    documents = [json.loads(line) for line in answer.tail.splitlines()]
    assert [d["type"] for d in documents] == ["platform.start", "platform.runtimeDone", "platform.report"]
    assert [d["record"].get("status") for d in documents] == [None, "timeout", "timeout"]
