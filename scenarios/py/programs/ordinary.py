"""Ordinary programs, each one function that returns something true when it did its work. Runs as a function."""

import asyncio
import bz2
import concurrent.futures
import contextlib
import ctypes
import fcntl
import gzip
import http.server
import json
import lzma
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import random
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.request
import uuid
import zlib
import zoneinfo

PROGRAMS = {}
TASK = os.environ.get("LAMBDA_TASK_ROOT", os.path.dirname(__file__))


def program(name):
    def add(action):
        PROGRAMS[name] = action
        return action
    return add


def run(*command, text=None, **settings):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, **settings)
    assert done.returncode == 0, (command, done.returncode, done.stderr[-800:], done.stdout[-400:])
    return done.stdout


def square(n):
    return n * n


@program("threads")
def threads(_):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return sum(pool.map(square, range(1000))) == 332_833_500


@program("process pool")
def process_pool(_):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        return sum(pool.map(square, range(100))) == 328_350


@program("process pool, spawned interpreters")
def spawned(_):
    code = "import concurrent.futures as c, multiprocessing as m\n" \
        "if __name__ == '__main__':\n" \
        "    with c.ProcessPoolExecutor(2, mp_context=m.get_context('spawn')) as p: print(sum(p.map(abs, range(-9, 0))))\n"
    with open("/tmp/spawned.py", "w") as file:
        file.write(code)
    import sys
    return run(sys.executable, "/tmp/spawned.py").strip() == "45"


@program("shared memory and semaphores")
def shared(_):
    block = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    try:
        lock = multiprocessing.get_context("fork").Semaphore(0)

        def child():
            block.buf[0] = 7
            lock.release()
        worker = multiprocessing.get_context("fork").Process(target=child)
        worker.start()
        assert lock.acquire(timeout=10)
        worker.join(10)
        return block.buf[0] == 7
    finally:
        block.close()
        block.unlink()


@program("subprocesses and pipes")
def subprocesses(_):
    return run("/bin/sh", "-c", "printf 'b\\na\\n' | sort | tr a-z A-Z | paste -sd, -").strip() == "A,B"


@program("shell script with traps, jobs and find")
def shell(_):
    script = """
set -eu
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
mkdir -p a/b; echo one > a/b/f; ln -s f a/b/l; ln a/b/f a/h; cp -a a c; mv c d; touch -d 2001-01-01 d/h
(sleep 0.05; echo late > late) & wait $!
test "$(find . -type f | wc -l)" = 5; grep -rq one d; sed -i s/one/two/ d/b/f; awk '{exit $1 != "two"}' d/b/f
chmod 600 d/b/f; du -s . > /dev/null; df . > /dev/null; ls -lai > /dev/null; timeout 5 cat late; stat late > /dev/null; nice true; sync
"""
    return run("/bin/bash", "-c", script).strip() == "late"


@program("temporary files and trees")
def files(_):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        with open(path, "wb") as file:
            file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        shutil.copy2(path, path + "2")
        os.link(path, path + "l")
        os.symlink("a", path + "s")
        os.truncate(path + "2", 10)
        os.replace(path + "2", path + "3")
        os.utime(path + "3", (1, 1))
        shutil.copytree(folder, folder + "-t", symlinks=True)
        found = sorted(os.listdir(folder + "-t"))
        shutil.rmtree(folder + "-t")
        return found == ["a", "a3", "al", "as"] and os.stat(path).st_nlink == 2


@program("sqlite with a write-ahead log")
def sqlite(_):
    path = f"/tmp/{uuid.uuid4()}.db"
    with contextlib.closing(sqlite3.connect(path)) as base:
        assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        base.execute("create table t (n integer primary key, text text)")
        with base:
            base.executemany("insert into t values (?, ?)", ((n, str(n)) for n in range(5000)))
        base.execute("vacuum")
        return base.execute("select count(*), sum(n) from t").fetchone() == (5000, 12_497_500)


@program("TCP, UDP and local sockets")
def sockets(_):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer, _ = server.accept()
        with peer:
            client.sendall(b"x" * 100_000)
            got = 0
            while got < 100_000:
                got += len(peer.recv(65536))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two:
        one.bind(("::1", 0))
        two.sendto(b"hello", one.getsockname())
        assert one.recv(10) == b"hello"
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"x"], [0])
        _, descriptors, _, _ = socket.recv_fds(right, 1, 1)
        os.close(descriptors[0])
    return socket.getaddrinfo("localhost", 80) and socket.if_nameindex() == [(1, "lo")]


@program("HTTP server and client")
def web(_):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"served")

        def log_message(self, *_):
            pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as answer:
            text = answer.read()
        server.shutdown()
    return text == b"served"


