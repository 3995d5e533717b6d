"""The control: the same attempts without the wall, as root of throw-away namespaces that reach nothing.

Started by `unshare` in a mount, process, network, ipc, host name and cgroup namespace of its own, in a cgroup with limits.
"""

import importlib
import json
import os
import sys

import attempts


def main():
    event = json.load(sys.stdin)
    facts = {**event["facts"], "control": True}
    guard(facts)
    attempts.LIBC.mount(b"none", facts["tmp"].encode(), b"tmpfs", 0, b"size=512m")
    attempts.loopback_up()
    area = importlib.import_module(event["area"])
    prepare = getattr(area, "prepare_control", None)
    if prepare:
        prepare(facts)
    json.dump(attempts.run(event["area"], facts, event.get("names")), sys.stdout)


def guard(facts):
    """Refuses to do anything outside of the throw-away namespaces."""
    for kind, link in facts["host_namespaces"].items():
        assert os.readlink(f"/proc/self/ns/{kind}") != link, f"the control would run in the host's {kind} namespace"
    assert os.getppid() <= 1, "the control is not alone among its processes"
    own = open("/proc/self/cgroup").read()
    assert facts["cgroup"] in own or "/\n" in own, own


if __name__ == "__main__":
    main()
