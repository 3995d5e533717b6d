"""One server for the hostile cases, and the count of them at the end."""

import sys
from pathlib import Path

import pytest

import flint

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).with_name("inside")))

import arena as arenas  # noqa: E402 - found by the path above


@pytest.fixture(scope="session")
def hostile_server(tmp_path_factory):
    with flint.Server(tmp_path_factory.mktemp("hostile") / "hostile-data") as server:
        yield server


@pytest.fixture(scope="session")
def arena(hostile_server, tmp_path_factory):
    made = arenas.Arena(hostile_server, tmp_path_factory.mktemp("arena"))
    yield made
    made.descriptors_settle()


@pytest.fixture
def settled(arena):
    """After the case: the peer answers and the host is as before."""
    yield
    arena.settled()


def pytest_terminal_summary(terminalreporter):
    if arenas.TALLY.cases:
        for line in arenas.TALLY.lines():
            terminalreporter.write_line(line)
        arenas.TALLY.figures()
