"""What hostile code tries, one case at a time, and what became of it.

The same programs run in a function and, as their control, in throw-away namespaces without the wall. They need nothing
but the standard library. Each attempt has a process of its own, so that whatever happens to it is told from what
happens to the others.

An attempt says that it *worked*, or that it was *refused*: by returning true or false, or by the error number that it
ran into. Privileged calls get arguments that the kernel refuses only after its permission check, so that "reached" is
told from "refused" and nothing happens either way. All else is undecided, and undecided is a failure.
"""

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)

WORKED, REFUSED, ABSENT, UNDECIDED = "worked", "refused", "absent", "undecided"

# "Not permitted", "not there for you", and the filter's answers.
DENIALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS)

CASES = {}


class Case:
    """One attempt.

    `expect`: denied, limited or contained. `reached`: error numbers that come after the permission check. `control`: why
    there is none, if there is none. `absent`: error numbers by which a control may find that this kernel lacks the thing;
    the case then counts as one without a control. `hole`: what is known to be wrong today, asserted until it is put right.
    """

    def __init__(self, area, name, act, expect, refused, reached, control, absent, seconds, batch, hole):
        self.hole = hole
        self.area, self.name, self.act, self.expect = area, name, act, expect
        self.refused, self.reached = tuple(refused), tuple(reached)
        self.no_control, self.absent, self.seconds, self.batch = control, tuple(absent), seconds, batch

    def __repr__(self):
        return f"{self.area}: {self.name}"


def case(area, name, expect="denied", refused=DENIALS, also=(), reached=(), no_control=None, absent=(), seconds=10,
         batch=True, hole=None):
    """Registers the attempt below; `also` adds to the error numbers that mean refused."""

    def register(act):
        assert (area, name) not in CASES, (area, name)
        CASES[area, name] = Case(
            area, name, act, expect, (*refused, *also), reached, no_control, absent, seconds, batch, hole
        )
        return act

    return register


def of_area(area):
    return [found for found in CASES.values() if found.area == area]


def judge(one, facts):
    """(state, detail) of an attempt, made in this process."""
    try:
        value = one.act(facts)
    except OSError as error:
        name = errno.errorcode.get(error.errno, str(error.errno))
        detail = f"{name} {error.strerror or ''} {error.filename or ''}".strip()
        if error.errno in one.reached:
            return WORKED, detail
        if error.errno in one.absent and facts.get("control"):
            return ABSENT, detail
        return (REFUSED if error.errno in one.refused else UNDECIDED), detail
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return UNDECIDED, f"{type(error).__name__}: {error}"
    worked, detail = value if isinstance(value, tuple) else (value, "")
    if worked is None:
        return (ABSENT if facts.get("control") else UNDECIDED), str(detail)
    return (WORKED if worked else REFUSED), str(detail)


def attempt(one, facts):
    """(state, detail) of an attempt, made in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        try:
            text = json.dumps(judge(one, facts))
        except BaseException as error:  # noqa: BLE001 - the parent waits for a word
            text = json.dumps((UNDECIDED, repr(error)))
        os.write(write, text.encode() + b"\n")
        os._exit(0)
    os.close(write)
    said = listen(read, one.seconds)
    os.close(read)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    status = os.waitpid(pid, 0)[1]
    if said:
        return tuple(json.loads(said))
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
        return REFUSED, "killed by the filter"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return UNDECIDED, f"said nothing within {one.seconds} s, or was killed"
    return UNDECIDED, f"ended with status {status:#x} and no word"


def listen(descriptor, seconds):
    """What is written until the end of the line or of the stream: something that was left behind may hold it open."""
    said, deadline = b"", time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return said
        more = os.read(descriptor, 65536)
        said += more
        if not more or said.endswith(b"\n"):
            return said


def run(area, facts, names=None):
    """{name: (state, detail)} of an area's attempts, one after the other."""
    results = {}
    for one in of_area(area):
        if names is not None and one.name not in names or names is None and not one.batch:
            continue
        began = time.monotonic()
        state, detail = attempt(one, facts)
        results[one.name] = (state, f"{detail} ({time.monotonic() - began:.1f} s)")
    return results


# System calls by number: the C library has no function for some, and thinks for itself in others.

NUMBERS = {
    "kill": 62, "ptrace": 101, "syslog": 103, "setuid": 105, "personality": 135, "modify_ldt": 154, "pivot_root": 155,
    "prctl": 157, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
    "swapon": 167, "reboot": 169, "sethostname": 170, "iopl": 172, "init_module": 175, "delete_module": 176,
    "quotactl": 179, "shmget": 29, "shmat": 30, "msgget": 68, "clone": 56, "setresuid": 117, "setgroups": 116,
    "setpriority": 141, "clock_settime": 227, "mq_open": 240, "kexec_load": 246, "add_key": 248, "keyctl": 250,
    "ioprio_set": 251, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435,
    "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442, "listmount": 458, "capset": 126, "seccomp": 317,
    "process_madvise": 440, "move_pages": 279, "mlock": 149, "sched_setscheduler": 144, "mknod": 133, "setxattr": 188,
    "memfd_secret": 447, "request_key": 249, "getpid": 39, "fchownat": 260,
}


def call(name, *arguments):
    """A system call by its number; raises OSError. Integers and bytes are passed on, None is a null pointer."""
    assert os.uname().machine == "x86_64", "the numbers are those of x86_64"
    return raw_call(NUMBERS[name], *arguments)


def raw_call(number, *arguments):
    ready = []
    for argument in arguments:
        if argument is None:
            ready.append(ctypes.c_void_p(None))
        elif isinstance(argument, int):
            ready.append(ctypes.c_long(argument))
        elif isinstance(argument, bytes):
            ready.append(ctypes.c_char_p(argument))
        else:
            ready.append(argument)
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(number), *ready)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def in_child(act):
    """Runs `act` in a child and raises what it raised; true if it came to its end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            value = act()
            os.write(write, b"1\n" if value in (None, True) or value else b"0\n")
        except OSError as error:
            os.write(write, b"E%d\n" % (error.errno or 0))
        except BaseException as error:  # noqa: BLE001
            os.write(write, b"X" + repr(error).encode() + b"\n")
        os._exit(0)
    os.close(write)
    said = listen(read, 8).rstrip(b"\n")
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    if said.startswith(b"E"):
        raise OSError(int(said[1:]), os.strerror(int(said[1:])))
    if said in (b"0", b"1"):
        return said == b"1"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
        return False
    raise RuntimeError(f"a child ended with {status:#x}: {said!r}")


def loopback_up():
    """In a new network namespace it is down."""
    with socket.socket() as own:
        fcntl.ioctl(own, 0x8914, struct.pack("16sH14x", b"lo", 0x49))
