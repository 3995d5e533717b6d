"""Settings that a careless platform would stumble over: refused, or the function's own affair and nobody else's."""

import os
from pathlib import Path

import botocore.exceptions
import pytest

import arena as arenas
import flint
from launch import EFFECTS, LIBRARIES

APP = """
import os
def handler(event, context):
    return {"marked": os.path.exists("/tmp/hostile"), "variables": dict(os.environ), "maps": open("/proc/self/maps").read()}
"""
RC = "#!/bin/sh\ntouch /tmp/hostile\n"
MADE = []


@pytest.fixture(scope="module")
def control(arena):
    """What the same settings do to a launcher that is careless."""
    return arena.control("launch.py", {})


class Try:
    """What comes of a function with these settings: an error of the maker's, or the function's answer."""

    def __init__(self, arena, name=None, handler="app.handler", variables=None, **settings):
        MADE.append(self)
        self.arena, self.name = arena, name or f"configured-{len(MADE)}"
        files = {"app.py": APP, "rc!": RC, "python3!": RC, "sh!": RC}
        made = {"Runtime": arena.server.python(), "Timeout": 5, **settings}
        if variables is not None:
            made["Environment"] = {"Variables": variables}
        self.error = self.answer = None
        try:
            arena.client.create_function(
                FunctionName=self.name, Role=flint.ROLE, Handler=handler, Code={"ZipFile": flint.zipped(files)}, **made
            )
        except botocore.exceptions.ClientError as error:
            self.error = error.response["Error"]["Code"]
            self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return
        try:
            arena.client.get_waiter("function_active_v2").wait(
                FunctionName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
            )
            self.answer = flint.invoke(arena.client, self.name, {})
            self.processes = {
                pid: Path(f"/proc/{pid}/maps").read_text() for pid in arena.host.processes() if flint.comm(pid) == "init"
            }
        finally:
            arena.client.delete_function(FunctionName=self.name)

    @property
    def refused(self):
        return self.error is not None and 400 <= self.status < 500 or self.error == "NotImplemented"

    @property
    def runs(self):
        """It answers, and its settings have started nothing."""
        return self.answer is not None and self.answer.error is None and not self.answer.json["marked"]

    def fails(self, *kinds):
        return self.answer is not None and self.answer.error == "Unhandled" and self.answer.json["errorType"] in kinds

    def __repr__(self):
        return f"{self.error} {str(self.answer)[:300]}"


NOWHERE = ("Runtime.InvalidEntrypoint", "Runtime.ExitError")
NO_HANDLER = ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName")


def preload(arena):
    library = next(path for path in LIBRARIES if os.path.exists(path))
    inside = library if library.startswith("/usr") else "/usr" + library
    tried = Try(arena, variables={"LD_PRELOAD": inside})
    name = os.path.basename(os.path.realpath(library))
    others = [Path(f"/proc/{pid}/maps").read_text() for pid in (arena.host.server_pid, arena.host.spawner_pid)]
    own = tried.runs and name in tried.answer.json["maps"]
    return own and not any(name in maps for maps in [*others, *tried.processes.values()]), tried


def newline(arena):
    value = "1'\ntouch /tmp/hostile\nB='"
    tried = Try(arena, variables={"VALUE": value})
    return tried.runs and tried.answer.json["variables"]["VALUE"] == value and "B" not in tried.answer.json["variables"], tried


def log_group(arena):
    tried = Try(arena, LoggingConfig={"LogGroup": "../../../../escaped"})
    data = Path(arena.server.data)
    strays = [path for base in (data.parent, data.parent.parent, Path("/"), Path("/tmp")) for path in base.glob("escaped")]
    return (tried.refused or tried.runs) and not strays, (tried, strays)


def qualifier(arena):
    codes = []
    for wrong in ("../../escaped", "$LATEST/../x", "%2e%2e", "a b", "\n"):
        try:
            arena.client.invoke(FunctionName="peer", Qualifier=wrong)
            return False, wrong
        except botocore.exceptions.ClientError as error:
            codes.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return all(400 <= code < 500 for code in codes), codes


def layer(arena):
    try:
        made = arena.client.publish_layer_version(LayerName="../../escaped", Content={"ZipFile": flint.zipped({"a": "b"})})
        return False, made
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 400, error.response["Error"]


def description(arena):
    text = "\x1b]0;stolen\x07\x1b[2J"
    tried = Try(arena, Description=text)
    variables = {k: str(v) for k, v in arena.server.environment().items()}
    shown = "".join(
        arena.server.run(command, "--endpoint", arena.server.url, env=variables).stdout for command in ("ps", "top")
    )
    return (tried.refused or tried.runs) and "\x1b]0" not in shown, tried


def refused(**settings):
    def act(arena):
        tried = Try(arena, **settings)
        return tried.refused, tried
    return act


def runs(**settings):
    def act(arena):
        tried = Try(arena, **settings)
        return tried.runs, tried
    return act


def fails(*kinds, **settings):
    def act(arena):
        tried = Try(arena, **settings)
        return tried.fails(*kinds), tried
    return act


WANTED = {
    # The function's own affair.
    "a library before all others": preload,
    "a start file of the shell": runs(variables={"BASH_ENV": "/var/task/rc", "ENV": "/var/task/rc"}),
    "a wrapper of the runtime by the shell": fails(*NOWHERE, variables={"AWS_LAMBDA_EXEC_WRAPPER": "x;touch /tmp/hostile"}),
    "a wrapper from elsewhere": fails(*NOWHERE, variables={"AWS_LAMBDA_EXEC_WRAPPER": "/bin/echo"}),
    "a path of one's own": runs(variables={"PATH": "/var/task", "LD_LIBRARY_PATH": "/var/task:/var/lang/lib"}),
    "a variable's value with a line break": newline,
    "a handler for the shell": fails(*NO_HANDLER, handler="app.handler;touch${IFS}/tmp/hostile"),
    "a handler that is a command": fails(*NO_HANDLER, handler="$(touch${IFS}/tmp/hostile).x"),
    "a log group's name that climbs": log_group,
    "a description for a terminal": description,
    # Refused.
    "the platform's own variables": refused(variables={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}),
    "a variable's name with an equals sign": refused(variables={"A=1;export B": "2"}),
    "a variable's name with a line break": refused(variables={"AA\ntouch hostile\nB": "1"}),
    "a variable's value with a NUL": refused(variables={"VALUE": "a\0b"}),
    "a variable's name that is a command": refused(variables={"$(touch hostile)": "1"}),
    "a handler that climbs": refused(handler="../../../etc/x.handler"),
    "a handler from the root": refused(handler="/etc/passwd.handler"),
    "a handler with a NUL": refused(handler="app\0.handler"),
    "a function's name that climbs": refused(name="../../../escaped"),
    "a function's name for the shell": refused(name="n;touch${IFS}hostile"),
    "a runtime's name that climbs": refused(Runtime="../../../../bin/sh"),
    "a layer's name that climbs": layer,
    "a qualifier that climbs": qualifier,
    "a tag's name for the platform's settings": refused(Tags={"flint:walls": "off", "aws:system": "x"}),
}


@pytest.mark.parametrize("name", WANTED)
def test_configuration(name, arena, control, settled):
    held, detail = WANTED[name](arena)
    state, why = control[name]
    arenas.decide(f"configuration: {name}", bool(held), state == "worked", None, f"{detail}; control {state} {why}")


def test_each_has_its_control():
    assert set(WANTED) == set(EFFECTS)
