"""One message that always fails among a hundred: the others succeed, it ends in the dead-letter queue."""

import json

import flint
from test_mappings import count, queue

# A partial answer, or none: then the whole batch fails.
PARTIAL = """
import json
def handler(event, context):
    bad = [r["messageId"] for r in event["Records"] if json.loads(r["body"])["id"] == 42]
    for r in event["Records"]:
        print("DID" if r["messageId"] not in bad else "POISON", json.loads(r["body"])["id"])
    return {"batchItemFailures": [{"itemIdentifier": i} for i in bad]}
"""
# As the reference advises for FIFO queues: stop at the first failure, return it and what comes behind.
STOPPING = """
import json
def handler(event, context):
    failed = []
    for r in event["Records"]:
        n = json.loads(r["body"])["id"]
        if failed or n == 42:
            failed.append({"itemIdentifier": r["messageId"]})
        else:
            print("DID", n)
    return {"batchItemFailures": failed}
"""
WHOLE = """
import json
def handler(event, context):
    ids = [json.loads(r["body"])["id"] for r in event["Records"]]
    if 42 in ids:
        raise ValueError("poison")
    print("DID", *ids)
"""


def make(shared, functions, sqs, name, source, fifo=False, **arguments):
    shared.create(functions, name, source, Timeout=1)
    ending = ".fifo" if fifo else ""
    more = {"ContentBasedDeduplication": "true"} if fifo else {}
    dead, dead_arn = queue(sqs, f"{name}-dead{ending}", **more)
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 3})
    url, arn = queue(sqs, f"{name}{ending}", RedrivePolicy=redrive, VisibilityTimeout="2", **more)
    made = functions.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, **arguments)
    return made["UUID"], url, dead


def done(logs, name):
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}", filterPattern="DID")
        events = [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [int(n) for text in events if text.startswith("DID") for n in text.split()[1:]]


def fill(sqs, url, fifo=False):
    for start in range(0, 100, 10):
        entries = [{"Id": str(n), "MessageBody": json.dumps({"id": n})} for n in range(start, start + 10)]
        for entry in entries if fifo else []:
            entry["MessageGroupId"] = "abcde"[int(entry["Id"]) % 5]
        assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10


def check(sqs, logs, name, url, dead, figure):
    flint.until(lambda: sum(count(sqs, dead)) == 1, 40, lambda: (count(sqs, url), count(sqs, dead)))
    flint.until(lambda: count(sqs, url) == (0, 0), 10, lambda: count(sqs, url))
    [message] = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5)["Messages"]
    assert json.loads(message["Body"]) == {"id": 42}
    ids = flint.until(lambda: len(done(logs, name)) >= 99 and done(logs, name), 10, lambda: len(done(logs, name)))
    assert set(ids) == set(range(100)) - {42}
    flint.figure(f"poison_{figure}_succeeded", len(set(ids)))
    flint.figure(f"poison_{figure}_dead", 1)
    return ids


def test_partial_answers_return_only_what_failed(shared, functions, logs, name):
    sqs = shared.client("sqs")
    uid, url, dead = make(shared, functions, sqs, name, PARTIAL, FunctionResponseTypes=["ReportBatchItemFailures"])
    fill(sqs, url)
    ids = check(sqs, logs, name, url, dead, "partial")
    assert len(ids) == 99, "none of the others came twice"
    functions.delete_event_source_mapping(UUID=uid)


def test_without_partial_answers(shared, functions, logs, name):
    sqs = shared.client("sqs")
    uid, url, dead = make(shared, functions, sqs, name, WHOLE)
    fill(sqs, url)
    check(sqs, logs, name, url, dead, "whole")
    functions.delete_event_source_mapping(UUID=uid)


def test_a_fifo_group_moves_on(shared, functions, logs, name):
    sqs = shared.client("sqs")
    arguments = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    uid, url, dead = make(shared, functions, sqs, name, STOPPING, fifo=True, **arguments)
    fill(sqs, url, fifo=True)
    ids = check(sqs, logs, name, url, dead, "fifo")
    last = {}
    for n in ids:
        # What comes again after a kill or a lost answer may repeat; it never overtakes.
        assert n > last.get(n % 5, -1), f"{n} after {last[n % 5]}: {[i for i in ids if i % 5 == n % 5]}"
        last[n % 5] = n
    functions.delete_event_source_mapping(UUID=uid)
