"""The runtime clients that the behaviour suite runs against: two of our own, three official ones, unmodified.

The official ones come from their registries, by name and version, into a cache under `target`.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flint

SOURCES = Path(__file__).parent / "runtimes"
CACHE = flint.REPO / "target/scenario-clients"

AWSLAMBDARIC = "awslambdaric==4.2.2"
AWS_LAMBDA_RIC = "aws-lambda-ric@3.3.0"
LAMBDA_RUNTIME = "=1.5.0"

CARGO = f"""[package]
name = "behaviours"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "bootstrap"
path = "{SOURCES / 'main.rs'}"

[dependencies]
lambda_runtime = "{LAMBDA_RUNTIME}"
serde_json = {{ version = "1", features = ["preserve_order"] }}
tokio = {{ version = "1", features = ["rt", "macros", "time"] }}

[profile.dev]
debug = false
strip = true

[workspace]
"""


def lacks(what):
    """In CI everything must be there; elsewhere it is said."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def run(command, directory, **variables):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=900,
                          stdin=subprocess.DEVNULL, env={**os.environ, **variables})
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout[-2000:]} {done.stderr[-4000:]}"


def cached(name, make):
    """A directory that `make` fills once; half a one is never seen."""
    final = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    # Runs beside each other want the same one: the first makes it.
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            draft = CACHE / f"{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            make(draft)
            draft.rename(final)
    return final


def tree(directory, below=""):
    """{path: content} of a directory; what may run keeps its bit."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            mark = "!" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else ""
            found[below + str(path.relative_to(directory)) + mark] = path.read_bytes()
    return found


PYTHON_FILES = {
    "app.py": (SOURCES / "app.py").read_text(),
    "deep/er/app.py": (SOURCES / "app.py").read_text(),
    "broken.py": "def handler(:\n",
    "raises.py": "raise KeyError('at init')\n",
    "leaves.py": "import os\nos._exit(3)\n",
}

NODE_FILES = {
    "app.js": (SOURCES / "app.js").read_text(),
    "deep/er/app.js": (SOURCES / "app.js").read_text(),
    "broken.js": "exports.handler = (;\n",
    "raises.js": "const e = new Error('at init'); e.name = 'KeyError'; throw e;\n",
    "leaves.js": "process.exit(3);\n",
}


def own_python(server):
    return {"Runtime": server.python(), "files": PYTHON_FILES}


def node(server):
    names = [r["Identifier"] for r in server.runtimes()]
    nodes = [n for n in names if n.startswith("nodejs")]
    if not nodes:
        lacks("the host has no Node: apt-get install nodejs npm")
    return max(nodes, key=lambda n: int(n.removeprefix("nodejs").removesuffix(".x")))


def own_node(server):
    return {"Runtime": node(server), "files": NODE_FILES}


def awslambdaric(server):
    """Started by a wrapper script in the place of ours, with the interpreter that ours would run on."""
    runtime = server.python()
    version = runtime.removeprefix("python")

    def install(directory):
        run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(directory),
             "--python-version", version, "--only-binary=:all:", "--platform", "manylinux2014_x86_64", AWSLAMBDARIC],
            directory)

    files = {
        **PYTHON_FILES, **tree(cached(f"{AWSLAMBDARIC}-{version}", install)),
        "official.sh!": '#!/bin/sh\nexec "$1" -m awslambdaric "$_HANDLER"\n',
    }
    return {"Runtime": runtime, "files": files, "variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/official.sh"}}


def aws_lambda_ric(server):
    runtime = node(server)
    missing = [tool for tool in ("npm", "cmake", "autoconf", "automake", "libtoolize", "make", "g++")
               if not shutil.which(tool)]

    def install(directory):
        if missing:
            lacks(f"building {AWS_LAMBDA_RIC} needs {', '.join(missing)}")
        # Where the distribution has Node's headers, nothing needs to be fetched for them.
        headers = {"npm_config_nodedir": "/usr"} if Path("/usr/include/node/node_api.h").exists() else {}
        run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory), AWS_LAMBDA_RIC], directory, **headers)

    package = cached(AWS_LAMBDA_RIC, install) / "node_modules/aws-lambda-ric"
    base = "node_modules/aws-lambda-ric/"
    files = {
        **NODE_FILES, **tree(package / "dist", base + "dist/"), **tree(package / "bin", base + "bin/"),
        base + "package.json": (package / "package.json").read_bytes(),
        "official.sh!": '#!/bin/sh\nexec "$1" /var/task/node_modules/aws-lambda-ric/bin/index.mjs "$_HANDLER"\n',
    }
    return {"Runtime": runtime, "files": files, "variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/official.sh"}}


def lambda_runtime(server):
    if not shutil.which("cargo"):
        lacks("the lambda_runtime crate needs cargo")
    directory = CACHE / "lambda_runtime"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Cargo.toml").write_text(CARGO)
    run(["cargo", "build", "-q"], directory, CARGO_TARGET_DIR=str(directory / "target"))
    return {"Runtime": "provided.al2023", "files": {"bootstrap!": (directory / "target/debug/bootstrap").read_bytes()}}


CLIENTS = {
    "own-python": own_python, "own-node": own_node, "awslambdaric": awslambdaric, "aws-lambda-ric": aws_lambda_ric,
    "lambda_runtime": lambda_runtime,
}


class Subject:
    """One client, and the functions that run on it, made when first asked for."""

    def __init__(self, name, server, client, prefix):
        self.name = name
        self.language = {"own-python": "python", "awslambdaric": "python", "lambda_runtime": "rust"}.get(name, "node")
        self.server = server
        self.client = client
        self.prefix = prefix
        self.recipe = CLIENTS[name](server)
        self.functions = {}

    def function(self, handler="app.handler", **settings):
        settings = {"Timeout": 20, "MemorySize": 256, **settings}
        key = (handler, *sorted(settings.items()))
        if key not in self.functions:
            name = f"{self.prefix}-{len(self.functions)}"
            self.server.create(
                self.client, name, self.recipe["files"], handler=handler, Runtime=self.recipe["Runtime"],
                Environment={"Variables": {"GREETING": "grüß dich", **self.recipe.get("variables", {})}}, **settings,
            )
            self.functions[key] = name
        return self.functions[key]

    def raw(self, payload, function=None, **settings):
        """Invokes with bytes."""
        answer = self.client.invoke(
            FunctionName=function or self.function(), Payload=payload, LogType="Tail", **settings
        )
        return flint.Answer(answer)

    def do(self, what, function=None, **event):
        import json

        return self.raw(json.dumps({"do": what, **event}).encode(), function)

    def pick(self, **by_name):
        """The expectation for this client: by its name, its language, or the rest's."""
        for key in (self.name.replace("-", "_"), self.language, "rest"):
            if key in by_name:
                return by_name[key]
        raise AssertionError(f"nothing is said of {self.name}")
