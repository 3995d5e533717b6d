"""Backups of a server at work and of a stopped one restore to exactly a committed state; damaged ones are refused."""

import itertools
import json
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path

import flint

BACKUPS = 5
WORKERS = 4
SOURCE = "import os\ndef handler(event, context):\n    return os.environ.get('NUM')\n"


class Counter:
    """Raises one number in one function's configuration and remembers what was sent and what was acknowledged."""

    def __init__(self, server, name):
        self.client = server.client("lambda", timeout=15)
        self.name = name
        self.sent = self.acknowledged = 0

    def run(self, stop):
        for n in itertools.count(self.acknowledged + 1):
            if stop.is_set():
                return
            self.sent = n
            while not stop.is_set():
                try:
                    self.client.update_function_configuration(
                        FunctionName=self.name, Environment={"Variables": {"NUM": str(n)}}
                    )
                    self.acknowledged = n
                    break
                except self.client.exceptions.ResourceConflictException:
                    stop.wait(0.005)  # the update before it is still under way


class Sender:
    """Sends numbers to a queue, one after the other: what is there of them at one moment has no gap."""

    def __init__(self, server, name):
        self.client = server.client("sqs", timeout=15)
        self.name = name
        self.url = self.client.create_queue(QueueName=name)["QueueUrl"]
        self.sent = self.acknowledged = 0

    def run(self, stop):
        while not stop.is_set():
            self.sent += 1
            self.client.send_message(QueueUrl=self.url, MessageBody=str(self.sent))
            self.acknowledged = self.sent


def queued(server, name):
    """The numbers in a queue."""
    client = server.client("sqs")
    url, found = client.get_queue_url(QueueName=name)["QueueUrl"], []
    while True:
        messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if not messages:
            return sorted(found)
        found += [int(message["Body"]) for message in messages]
        entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
        client.delete_message_batch(QueueUrl=url, Entries=entries)


class Churn:
    """Makes and deletes functions with code of their own, so that packages come and go under the backup."""

    def __init__(self, server):
        self.client = server.client("lambda", timeout=15)
        self.python = server.python()
        self.rounds = 0

    def run(self, stop):
        while not stop.is_set():
            name = f"churn-{self.rounds % 3}"
            code = {"app.py": SOURCE, "blob": os.urandom(50_000)}
            try:
                self.client.create_function(
                    FunctionName=name, Role=flint.ROLE, Runtime=self.python, Handler="app.handler",
                    Code={"ZipFile": flint.zipped(code)},
                )
                self.client.delete_function(FunctionName=f"churn-{(self.rounds + 1) % 3}")
            except (self.client.exceptions.ResourceNotFoundException, self.client.exceptions.ResourceConflictException):
                pass
            self.rounds += 1


def shown(server, name):
    """The number in a function's configuration, and its answer: code and configuration are whole."""
    client = server.client("lambda")
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    answer = flint.invoke(client, name, {})
    assert answer.error is None, answer
    return int(answer.json)


def test_a_backup_under_load_is_a_committed_state(fresh, tmp_path):
    server = fresh
    names = [f"count-{n}" for n in range(WORKERS)]
    for name in names:
        server.create(server.client("lambda"), name, SOURCE, Environment={"Variables": {"NUM": "0"}})
    senders = [Sender(server, f"queue-{n}") for n in range(2)]
    counters, churn, stop = [Counter(server, name) for name in names] + senders, Churn(server), threading.Event()
    threads = [threading.Thread(target=load.run, args=(stop,), daemon=True) for load in [*counters, churn]]
    for thread in threads:
        thread.start()
    taken, lost = [], 0
    try:
        for n in range(BACKUPS):
            before = {c.name: c.acknowledged for c in counters}
            flint.until(lambda before=before: all(c.acknowledged >= before[c.name] + 2 for c in counters), 20, "load")
            before = {c.name: c.acknowledged for c in counters}
            out = tmp_path / f"backup-{n}"
            told = json.loads(server.run("backup", str(out), "--data", str(server.data), "--json").stdout)
            after = {c.name: c.sent for c in counters}
            assert told["files"] > 4 and not (server.data / "backup.staging").exists()
            taken.append((out, before, after, told))
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert churn.rounds > 2, "packages must come and go meanwhile"
    key = server.environment()["AWS_ACCESS_KEY_ID"]
    for out, before, after, told in taken:
        data = tmp_path / f"{out.name}-restored"
        server.run("restore", str(out), "--data", str(data))
        with flint.Server(data) as restored:
            assert restored.environment()["AWS_ACCESS_KEY_ID"] == key
            for name in names:
                n = shown(restored, name)
                lost += n < before[name]
                assert before[name] <= n <= after[name], f"{name}: {before[name]} <= {n} <= {after[name]}"
            for sender in senders:
                numbers = queued(restored, sender.name)
                assert numbers == list(range(1, len(numbers) + 1)), f"{sender.name} has gaps"
                lost += max(before[sender.name] - len(numbers), 0)
                assert before[sender.name] <= len(numbers) <= after[sender.name], sender.name
            # Every function that is listed has its package.
            client = restored.client("lambda")
            for function in client.list_functions()["Functions"]:
                if function["FunctionName"].startswith("churn-"):
                    client.get_waiter("function_active_v2").wait(FunctionName=function["FunctionName"])
                    assert flint.invoke(client, function["FunctionName"], {}).error is None
    versions = [told["version"] for *_, told in taken]
    assert versions == sorted(versions), versions
    flint.figure("backups_restored", len(taken))
    flint.figure("acknowledged_lost", lost)


