"""Limits are exact: `/tmp` and memory are apart, each ends where it says, and neither disturbs the server."""

import concurrent.futures
import http.client
import json
import os
import statistics
import subprocess
import time

import botocore.exceptions
import pytest

import endings
import flint

MIB = 1 << 20

SOURCE = """
import ctypes, errno, os, subprocess, sys, threading, time, zlib

def fill(event):
    # Every MiB is another one, so that what is read back is what was written.
    block, wrote = os.urandom(1 << 20), 0
    with open("/tmp/big", "wb", buffering=0) as file:
        for n in range(event["mib"]):
            file.write(n.to_bytes(8, "little") + block[8:])
            wrote = zlib.crc32(block[8:], zlib.crc32(n.to_bytes(8, "little"), wrote))
    read, size = 0, 0
    with open("/tmp/big", "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            read, size = zlib.crc32(chunk, read), size + len(chunk)
    more, end = 0, None
    try:
        with open("/tmp/more", "wb", buffering=0) as file:
            while more < 64 << 20:
                more += file.write(block[:65536])
    except OSError as error:
        end = error.errno
    return {"size": size, "same": wrote == read, "more": more, "end": end}

def heap(event):
    print("before oom", flush=True)
    hoard = [bytearray(os.urandom(1 << 20)) for _ in range(event["mib"])]
    return len(hoard)

def inodes(event):
    os.mkdir("/tmp/many")
    n = 0
    try:
        while n < 2_000_000:
            open(f"/tmp/many/{n}", "w").close()
            n += 1
    except OSError as error:
        return {"files": n, "end": error.errno}

def child(event):
    # The parent stays small and would live on; so would the other child.
    print("before oom", flush=True)
    subprocess.Popen(["/bin/sleep", "600"])
    eater = "import os, time; x = [bytearray(os.urandom(1 << 20)) for _ in range(400)]; time.sleep(600)"
    done = subprocess.Popen([sys.executable, "-c", eater]).wait()
    time.sleep(20)
    return done

def counts(event):
    files, threads, stop = [], [], threading.Event()
    try:
        while len(files) < 5000:
            files.append(open("/dev/null"))
    except OSError as error:
        ends = [error.errno]
    for file in files:
        file.close()
    threading.stack_size(65536)
    try:
        while len(threads) < 5000:
            thread = threading.Thread(target=stop.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        ends.append("no thread")
    stop.set()
    return {"files": len(files), "threads": len(threads), "ends": ends}

def space(event):
    found = os.statvfs("/tmp")
    return {"bytes": found.f_bavail * found.f_frsize, "files": found.f_favail, "there": os.listdir("/tmp")}

def write(event):
    # As fast as it can, over and over, until the time is over.
    block, end, wrote = os.urandom(1 << 20), time.monotonic() + event["seconds"], 0
    while time.monotonic() < end:
        with open("/tmp/big", "wb", buffering=0) as file:
            for _ in range(400):
                if time.monotonic() > end:
                    break
                wrote += file.write(block)
    return wrote

def handler(event, context):
    return globals()[event["do"]](event)
"""


def run(client, name, do, **event):
    answer = flint.invoke(client, name, {"do": do, **event})
    assert answer.error is None, answer
    return answer.json


def dies_of_memory(client, name, do, **event):
    """The call ends with the documented error."""
    answer = flint.invoke(client, name, {"do": do, **event})
    wanted = endings.golden("oom")
    document = {k: v.replace("{id}", answer.request_id) for k, v in wanted["document"].items()}
    assert (answer.status, answer.error, answer.json) == (wanted["status"], wanted["function_error"], document), answer
    assert "Error Type: Runtime.OutOfMemory" in answer.tail, answer
    return answer


