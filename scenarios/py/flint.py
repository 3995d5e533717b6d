"""The scenarios' handle on Flint: starts the binary, reads the contract's lines, talks to it with stock tools.

Nothing here knows Flint's insides, but for `Host`, which counts what a data directory's id owns on the host.
"""

import base64
import io
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import zipfile
from pathlib import Path

import boto3
import botocore.config

BINARY = os.environ.get("FLINT_BIN") or str(Path(__file__).parents[2] / "target/debug/flint")
ROLE = "arn:aws:iam::000000000000:role/scenario"
REPO = Path(__file__).parents[2]


def figure(name, value, unit=""):
    """Reports a figure of the acceptance list."""
    line = f"{name} {value:.4g} {unit}".rstrip() if isinstance(value, float) else f"{name} {value} {unit}".rstrip()
    print("figure:", line)
    path = os.environ.get("FLINT_FIGURES")
    if path:
        with open(path, "a") as file:
            file.write(line + "\n")


def until(condition, seconds, what, every=0.02):
    """Polls `condition` until it is true; fails with `what` (text, or a function
    that makes it) at the deadline. Returns the condition's value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)


def zipped(files):
    """A zip archive of {name: text or bytes}; names that end in `!` become executable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name.rstrip("!"), date_time=(2020, 1, 1, 0, 0, 0))
            info.external_attr = (0o100755 if name.endswith("!") else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


class Server:
    """One `flint up` (or `flint dev`'s server) on a port of its own."""

    def __init__(self, data, *args, command="up", binary=None, settings=None, before=()):
        self.data = Path(data)
        self.binary = str(binary or BINARY)
        # For `subprocess`, such as another user; and a program, with arguments, that becomes the server.
        self.settings = settings or {}
        self.before = list(before)
        self.args = list(args)
        self.command = command
        self.process = None
        self.url = None
        self.log = self.data.parent / f"{self.data.name}.stderr"

    # --- life

    def start(self, seconds=15, listen="127.0.0.1:0"):
        # The log is appended to, so that a storm's earlier lives stay readable.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.before, self.binary, self.command, "--data", str(self.data), "--listen", listen, *self.args],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                **{"env": clean_environment(), **self.settings},
            )
        line = self.read_line(seconds)
        assert line.startswith("ready http://"), f"first line: {line!r}; {self.tail_of_log()}"
        self.url = line.split()[1]
        return self

    def read_line(self, seconds):
        """The next line of stdout, or what came until the end of the stream."""
        stream, data = self.process.stdout, b""
        deadline = time.monotonic() + seconds
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([stream], [], [], left)[0]
            if not ready:
                raise AssertionError(f"no line within {seconds} s, got {data!r}; {self.tail_of_log()}")
            byte = os.read(stream.fileno(), 1)
            if not byte:
                break
            data += byte
        return data.decode()

    def tail_of_log(self, count=20):
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "no log"
        return "log:\n" + "\n".join(lines[-count:])

    def stop(self, seconds=20):
        """SIGTERM; returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"SIGTERM did not end the server within {seconds} s; {self.tail_of_log()}")
        finally:
            if self.process.stdout:
                self.process.stdout.close()
        self.process = None
        return status

    def kill(self):
        """kill -9 of the server process."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        self.stop()

    # --- talking to it

    @property
    def address(self):
        parts = urllib.parse.urlsplit(self.url)
        return parts.hostname, parts.port

    def environment(self):
        """What `flint env --json` says."""
        return json.loads(self.run("env", "--data", str(self.data), "--json").stdout)

    def run(self, *args, check=True, seconds=60, env=None):
        """A command of the binary."""
        done = subprocess.run(
            [BINARY, *args], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
            env={**clean_environment(), **(env or {})},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"flint {' '.join(args)} ended with {done.returncode}: {done.stderr}")
        return done

    def client(self, service, retries=0, timeout=60, **overrides):
        """A boto3 client that talks to this server."""
        variables = self.environment()
        settings = {
            "endpoint_url": self.url,
            "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
            "region_name": variables["AWS_REGION"],
        }
        settings.update(overrides)
        config = botocore.config.Config(
            retries={"total_max_attempts": retries + 1}, read_timeout=timeout, connect_timeout=5, max_pool_connections=64
        )
        return boto3.session.Session().client(service, config=config, **settings)

    def python(self):
        """The newest Python runtime that the server offers."""
        if not hasattr(self, "_python"):
            names = [r["Identifier"] for r in self.runtimes()]
            pythons = [n for n in names if n.startswith("python3.")]
            assert pythons, f"the host offers no Python runtime: {names}"
            self._python = max(pythons, key=lambda n: int(n.removeprefix("python3.")))
        return self._python

    def runtimes(self):
        variables = self.environment()
        env = {k: str(v) for k, v in variables.items()}
        answer = json.loads(self.run("runtime", "list", "--json", "--endpoint", self.url, env=env).stdout)
        return answer.get("Runtimes", answer) if isinstance(answer, dict) else answer

    # --- functions

    def create(self, client, name, source, handler="app.handler", wait=True, **settings):
        """Creates a Python function from source text (or {file: text}) and waits until it is active."""
        files = source if isinstance(source, dict) else {"app.py": source}
        settings.setdefault("Runtime", self.python())
        answer = client.create_function(
            FunctionName=name, Role=ROLE, Handler=handler, Code={"ZipFile": zipped(files)}, **settings
        )
        if wait:
            client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        return answer

    def spawner(self):
        """The pid of the spawner: the server's one child of that name."""
        for pid in children(self.process.pid):
            if comm(pid) == "flint-spawner":
                return pid
        raise AssertionError("the server has no spawner")

    def host(self):
        return Host(self)


