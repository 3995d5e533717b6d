"""The control of the configuration: a careless launcher, and what its settings do to it.

It writes variables into a file of lines, runs handlers by the shell, and takes names for paths.
"""

import json
import os
import subprocess
import sys

import control


def run(root, handler="main", variables=None, program="true"):
    """Starts `program` as a careless platform would, with `variables` and the handler's name on a shell's command line."""
    lines = "".join(f"export {name}='{value}'\n" for name, value in (variables or {}).items())
    with open(root + "/env.sh", "w") as file:
        file.write(lines)
    command = f". {root}/env.sh; HANDLER={handler}; {program}"
    return subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, errors="replace")


def preloaded(root):
    library = next(p for p in LIBRARIES if os.path.exists(p))
    shown = run(root, variables={"LD_PRELOAD": library}, program="cat /proc/self/maps").stdout
    return os.path.basename(os.path.realpath(library)) in shown


LIBRARIES = ["/lib/x86_64-linux-gnu/libutil.so.1", "/usr/lib/x86_64-linux-gnu/libutil.so.1", "/lib64/libutil.so.1"]


def touched(root, **how):
    run(root, **how)
    return os.path.exists(root + "/hostile")


def written(root, name):
    """A log file of that name, below the logs."""
    os.makedirs(root + "/logs/aws/lambda")
    try:
        with open(f"{root}/logs/aws/lambda/{name}", "w") as file:
            file.write("x")
    except OSError:
        return False
    return not os.path.realpath(f"{root}/logs/aws/lambda/{name}").startswith(root + "/logs/")


def cut_off(root, text):
    """What is behind the NUL is lost on a C string."""
    import ctypes
    return ctypes.c_char_p(text.encode()).value != text.encode()


EFFECTS = {
    "a library before all others": preloaded,
    "a start file of the shell": lambda root: open(root + "/rc", "w").write("touch hostile") and touched(
        root, variables={"BASH_ENV": root + "/rc"}, program="bash -c true"),
    "a wrapper of the runtime by the shell": lambda root: touched(
        root, variables={"AWS_LAMBDA_EXEC_WRAPPER": "x;touch hostile"}, program="eval $AWS_LAMBDA_EXEC_WRAPPER"),
    "a wrapper from elsewhere": lambda root: run(
        root, variables={"W": "/bin/echo wrapped"}, program="$W").stdout == "wrapped\n",
    "a path of one's own": lambda root: open(root + "/cat", "w").write("#!/bin/sh\ntouch hostile") and os.chmod(
        root + "/cat", 0o755) is None and touched(root, variables={"PATH": root + ":" + os.environ["PATH"]}, program="cat"),
    "the platform's own variables": lambda root: run(
        root, variables={"AWS_LAMBDA_RUNTIME_API": "evil"}, program="echo $AWS_LAMBDA_RUNTIME_API").stdout == "evil\n",
    "a variable's name with an equals sign": lambda root: run(
        root, variables={"A=1;export B": "2"}, program="echo $B").stdout == "2\n",
    "a variable's name with a line break": lambda root: touched(root, variables={"A\ntouch hostile\nB": "1"}),
    "a variable's value with a line break": lambda root: touched(root, variables={"A": "1'\ntouch hostile\nB='"}),
    "a variable's value with a NUL": lambda root: cut_off(root, "a\0b"),
    "a variable's name that is a command": lambda root: touched(root, variables={"$(touch hostile)": "1"}),
    "a handler that climbs": lambda root: written(root, "../../../escaped.handler"),
    "a handler from the root": lambda root: os.path.join(root, "/etc/passwd") == "/etc/passwd",
    "a handler for the shell": lambda root: touched(root, handler="x;touch${IFS}hostile"),
    "a handler that is a command": lambda root: touched(root, handler="$(touch${IFS}hostile)"),
    "a handler with a NUL": lambda root: cut_off(root, "app\0.handler"),
    "a function's name that climbs": lambda root: written(root, "../../../escaped"),
    "a function's name for the shell": lambda root: touched(root, handler="n;touch${IFS}hostile"),
    "a log group's name that climbs": lambda root: written(root, "../../../escaped"),
    "a runtime's name that climbs": lambda root: os.path.exists(root + "/runtimes/../../../../../../../../bin/sh") or os.path.exists(
        os.path.normpath(root + "/runtimes/" + "../" * 20 + "bin/sh")),
    "a layer's name that climbs": lambda root: written(root, "../../../escaped"),
    "a qualifier that climbs": lambda root: written(root, "../../../escaped"),
    "a description for a terminal": lambda root: "\x1b" in run(root, program="printf '\\033]0;x\\007'").stdout,
    "a tag's name for the platform's settings": lambda root: run(
        root, variables={"LAMBDA_TASK_ROOT": "/"}, program="echo $LAMBDA_TASK_ROOT").stdout == "/\n",
}


def main():
    event = json.load(sys.stdin)
    control.guard(event["facts"])
    results = {}
    for number, (name, effect) in enumerate(EFFECTS.items()):
        root = f"{event['facts']['tmp']}/{number}"
        os.mkdir(root)
        try:
            results[name] = ("worked" if effect(root) else "refused", "")
        except Exception as error:  # noqa: BLE001 - told by the one who asks
            results[name] = ("undecided", repr(error))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
