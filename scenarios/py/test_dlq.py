"""What failed waits in sight: one group for each cause, brought back at a rate after the fix, tried by replay, or dropped."""

import json
import time

import flint
from test_mappings import count, queue

# Fails for what it does not know, in three places.
BROKEN = """
import json

def price(order):
    return {"apple": 2}[order["item"]]

def handler(event, context):
    for record in event["Records"]:
        order = json.loads(record["body"])
        if order["kind"] == "price":
            price(order)
        if order["kind"] == "half":
            raise ValueError("order %s is half" % order["id"])
        if order["kind"] == "gone":
            return open("/tmp/orders-%s" % order["id"]).read()
    print("DID", *[json.loads(r["body"])["id"] for r in event["Records"]])
    return {"handled": len(event["Records"])}
"""
FIXED = """
import json
def handler(event, context):
    print("DID", *[json.loads(r["body"])["id"] for r in event["Records"]])
    return {"handled": len(event["Records"])}
"""
KINDS = ("price", "half", "gone")


def fix(functions, name, source=FIXED):
    functions.update_function_code(FunctionName=name, ZipFile=flint.zipped({"app.py": source}))
    functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def did(logs, name):
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}", filterPattern="DID")
    lines = [event["message"] for page in pages for event in page["events"]]
    return [int(n) for line in lines if line.startswith("DID") for n in line.split()[1:]]


def send(sqs, url, orders, group=None):
    for start in range(0, len(orders), 10):
        entries = [{"Id": str(at), "MessageBody": json.dumps(order)} for at, order in enumerate(orders[start:start + 10])]
        for entry, order in zip(entries, orders[start:start + 10]):
            if group:
                entry["MessageGroupId"] = group(order)
        assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == len(entries)


class Told:
    """`flint` of one server, answers as JSON."""

    def __init__(self, server):
        self.server = server

    def __call__(self, *args, check=True):
        done = self.server.run(*args, "--json", "--data", str(self.server.data), check=check, seconds=120)
        return json.loads(done.stdout)

    def text(self, *args, check=True):
        done = self.server.run(*args, "--data", str(self.server.data), check=check, seconds=120)
        return done.stdout + done.stderr

    def groups(self):
        return {group["ErrorType"]: group for group in self("dlq")["Groups"]}


