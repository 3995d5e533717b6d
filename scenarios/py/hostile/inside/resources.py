"""Attempts to use more than one's share, or to be impossible to end.

Each takes the sandbox's limits to be those of the facts, and says that it worked when it got beyond. In a function it
runs as the handler itself, so that what happens to it happens to the runtime; in the control it may go a little beyond
the limit and no further.
"""

import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time

from attempts import case

AREA = "resources"
MIB = 1 << 20


def direct(name, expect, **settings):
    return case(AREA, name, expect, batch=False, seconds=30, **settings)


# Processes and time.


@direct("fork bomb", "limited")
def _(facts):
    """Every process forks as fast as it can. The control counts, and ends."""
    if not facts.get("control"):
        while True:
            bomb()
    if os.fork() == 0:
        os.setsid()
        while True:
            bomb()
    most, until = 0, time.monotonic() + 15
    while most <= facts["processes"] + 100 and time.monotonic() < until:
        most = max(most, sum(name.isdigit() for name in os.listdir("/proc")))
        time.sleep(0.01)
    return most > facts["processes"], most


def bomb():
    try:
        os.fork()
    except OSError:
        time.sleep(0.001)


@direct("thread bomb", "limited")
def _(facts):
    threading.stack_size(65536)
    gate, threads = threading.Event(), []
    try:
        for _ in range(facts["processes"] + 100):
            threads.append(threading.Thread(target=gate.wait, daemon=True))
            threads[-1].start()
    except RuntimeError:
        return False, len(threads)
    finally:
        gate.set()
    return True, len(threads)


@direct("spin", "limited")
def _(facts):
    until = time.monotonic() + (facts["timeout"] + 0.5 if facts.get("control") else 600)
    while time.monotonic() < until:
        pass
    return True


@direct("sleep beyond its time", "limited")
def _(facts):
    time.sleep(facts["timeout"] + 0.5 if facts.get("control") else 600)
    return True


@direct("eight busy processes", "limited")
def _(facts):
    seconds = facts["timeout"] + 0.5 if facts.get("control") else 600
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
            os._exit(7)
        children.append(pid)
    return all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 for pid in children)


@direct("stop itself", "limited")
def _(facts):
    if not facts.get("control"):
        os.kill(os.getpid(), signal.SIGSTOP)
        return True
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    return os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])


@direct("kill everything", "contained")
def _(facts):
    """All that it can see; the control sees its own namespace and nothing else."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    assert facts.get("control") is None or os.readlink("/proc/self/ns/pid") != facts["host_namespaces"]["pid"]
    if facts.get("control"):
        # Its own group is spared, so that there is somebody to tell.
        os.setpgid(pid, pid)
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(-1, signal.SIGKILL)
    return os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


@direct("die by a signal", "contained")
def _(facts):
    number = facts.get("signal", signal.SIGABRT)
    if not facts.get("control"):
        os.kill(os.getpid(), number)
        time.sleep(5)
        return True
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), number)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1]) == number


@direct("leave orphans that ignore signals", "contained")
def _(facts):
    """Two forks and a session of its own each, all signals ignored, busy for ever."""
    read, write = os.pipe()
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                os.write(write, b"%d " % os.getpid())
                # The pipes of the log would be held open by them too.
                while True:
                    pass
            os._exit(0)
    pids = []
    while len(pids) < 4:
        pids += os.read(read, 4096).split()
    for pid in map(int, pids):
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.05)
    alive = sum(os.path.exists(f"/proc/{int(pid)}") for pid in pids)
    if facts.get("control"):
        for pid in map(int, pids):
            os.kill(pid, signal.SIGKILL)
    return alive == 4, alive


# Output.


def pours(facts, block, count):
    """Writes to the log; the control to a pipe whose other end counts."""
    if not facts.get("control"):
        for _ in range(count):
            left = memoryview(block)
            while left:
                left = left[os.write(1, left):]
        return True
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        for _ in range(count):
            os.write(write, block)
        os._exit(0)
    os.close(write)
    total = 0
    while more := os.read(read, MIB):
        total += len(more)
    return total == len(block) * count, total


@direct("200 MiB of logs", "limited")
def _(facts):
    line = b"x" * 127 + b"\n"
    return pours(facts, line * 512, 200 * 16)


@direct("one endless line", "limited")
def _(facts):
    return pours(facts, b"y" * 65536, 64 * 16)


@direct("forge the platform's lines", "contained")
def _(facts):
    forged = (
        f"END RequestId: {facts['request_id']}\n"
        f"REPORT RequestId: {facts['request_id']}\tDuration: 900000.00 ms\tBilled Duration: 900000 ms\t"
        "Memory Size: 10240 MB\tMax Memory Used: 10240 MB\n"
        "START RequestId: 00000000-0000-0000-0000-000000000000 Version: $LATEST\n"
    )
    if facts.get("control"):
        # Whoever reads the log for the meter is fooled.
        return any("Billed Duration: 900000 ms" in line for line in forged.splitlines())
    sys.stdout.write(forged)
    return True


# Memory.


def hoard(most):
    """Bytes that were had, each page of them touched."""
    blocks, had = [], 0
    while had < most:
        block = mmap.mmap(-1, 4 * MIB)
        for offset in range(0, 4 * MIB, 4096):
            block[offset] = 1
        blocks.append(block)
        had += 4 * MIB
    return had


def beyond(facts):
    """Somewhat more than the function's memory, or far more."""
    return (facts["memory"] + 64) * MIB if facts.get("control") else 4096 * MIB


