"""Tries every system call number from inside, each in a process of its own, with arguments that do no harm."""

import ctypes
import mmap
import os
import signal

LIBC = ctypes.CDLL(None, use_errno=True)
FUTEX = 202


def attempt(number):
    """What came of it: ["answer", value, errno], ["signal", number] or ["waits"]."""
    # A bad address and a bad descriptor everywhere; `futex` alone calls a bad operation not implemented.
    arguments = (0, 1, 1, 0, 0, 0) if number == FUTEX else (-1,) * 6
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for each in range(1, 32):
            if each not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(each, signal.SIG_DFL)
        # It may be one of those that wait.
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        ctypes.set_errno(0)
        value = LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        os.write(writer, f"{value} {ctypes.get_errno()}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        line = pipe.readline().split()
    _, status = os.waitpid(pid, 0)
    if line:
        return ["answer", *map(int, line)]
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        return ["waits"] if ended == signal.SIGALRM else ["signal", ended]
    return ["exit", os.WEXITSTATUS(status)]


def old_table():
    """The signal that ends a process which asks by the 32-bit table (`int 0x80`, getpid)."""
    pid = os.fork()
    if pid == 0:
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(bytes.fromhex("b814000000cd80c3"))
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def handler(event, context):
    if event == "wait":
        return os.getpid()
    found = {number: attempt(number) for number in range(event["numbers"])}
    return {"found": found, "x32": attempt(0x40000000 | 39), "old table": old_table()}