def test_five_thousand_failures_of_three_causes(fresh):
    told, functions, sqs = Told(fresh), fresh.client("lambda"), fresh.client("sqs")
    fresh.create(functions, "orders", BROKEN, Timeout=1)
    dead, dead_arn = queue(sqs, "orders-dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    number, urls = 0, []
    for kind, wanted in zip(KINDS, (1667, 1667, 1666)):
        url, arn = queue(sqs, f"orders-{kind}", RedrivePolicy=redrive, VisibilityTimeout="4")
        urls.append(url)
        functions.create_event_source_mapping(
            FunctionName="orders", EventSourceArn=arn, BatchSize=100, MaximumBatchingWindowInSeconds=1,
        )
        send(sqs, url, [{"id": number + n, "kind": kind, "item": "pear"} for n in range(wanted)])
        number += wanted
    assert number == 5000
    flint.until(lambda: sum(count(sqs, dead)) == 5000, 120, lambda: [count(sqs, url) for url in [dead, *urls]], every=0.2)

    # Three groups, each with its place in the code.
    began = time.monotonic()
    found = told("dlq")
    flint.figure("dlq_list_5000", (time.monotonic() - began) * 1e3, "ms")
    groups = told.groups()
    assert found["Count"] == 5000 and len(found["Groups"]) == 3, found
    flint.figure("dlq_groups", len(found["Groups"]))
    assert {kind: group["Count"] for kind, group in groups.items()} == {
        "KeyError": 1667, "ValueError": 1667, "FileNotFoundError": 1666,
    }
    assert groups["KeyError"]["Signature"] == "KeyError at app.py:5 in price"
    assert groups["ValueError"]["Signature"] == "ValueError at app.py:13 in handler"
    assert groups["KeyError"]["Sources"] == ["arn:aws:sqs:us-east-1:000000000000:orders-price"]
    assert groups["KeyError"]["Functions"] == ["orders"]
    table = told.text("dlq")
    assert "KeyError at app.py:5 in price" in table and "5000 failures of 3 causes" in table, table
    assert told("dlq", "--source", "orders-half")["Count"] == 1667
    page = told("dlq", "show", groups["KeyError"]["GroupId"], "-n", "3")
    assert len(page["Failures"]) == 3 and page["NextToken"]

    # One of them, tried before the fix and after it.
    event = groups["KeyError"]["EventId"]
    before = told("replay", event, check=False)
    assert before["Differs"] is False and before["FunctionError"] == "Unhandled" and "pear" in before["Payload"], before
    assert before["FormerError"] == "KeyError at app.py:5 in price"
    fix(functions, "orders")
    after = told("replay", event)
    assert after["Differs"] is True and json.loads(after["Answer"]) == {"handled": 1}, after
    text = told.text("replay", event)
    assert "it failed, and does not any more" in text and "START RequestId" in text and "DID" in text, text
    assert told("dlq")["Count"] == 5000, "a replay leaves the failure where it is"

    # One redrive drains them at the set rate.
    began = time.monotonic()
    end = told("dlq", "redrive", "--all", "--rate", "1000")
    took = time.monotonic() - began
    assert (end["Done"], end["Skipped"], end["Failed"], end["Status"]) == (5000, 0, 0, "Done"), end
    flint.figure("redrive_5000_at_1000", took, "s")
    assert 4.5 <= took <= 15, took
    flint.until(lambda: sum(map(lambda url: sum(count(sqs, url)), [dead, *urls])) == 0, 60, "the queues are drained", every=0.2)
    logs = fresh.client("logs")
    # The replays handled one order twice more.
    handled = flint.until(lambda: (lambda ids: ids if len(ids) >= 5002 else None)(did(logs, "orders")), 30, "every order", every=0.5)
    assert set(handled) == set(range(5000)) and len(handled) == 5002
    assert told("dlq") == {"Groups": [], "Count": 0} and "nothing waits" in told.text("dlq")


def test_events_that_nobody_waits_for(fresh):
    told, functions, sqs, logs = Told(fresh), fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs")
    source = "def handler(event, context):\n    print('GOT', event['n'])\n    return {'n': 1 // event['n']}\n"
    dead, dead_arn = queue(sqs, "failed")
    for name, more in (("plain", {}), ("kept", {"DeadLetterConfig": {"TargetArn": dead_arn}})):
        fresh.create(functions, name, source, **more)
        functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        for _ in range(2):
            functions.invoke(FunctionName=name, InvocationType="Event", Payload='{"n": 0}')
        functions.invoke(FunctionName=name, InvocationType="Event", Payload='{"n": 1}')
    found = flint.until(lambda: (lambda f: f if f["Count"] == 4 else None)(told("dlq")), 30, lambda: told("dlq"))
    [group] = found["Groups"]
    assert group["Signature"] == "ZeroDivisionError at app.py:3 in handler" and sorted(group["Functions"]) == ["kept", "plain"]

    failures = told("dlq", "show", group["GroupId"])["Failures"]
    kinds = {f["Kind"] for f in failures}
    assert kinds == {"discarded", "dead_lettered"}, failures
    shown = told("events", "show", failures[0]["EventId"])
    [event] = [e for e in shown["Events"] if e["EventId"] == shown["EventId"]]
    assert event["Waiting"] and event["Payload"] == '{"n": 0}', event
    assert "ZeroDivisionError" in told.text("events", "show", failures[0]["EventId"])
    told.text("replay", failures[0]["EventId"], check=False)

    assert told("dlq", "drop", failures[0]["EventId"])["dropped"] == 1
    assert told("dlq")["Count"] == 3
    fix(functions, "plain", source.replace("1 // event['n']", "2"))
    fix(functions, "kept", source.replace("1 // event['n']", "2"))
    end = told("dlq", "redrive", group["GroupId"])
    assert end["Done"] == 3, end
    assert told("dlq")["Count"] == 0

    # What was brought back is a child of what failed.
    flint.until(lambda: len([e for e in lines(told, "events", "--kind", "settled", "-n", "100") if "CauseId" in e]) == 3, 20, "they run")


def lines(told, *args):
    done = told.server.run(*args, "--json", "--data", str(told.server.data))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_fifo_order_is_kept(fresh):
    told, functions, sqs, logs = Told(fresh), fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs")
    fresh.create(functions, "steps", BROKEN, Timeout=1)
    fifo = {"ContentBasedDeduplication": "true"}
    dead, dead_arn = queue(sqs, "steps-dead.fifo", **fifo)
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = queue(sqs, "steps.fifo", RedrivePolicy=redrive, VisibilityTimeout="1", **fifo)
    functions.create_event_source_mapping(FunctionName="steps", EventSourceArn=arn, BatchSize=10)
    send(sqs, url, [{"id": n, "kind": "half"} for n in range(30)], group=lambda order: "abc"[order["id"] % 3])
    flint.until(lambda: sum(count(sqs, dead)) == 30, 60, lambda: (count(sqs, url), count(sqs, dead)), every=0.2)
    fix(functions, "steps")
    assert told("dlq", "redrive", "--all", "--rate", "200")["Done"] == 30
    handled = flint.until(lambda: (lambda ids: ids if len(ids) == 30 else None)(did(logs, "steps")), 30, "every step")
    for group in range(3):
        assert [n for n in handled if n % 3 == group] == list(range(group, 30, 3)), handled


def test_who_deals_with_a_message_in_its_queue_has_dealt_with_it(fresh):
    told, functions, sqs = Told(fresh), fresh.client("lambda"), fresh.client("sqs")
    fresh.create(functions, "orders", BROKEN, Timeout=1)
    dead, dead_arn = queue(sqs, "orders-dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = queue(sqs, "orders", RedrivePolicy=redrive, VisibilityTimeout="1")
    functions.create_event_source_mapping(FunctionName="orders", EventSourceArn=arn, BatchSize=1)
    send(sqs, url, [{"id": n, "kind": "half"} for n in range(3)])
    flint.until(lambda: told("dlq")["Count"] == 3, 30, lambda: told("dlq"))
    [message] = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5)["Messages"]
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
    assert told("dlq")["Count"] == 2
    # A message that is out with somebody is left alone.
    [message] = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5, VisibilityTimeout=60)["Messages"]
    fix(functions, "orders")
    end = told("dlq", "redrive", "--all")
    assert (end["Done"], end["Skipped"]) == (1, 1), end
    assert told("dlq", "drop", "--all") == {"dropped": 0, "skipped": 1}
    # They outlive a restart.
    fresh.stop()
    fresh.start()
    assert Told(fresh)("dlq")["Count"] == 1
    sqs = fresh.client("sqs")
    sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName="orders-dead")["QueueUrl"])
    assert Told(fresh)("dlq")["Count"] == 0


def test_bad_input(shared):
    told = Told(shared)
    for args, said in (
        (("dlq", "show", "00000000"), "no failure of group 00000000 waits"),
        (("dlq", "redrive", "00000000"), "no failure of group 00000000 waits"),
        (("dlq", "drop", "11111111-2222-3333-4444-555555555555"), "no event 11111111-2222-3333-4444-555555555555"),
        (("replay", "11111111-2222-3333-4444-555555555555"), "no event 11111111-2222-3333-4444-555555555555"),
        (("events", "show", "11111111-2222-3333-4444-555555555555"), "no event 11111111"),
        (("events", "--outcome", "fine"), "Outcome is one of succeeded"),
        (("events", "--trace", "fine"), "a trace id has the form"),
        (("events", "--id", "fine"), "is no event id"),
    ):
        done = shared.run(*args, "--data", str(shared.data), check=False)
        assert done.returncode == 1 and said in done.stderr, (args, done)
    assert shared.run("dlq", "redrive", "--data", str(shared.data), check=False).returncode == 2
    assert shared.run("dlq", "redrive", "--all", "--rate", "0", "--data", str(shared.data), check=False).returncode == 2