@program("asyncio with servers and subprocesses")
def event_loop(_):
    async def main():
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
        child = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        return answer, out
    return asyncio.run(main()) == (b"HELLO\n", b"hi\n")


@program("select, poll and epoll")
def waiting(_):
    reader, writer = os.pipe()
    os.write(writer, b"x")
    poll, epoll = select.poll(), select.epoll()
    poll.register(reader, select.POLLIN)
    epoll.register(reader, select.EPOLLIN)
    found = [select.select([reader], [], [], 1)[0] == [reader], bool(poll.poll(1000)), bool(epoll.poll(1))]
    os.close(reader)
    os.close(writer)
    return all(found)


@program("TLS handshake")
def tls(_):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/tmp/key.pem", "-out", "/tmp/cert.pem",
        "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile="/tmp/cert.pem")
    serving.load_cert_chain("/tmp/cert.pem", "/tmp/key.pem")
    left, right = socket.socketpair()

    def serve():
        with serving.wrap_socket(left, server_side=True) as server:
            server.sendall(server.recv(100).upper())
    thread = threading.Thread(target=serve)
    thread.start()
    with asking.wrap_socket(right, server_hostname="localhost") as client:
        client.sendall(b"secret")
        answer = client.recv(100)
    thread.join(10)
    return answer == b"SECRET"


@program("compression: zlib, gzip, bz2, lzma")
def compression(_):
    data = b"flint " * 50_000
    return all(m.decompress(m.compress(data)) == data for m in (zlib, gzip, bz2, lzma))


@program("tar archives")
def archives(_):
    folder = tempfile.mkdtemp()
    run("tar", "czf", f"{folder}/etc.tgz", "-C", "/etc", "passwd", "group")
    run("tar", "xzpf", f"{folder}/etc.tgz", "-C", folder)
    return os.path.getsize(f"{folder}/passwd") > 0


@program("memory-mapped files")
def mapped(_):
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[12345] = 7
            memory.flush()
            memory.madvise(mmap.MADV_DONTNEED)
            return os.pread(file.fileno(), 1, 12345) == b"\7" and memory[12345] == 7


@program("signals and timers")
def signals(_):
    # Handlers are for the main thread, and signals waited for must be blocked: a program of its own.
    import sys
    return run(sys.executable, "-c", """
import os, signal, time
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.1); signal.alarm(1); signal.pause()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); os.kill(os.getpid(), signal.SIGUSR1)
print(len(seen), signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1, signal.sigtimedwait({signal.SIGUSR1}, 0.01))
""").strip() == "2 True None"


@program("identifiers and random numbers")
def identifiers(_):
    found = {uuid.uuid1(), uuid.uuid4(), random.random(), secrets.token_hex(8), os.urandom(8)}
    with open("/proc/sys/kernel/random/uuid") as file:
        found.add(file.read())
    return len(found) == 6


@program("time zones and the clock")
def zones(_):
    then = time.clock_gettime(time.CLOCK_MONOTONIC)
    time.sleep(0.01)
    return time.clock_gettime(time.CLOCK_MONOTONIC) > then and "Europe/Berlin" in zoneinfo.available_timezones()


@program("readers of /proc/self")
def proc_self(_):
    def text(name):
        with open(f"/proc/self/{name}") as file:
            return file.read()
    assert "VmRSS" in text("status") and "[stack]" in text("maps") and " /tmp " in text("mountinfo")
    assert text("cmdline") and text("stat") and text("statm") and text("limits") and text("cgroup") and text("smaps_rollup")
    return os.readlink("/proc/self/exe") and len(os.listdir("/proc/self/task")) >= 1 and run("ps", "-ef").count("\n") > 1


@program("file notifications")
def notifications(_):
    libc = ctypes.CDLL(None, use_errno=True)
    for start in (lambda: libc.inotify_init1(0), lambda: libc.inotify_init()):
        descriptor = start()
        assert descriptor >= 0, ctypes.get_errno()
        folder = tempfile.mkdtemp()
        assert libc.inotify_add_watch(descriptor, folder.encode(), 0x100) >= 0, ctypes.get_errno()
        open(folder + "/new", "w").close()
        assert b"new" in os.read(descriptor, 4096)
        os.close(descriptor)
    return True


