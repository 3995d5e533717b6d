"""Two servers on one host, each with functions under load, do not touch each other."""

import concurrent.futures
import threading

import flint

SOURCE = """
import os
def handler(event, context):
    open("/tmp/who", "a").write(event["who"] + "\\n")
    return {"who": event["who"], "seen": sorted(set(open("/tmp/who").read().split())), "uid": os.getuid()}
"""


def test_side_by_side(tmp_path):
    with flint.Server(tmp_path / "one") as one, flint.Server(tmp_path / "two") as two:
        servers = {"one": one, "two": two}
        clients = {who: server.client("lambda") for who, server in servers.items()}
        for who, server in servers.items():
            for n in range(3):
                server.create(clients[who], f"f{n}", SOURCE, Environment={"Variables": {"WHO": who}})
        hosts = {who: server.host() for who, server in servers.items()}
        assert hosts["one"].id != hosts["two"].id

        def load(who, n):
            answer = flint.invoke(clients[who], f"f{n % 3}", {"who": who}, tail=False)
            assert answer.error is None and answer.json["seen"] == [who], answer
            return 1

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = sum(pool.map(lambda n: load(("one", "two")[n % 2], n), range(300)))
        assert done == 300

        # Own processes, own uids, own namespaces.
        uids = {who: uids_of(host.processes()) for who, host in hosts.items()}
        assert uids["one"] and uids["two"] and not uids["one"] & uids["two"], uids
        assert not hosts["one"].processes() & hosts["two"].processes()
        assert not hosts["one"].namespaces() & hosts["two"].namespaces()

        # The keys of one open nothing at the other.
        foreign = two.client(
            "lambda", aws_access_key_id=one.environment()["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=one.environment()["AWS_SECRET_ACCESS_KEY"],
        )
        refused = False
        try:
            foreign.list_functions()
        except foreign.exceptions.ClientError as error:
            refused = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert refused

        # One dies by kill -9 while the other is under load: the other does not miss a call.
        failures, stop = [], threading.Event()

        def pressure():
            while not stop.is_set():
                try:
                    load("two", 0)
                except Exception as error:  # noqa: BLE001 - any failure counts
                    failures.append(repr(error))

        thread = threading.Thread(target=pressure)
        thread.start()
        try:
            host = hosts["one"]
            one.kill()
            flint.until(lambda: not host.processes(), 1, "the dead server's functions end", every=0.02)
            one.start()
            assert flint.invoke(clients_of(one), "f1", {"who": "one"}).json["seen"] == ["one"]
            assert one.stop() == 0
        finally:
            stop.set()
            thread.join()
        assert not failures, failures[:3]
        assert load("two", 1) == 1
        flint.figure("calls_side_by_side", 300)


def clients_of(server):
    return server.client("lambda")


def uids_of(pids):
    found = set()
    for pid in pids:
        try:
            for line in open(f"/proc/{pid}/status"):
                if line.startswith("Uid:"):
                    found |= set(line.split()[1:])
        except OSError:
            pass
    return found
