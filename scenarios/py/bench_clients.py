"""Lays out the official runtime clients with an echoing handler for `cargo xtask bench floor`: `bench_clients.py FOLDER`."""

import shutil
import sys
from pathlib import Path

import clients
import flint

ECHO = {
    "app.py": "def handler(event, context):\n    return event\n",
    "app.js": "exports.handler = async (event) => event;\n",
}


def lay_out(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name.rstrip("!")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if name.endswith("!") else 0o644)


def main():
    folder = Path(sys.argv[1])
    with flint.scratch() as scratch, flint.Server(Path(scratch) / "data") as server:
        for name, make, own, app in (
            ("python", clients.awslambdaric, clients.PYTHON_FILES, "app.py"),
            ("node", clients.aws_lambda_ric, clients.NODE_FILES, "app.js"),
        ):
            files = {n: content for n, content in make(server)["files"].items() if n not in own}
            lay_out(folder / name, {**files, app: ECHO[app]})


if __name__ == "__main__":
    main()
