"""Tries from inside a process what a function must not be able to do. Each answer says whether it *worked*.

The same file runs in a function and, as the control, unconfined on the host: there every attempt must work, or it
would prove nothing.
"""

import ctypes
import http.client
import json
import os
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000


def attempt(action):
    try:
        return bool(action())
    except Exception as error:  # noqa: BLE001 - any failure is an answer
        REASONS[len(REASONS)] = f"{type(error).__name__}: {error}"
        return False


REASONS = {}


def write_root():
    path = "/flint-probe"
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return True


def write_beside(folder):
    path = os.path.join(folder, "flint-probe")
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return True


def rewrite_code(path):
    with open(path, "r+") as file:
        return file.writable()


def read_is(path, text):
    with open(path) as file:
        return file.read() == text


def read_through_proc(path, text):
    """By the root links of every process that can be seen."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if read_is(f"/proc/{pid}/root{path}", text):
                return True
        except OSError:
            continue
    return False


def sees_process(marker):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if marker.encode() in file.read():
                    return True
        except OSError:
            continue
    return False


def may_signal(pid):
    os.kill(pid, 0)
    return True


def asks(host, port):
    """Whether a management call goes through unsigned. What listens at the server's port is the way into its front."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/2015-03-31/functions/")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def connects(host, port):
    with socket.create_connection((host, port), timeout=3):
        return True


def unshares_user():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if LIBC.unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def mounts(folder):
    os.makedirs(folder, exist_ok=True)
    if LIBC.mount(b"none", folder.encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    LIBC.umount2(folder.encode(), 2)
    return True


def makes_device(folder):
    path = os.path.join(folder, "flint-null")
    os.mknod(path, 0o20666, os.makedev(1, 3))
    os.unlink(path)
    return True


def becomes_root():
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(0, 0, 0)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def opens_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))
    return True


def opens(path):
    os.close(os.open(path, os.O_RDONLY))
    return True


def reads(path):
    with open(path, "rb") as file:
        return len(file.read(1)) == 1


def sets_hostname():
    return LIBC.sethostname(os.uname().nodename.encode(), len(os.uname().nodename)) == 0


def same_namespace(kind, link):
    return os.readlink(f"/proc/self/ns/{kind}") == link


def interface_count():
    return len(socket.if_nameindex())


def probe(event):
    tmp = event.get("tmp", "/tmp")
    code = event.get("code") or os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    secret, text = event["secret_path"], event["secret"]
    # Inside, process 1 is the init of the environment; the control has a process of the test instead.
    parent = event.get("parent", 1)
    acts = {
        "write the root": write_root,
        "write beside the code": lambda: write_beside(code),
        "rewrite the code": lambda: rewrite_code(os.path.join(code, "inside_probe.py")),
        "read a host file": lambda: read_is(secret, text),
        "read a host file through /proc": lambda: read_through_proc(secret, text),
        "read /etc/shadow": lambda: reads("/etc/shadow"),
        "see a host process": lambda: sees_process(event["marker"]),
        "signal a host process": lambda: may_signal(event["marker_pid"]),
        "read the environment of its parent": lambda: reads(f"/proc/{parent}/environ"),
        "open the memory of its parent": lambda: opens(f"/proc/{parent}/mem"),
        "connect to the host's loopback": lambda: connects("127.0.0.1", event["port"]),
        "ask the server without a signature": lambda: asks(*event["server"]),
        "make a user namespace": unshares_user,
        "mount": lambda: mounts(os.path.join(tmp, "flint-mount")),
        "make a device": lambda: makes_device(tmp),
        "become root": becomes_root,
        "open core_pattern for writing": lambda: opens_for_writing("/proc/sys/kernel/core_pattern"),
        "set the host's name": sets_hostname,
        "change its OOM score": lambda: opens_for_writing("/proc/self/oom_score_adj"),
    }
    for kind, link in event["namespaces"].items():
        acts[f"share the host's {kind} namespace"] = lambda kind=kind, link=link: same_namespace(kind, link)
    worked = {}
    reasons = {}
    for name, act in acts.items():
        REASONS.clear()
        worked[name] = attempt(act)
        if REASONS:
            reasons[name] = REASONS[0]
    status = {}
    with open("/proc/self/status") as file:
        for line in file:
            key, _, value = line.partition(":")
            status[key] = value.strip()
    return {
        "worked": worked, "reasons": reasons, "status": status, "uid": os.getuid(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
        "descriptors": descriptors(),
    }


def descriptors():
    """What is open, but for the descriptor that the listing itself takes."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
    return found


def handler(event, context):
    return probe(event)


if __name__ == "__main__":
    json.dump(probe(json.load(sys.stdin)), sys.stdout)
