"""Packages with every known trick: refused, or nothing comes of it."""

from pathlib import Path

import botocore.exceptions
import pytest

import arena as arenas
import flint
import zips

REFUSALS = {"InvalidParameterValueException"}


@pytest.fixture(scope="module")
def control(arena):
    """What the tricks do to an unpacker that checks nothing."""
    return arena.control("extract.py", {})


def make(arena, name, data):
    """The tree that a function of this package finds, or the error that its maker gets."""
    client = arena.client
    try:
        client.create_function(
            FunctionName=name, Role=flint.ROLE, Handler="app.handler", Runtime=arena.server.python(), Code={"ZipFile": data},
            Timeout=10,
        )
    except botocore.exceptions.ClientError as error:
        return None, error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    try:
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        return flint.invoke(client, name).json, None, 201
    finally:
        client.delete_function(FunctionName=name)


def harmless(trick, tree):
    """What an accepted one must look like inside: as ordinary as any."""
    assert not any(path.startswith("..") or zips.ESCAPED in path for path in tree), tree
    for path, (mode, link, _, _) in tree.items():
        bits = int(mode, 8)
        assert bits & 0o7000 == 0 and (bits & 0o022 == 0 or link), (trick, path, mode)
        assert bits & 0o400, (trick, path, mode)
    return True


@pytest.mark.parametrize("trick", zips.TRICKS)
def test_packages(trick, arena, control, settled):
    build, wanted = zips.TRICKS[trick]
    name = "pack-" + str(list(zips.TRICKS).index(trick))
    tree, error, status = make(arena, name, build())
    data = Path(arena.server.data)
    places = [Path(zips.OUTSIDE), Path("/"), Path("/tmp"), *data.parents]
    assert not [str(place) for place in places if (place / zips.ESCAPED).exists()], "something appeared on the host"
    assert not [path for path, _ in arenas.below(data) if path.name == zips.ESCAPED or path.name.startswith(".staging")]
    if wanted == zips.REJECTED:
        held = error is not None and status == 400 and error["Code"] in REFUSALS and bool(error["Message"])
    else:
        held = tree is not None and harmless(trick, tree)
    state, detail = control[trick]
    fired = state == "worked"
    arenas.decide(f"packages: {trick}", held, fired, None, f"{status} {error} {str(tree)[:300]}; control {state} {detail}")
