"""A full disk refuses writes clearly, serves on, and heals when space returns."""

import os
import subprocess

import botocore.exceptions
import pytest

import flint

SIZE_MB = 256


@pytest.fixture
def small(tmp_path):
    """A small file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_refuses_serves_and_heals(small):
    ballast = small / "ballast"
    with flint.Server(small / "data") as server:
        client, logs = server.client("lambda"), server.client("logs")
        server.create(client, "old", "def handler(event, context):\n    print('x' * 100)\n    return event\n")
        assert flint.invoke(client, "old", 1).json == 1
        fill(ballast)

        refused = None
        for n in range(20_000):
            try:
                variables = {"FILL": f"{n} " + "v" * 3900}
                client.update_function_configuration(FunctionName="old", Environment={"Variables": variables})
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] == "ResourceConflictException":
                    continue
                refused = error.response
                break
        assert refused is not None, "a full disk must refuse in the end"
        assert refused["ResponseMetadata"]["HTTPStatusCode"] == 503, refused
        assert "space" in refused["Error"]["Message"].lower(), refused

        with pytest.raises(botocore.exceptions.ClientError) as caught:
            code = os.urandom(4 << 20)
            client.create_function(
                FunctionName="new", Role=flint.ROLE, Runtime=server.python(), Handler="app.handler",
                Code={"ZipFile": flint.zipped({"app.py": "x = 1", "blob": code})},
            )
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503, caught.value.response

        # It goes on: reads and calls are served.
        assert server.process.poll() is None
        assert client.get_function_configuration(FunctionName="old")["State"] == "Active"
        for n in range(20):
            assert flint.invoke(client, "old", n).json == n
        logs.describe_log_groups()

        # Space returns: writes are taken again, by the same process.
        ballast.unlink()

        def taken():
            try:
                client.update_function_configuration(
                    FunctionName="old", Description="healed", Environment={"Variables": {}}
                )
                return True
            except botocore.exceptions.ClientError:
                return False

        flint.until(taken, 15, "writes are taken again", every=0.2)
        server.create(client, "new", "def handler(event, context):\n    return 'new'\n")
        assert flint.invoke(client, "new", {}).json == "new"
        assert server.stop() == 0

    # What was acknowledged is there after a restart.
    with flint.Server(small / "data") as server:
        client = server.client("lambda")
        assert client.get_function_configuration(FunctionName="old")["Description"] == "healed"


def fill(path):
    """Takes all the space there is."""
    with open(path, "wb") as file:
        block = bytes(1 << 16)
        try:
            while True:
                file.write(block)
                file.flush()
        except OSError:
            pass
