"""Cases of messages in standard queues."""

import hashlib
import struct
import time

from sqs import code

MISSING = code("NonExistentQueue")
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def digest(attributes):
    """The rule of the developer guide, written once more."""
    text = b""
    for name in sorted(attributes):
        value = attributes[name]
        binary = "BinaryValue" in value
        content = value["BinaryValue"] if binary else value["StringValue"].encode()
        for part in (name.encode(), value["DataType"].encode()):
            text += struct.pack(">I", len(part)) + part
        text += bytes([2 if binary else 1]) + struct.pack(">I", len(content)) + content
    return hashlib.md5(text).hexdigest()


def sending(t):
    url = t.queue()
    for outcome, body in [("stored", "hello"), ("not ASCII", "grüße \U0001f600\t\n"), ("marked up", "<a b=\"c\">&amp;]]></a>\r\n")]:
        sent = t.ok("SendMessage", outcome, QueueUrl=url, MessageBody=body)
        assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
        got = t.receive(url, MaxNumberOfMessages=1)[0]
        assert got["Body"] == body and got["MessageId"] == sent["MessageId"] and got["MD5OfBody"] == sent["MD5OfMessageBody"]
    attributes = {
        "text": {"DataType": "String", "StringValue": "ü"},
        "Number.1": {"DataType": "Number.int", "StringValue": "-12.5"},
        "bytes": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff\x89"},
    }
    sent = t.ok("SendMessage", "with attributes", QueueUrl=url, MessageBody="a", MessageAttributes=attributes)
    assert sent["MD5OfMessageAttributes"] == digest(attributes)
    sent = t.ok(
        "SendMessage", "with a trace header", QueueUrl=url, MessageBody="b",
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )
    assert sent["MD5OfMessageSystemAttributes"] == digest({"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}})
    t.ok("SendMessage", "with a group", QueueUrl=t.queue(), MessageBody="c", MessageGroupId="tenant")
    large = "x" * 1_048_576
    big = t.queue()
    t.ok("SendMessage", "of 1 MiB", QueueUrl=big, MessageBody=large)
    got = t.receive(big)[0]
    assert got["Body"] == large
    t("DeleteMessage", QueueUrl=big, ReceiptHandle=got["ReceiptHandle"])
    t.refused("SendMessage", "larger than 1 MiB", "InvalidParameterValue", QueueUrl=big, MessageBody=large + "x")
    small = t.queue(MaximumMessageSize="1024")
    t.refused(
        "SendMessage", "larger than the queue allows", "InvalidParameterValue", QueueUrl=small, MessageBody="x" * 1020,
        MessageAttributes={"a": {"DataType": "String", "StringValue": "xyz"}},
    )
    t.refused("SendMessage", "empty", "MissingParameter", QueueUrl=url, MessageBody="")
    t.refused("SendMessage", "an illegal character", "InvalidMessageContents", QueueUrl=url, MessageBody="a\u0001b")
    t.refused("SendMessage", "a bad delay", "InvalidParameterValue", QueueUrl=url, MessageBody="a", DelaySeconds=901)
    t.refused("SendMessage", "a bad group", "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageGroupId="a b")
    t.refused("SendMessage", "a deduplication id", "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageDeduplicationId="x")
    t.refused("SendMessage", "a missing queue", MISSING, QueueUrl=url + "x", MessageBody="a")
    t.refused("SendMessage", "no address", "InvalidAddress", QueueUrl="http://localhost/q", MessageBody="a")
    bad = {
        "a bad attribute name": {"a b": {"DataType": "String", "StringValue": "x"}},
        "a reserved attribute name": {"AWS.x": {"DataType": "String", "StringValue": "x"}},
        "a bad attribute type": {"a": {"DataType": "Text", "StringValue": "x"}},
        "an attribute without value": {"a": {"DataType": "String"}},
        "a number that is none": {"a": {"DataType": "Number", "StringValue": "ten"}},
        "too many attributes": {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)},
    }
    for outcome, given in bad.items():
        t.refused("SendMessage", outcome, "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageAttributes=given)
    t.refused(
        "SendMessage", "attribute lists", code("UnsupportedOperation"), QueueUrl=url, MessageBody="a",
        MessageAttributes={"a": {"DataType": "String", "StringListValues": ["x"]}},
    )


def delaying(t):
    url = t.queue()
    t.ok("SendMessage", "delayed", QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert t.attributes(url)["ApproximateNumberOfMessagesDelayed"] == "1"
    assert t.receive(url) == []
    t.saw("ReceiveMessage", "nothing while it is delayed")
    begun = time.monotonic()
    assert t.bodies(url, WaitTimeSeconds=5) == ["later"]
    assert time.monotonic() - begun < 3
    t.saw("ReceiveMessage", "woken by the end of a delay")
    slow = t.queue(DelaySeconds="900")
    t.send(slow, "by the queue")
    t.send(slow, "by itself", DelaySeconds=0)
    assert t.bodies(slow) == ["by itself"]
    t.saw("SendMessage", "not delayed in a queue that delays")


def receiving(t):
    url = t.queue()
    assert t.ok("ReceiveMessage", "empty", QueueUrl=url).get("Messages") is None
    attributes = {f"{p}.{n}": {"DataType": "String", "StringValue": p + n} for p in "ab" for n in "12"}
    sent = t.send(
        url, "one", MessageAttributes=attributes,
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )
    got = t.ok("ReceiveMessage", "one", QueueUrl=url, VisibilityTimeout=0)["Messages"][0]
    assert "Attributes" not in got and "MessageAttributes" not in got
    shown = t.ok(
        "ReceiveMessage", "with system attributes", QueueUrl=url, VisibilityTimeout=0, AttributeNames=["All"],
    )["Messages"][0]["Attributes"]
    assert shown["ApproximateReceiveCount"] == "2" and shown["AWSTraceHeader"] == TRACE
    assert shown["SenderId"] == "000000000000"
    assert int(shown["SentTimestamp"]) <= int(shown["ApproximateFirstReceiveTimestamp"]) <= time.time() * 1000
    one = t.ok("ReceiveMessage", "with one system attribute", QueueUrl=url, VisibilityTimeout=0, AttributeNames=["SenderId"])
    assert set(one["Messages"][0]["Attributes"]) == {"SenderId"}
    for outcome, names, want in [
        ("with all attributes", ["All"], attributes),
        ("with named attributes", ["a.1"], {"a.1": attributes["a.1"]}),
        ("with attributes by prefix", ["b.*"], {k: v for k, v in attributes.items() if k.startswith("b.")}),
    ]:
        got = t.ok("ReceiveMessage", outcome, QueueUrl=url, VisibilityTimeout=0, MessageAttributeNames=names)["Messages"][0]
        assert {k: v["StringValue"] for k, v in got["MessageAttributes"].items()} == {k: v["StringValue"] for k, v in want.items()}
        assert got["MD5OfMessageAttributes"] == digest(want) and got["MessageId"] == sent["MessageId"]
    many = t.queue()
    for n in range(12):
        t.send(many, str(n))
    first = t.ok("ReceiveMessage", "at most ten", QueueUrl=many, MaxNumberOfMessages=10)["Messages"]
    rest = t.ok("ReceiveMessage", "what is left", QueueUrl=many, MaxNumberOfMessages=10)["Messages"]
    assert len(first) == 10 and sorted(m["Body"] for m in first + rest) == sorted(map(str, range(12)))
    for outcome, given in {
        "no message asked for": {"MaxNumberOfMessages": 0}, "eleven asked for": {"MaxNumberOfMessages": 11},
        "a long wait": {"WaitTimeSeconds": 21}, "a bad visibility": {"VisibilityTimeout": 43201},
        "an attempt id": {"ReceiveRequestAttemptId": "x"},
    }.items():
        t.refused("ReceiveMessage", outcome, "InvalidParameterValue", QueueUrl=many, **given)
    t.refused("ReceiveMessage", "an unknown attribute", "InvalidAttributeName", QueueUrl=many, AttributeNames=["Colour"])
    t.refused("ReceiveMessage", "a missing queue", MISSING, QueueUrl=many + "x")
    begun = time.monotonic()
    assert t.ok("ReceiveMessage", "nothing after a wait", QueueUrl=t.queue(), WaitTimeSeconds=1).get("Messages") is None
    assert 0.9 < time.monotonic() - begun < 3


def visibility(t):
    url = t.queue(VisibilityTimeout="1")
    t.send(url, "a")
    first = t.receive(url)[0]["ReceiptHandle"]
    assert t.receive(url) == []
    t.saw("ReceiveMessage", "hidden")
    again = t.receive(url, WaitTimeSeconds=5, VisibilityTimeout=600)
    assert [m["Body"] for m in again] == ["a"]
    t.saw("ReceiveMessage", "again after the timeout")
    handle = again[0]["ReceiptHandle"]
    t.ok("ChangeMessageVisibility", "hidden longer", QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=600)
    assert t.attributes(url)["ApproximateNumberOfMessagesNotVisible"] == "1"
    t.refused("ChangeMessageVisibility", "an older handle", "InvalidParameterValue", QueueUrl=url, ReceiptHandle=first, VisibilityTimeout=0)
    t.ok("ChangeMessageVisibility", "visible at once", QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    t.refused("ChangeMessageVisibility", "not in flight", code("MessageNotInflight"), QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=5)
    held = t.receive(url, VisibilityTimeout=5)[0]["ReceiptHandle"]
    for value, outcome in [(43201, "a bad value"), (-1, "a negative value")]:
        t.refused("ChangeMessageVisibility", outcome, "InvalidParameterValue", QueueUrl=url, ReceiptHandle=held, VisibilityTimeout=value)
    t("DeleteMessage", QueueUrl=url, ReceiptHandle=held)
    t.refused("ChangeMessageVisibility", "deleted", "InvalidParameterValue", QueueUrl=url, ReceiptHandle=held, VisibilityTimeout=5)
    for bad, outcome in [("nonsense", "no handle"), (held[:-4] + "AAAA", "a bent handle")]:
        t.refused("ChangeMessageVisibility", outcome, "ReceiptHandleIsInvalid", QueueUrl=url, ReceiptHandle=bad, VisibilityTimeout=5)
    t.refused("ChangeMessageVisibility", "a handle of another queue", "ReceiptHandleIsInvalid", QueueUrl=t.queue(), ReceiptHandle=held, VisibilityTimeout=5)
    t.refused("ChangeMessageVisibility", "a missing queue", MISSING, QueueUrl=url + "x", ReceiptHandle=held, VisibilityTimeout=5)


def deleting(t):
    url = t.queue()
    t.send(url, "a")
    message = t.receive(url, VisibilityTimeout=0)[0]
    newer = t.receive(url)[0]
    t.ok("DeleteMessage", "an older handle", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert t.attributes(url)["ApproximateNumberOfMessagesNotVisible"] == "1"
    t.ok("DeleteMessage", "deleted", QueueUrl=url, ReceiptHandle=newer["ReceiptHandle"])
    assert t.attributes(url)["ApproximateNumberOfMessagesNotVisible"] == "0"
    t.ok("DeleteMessage", "gone already", QueueUrl=url, ReceiptHandle=newer["ReceiptHandle"])
    t.refused("DeleteMessage", "no handle", "ReceiptHandleIsInvalid", QueueUrl=url, ReceiptHandle="x")
    t.refused("DeleteMessage", "a handle of another queue", "ReceiptHandleIsInvalid", QueueUrl=t.queue(), ReceiptHandle=newer["ReceiptHandle"])
    t.refused("DeleteMessage", "a missing queue", MISSING, QueueUrl=url + "x", ReceiptHandle=newer["ReceiptHandle"])
    t.send(url, "b")
    lapsed = t.receive(url, VisibilityTimeout=0)[0]["ReceiptHandle"]
    t.ok("DeleteMessage", "visible again", QueueUrl=url, ReceiptHandle=lapsed)
    assert t.receive(url) == []


def batches(t):
    url = t.queue()
    entries = [{"Id": f"e-{n}", "MessageBody": f"body {n}", "DelaySeconds": 0} for n in range(10)]
    entries[3]["MessageAttributes"] = {"k": {"DataType": "String", "StringValue": "v"}}
    sent = t.ok("SendMessageBatch", "ten", QueueUrl=url, Entries=entries)["Successful"]
    assert [s["Id"] for s in sent] == [e["Id"] for e in entries]
    assert sent[0]["MD5OfMessageBody"] == hashlib.md5(b"body 0").hexdigest()
    assert sent[3]["MD5OfMessageAttributes"] == digest(entries[3]["MessageAttributes"])
    mixed = [
        {"Id": "good", "MessageBody": "good"}, {"Id": "bad", "MessageBody": "\u0001"},
        {"Id": "late", "MessageBody": "x", "DelaySeconds": 901},
    ]
    part = t.ok("SendMessageBatch", "some fail", QueueUrl=url, Entries=mixed)
    assert [s["Id"] for s in part["Successful"]] == ["good"]
    assert [(f["Id"], f["Code"], f["SenderFault"]) for f in part["Failed"]] == [
        ("bad", "InvalidMessageContents", True), ("late", "InvalidParameterValue", True)
    ]
    half = "x" * 524_288
    t.ok("SendMessageBatch", "of 1 MiB", QueueUrl=t.queue(), Entries=[{"Id": i, "MessageBody": half} for i in "ab"])
    t.refused(
        "SendMessageBatch", "larger than 1 MiB", code("BatchRequestTooLong"), QueueUrl=url,
        Entries=[{"Id": "a", "MessageBody": half}, {"Id": "b", "MessageBody": half + "x"}],
    )
    got = t.receive(url)
    assert len(got) == 10
    handles = [m["ReceiptHandle"] for m in got]
    changed = t.ok(
        "ChangeMessageVisibilityBatch", "some fail", QueueUrl=url, Entries=[
            {"Id": "a", "ReceiptHandle": handles[0], "VisibilityTimeout": 600},
            {"Id": "b", "ReceiptHandle": "nonsense", "VisibilityTimeout": 600},
            {"Id": "c", "ReceiptHandle": handles[1], "VisibilityTimeout": 43201},
            {"Id": "d", "ReceiptHandle": handles[2], "VisibilityTimeout": 0},
        ],
    )
    assert sorted(s["Id"] for s in changed["Successful"]) == ["a", "d"]
    assert {f["Id"]: f["Code"] for f in changed["Failed"]} == {"b": "ReceiptHandleIsInvalid", "c": "InvalidParameterValue"}
    changed = t.ok(
        "ChangeMessageVisibilityBatch", "not in flight", QueueUrl=url,
        Entries=[{"Id": "a", "ReceiptHandle": handles[2], "VisibilityTimeout": 1}],
    )
    assert changed["Failed"][0]["Code"] == code("MessageNotInflight")
    t.ok(
        "ChangeMessageVisibilityBatch", "all", QueueUrl=url,
        Entries=[{"Id": str(n), "ReceiptHandle": handles[n], "VisibilityTimeout": 600} for n in (3, 4)],
    )
    deleted = t.ok(
        "DeleteMessageBatch", "some fail", QueueUrl=url,
        Entries=[{"Id": "a", "ReceiptHandle": handles[0]}, {"Id": "b", "ReceiptHandle": "nonsense"}],
    )
    assert deleted["Successful"] == [{"Id": "a"}] and deleted["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    t.ok("DeleteMessageBatch", "all", QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": h} for n, h in enumerate(handles)])
    # What a batch holds, whatever it is a batch of.
    shape = {
        "SendMessageBatch": lambda i: {"Id": i, "MessageBody": "x"},
        "DeleteMessageBatch": lambda i: {"Id": i, "ReceiptHandle": handles[0]},
        "ChangeMessageVisibilityBatch": lambda i: {"Id": i, "ReceiptHandle": handles[0], "VisibilityTimeout": 1},
    }
    for operation, entry in shape.items():
        t.refused(operation, "no entries", code("EmptyBatchRequest"), QueueUrl=url, Entries=[])
        t.refused(operation, "eleven entries", code("TooManyEntriesInBatchRequest"), QueueUrl=url, Entries=[entry(str(n)) for n in range(11)])
        t.refused(operation, "one id twice", code("BatchEntryIdsNotDistinct"), QueueUrl=url, Entries=[entry("a"), entry("a")])
        t.refused(operation, "a bad id", code("InvalidBatchEntryId"), QueueUrl=url, Entries=[entry("a b")])
        t.refused(operation, "a missing queue", MISSING, QueueUrl=url + "x", Entries=[entry("a")])


CASES = [sending, delaying, receiving, visibility, deleting, batches]