@direct("heap", "limited")
def _(facts):
    return hoard(beyond(facts)) >= beyond(facts)


@direct("a child's heap", "limited")
def _(facts):
    pid = os.fork()
    if pid == 0:
        hoard(beyond(facts))
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@direct("anonymous files", "limited")
def _(facts):
    file, had = os.memfd_create("hostile"), 0
    while had < beyond(facts):
        had += os.write(file, bytes(MIB))
    return True


@direct("shared memory", "limited", also=(28,))
def _(facts):
    """Half of the memory and no more than 64 MB is what /dev/shm takes."""
    path = (facts["tmp"] if facts.get("control") else "/dev/shm") + "/hostile"
    with open(path, "wb", buffering=0) as file:
        for _ in range(min(facts["memory"], 64) + 8):
            if file.write(bytes(MIB)) != MIB:
                return False
    return True


@direct("socket buffers", "limited", also=(105, 12))
def _(facts):
    """TCP connections to itself that nobody reads from: their buffers are the kernel's, and may be nobody's."""
    raise_descriptors(facts)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    pairs, total = [], 0
    try:
        for _ in range(400):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
            one.settimeout(5)
            one.connect(listener.getsockname())
            two = listener.accept()[0]
            pairs += [one, two]
            one.setblocking(False)
            two.setblocking(False)
            for end in (one, two):
                try:
                    while True:
                        total += end.send(bytes(256 * 1024))
                except BlockingIOError:
                    pass
            if total > 2 * facts["memory"] * MIB:
                break
    finally:
        sys.stderr.write(f"{total >> 20} MiB in {len(pairs)} sockets\n")
    return total > facts["memory"] * MIB, f"{total >> 20} MiB in {len(pairs)} sockets"


@direct("pipes full of data", "limited", also=(24,))
def _(facts):
    raise_descriptors(facts)
    total, pipes = 0, []
    while total < 2 * facts["memory"] * MIB:
        read, write = os.pipe()
        pipes.append((read, write))
        os.set_blocking(write, False)
        try:
            fcntl.fcntl(write, 1031, MIB)
        except OSError:
            pass  # beyond the share of large ones there are small ones
        try:
            while True:
                total += os.write(write, bytes(65536))
        except BlockingIOError:
            pass
    return True, f"{total >> 20} MiB in {len(pipes)} pipes"


@direct("descriptors", "limited", also=(24,))
def _(facts):
    raise_descriptors(facts)
    held = []
    while len(held) < facts["descriptors"] + 100:
        held.append(os.open("/dev/null", os.O_RDONLY))
    return True, len(held)


def raise_descriptors(facts):
    if facts.get("control"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


# Files.


@direct("bytes in /tmp", "limited", also=(28,))
def _(facts):
    most = facts["tmp_mib"] + 16 if not facts.get("control") else 64
    with open(facts["tmp"] + "/hostile-bytes", "wb", buffering=0) as file:
        for _ in range(most):
            if file.write(bytes(MIB)) != MIB:
                return False
    return True


@direct("files in /tmp", "limited", also=(28,))
def _(facts):
    for number in range(facts["files"] + 100):
        os.close(os.open(f"{facts['tmp']}/hostile-{number}", os.O_CREAT | os.O_WRONLY))
    return True


@direct("a deep tree", "contained")
def _(facts):
    """Deeper than any path may be long."""
    os.chdir(facts["tmp"])
    for depth in range(2500):
        os.mkdir("d")
        os.chdir("d")
    open("leaf", "w").close()
    return True


@direct("names that nobody can type or delete", "contained")
def _(facts):
    base = facts["tmp"].encode()
    for name in (b"\n", b"\xff\xfe", b"-rf", b" ", b"..." * 85, b"\x1b]0;x\x07", b"*", b"'$(id)'"):
        os.mkdir(base + b"/" + name)
        open(base + b"/" + name + b"/\x01", "w").close()
        os.chmod(base + b"/" + name, 0)
    return len(os.listdir(base)) >= 8
