"""Reads the system call filter of a running process (root only) and follows it for every number."""

import ctypes
import os
import struct

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GET_FILTER = 17, 0x4206, 0x4207, 0x420C
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
X86_64 = 0xC000003E


def programs(pid):
    """The filters of a process, each as a list of (code, jt, jf, k)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def ask(request, address=None, data=None):
        answer = libc.ptrace(request, pid, address, data)
        if answer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return answer

    ask(PTRACE_SEIZE)
    try:
        ask(PTRACE_INTERRUPT)
        os.waitpid(pid, 0x40000000)
        found = []
        while True:
            try:
                count = ask(PTRACE_GET_FILTER, len(found))
            except FileNotFoundError:
                return found
            buffer = ctypes.create_string_buffer(count * 8)
            ask(PTRACE_GET_FILTER, len(found), ctypes.addressof(buffer))
            found.append([struct.unpack_from("=HBBI", buffer, 8 * n) for n in range(count)])
    finally:
        ask(PTRACE_DETACH)


def outcomes(program, number, arch=X86_64):
    """Every action that the program may return for this number, whatever the arguments are."""
    actions, seen, todo = set(), set(), [(0, number)]
    while todo:
        at, value = todo.pop()
        if (at, value) in seen:
            continue
        seen.add((at, value))
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x06:
            actions.add(k)
        elif code == 0x20:
            # The number, the architecture, or something of the arguments, which is not known.
            todo.append((at, {0: number, 4: arch}.get(k)))
        elif code == 0x05:
            todo.append((at + k, value))
        elif code & 0x07 == 0x05:
            holds = None if value is None else {0x15: value == k, 0x35: value >= k, 0x25: value > k, 0x45: bool(value & k)}[code]
            todo += [(at + (jt if branch else jf), value) for branch in (True, False) if holds in (None, branch)]
        else:
            # Arithmetic happens on arguments only.
            todo.append((at, None))
    return actions


def reached(actions):
    """Whether one of the actions lets the kernel, or a supervisor, do something."""
    return any(action & 0xFFFF0000 not in (ERRNO, KILL, 0) for action in actions)