def test_a_stopped_server_is_backed_up_and_restored(tmp_path):
    server = flint.Server(tmp_path / "data").start()
    server.create(server.client("lambda"), "kept", SOURCE, Environment={"Variables": {"NUM": "7"}})
    assert server.stop() == 0
    out, back = tmp_path / "backup", tmp_path / "back"
    server.run("backup", str(out), "--data", str(server.data))
    again = server.run("backup", str(out), "--data", str(server.data), check=False)
    assert again.returncode == 1 and "exists already" in again.stderr, again.stderr
    assert "is whole" in server.run("restore", str(out), "--verify").stdout
    full = server.run("restore", str(out), "--data", str(server.data), check=False)
    assert full.returncode == 1 and "not empty" in full.stderr, full.stderr
    server.run("restore", str(out), "--data", str(back))
    # Both go on: the one that was backed up, and its copy.
    for data in (server.data, back):
        with flint.Server(data) as life:
            assert shown(life, "kept") == 7
            assert life.stop() == 0
    none = server.run("backup", str(tmp_path / "none"), "--data", str(tmp_path / "nothing"), check=False)
    assert none.returncode == 1 and not (tmp_path / "none").exists() and not (tmp_path / "nothing").exists()


def test_a_damaged_backup_is_refused(tmp_path):
    with flint.Server(tmp_path / "data") as server:
        server.create(server.client("lambda"), "kept", SOURCE, Environment={"Variables": {"NUM": "7"}})
        out, back = tmp_path / "backup", tmp_path / "back"
        server.run("backup", str(out), "--data", str(server.data))
    files = [Path(base, name) for base, _, names in os.walk(out) for name in names]
    assert {"MANIFEST", "format", "state.redb", "master.key", "credentials.json"} <= {f.name for f in files}
    choice, refused, taken = random.Random(5), 0, 0

    def attempt(what):
        nonlocal refused, taken
        done = server.run("restore", str(out), "--data", str(back), check=False)
        if done.returncode == 0:
            taken += 1
            shutil.rmtree(back)
        else:
            refused += 1
            assert len(done.stderr.strip().splitlines()) == 1 and "nothing was restored" in done.stderr, (what, done.stderr)
            assert not back.exists(), what

    for file in files:
        content = file.read_bytes()
        for _ in range(3):
            at = choice.randrange(len(content))
            bent = bytearray(content)
            bent[at] ^= 1 << choice.randrange(8)
            file.write_bytes(bent)
            attempt(f"{file} bent at {at}")
        file.write_bytes(content[: len(content) // 2])
        attempt(f"{file} cut")
        file.unlink()
        attempt(f"{file} gone")
        file.write_bytes(content)
    # An unfinished one has another name and no manifest.
    unfinished = out.with_name(".backup.unfinished")
    subprocess.run(["cp", "-r", out, unfinished], check=True)
    (unfinished / "MANIFEST").unlink()
    done = server.run("restore", str(unfinished), "--data", str(back), check=False)
    assert done.returncode == 1 and "never finished" in done.stderr, done.stderr
    # The control: untouched, it is taken.
    server.run("restore", str(out), "--data", str(back))
    flint.figure("damaged_backups_refused", refused)
    flint.figure("damaged_backups_taken", taken)
    assert taken == 0
