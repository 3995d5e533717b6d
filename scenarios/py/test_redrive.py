"""What brings dead letters back goes on after `kill -9`: nothing lost, nothing doubled."""

import json
from collections import Counter

import flint
from test_dlq import Told
from test_events import ask
from test_mappings import queue

MANY = 300
RATE = 40

def bury(sqs, name):
    """A queue whose messages all lie in its dead-letter queue."""
    dead, dead_arn = queue(sqs, f"{name}-dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = queue(sqs, name, RedrivePolicy=redrive)
    for start in range(0, MANY, 10):
        entries = [{"Id": str(n), "MessageBody": f"{name} {n}"} for n in range(start, start + 10)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    waiting = lambda url: int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]["ApproximateNumberOfMessages"])
    while waiting(dead) < MANY:
        sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return url, dead, dead_arn

def bodies(sqs, url):
    found = Counter()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages"):
        found.update(m["Body"] for m in messages)
    return found

def test_a_kill_in_the_middle_of_redrives(tmp_path):
    with flint.Server(tmp_path / "data") as server:
        sqs, told = server.client("sqs"), Told(server)
        ours, ours_dead, _ = bury(sqs, "ours")
        theirs, theirs_dead, theirs_arn = bury(sqs, "theirs")
        # Nobody said why: all are one group. Both queues' messages wait as failures; the redrive takes those of `ours` and what is left of `theirs`.
        sqs.start_message_move_task(SourceArn=theirs_arn, MaxNumberOfMessagesPerSecond=RATE)
        [group] = told("dlq")["Groups"]
        task = told("dlq", "redrive", group["GroupId"], "--rate", str(RATE), "--no-wait")["TaskId"]
        moved = lambda: sqs.list_message_move_tasks(SourceArn=theirs_arn)["Results"][0]
        flint.until(lambda: ask(server, "GetRedrive", TaskId=task)["Done"] >= 30 and moved()["ApproximateNumberOfMessagesMoved"] >= 30, 30, "a part of both")
        server.kill()
        server.start()
        sqs = server.client("sqs")
        state, moving = ask(server, "GetRedrive", TaskId=task), moved()
        assert state["Status"] == "Running" and 30 <= state["Done"] < state["Count"], state
        assert moving["Status"] == "RUNNING" and 30 <= moving["ApproximateNumberOfMessagesMoved"] < MANY, moving
        assert moving["MaxNumberOfMessagesPerSecond"] == RATE
        end = flint.until(lambda: (lambda s: s if s["Status"] == "Done" else None)(ask(server, "GetRedrive", TaskId=task)), 30, "the redrive")
        flint.until(lambda: moved()["Status"] == "COMPLETED", 30, "the move task")
        assert end["Done"] + end["Skipped"] == end["Count"] > MANY and end["Failed"] == 0, end
        for name, url, dead in (("ours", ours, ours_dead), ("theirs", theirs, theirs_dead)):
            found = bodies(sqs, url)
            assert set(found) == {f"{name} {n}" for n in range(MANY)}, f"lost: {MANY - len(found)}"
            doubled = sum(n - 1 for n in found.values())
            flint.figure(f"redrive_doubled_{name}", doubled)
            assert doubled == 0, "a message moves in one commit"
            assert not bodies(sqs, dead)
        # It is over for good.
        server.kill()
        server.start()
        assert ask(server, "GetRedrive", TaskId=task)["Status"] == "Done"
