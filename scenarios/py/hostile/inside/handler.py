"""The function that makes the attempts of an area."""

import importlib

import attempts

LAST = []

def handler(event, context):
    importlib.import_module(event["area"])
    facts = {**event["facts"], "request_id": context.aws_request_id, "tmp": "/tmp"}
    if event.get("direct") == "recall":
        # What became of the one before, which ended its own call.
        return LAST.pop()
    if "direct" in event:
        LAST[:] = [attempts.judge(attempts.CASES[event["area"], event["direct"]], facts)]
        return LAST[0]
    return attempts.run(event["area"], facts, event.get("names"))
