"""The JavaScript SDK v3 drives the served operations: scenarios/js/smoke.mjs, where node and npm are."""

import base64
import json
import os
import shutil
import subprocess

import pytest

import flint
import sdks

HERE = flint.REPO / "scenarios/js"


@pytest.fixture(scope="module")
def modules():
    """The SDK, installed once per pinned set under target."""
    return sdks.javascript()


def test_the_javascript_sdk(shared, modules, name):
    source = "def handler(event, context):\n    print('said', event)\n    return event\n"
    archive = base64.b64encode(flint.zipped({"app.py": source})).decode()
    environment = {
        **flint.clean_environment(), **{k: str(v) for k, v in shared.environment().items()},
        "FLINT_URL": shared.url, "FLINT_PYTHON": shared.python(), "FLINT_ZIP": archive, "FLINT_NAME": name,
        "FLINT_MODULES": str(modules), "HOME": os.environ.get("HOME", "/"),
    }
    command = ["node", str(HERE / "smoke.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    flint.figure("javascript sdk steps", len(json.loads(done.stdout)["done"]))
