"""The JavaScript SDK for the scenarios."""

import shutil
import subprocess

import clients
import flint


def javascript():
    """Where the JavaScript SDK lies; it is installed once per pinned set under target."""
    where = flint.REPO / "target/scenarios-js"
    if not (shutil.which("node") and shutil.which("npm")):
        clients.lacks("node and npm are not here")
    where.mkdir(parents=True, exist_ok=True)
    wanted = (flint.REPO / "scenarios/js/package.json").read_text()
    stamp = where / "installed.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        (where / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        stamp.write_text(wanted)
    return where
