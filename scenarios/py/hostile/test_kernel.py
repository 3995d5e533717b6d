"""The kernel's surface: what changes the machine, looks into others, or makes a new world is refused."""

import ctypes
import os
import secrets
from pathlib import Path

import pytest

import arena as arenas
import attempts
import kernel  # noqa: F401 - registers its cases

REMOVE = 0


@pytest.fixture(scope="module")
def results(arena):
    libc = ctypes.CDLL(None, use_errno=True)
    key = secrets.randbits(30) | 1
    name, text = f"{arenas.MARK}-{secrets.token_hex(6)}", secrets.token_hex(16)
    shared = Path("/dev/shm") / name
    # The host's own objects, open to all: the namespaces are the wall and not their modes.
    segment, queue = libc.shmget(key, 4096, 0o1666), libc.msgget(key, 0o1666)
    assert segment >= 0 and queue >= 0
    try:
        shared.write_text(text)
        os.chmod(shared, 0o666)
        facts = {"shm_key": key, "shm_name": name, "shm_text": text, "old_controller": old_controller()}
        return arenas.compare(arena, "kernel", facts)
    finally:
        libc.shmctl(segment, REMOVE, None)
        libc.msgctl(queue, REMOVE, None)
        shared.unlink(missing_ok=True)


def old_controller():
    """A controller that this host has on version 1, if there is one."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" - ")[1].split()
        if fields[0] == "cgroup" and not fields[2].count("name="):
            return line.split()[4].rsplit("/", 1)[-1]
    return ""


@pytest.mark.parametrize("one", attempts.of_area("kernel"), ids=lambda one: one.name)
def test_kernel(one, results, settled):
    arenas.check(one, results)
