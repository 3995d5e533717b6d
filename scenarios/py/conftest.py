"""Fixtures: one shared server for stories that leave it as they found it, fresh ones for those that do not."""

import os
import shutil
import uuid
from pathlib import Path

import pytest

import flint


# Files whose stories measure time, or take the whole machine. All others run two beside each other.
ALONE = {
    "test_dev_loop.py", "test_front.py", "test_limits.py", "test_parity.py", "test_programs.py", "test_resources.py",
    "test_storm.py", "test_streaming.py",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in ALONE:
            item.add_marker(pytest.mark.alone)


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time, so nothing else may run")
    if os.geteuid() != 0:
        raise pytest.UsageError("the scenarios need root: they start `flint up` and look at what it leaves on the host")
    if not Path(flint.BINARY).exists():
        raise pytest.UsageError(f"{flint.BINARY} is missing: build it, or name another one in FLINT_BIN")


@pytest.fixture
def data(tmp_path):
    """A data directory that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A server for the whole run."""
    with flint.Server(tmp_path_factory.mktemp("shared") / "data") as server:
        yield server


@pytest.fixture
def fresh(data):
    """A server for one test."""
    with flint.Server(data) as server:
        yield server


@pytest.fixture(scope="session")
def functions(shared):
    """boto3's Lambda client of the shared server."""
    return shared.client("lambda")


@pytest.fixture(scope="session")
def logs(shared):
    return shared.client("logs")


@pytest.fixture
def name():
    """A function name that no other test uses."""
    return "f-" + uuid.uuid4().hex[:12]


@pytest.fixture(scope="session")
def aws():
    """Debian's AWS CLI (its place is fixed, so that a newer one on the path does not stand in for it)."""
    path = "/usr/bin/aws" if Path("/usr/bin/aws").exists() else shutil.which("aws")
    assert path, "the AWS CLI is missing: apt-get install awscli"
    return path
