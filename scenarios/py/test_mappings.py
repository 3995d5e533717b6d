"""From a queue to a function: batches, attributes, order, filters, throttles, states, and what a kill leaves."""

import json
import threading
import time
import uuid

import botocore.exceptions
import pytest

import flint

# Prints each record that it gets; what it does with it is in the body.
WORKER = """
import json, os, time
def handler(event, context):
    for record in event["Records"]:
        print("GOT", json.dumps(record))
    for record in event["Records"]:
        body = json.loads(record["body"])
        time.sleep(body.get("sleep", 0))
        if body.get("fail"):
            raise ValueError("no such order: %s" % body["id"])
    return {"n": len(event["Records"])}
"""
NODE = """
exports.handler = async (event) => {
  for (const record of event.Records) console.log("GOT " + JSON.stringify(record));
};
"""


def queue(sqs, name, **attributes):
    """A queue and its ARN."""
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def got(logs, name):
    """The records that the function printed, oldest first."""
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}", filterPattern="GOT")
        events = [event for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []
    texts = [event["message"].split("GOT ", 1)[1] for event in events if "GOT " in event["message"]]
    return [json.loads(text) for text in texts]


def count(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(attributes[name]) for name in names)


@pytest.fixture(scope="module")
def sqs(shared):
    return shared.client("sqs")


@pytest.fixture
def mapped(functions):
    """Makes mappings, and takes them away."""
    made = []

    def make(**arguments):
        answer = functions.create_event_source_mapping(**arguments)
        made.append(answer["UUID"])
        return answer

    yield make
    for one in made:
        try:
            functions.delete_event_source_mapping(UUID=one)
        except functions.exceptions.ResourceNotFoundException:
            pass


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_records_have_every_attribute(shared, functions, logs, sqs, mapped, name, runtime):
    if runtime == "python":
        shared.create(functions, name, WORKER)
    else:
        node = max(r["Identifier"] for r in shared.runtimes() if r["Identifier"].startswith("nodejs"))
        shared.create(functions, name, {"index.js": NODE}, handler="index.handler", Runtime=node)
    url, arn = queue(sqs, name)
    mapped(FunctionName=name, EventSourceArn=arn)
    sent = sqs.send_message(
        QueueUrl=url, MessageBody='{"id": 1}',
        MessageAttributes={
            "colour": {"DataType": "String", "StringValue": "red"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        },
    )
    [record] = flint.until(lambda: got(logs, name), 10, "the record arrives")
    # Lambda Developer Guide, "Using Lambda with Amazon SQS", example standard queue message event.
    assert record["messageId"] == sent["MessageId"] and record["body"] == '{"id": 1}'
    assert record["md5OfBody"] == sent["MD5OfMessageBody"]
    assert record["eventSource"] == "aws:sqs" and record["eventSourceARN"] == arn and record["awsRegion"] == "us-east-1"
    assert record["receiptHandle"]
    attributes = record["attributes"]
    assert attributes["ApproximateReceiveCount"] == "1" and attributes["SenderId"]
    assert 0 <= int(attributes["ApproximateFirstReceiveTimestamp"]) - int(attributes["SentTimestamp"]) < 5000
    assert record["messageAttributes"]["colour"]["stringValue"] == "red"
    assert record["messageAttributes"]["colour"]["dataType"] == "String"
    assert record["messageAttributes"]["raw"]["binaryValue"] == "AAE="
    flint.until(lambda: count(sqs, url) == (0, 0), 5, "the message is deleted")


def test_batches_and_a_window(shared, functions, logs, sqs, mapped, name):
    shared.create(functions, name, 'def handler(e, c):\n    print("SIZE", len(e["Records"]))\n')
    url, arn = queue(sqs, name)
    for start in range(0, 60, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)]
        assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    mapped(FunctionName=name, EventSourceArn=arn, BatchSize=25, MaximumBatchingWindowInSeconds=1)

    def sizes():
        try:
            events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="SIZE")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [int(event["message"].split()[1]) for event in events]

    flint.until(lambda: sum(sizes()) == 60, 15, sizes)
    assert sorted(sizes()) == [10, 25, 25]


