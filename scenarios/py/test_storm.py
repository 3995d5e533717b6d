"""kill -9 of the server, and of its spawner, 20 times each under create, update, invoke and delete load.

Each worker keeps a ledger of what was acknowledged and what was under way; after each restart the server must show
the one or the other, nothing else.
"""

import itertools
import json
import os
import random
import signal
import threading
import time

import botocore.exceptions
import pytest

import flint

KILLS = 20
WORKERS = 4
SOURCE = "import os\ndef handler(event, context):\n    return [os.environ.get('NUM'), {code!r}]\n"
ABSENT = None


class Worker:
    """Drives two functions of its own and remembers what must hold."""

    def __init__(self, storm, number):
        self.storm = storm
        self.random = random.Random(number)
        self.names = [f"w{number}-{n}" for n in range(2)]
        self.acknowledged = {name: ABSENT for name in self.names}
        self.doubt = {}
        self.counter = itertools.count(1)
        self.done = dict.fromkeys(("create", "update", "code", "invoke", "delete"), 0)
        self.wrong = []
        self.errors = []

    def run(self):
        while not self.storm.stop.is_set():
            name = self.random.choice(self.names)
            try:
                self.turn(name)
            except botocore.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                code = error.response["Error"]["Code"]
                # 409: an update is still under way. 5xx: the server is dying under us; the act is in doubt.
                if status < 500 and code not in ("ResourceConflictException", "TooManyRequestsException"):
                    self.wrong.append(f"{name}: {error}")
                if code == "ResourceConflictException":
                    self.doubt.pop(name, None)
                    time.sleep(0.02)
            except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError, OSError):
                # The server is gone: whatever was under way is in doubt. The storm ends this round.
                self.storm.stop.wait(0.02)
            except botocore.exceptions.BotoCoreError as error:
                # A response that broke off in the middle.
                self.storm.stop.wait(0.02)
                self.done.setdefault(type(error).__name__, 0)

    def turn(self, name):
        if name in self.doubt:
            # What a cut-off call did is settled by the check after the restart.
            self.storm.stop.wait(0.01)
            return
        client, has = self.storm.client, self.acknowledged[name]
        n = str(next(self.counter))
        act = self.random.choice(["update", "update", "code", "invoke", "invoke", "invoke", "delete"]) if has else "create"
        if act == "create":
            self.doubt[name] = [ABSENT, (n, n)]
            client.create_function(
                FunctionName=name, Role=flint.ROLE, Runtime=self.storm.python, Handler="app.handler",
                Environment={"Variables": {"NUM": n}}, Code={"ZipFile": flint.zipped({"app.py": SOURCE.format(code=n)})},
            )
            self.settle(name, (n, n))
        elif act == "update":
            self.doubt[name] = [has, (n, has[1])]
            client.update_function_configuration(FunctionName=name, Environment={"Variables": {"NUM": n}})
            self.settle(name, (n, has[1]))
        elif act == "code":
            self.doubt[name] = [has, (has[0], n)]
            client.update_function_code(FunctionName=name, ZipFile=flint.zipped({"app.py": SOURCE.format(code=n)}))
            self.settle(name, (has[0], n))
        elif act == "delete":
            self.doubt[name] = [has, ABSENT]
            client.delete_function(FunctionName=name)
            self.settle(name, ABSENT)
        else:
            answer = client.invoke(FunctionName=name, Payload=b"{}")
            body = answer["Payload"].read()
            if "FunctionError" in answer:
                self.errors.append((name, json.loads(body)))
        self.done[act] += 1

    def settle(self, name, value):
        self.acknowledged[name] = value
        self.doubt.pop(name, None)

    def verify(self):
        """Compares the restarted server with the ledger; settles what was in doubt. Returns what was lost."""
        lost = []
        for name in self.names:
            allowed = self.doubt.get(name, [self.acknowledged[name]])
            shown = self.show(name)
            if shown not in allowed:
                lost.append(f"{name}: wanted one of {allowed}, the server shows {shown}")
            self.settle(name, shown)
        return lost

    def show(self, name):
        client = self.storm.client
        try:
            client.get_function_configuration(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            return ABSENT

        def answer():
            try:
                raw = client.invoke(FunctionName=name, Payload=b"{}")
            except client.exceptions.ResourceConflictException:
                return None  # still pending
            assert "FunctionError" not in raw, raw["Payload"].read()
            return json.loads(raw["Payload"].read())

        return tuple(flint.until(answer, 10, f"{name} answers"))


class Storm:
    def __init__(self, server):
        self.server = server
        self.client = server.client("lambda", timeout=15)
        self.python = server.python()
        self.stop = threading.Event()
        self.workers = [Worker(self, n) for n in range(WORKERS)]
        self.gone, self.again = [], []

    def round(self, kill):
        """Load, then `kill`, then the checks, then the next life."""
        server = self.server
        self.stop.clear()
        # The ledgers live on, the threads are new.
        threads = [threading.Thread(target=worker.run, daemon=True) for worker in self.workers]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.25, 0.9))  # under load: the kill's moment is the random part
        host = server.host()
        began = time.monotonic()
        kill(server, host)
        flint.until(lambda: not flint.alive(host.spawner_pid) and not host.processes(), 5, lambda: f"processes end after the kill: {host.processes()}", every=0.01)
        self.gone.append(time.monotonic() - began)
        self.stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a call hangs although its server is gone"
        began = time.monotonic()
        server.start(listen="{}:{}".format(*server.address))
        self.client.list_functions()
        self.again.append(time.monotonic() - began)
        lost = [line for worker in self.workers for line in worker.verify()]
        wrong = [line for worker in self.workers for line in worker.wrong]
        assert not wrong, wrong[:5]
        # A call that was lost with the server or the spawner is ours to answer for (5xx), never the function's error.
        errors = [error for worker in self.workers for error in worker.errors]
        assert not errors, errors
        return lost


def kill_server(server, host):
    server.kill()


def kill_spawner(server, host):
    os.kill(host.spawner_pid, signal.SIGKILL)
    # The server sees it, stops acknowledging and exits non-zero by itself.
    status = server.process.wait(5)
    assert status != 0, "the server must not end well without its spawner"
    server.process.stdout.close()
    server.process = None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["server", "spawner"])
def test_storm(fresh, victim):
    storm = Storm(fresh)
    first = fresh.host()
    lost = []
    for _ in range(KILLS):
        lost += storm.round(kill_server if victim == "server" else kill_spawner)
    done = {act: sum(w.done.get(act, 0) for w in storm.workers) for act in ("create", "update", "code", "invoke", "delete")}
    print("acknowledged", done, "gone", storm.gone, "again", storm.again)
    assert all(done.values()), done
    flint.figure(f"{victim}_kills", KILLS)
    flint.figure("acknowledged_acts", sum(done.values()))
    flint.figure("acknowledged_lost", len(lost))
    flint.figure("serving_again_max_s", max(storm.again))
    flint.figure("processes_gone_max_s", max(storm.gone))
    assert not lost, lost
    assert max(storm.gone) <= 1.0, storm.gone
    assert max(storm.again) <= 1.0, storm.again

    # The earlier lives left no mounts and no cgroups: what is there belongs to the life that serves now.
    last = fresh.host()
    assert last.id == first.id
    assert fresh.stop() == 0
    flint.until(lambda: not any(last.left().values()), 3, lambda: f"left behind: {last.left()}", every=0.05)
