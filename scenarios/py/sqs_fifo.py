"""Cases of FIFO queues, dead letters and message move tasks."""

import json
import time

import flint
from sqs import code

MISSING = code("NonExistentQueue")


def fifo_sending(t):
    url = t.queue(fifo=True)
    sent = t.ok("SendMessage", "to a group", QueueUrl=url, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="1")
    assert len(sent["SequenceNumber"]) == 20
    again = t.ok("SendMessage", "twice under an id", QueueUrl=url, MessageBody="other", MessageGroupId="g", MessageDeduplicationId="1")
    assert (again["MessageId"], again["SequenceNumber"]) == (sent["MessageId"], sent["SequenceNumber"])
    later = t.send(url, "b", MessageGroupId="g", MessageDeduplicationId="2")
    assert later["SequenceNumber"] > sent["SequenceNumber"]
    got = t.receive(url, AttributeNames=["All"])
    assert [m["Body"] for m in got] == ["a", "b"]
    shown = got[0]["Attributes"]
    assert (shown["MessageGroupId"], shown["MessageDeduplicationId"]) == ("g", "1")
    assert shown["SequenceNumber"] == sent["SequenceNumber"]
    t("DeleteMessageBatch", QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(got)])
    t.send(url, "a", MessageGroupId="g", MessageDeduplicationId="1")
    assert t.receive(url) == []
    t.saw("SendMessage", "twice under an id, deleted between")
    t.refused("SendMessage", "FIFO without group", "MissingParameter", QueueUrl=url, MessageBody="a", MessageDeduplicationId="3")
    t.refused("SendMessage", "FIFO without deduplication", "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageGroupId="g")
    t.refused("SendMessage", "FIFO with a delay", "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="4", DelaySeconds=5)
    t.refused("SendMessage", "a bad deduplication id", "InvalidParameterValue", QueueUrl=url, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="x" * 129)


def fifo_deduplication(t):
    url = t.queue(fifo=True, ContentBasedDeduplication="true")
    first = t.ok("SendMessage", "deduplicated by content", QueueUrl=url, MessageBody="a", MessageGroupId="g")
    assert t.send(url, "a", MessageGroupId="other")["MessageId"] == first["MessageId"]
    assert t.send(url, "a", MessageGroupId="g", MessageDeduplicationId="own")["MessageId"] != first["MessageId"]
    assert t.bodies(url) == ["a", "a"]
    groups = t.queue(fifo=True, ContentBasedDeduplication="true", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    one, two = (t.send(groups, "a", MessageGroupId=g)["MessageId"] for g in "gh")
    assert one != two and t.send(groups, "a", MessageGroupId="h")["MessageId"] == two
    t.saw("SendMessage", "deduplicated by group")
    assert t.attributes(groups)["FifoThroughputLimit"] == "perMessageGroupId"
    t.saw("CreateQueue", "FIFO of high throughput")
    t.refused(
        "SetQueueAttributes", "a limit by group without its scope", "InvalidParameterValue", QueueUrl=url,
        Attributes={"FifoThroughputLimit": "perMessageGroupId"},
    )
    batch = t.ok(
        "SendMessageBatch", "FIFO, one id twice", QueueUrl=url, Entries=[
            {"Id": "a", "MessageBody": "x", "MessageGroupId": "g"}, {"Id": "b", "MessageBody": "y", "MessageGroupId": "g"},
            {"Id": "c", "MessageBody": "x", "MessageGroupId": "g"},
        ],
    )["Successful"]
    assert batch[0]["MessageId"] == batch[2]["MessageId"] != batch[1]["MessageId"]
    assert all(s["SequenceNumber"] for s in batch)
    part = t.ok(
        "SendMessageBatch", "FIFO, one without group", QueueUrl=url,
        Entries=[{"Id": "a", "MessageBody": "new", "MessageGroupId": "g"}, {"Id": "b", "MessageBody": "z"}],
    )
    assert [s["Id"] for s in part["Successful"]] == ["a"] and part["Failed"][0]["Code"] == "MissingParameter"


def fifo_order(t):
    url = t.queue(fifo=True, VisibilityTimeout="600")
    for n in range(6):
        for group in "gh":
            t.send(url, f"{group}{n}", MessageGroupId=group, MessageDeduplicationId=f"{group}{n}")
    first = t.receive(url, MaxNumberOfMessages=2)
    assert [m["Body"] for m in first] == ["g0", "g1"]
    t.saw("ReceiveMessage", "one group in order")
    other = t.receive(url, MaxNumberOfMessages=3)
    assert [m["Body"] for m in other] == ["h0", "h1", "h2"]
    t.saw("ReceiveMessage", "another group while one is out")
    assert t.receive(url) == []
    t.saw("ReceiveMessage", "nothing while all groups are out")
    t("DeleteMessage", QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
    assert t.receive(url) == []
    t.ok("ChangeMessageVisibility", "FIFO, visible at once", QueueUrl=url, ReceiptHandle=first[1]["ReceiptHandle"], VisibilityTimeout=0)
    again = t.receive(url, MaxNumberOfMessages=1)
    assert [m["Body"] for m in again] == ["g1"]
    t.saw("ReceiveMessage", "a group goes on with what came back")
    t.refused("DeleteMessage", "FIFO, an expired handle", "InvalidParameterValue", QueueUrl=url, ReceiptHandle=first[1]["ReceiptHandle"])
    t("DeleteMessage", QueueUrl=url, ReceiptHandle=again[0]["ReceiptHandle"])
    assert t.bodies(url, MaxNumberOfMessages=10) == ["g2", "g3", "g4", "g5"]


def fifo_attempts(t):
    url = t.queue(fifo=True)
    for n in range(2):
        t.send(url, str(n), MessageGroupId="g", MessageDeduplicationId=str(n))
    ask = {"MaxNumberOfMessages": 1, "ReceiveRequestAttemptId": "attempt"}
    first = t.ok("ReceiveMessage", "with an attempt id", QueueUrl=url, **ask)["Messages"]
    again = t.ok("ReceiveMessage", "the same attempt again", QueueUrl=url, **ask)["Messages"]
    assert first[0]["MessageId"] == again[0]["MessageId"] and again[0]["Body"] == "0"
    assert t.receive(url, ReceiveRequestAttemptId="another") == []
    t("DeleteMessage", QueueUrl=url, ReceiptHandle=again[0]["ReceiptHandle"])
    assert t.bodies(url, **ask) == ["1"]
    t.saw("ReceiveMessage", "the same attempt after a deletion")
    t.refused("ReceiveMessage", "a bad attempt id", "InvalidParameterValue", QueueUrl=url, ReceiveRequestAttemptId="x" * 129)


def redrive(arn, count):
    return {"deadLetterTargetArn": arn, "maxReceiveCount": count}


def dead_letters(t):
    dead = t.queue()
    dead_arn = t.arn(dead)
    url = t.queue(RedrivePolicy=redrive(dead_arn, 2))
    shown = json.loads(t.attributes(url)["RedrivePolicy"])
    assert shown == redrive(dead_arn, 2)
    t.saw("CreateQueue", "with a redrive policy")
    sent = t.send(url, "poison", MessageAttributes={"a": {"DataType": "String", "StringValue": "x"}})
    for _ in range(2):
        assert t.bodies(url, VisibilityTimeout=0) == ["poison"]
    assert t.receive(url) == []
    t.saw("ReceiveMessage", "nothing, it went to the dead letters")
    got = t.receive(dead, AttributeNames=["All"], MessageAttributeNames=["All"], VisibilityTimeout=0)
    assert [m["Body"] for m in got] == ["poison"] and got[0]["MessageId"] == sent["MessageId"]
    assert got[0]["Attributes"]["DeadLetterQueueSourceArn"] == t.arn(url)
    assert got[0]["MessageAttributes"]["a"]["StringValue"] == "x"
    t.saw("ReceiveMessage", "a dead letter")
    assert t.ok("ListDeadLetterSourceQueues", "some", QueueUrl=dead)["queueUrls"] == [url]
    assert t.ok("ListDeadLetterSourceQueues", "none", QueueUrl=url).get("queueUrls", []) == []
    t.refused("ListDeadLetterSourceQueues", "a missing queue", MISSING, QueueUrl=url + "x")
    # A dead letter of 1 MiB moves too.
    large = "y" * 1_048_576
    t.send(url, large)
    for _ in range(2):
        t.receive(url, VisibilityTimeout=0)
    assert t.receive(url) == []
    assert large in t.bodies(dead, VisibilityTimeout=0)
    t.saw("ReceiveMessage", "a dead letter of 1 MiB")
    t.refused("SetQueueAttributes", "dead letters nowhere", "InvalidParameterValue", QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(redrive(dead_arn + "x", 1))})
    t.refused("SetQueueAttributes", "dead letters of another type", "InvalidParameterValue", QueueUrl=t.queue(fifo=True), Attributes={"RedrivePolicy": json.dumps(redrive(dead_arn, 1))})
    t.ok("SetQueueAttributes", "who may use it", QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"})})
    t.refused("SetQueueAttributes", "dead letters not allowed there", "InvalidParameterValue", QueueUrl=t.queue(), Attributes={"RedrivePolicy": json.dumps(redrive(dead_arn, 1))})
    by = {"redrivePermission": "byQueue", "sourceQueueArns": [t.arn(url)]}
    t.ok("SetQueueAttributes", "who may use it, by queue", QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(by)})
    t.ok("SetQueueAttributes", "a redrive policy", QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(redrive(dead_arn, "5"))})
    assert json.loads(t.attributes(url)["RedrivePolicy"]) == redrive(dead_arn, 5)


def fifo_dead_letters(t):
    dead = t.queue(fifo=True)
    url = t.queue(fifo=True, RedrivePolicy=redrive(t.arn(dead), 1))
    for n in range(3):
        t.send(url, str(n), MessageGroupId="g", MessageDeduplicationId=str(n))
    assert t.bodies(url, MaxNumberOfMessages=1, VisibilityTimeout=0) == ["0"]
    assert t.bodies(url, MaxNumberOfMessages=10) == ["1", "2"]
    t.saw("ReceiveMessage", "a group goes on behind its dead letter")
    assert t.bodies(dead) == ["0"]


def moving(t):
    if not t.driver.knows("StartMessageMoveTask"):
        return
    dead = t.queue()
    dead_arn = t.arn(dead)
    url = t.queue(RedrivePolicy=redrive(dead_arn, 1))
    arn = t.arn(url)

    def bury(count):
        for n in range(count):
            t.send(url, f"m{n}")
        for m in t.receive(url, VisibilityTimeout=0):
            pass
        assert t.receive(url) == []

    def newest():
        return t("ListMessageMoveTasks", SourceArn=dead_arn)["Results"][0]

    bury(5)
    assert not t.ok("ListMessageMoveTasks", "none", SourceArn=dead_arn).get("Results")
    handle = t.ok("StartMessageMoveTask", "back to the source", SourceArn=dead_arn)["TaskHandle"]
    flint.until(lambda: newest()["Status"] == "COMPLETED", 10, "the task does not end")
    done = newest()
    assert done["ApproximateNumberOfMessagesMoved"] == 5 and done["SourceArn"] == dead_arn and "TaskHandle" not in done
    t.saw("ListMessageMoveTasks", "completed")
    assert sorted(t.bodies(url, VisibilityTimeout=0)) == [f"m{n}" for n in range(5)]
    t.refused("CancelMessageMoveTask", "ended already", code("UnsupportedOperation"), TaskHandle=handle)
    assert t.receive(url) == []
    # Elsewhere, and slowly.
    other = t.queue()
    task = t.ok("StartMessageMoveTask", "elsewhere at a rate", SourceArn=dead_arn, DestinationArn=t.arn(other), MaxNumberOfMessagesPerSecond=1)
    running = newest()
    assert running["Status"] == "RUNNING" and running["TaskHandle"] == task["TaskHandle"]
    assert running["MaxNumberOfMessagesPerSecond"] == 1 and running["ApproximateNumberOfMessagesToMove"] == 5
    t.saw("ListMessageMoveTasks", "running")
    t.refused("StartMessageMoveTask", "one is running", code("UnsupportedOperation"), SourceArn=dead_arn)
    flint.until(lambda: newest()["ApproximateNumberOfMessagesMoved"] >= 2, 10, "nothing moves")
    moved = t.ok("CancelMessageMoveTask", "cancelled", TaskHandle=task["TaskHandle"])["ApproximateNumberOfMessagesMoved"]
    flint.until(lambda: newest()["Status"] == "CANCELLED", 10, "the task is not cancelled")
    assert 2 <= moved < 5 and newest()["ApproximateNumberOfMessagesMoved"] < 5
    assert len(t.ok("ListMessageMoveTasks", "several", SourceArn=dead_arn, MaxResults=10)["Results"]) == 2
    direct = t.queue()
    t.queue(RedrivePolicy=redrive(t.arn(direct), 1))
    t.send(direct, "from nowhere")
    t("StartMessageMoveTask", SourceArn=t.arn(direct))
    failed = flint.until(
        lambda: next((r for r in t("ListMessageMoveTasks", SourceArn=t.arn(direct))["Results"] if r["Status"] == "FAILED"), None),
        10, "the task does not fail",
    )
    assert failed["FailureReason"] == "CouldNotDetermineMessageSource" and t.bodies(direct) == ["from nowhere"]
    t.saw("ListMessageMoveTasks", "failed")
    t.refused("StartMessageMoveTask", "a source that is missing", "ResourceNotFoundException", SourceArn=dead_arn + "x")
    t.refused("StartMessageMoveTask", "a destination that is missing", "ResourceNotFoundException", SourceArn=dead_arn, DestinationArn=arn + "x")
    t.refused("StartMessageMoveTask", "no dead letters", "InvalidParameterValue", SourceArn=arn)
    t.refused("StartMessageMoveTask", "into itself", "InvalidParameterValue", SourceArn=dead_arn, DestinationArn=dead_arn)
    t.refused("StartMessageMoveTask", "a bad rate", "InvalidParameterValue", SourceArn=dead_arn, MaxNumberOfMessagesPerSecond=501)
    t.refused("ListMessageMoveTasks", "a missing queue", "ResourceNotFoundException", SourceArn=dead_arn + "x")
    t.refused("ListMessageMoveTasks", "a bad page", "InvalidParameterValue", SourceArn=dead_arn, MaxResults=11)
    t.refused("CancelMessageMoveTask", "a bad handle", "InvalidParameterValue", TaskHandle="x")


def expiring(t):
    # The shortest retention is a minute; a message that is dropped by it has its place in the unit tests.
    url = t.queue(MessageRetentionPeriod="60")
    t.send(url, "a")
    assert t.bodies(url) == ["a"]
    begun = time.time()
    t.saw("ReceiveMessage", "within its retention")
    assert time.time() - begun < 60


CASES = [fifo_sending, fifo_deduplication, fifo_order, fifo_attempts, dead_letters, fifo_dead_letters, moving, expiring]