def test_tmp_does_not_eat_memory_and_ends_at_its_size(shared, functions, name):
    shared.create(functions, name, SOURCE, Timeout=120, MemorySize=128)
    found = run(functions, name, "fill", mib=512)
    assert found["size"] == 512 * MIB and found["same"], found
    # No more than what a file system of this size keeps for directories.
    assert found["end"] == 28 and found["more"] < 4 * MIB, found
    flint.figure("tmp_mib", (found["size"] + found["more"]) / MIB, "MiB")
    # `/tmp` is full, and memory ends where it did.
    dies_of_memory(functions, name, "heap", mib=200)
    assert run(functions, name, "space")["there"] == [], "a new environment, a new /tmp"
    assert run(functions, name, "heap", mib=70) == 70


def test_inodes_stop_at_their_limit(shared, functions, name):
    shared.create(functions, name, SOURCE, Timeout=60, MemorySize=128)
    found = run(functions, name, "inodes")
    assert found["end"] == 28, found
    assert 32_767 <= found["files"] <= 33_000, found
    flint.figure("tmp_files", found["files"])


def test_a_child_that_eats_memory_takes_the_group_along(shared, functions, name):
    shared.create(functions, name, SOURCE, Timeout=60, MemorySize=128)
    host = shared.host()
    run(functions, name, "space")
    before = host.processes()
    began = time.monotonic()
    dies_of_memory(functions, name, "child")
    assert time.monotonic() - began < 15, "the parent has not been waited for"
    flint.until(lambda: not any("sleep" in flint.comm(pid) for pid in host.processes() - before), 2, "all are gone")


def test_descriptors_and_processes_stop_at_their_limits(shared, functions, name):
    shared.create(functions, name, SOURCE, Timeout=60, MemorySize=512)
    found = run(functions, name, "counts")
    assert found["ends"] == [24, "no thread"], found
    # 1,024 less what the runtime itself has.
    assert 1000 <= found["files"] < 1024 and 1000 <= found["threads"] < 1024, found


def test_a_larger_tmp(shared, functions, name):
    shared.create(functions, name, SOURCE, Timeout=60, MemorySize=128, EphemeralStorage={"Size": 1024})
    found = run(functions, name, "space")
    assert 1024 * MIB <= found["bytes"] < 1032 * MIB and found["files"] >= 65_536, found
    functions.update_function_configuration(FunctionName=name, EphemeralStorage={"Size": 10_240})
    functions.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert run(functions, name, "space")["bytes"] >= 10_240 * MIB


def test_the_operator_s_ceilings_are_refused_by_name(data):
    with flint.Server(data, "--max-memory", "256", "--max-tmp", "1GiB", "--max-timeout", "1m") as server:
        client = server.client("lambda")
        server.create(client, "low", SOURCE, MemorySize=256, Timeout=60, EphemeralStorage={"Size": 1024})
        for option, member, over in (
            ("--max-memory", "MemorySize", {"MemorySize": 257}),
            ("--max-tmp", "EphemeralStorage.Size", {"EphemeralStorage": {"Size": 1025}}),
            ("--max-timeout", "Timeout", {"Timeout": 61}),
        ):
            for call in (
                lambda: server.create(client, "high", SOURCE, wait=False, **over),
                lambda: client.update_function_configuration(FunctionName="low", **over),
            ):
                with pytest.raises(botocore.exceptions.ClientError) as caught:
                    call()
                error = caught.value.response["Error"]
                assert error["Code"] == "InvalidParameterValueException", error
                assert option in error["Message"] and f"'{member}'" in error["Message"], error
    refused = flint.Server(data)
    done = refused.run("up", "--data", str(data), "--max-memory", "64", check=False)
    assert done.returncode != 0 and "--max-memory" in done.stderr, done


# --- nothing is left of the images


def test_images_are_seen_and_gone_with_the_server(data):
    with flint.Server(data) as server:
        client = server.client("lambda")
        server.create(client, "f", SOURCE)
        run(client, "f", "space")
        host = server.host()
        assert host.loops(), "what looks for leftovers sees the image of a living function"
    flint.until(lambda: not any(host.left().values()), 3, lambda: f"left behind: {host.left()}", every=0.05)