def invoke(client, name, payload=None, tail=True):
    """Invokes and returns an `Answer`."""
    settings = {"LogType": "Tail"} if tail else {}
    return Answer(client.invoke(FunctionName=name, Payload=json.dumps(payload).encode(), **settings))


class Answer:
    """An invocation's answer with its body read."""

    def __init__(self, raw):
        self.raw = raw
        self.status = raw["StatusCode"]
        self.error = raw.get("FunctionError")
        self.version = raw.get("ExecutedVersion")
        self.body = raw["Payload"].read()
        self.tail = base64.b64decode(raw.get("LogResult", "")).decode()
        self.request_id = raw["ResponseMetadata"]["RequestId"]

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"Answer({self.status}, {self.error}, {self.body[:300]!r}, tail={self.tail!r})"


class Host:
    """What a server owns on the host: processes, mounts, cgroups, network namespaces, descriptors."""

    def __init__(self, server):
        self.data = str(server.data.resolve())
        self.server_pid = server.process.pid if server.process else None
        self.spawner_pid = server.spawner() if server.process else None
        self.id = self.find_id()

    def find_id(self):
        """The id that tells this data directory from others on the host: its device and inode."""
        found = os.stat(self.data)
        return f"{found.st_dev:x}{found.st_ino:012x}"

    def cgroups(self):
        found = []
        for base, folders, _ in os.walk("/sys/fs/cgroup"):
            found += [os.path.join(base, f) for f in folders if self.owns(os.path.join(base, f))]
        return found

    def owns(self, path):
        return self.id in path

    def processes(self):
        """Processes in this server's cgroups, with the server and the spawner themselves left out."""
        pids = set()
        for group in self.cgroups():
            for name in ("cgroup.procs", "tasks"):
                try:
                    pids |= {int(p) for p in Path(group, name).read_text().split()}
                except OSError:
                    pass
        return {p for p in pids if p not in (self.server_pid, self.spawner_pid) and alive(p)}

    def mounts(self):
        """Mount points of the host's own table that lie in the data directory or name the id."""
        text = Path("/proc/self/mountinfo").read_text()
        return [line for line in text.splitlines() if self.data in line or self.id in line]

    def loops(self):
        """Loop devices whose file lies in the data directory."""
        found = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                if self.data in file.read_text():
                    found.append(str(file))
            except OSError:
                pass
        return found

    def descriptors(self):
        """How many descriptors the server and the spawner hold, without the log files (a cache with a bound)."""
        return {pid: sum(not self.is_log(t) for t in targets(pid)) for pid in (self.server_pid, self.spawner_pid)}

    def is_log(self, target):
        return target.startswith(self.data + "/logs/")

    def namespaces(self):
        """Network namespaces that live processes of this server are in, beyond the host's own."""
        own = os.readlink("/proc/self/ns/net")
        found = set()
        for pid in self.processes():
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/net"))
            except OSError:
                pass
        return found - {own}

    def left(self):
        """What must not exist once the server has gone."""
        return {
            "processes": sorted(self.processes()), "mounts": self.mounts(), "cgroups": self.cgroups(),
            "loops": self.loops(),
        }


def alive(pid):
    """Whether `pid` runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def targets(pid):
    """What the open descriptors of `pid` lead to."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue  # closed meanwhile
    return found


def comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(p) for p in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def descendants(pid):
    """All processes below `pid`."""
    found, queue = [], [pid]
    while queue:
        for child in children(queue.pop()) if alive(pid) else []:
            found.append(child)
            queue.append(child)
    return found


def clean_environment():
    """Our environment without AWS and Flint settings, so that a developer's own do not leak in."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FLINT_"))}


def raw(address, data, seconds=10, half_close=False):
    """Sends bytes and returns everything that came back until the peer closed or fell silent."""
    with socket.create_connection(address, timeout=seconds) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed before it had read everything
        answer = b""
        connection.settimeout(seconds)
        try:
            while True:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                answer += chunk
                if complete(answer):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def complete(answer):
    """Whether `answer` holds one whole HTTP response with a Content-Length."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(body) >= int(value)
    return False


def scratch(prefix="flint-scenario-"):
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