def test_filters_take_what_they_want(shared, functions, logs, sqs, mapped, name):
    shared.create(functions, name, WORKER)
    url, arn = queue(sqs, name)
    pattern = json.dumps({"body": {"kind": ["order"], "price": [{"numeric": [">", 10]}]}})
    made = mapped(FunctionName=name, EventSourceArn=arn, FilterCriteria={"Filters": [{"Pattern": pattern}]})
    assert made["FilterCriteria"] == {"Filters": [{"Pattern": pattern}]}
    for n, body in enumerate([{"kind": "order", "price": 11}, {"kind": "order", "price": 10}, {"kind": "other"}]):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"id": n, **body}))
    sqs.send_message(QueueUrl=url, MessageBody="no json")
    flint.until(lambda: count(sqs, url) == (0, 0), 10, "the others are settled")
    assert [json.loads(record["body"])["id"] for record in flint.until(lambda: got(logs, name), 10, "one arrives")] == [0]


def test_fifo_keeps_the_order_of_each_group(shared, functions, logs, sqs, mapped, name):
    shared.create(functions, name, WORKER)
    url, arn = queue(sqs, name + ".fifo", ContentBasedDeduplication="true")
    for n in range(20):
        for group in "abc":
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"id": n, "group": group}), MessageGroupId=group)
    mapped(FunctionName=name, EventSourceArn=arn, BatchSize=3)
    records = flint.until(lambda: len(got(logs, name)) >= 60 and got(logs, name), 20, lambda: len(got(logs, name)))
    seen = {group: [] for group in "abc"}
    for record in records:
        assert record["attributes"]["MessageGroupId"] in seen and record["attributes"]["SequenceNumber"]
        body = json.loads(record["body"])
        seen[body["group"]].append(body["id"])
    assert all(ids == list(range(20)) for ids in seen.values()), seen
    flint.until(lambda: count(sqs, url) == (0, 0), 5, "all are deleted")


def test_throttles_burn_no_receive_counts(shared, functions, logs, sqs, mapped, name):
    shared.create(functions, name, WORKER)
    dead, dead_arn = queue(sqs, name + "-dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, arn = queue(sqs, name, RedrivePolicy=redrive)
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    mapped(FunctionName=name, EventSourceArn=arn)
    for n in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"id": n}))
    # Several rounds: 1 s, 2 s, ...
    time.sleep(5)
    assert count(sqs, dead) == (0, 0) and sum(count(sqs, url)) == 5
    functions.delete_function_concurrency(FunctionName=name)
    records = flint.until(lambda: len(got(logs, name)) == 5 and got(logs, name), 20, "they arrive")
    assert {record["attributes"]["ApproximateReceiveCount"] for record in records} == {"1"}
    assert count(sqs, dead) == (0, 0)