@program("file locks and named pipes")
def locks(_):
    path = tempfile.mktemp()
    os.mkfifo(path)
    child = subprocess.Popen(["/bin/sh", "-c", f"echo through > {path}"])
    with open(path) as file:
        text = file.read()
    child.wait(10)
    with open("/tmp/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return text == "through\n"


@program("native callbacks (libffi)")
def callbacks(_):
    numbers = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    ctypes.CDLL(None).qsort(numbers, 5, 4, kind(lambda a, b: a[0] - b[0]))
    return list(numbers) == [1, 2, 3, 4, 5]


@program("C compiler, and what it built")
def compiler(_):
    folder = tempfile.mkdtemp()
    with open(f"{folder}/a.c", "w") as file:
        file.write('#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *p) { puts("built"); return p; }\n'
                   "int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); return pthread_join(t, 0); }\n")
    run("cc", "-O1", "-pthread", f"{folder}/a.c", "-o", f"{folder}/a")
    return run(f"{folder}/a") == "built\n"


@program("git")
def git(_):
    folder = tempfile.mkdtemp()
    script = """
cd "$0"; git init -q r; cd r; git config user.name a; git config user.email a@b; echo 1 > f; git add .; git commit -qm one
git checkout -qb other; echo 2 >> f; git commit -qam two; git checkout -q -; git merge -q other; git gc -q; git fsck --strict 2>/dev/null
cd ..; git clone -q r c; cd c; git log --format=%s
"""
    return run("/bin/bash", "-ec", script, folder, env={**os.environ, "HOME": folder}).split() == ["two", "one"]


@program("Perl")
def perl(_):
    return run("perl", "-e", "my %h = map { $_ => 1 } 1 .. 1000; my $p = fork; if (!$p) { exit 3 } waitpid $p, 0; print $? >> 8") == "3"


@program("JVM: keys made by keytool")
def jvm(_):
    store = tempfile.mktemp()
    run("keytool", "-genkeypair", "-alias", "a", "-keyalg", "RSA", "-keysize", "2048", "-keystore", store,
        "-storepass", "changeit", "-dname", "CN=a")
    return "PrivateKeyEntry" in run("keytool", "-list", "-keystore", store, "-storepass", "changeit")


@program("numpy")
def numpy(_):
    import numpy as np
    matrix = np.random.default_rng(1).random((200, 200))
    return bool(np.allclose(matrix @ np.linalg.inv(matrix), np.eye(200), atol=1e-6))


@program("image tools (Pillow)")
def images(_):
    from PIL import Image, ImageFilter
    image = Image.new("RGB", (640, 480), "red").filter(ImageFilter.GaussianBlur(2)).resize((64, 48)).rotate(90, expand=True)
    image.save("/tmp/image.jpg", quality=80)
    image.save("/tmp/image.png")
    return Image.open("/tmp/image.jpg").size == (48, 64)


@program("PDF tools (pypdf)")
def documents(_):
    import pypdf
    writer = pypdf.PdfWriter()
    for _ in range(3):
        writer.add_blank_page(200, 200)
    writer.encrypt("word")
    writer.write("/tmp/paper.pdf")
    reader = pypdf.PdfReader("/tmp/paper.pdf", password="word")
    return len(reader.pages) == 3


@program("Go: esbuild bundles and serves")
def go(_):
    folder = tempfile.mkdtemp()
    for name, text in {"a.ts": 'import { b } from "./b"; console.log(b as number)', "b.ts": "export const b: number = 41 + 1"}.items():
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
    out = run(f"{TASK}/esbuild", f"{folder}/a.ts", "--bundle", "--minify", "--log-level=error")
    assert "42" in out, out
    server = subprocess.Popen([f"{TASK}/esbuild", "--serve=127.0.0.1:8123", f"--servedir={folder}"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen("http://127.0.0.1:8123/b.ts", timeout=5) as answer:
                    return b"41" in answer.read()
            time.sleep(0.05)
    finally:
        server.kill()
        server.communicate()


@program("Rust: threads, sockets, processes")
def rust(_):
    return run(f"{TASK}/ordinary") == "ordinary\n"


@program("own size: /proc, processors, limits")
def size(event):
    total = int(open("/proc/meminfo").readline().split()[1]) * 1024
    assert total == event["memory"] << 20, total
    assert os.cpu_count() >= 1 and len(os.getloadavg()) == 3
    return os.statvfs("/tmp").f_bavail > 0 and os.times().user >= 0


def handler(event, context):
    told = {}
    for name, action in PROGRAMS.items():
        if event.get("only") not in (None, name):
            continue
        began = time.monotonic()
        try:
            told[name] = None if action(event) else "it returned nothing true"
        except BaseException:  # noqa: BLE001 - any failure is an answer
            told[name] = traceback.format_exc()[-1500:]
        print(f"{name}: {time.monotonic() - began:.2f} s", flush=True)
    return told


if __name__ == "__main__":
    print(json.dumps(handler({"memory": 0}, None), indent=1))
