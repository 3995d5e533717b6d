"""The function that makes the attempts of an area."""

import importlib
import os

import attempts


def handler(event, context):
    importlib.import_module(event["area"])
    facts = {**event["facts"], "request_id": context.aws_request_id, "tmp": "/tmp"}
    if "environment" in event:
        os.environ.update(event["environment"])
    return attempts.run(event["area"], facts, event.get("names"))