def test_states_and_refusals(shared, functions, sqs, mapped, name):
    shared.create(functions, name, WORKER)
    _, arn = queue(sqs, name)
    made = mapped(FunctionName=name, EventSourceArn=arn, ScalingConfig={"MaximumConcurrency": 2})
    assert (made["State"], made["StateTransitionReason"]) == ("Creating", "USER_INITIATED")
    assert made["ScalingConfig"] == {"MaximumConcurrency": 2} and made["FunctionResponseTypes"] == []
    assert made["FunctionArn"].endswith(f":function:{name}") and made["EventSourceArn"] == arn
    uid = made["UUID"]
    assert functions.get_event_source_mapping(UUID=uid)["State"] == "Enabled", "at the first poll"
    assert functions.update_event_source_mapping(UUID=uid, Enabled=False)["State"] == "Disabling"
    assert functions.get_event_source_mapping(UUID=uid)["State"] == "Disabled"
    changed = functions.update_event_source_mapping(
        UUID=uid, Enabled=True, FunctionResponseTypes=["ReportBatchItemFailures"], BatchSize=5
    )
    assert changed["State"] == "Enabling" and changed["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    listed = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    assert [one["UUID"] for one in listed] == [uid] and listed[0]["BatchSize"] == 5
    for arguments, code in [
        ({"EventSourceArn": arn}, "ResourceConflictException"),
        ({"EventSourceArn": arn + "-none"}, "InvalidParameterValueException"),
        ({"EventSourceArn": arn, "BatchSize": 11}, "InvalidParameterValueException"),
        ({"EventSourceArn": arn, "ScalingConfig": {"MaximumConcurrency": 1001}}, "ValidationException"),
        ({"EventSourceArn": arn, "StartingPosition": "LATEST"}, "NotImplemented"),
    ]:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            functions.create_event_source_mapping(FunctionName=name, **arguments)
        assert caught.value.response["Error"]["Code"] == code, arguments
    assert functions.delete_event_source_mapping(UUID=uid)["State"] == "Deleting"
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_event_source_mapping(UUID=uid)


def drain(sqs, url, seen, wanted, seconds):
    """Receives and deletes until all of `wanted` was seen: what is outside Flint is what counts."""
    deadline = time.monotonic() + seconds
    while not wanted <= set(seen):
        assert time.monotonic() < deadline, f"{len(wanted - set(seen))} of {len(wanted)} are missing"
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in messages:
            body = json.loads(message["Body"])
            seen.append(body.get("requestPayload", body)["id"])
        if messages:
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def ledger_of(server, send, lives, each):
    """Sends from four threads through `lives` lives of the server, each killed under load; answers what was accepted."""
    ledger, lock = [], threading.Lock()
    for _ in range(lives):
        stop, before = threading.Event(), len(ledger)

        def work():
            client = server.client("lambda")
            while not stop.is_set():
                event = str(uuid.uuid4())
                try:
                    send(client, event)
                except Exception:
                    # Not accepted, or nobody knows: not in the ledger.
                    time.sleep(0.01)
                    continue
                with lock:
                    ledger.append(event)

        senders = [threading.Thread(target=work) for _ in range(4)]
        for sender in senders:
            sender.start()
        flint.until(lambda: len(ledger) > before + each, 30, "events are accepted")
        server.kill()
        stop.set()
        for sender in senders:
            sender.join()
        server.start()
    return ledger


def test_kill_9_loses_no_accepted_event(tmp_path):
    """Every event of the senders' ledger comes out at the other end (function, destination, queue, receiver), and more
    than once at most for what was in flight at a kill."""
    server = flint.Server(tmp_path / "data").start()
    kills = 3
    try:
        server.create(server.client("lambda"), "worker", "def handler(event, context):\n    return event\n")
        url, arn = queue(server.client("sqs"), "done")
        server.client("lambda").put_function_event_invoke_config(
            FunctionName="worker", DestinationConfig={"OnSuccess": {"Destination": arn}}
        )

        def send(client, event):
            client.invoke(FunctionName="worker", InvocationType="Event", Payload=json.dumps({"id": event}))

        ledger = ledger_of(server, send, kills, 150)
        seen = []
        sqs = server.client("sqs")
        drain(sqs, sqs.get_queue_url(QueueName="done")["QueueUrl"], seen, set(ledger), 60)
        more = len(seen) - len(set(seen))
        flint.figure("async_accepted", len(ledger))
        flint.figure("async_lost", len(set(ledger) - set(seen)))
        flint.figure("async_twice", more)
        assert more <= kills * 64, f"{more} of {len(seen)} twice, by {kills} kills"
        assert max(seen.count(event) for event in set(seen)) <= 1 + kills
    finally:
        server.stop()