def test_a_leftover_would_be_found(data):
    """A device that somebody forgot, with a file that has no name any more."""
    with flint.Server(data) as server:
        host = server.host()
    flint.until(lambda: not host.loops(), 3, lambda: host.loops(), every=0.05)
    image = data / "forgotten"
    image.write_bytes(bytes(MIB))
    device = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        image.unlink()
        assert len(host.loops()) == 1, "found by its folder, although its file is deleted"
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    flint.until(lambda: not host.loops(), 3, lambda: host.loops(), every=0.05)


@pytest.mark.parametrize("victims", [("server",), ("spawner",), ("server", "spawner")], ids="-".join)
def test_nothing_is_left_after_a_kill(data, victims):
    server = flint.Server(data).start()
    try:
        client = server.client("lambda")
        server.create(client, "f", SOURCE, Timeout=60)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(lambda: flint.invoke(client, "f", {"do": "write", "seconds": 30}))
            host = server.host()
            flint.until(lambda: host.processes(), 10, "it writes")
            time.sleep(0.5)  # so that it has written something; how much does not matter
            assert host.loops()
            for pid in [{"server": host.server_pid, "spawner": host.spawner_pid}[v] for v in victims]:
                os.kill(pid, 9)
            with pytest.raises(Exception):
                call.result()
        server.process.wait(10)
        flint.until(lambda: not host.loops() and not host.mounts(), 5, lambda: f"left: {host.left()}", every=0.05)
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        server.process.stdout.close()


# --- writers and the store


class Commits:
    """Durable commits over the wire, one after the other: tags of a function, as little beside the commit as can be."""

    def __init__(self, server, function):
        self.connection = http.client.HTTPConnection(*server.address, timeout=30)
        variables = server.environment()
        arn = f"arn:aws:lambda:{variables['AWS_REGION']}:000000000000:function:{function}"
        self.path = f"/2017-03-31/tags/{arn}"
        # `dev` wants to know the service and does not check the signature.
        scope = f"AKIDEXAMPLE/20260101/{variables['AWS_REGION']}/lambda/aws4_request"
        self.headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00",
            "Content-Type": "application/json",
        }
        self.count = 0

    def p99(self, count):
        """In seconds."""
        took = []
        for _ in range(count):
            self.count += 1
            body = json.dumps({"Tags": {"n": str(self.count)}})
            began = time.perf_counter()
            self.connection.request("POST", self.path, body, self.headers)
            answer = self.connection.getresponse()
            text = answer.read()
            took.append(time.perf_counter() - began)
            assert answer.status == 204, (answer.status, text)
        took.sort()
        return took[len(took) * 99 // 100]


def test_a_writer_at_full_speed_leaves_the_store_s_commits_fast(data):
    with flint.Server(data, "--dev") as server:
        client = server.client("lambda", timeout=120)
        server.create(client, "writer", SOURCE, Timeout=120, MemorySize=128)
        commits = Commits(server, "writer")
        assert run(client, "writer", "write", seconds=1) > 0
        commits.p99(200)
        ratios = []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for _ in range(5):
                idle = commits.p99(300)
                writing = pool.submit(lambda: run(client, "writer", "write", seconds=2.5))
                time.sleep(0.7)  # its first pages fill memory; from then on the disk is what it waits for
                beside = []
                while not writing.done():
                    beside.append(commits.p99(300))
                wrote = writing.result()
                ratios.append(statistics.median(beside) / idle)
                print(f"idle {idle * 1e3:.2f} ms, beside {[f'{b * 1e3:.2f}' for b in beside]}, {wrote / MIB:.0f} MiB")
        ratio = statistics.median(ratios)
        flint.figure("commit_p99_beside_a_writer", ratio, "x")
        assert ratio <= 3.0, ratios
