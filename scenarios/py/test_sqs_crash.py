"""kill -9 under load: what was acknowledged is there, what was deleted stays away, groups keep their order."""

import json
import os
import random
import threading
import time

import botocore.exceptions

import flint

KILLS = int(os.environ.get("FLINT_SQS_KILLS", "6"))
GROUPS = 4


class Ledger:
    """What this side was told, on disk before it is believed."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def note(self, *entries):
        with self.lock:
            self.file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
            os.fdatasync(self.file.fileno())


class Load:
    """Senders and receivers that go on over crashes: a call without an answer is made again."""

    def __init__(self, server, tmp_path):
        self.server, self.ending, self.draining = server, threading.Event(), threading.Event()
        self.ledger = Ledger(tmp_path / "ledger")
        self.port = None
        self.errors = []
        self.sent, self.got, self.gone = {}, {}, set()
        self.groups = [[] for _ in range(GROUPS)]

    def client(self):
        return self.server.client("sqs", timeout=10, endpoint_url=f"http://127.0.0.1:{self.port}")

    def ask(self, client, operation, **params):
        """The answer, or None if there was none."""
        try:
            return getattr(client, operation)(**params)
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError):
            time.sleep(0.02)
        except botocore.exceptions.ClientError as e:
            if e.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
        return None

    def guard(self, work, *args):
        try:
            work(*args)
        except Exception as e:
            self.errors.append(e)

    def send(self, url, sender):
        client, number = self.client(), 0
        while not self.ending.is_set():
            body = f"{sender}-{number}"
            answer = self.ask(client, "send_message", QueueUrl=url, MessageBody=body)
            # Whether one without an answer was taken is not known: it may come, and it may not.
            if answer:
                self.ledger.note(["sent", body])
                self.sent[body] = True
            number += 1

    def send_in_order(self, url, group):
        client, number = self.client(), 0
        while not self.ending.is_set():
            body = f"{group}:{number}"
            answer = None
            while answer is None and not self.ending.is_set():
                answer = self.ask(
                    client, "send_message", QueueUrl=url, MessageBody=body, MessageGroupId=str(group),
                    MessageDeduplicationId=body,
                )
            if answer:
                self.ledger.note(["sent", body])
                self.sent[body] = True
                number += 1

    def receive(self, url, ordered):
        client = self.client()
        idle = 0
        while not (self.draining.is_set() and idle > 2):
            answer = self.ask(client, "receive_message", QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=2)
            if answer is None:
                continue
            messages = answer.get("Messages", [])
            idle = 0 if messages else idle + 1
            for message in messages:
                body = message["Body"]
                assert body not in self.gone, f"{body} came back after it was deleted"
                self.got[body] = self.got.get(body, 0) + 1
                if ordered:
                    group, number = map(int, body.split(":"))
                    line = self.groups[group]
                    # Again what was not deleted, or the next one.
                    assert number <= len(line), f"group {group}: {number} came when {len(line)} was due"
                    if number == len(line):
                        line.append(number)
                try:
                    deleted = self.ask(client, "delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                except botocore.exceptions.ClientError as e:
                    # A FIFO queue says so when the restart took longer than the visibility timeout.
                    assert ordered and "expired" in str(e), e
                    deleted = None
                if deleted is None and ordered:
                    # What is behind it in this batch must not be taken before its fate is known.
                    break
                if deleted:
                    self.ledger.note(["gone", body])
                    self.gone.add(body)


def test_kills_under_load(data, tmp_path):
    random.seed(20261127)
    server = flint.Server(data)
    server.start()
    load = Load(server, tmp_path)
    load.port = int(server.url.rsplit(":", 1)[1])
    client = load.client()
    plain = client.create_queue(QueueName="plain")["QueueUrl"]
    fifo = client.create_queue(QueueName="ordered.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    work = [(load.send, plain, n) for n in range(2)] + [(load.send_in_order, fifo, g) for g in range(GROUPS)]
    work += [(load.receive, plain, False), (load.receive, fifo, True)]
    threads = [threading.Thread(target=load.guard, args=w) for w in work]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(random.uniform(0.3, 1.2))
            server.kill()
            server.start(listen=f"127.0.0.1:{load.port}")
        time.sleep(0.5)
        load.ending.set()
        for thread, (kind, *_) in zip(threads, work):
            if kind != load.receive:
                thread.join(30)
        # What was out when the server died comes back after its two seconds.
        load.draining.set()
        for thread in threads:
            thread.join(60)
        assert not any(t.is_alive() for t in threads), "a sender or a receiver does not end"
    finally:
        load.ending.set()
        load.draining.set()
        server.stop()
    assert not load.errors, load.errors
    lost = [body for body in load.sent if body not in load.got]
    duplicates = sum(n - 1 for n in load.got.values())
    flint.figure("sqs_kills", KILLS)
    flint.figure("sqs_acknowledged", len(load.sent))
    flint.figure("sqs_acknowledged_lost", len(lost))
    flint.figure("sqs_duplicates", duplicates)
    assert not lost, lost[:10]
    assert len(load.sent) > 100 * KILLS // 6
    # One receive of ten may be under way in each queue when the server dies.
    assert duplicates <= 20 * KILLS, f"{duplicates} duplicates"
    for group, line in enumerate(load.groups):
        assert line == list(range(len(line))), f"group {group}"
