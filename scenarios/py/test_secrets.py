"""Environment variables at rest: sealed under a master key, and nowhere else to be found."""

import base64
import json
import os
import re
import secrets
import subprocess
from pathlib import Path

import botocore.exceptions
import pytest

import flint

SOURCE = "import os\ndef handler(event, context):\n    return len(os.environ.get('TOKEN', '')), os.environ.get('TOKEN') == event\n"


def spellings(secret):
    """The value as it is, and as careless code would have it."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), secret.encode("utf-16-le"), secret[::-1].encode()}
    for shift in range(3):
        # In base64, wherever it begins: without the characters that its neighbours have a part in.
        text = base64.b64encode(b"\0" * shift + raw)
        found.add(text[(shift * 8 + 5) // 6 + 1:len(text) // 4 * 4 - 4])
    return found


def traces(server, words):
    """Files of the data directory, and the log, that hold one of `words`."""
    files = [p for p in server.data.rglob("*") if p.is_file() and not p.is_symlink()] + [server.log]
    found = []
    for path in files:
        content = path.read_bytes()
        found += [(path.name, word) for word in words if word in content]
    return found


def secret():
    return "hush-" + secrets.token_hex(12)


def test_a_value_is_nowhere_in_the_data_directory_or_the_log(data):
    server = flint.Server(data, "--log", "trace").start()
    client = server.client("lambda")
    first, second, bad = secret(), secret(), secret()
    words = set().union(*map(spellings, (first, second, bad)))

    server.create(client, "keeper-of-words", SOURCE, Environment={"Variables": {"TOKEN": first}}, Publish=True)
    assert flint.invoke(client, "keeper-of-words", first).json == [len(first), True]
    changed = client.update_function_configuration(FunctionName="keeper-of-words", Environment={"Variables": {"TOKEN": second}})
    assert changed["Environment"]["Variables"] == {"TOKEN": second}
    client.get_waiter("function_updated_v2").wait(FunctionName="keeper-of-words", WaiterConfig={"Delay": 1})
    version = client.publish_version(FunctionName="keeper-of-words")["Version"]
    client.create_alias(FunctionName="keeper-of-words", Name="live", FunctionVersion=version)
    client.tag_resource(Resource=changed["FunctionArn"], Tags={"a": "b"})
    assert flint.invoke(client, "keeper-of-words", second).json == [len(second), True]
    assert flint.invoke(client, "keeper-of-words:1", first).json == [len(first), True]

    # What is refused is not repeated, neither in the answer nor in the log.
    for variables in [{"1": bad}, {"AWS_REGION": bad}, {"TOKEN": bad + "\0"}, {"TOKEN": bad * 200}, {"TOKEN": bad, "": "x"}]:
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            client.update_function_configuration(FunctionName="keeper-of-words", Environment={"Variables": variables})
        assert bad not in str(refused.value)

    assert server.stop() == 0
    assert traces(server, words) == []
    with server.start():
        client = server.client("lambda")
        shown = {f["FunctionName"]: f["Environment"]["Variables"] for f in client.list_functions()["Functions"]}
        assert shown == {"keeper-of-words": {"TOKEN": second}}, "the reference's listing has them"
        assert flint.invoke(client, "keeper-of-words", second).json == [len(second), True]
        assert flint.invoke(client, "keeper-of-words:1", first).json == [len(first), True]
        assert traces(server, words) == []
        server.kill()
        server.start()
        assert flint.invoke(server.client("lambda"), "keeper-of-words", second).json == [len(second), True]
        assert traces(server, words) == []
    # The control: this search does find what is written.
    assert traces(server, {b"keeper-of-words"})
    flint.figure("secret_spellings_found", len(traces(server, words)))


def refused(data, *args, **variables):
    """The line with which a server that must not start ends."""
    done = subprocess.run(
        [flint.BINARY, "up", "--data", str(data), "--listen", "127.0.0.1:0", *map(str, args)], capture_output=True, text=True,
        timeout=30, stdin=subprocess.DEVNULL, env={**flint.clean_environment(), **variables},
    )
    assert done.returncode != 0 and done.stdout == "", done
    [line] = [line for line in done.stderr.splitlines() if line]
    return line


def test_the_master_key_must_be_the_one(data, tmp_path):
    key, value = data / "master.key", secret()
    with flint.Server(data) as server:
        server.create(server.client("lambda"), "f", SOURCE, Environment={"Variables": {"TOKEN": value}})
    assert key.stat().st_mode & 0o777 == 0o600
    text = key.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", text)

    key.rename(tmp_path / "kept")
    assert "master key" in refused(data) and "missing" in refused(data)
    assert not key.exists(), "a lost key is not replaced"
    other = "ab" * 32
    line = refused(data, FLINT_MASTER_KEY=other)
    assert "not the one" in line and other not in line and text not in line
    line = refused(data, FLINT_MASTER_KEY=text[:-1])
    assert "FLINT_MASTER_KEY is no master key" in line and text[:-1] not in line
    outside = tmp_path / "kept"
    outside.chmod(0o644)
    assert "mode 0600" in refused(data, "--master-key-file", outside)
    assert "twice" in refused(data, "--master-key-file", outside, FLINT_MASTER_KEY=text)
    assert str(tmp_path / "nowhere") in refused(data, "--master-key-file", tmp_path / "nowhere")

    # Root's own file: read before privileges go.
    outside.chmod(0o400)
    os.chown(outside, 0, 0)
    with flint.Server(data, "--master-key-file", outside) as server:
        assert flint.invoke(server.client("lambda"), "f", value).json == [len(value), True]
        assert not key.exists()
        assert text.encode() not in b"".join(p.read_bytes() for p in data.rglob("*") if p.is_file())


def test_a_crash_leaves_no_dump(shared):
    limits = Path(f"/proc/{shared.process.pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits), limits
    spawner = Path(f"/proc/{shared.spawner()}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", spawner), spawner
    # Files in /proc of a process that can't be dumped belong to root.
    assert os.stat(f"/proc/{shared.process.pid}/environ").st_uid == 0
    status = Path(f"/proc/{shared.process.pid}/status").read_text()
    assert "\nUid:\t0\t" not in status, "the server itself is somebody else"


def test_answers_have_variables_only_where_the_reference_has(shared, functions, name):
    value = secret()
    shared.create(functions, name, SOURCE, Environment={"Variables": {"TOKEN": value}})
    env = {k: str(v) for k, v in shared.environment().items()}
    for command in [["ps", "--json"], ["runtime", "list", "--json"]]:
        assert value not in shared.run(*command, "--endpoint", shared.url, env=env).stdout
    assert value not in json.dumps(functions.list_aliases(FunctionName=name)["Aliases"])
    versions = functions.list_versions_by_function(FunctionName=name)["Versions"]
    assert versions[0]["Environment"]["Variables"] == {"TOKEN": value}


def bend(data, *words):
    """Changes the store of a stopped server, and gives what that made back to its owner."""
    program = Path(flint.BINARY).with_name("bend")
    subprocess.run([program, data, *words], check=True, timeout=60)
    owner = data.stat().st_uid
    for path in data.rglob("*"):
        os.chown(path, owner, owner, follow_symlinks=False)


def test_what_is_bent_or_anothers_is_refused_and_the_rest_goes_on(data):
    values = {name: secret() for name in ("flipped", "swapped", "whole")}
    server = flint.Server(data).start()
    for name, value in values.items():
        server.create(server.client("lambda"), name, SOURCE, Environment={"Variables": {"TOKEN": value}}, Publish=True)
    server.stop()
    bend(data, "flip", "flipped")
    bend(data, "swap", "swapped", "whole")
    with server.start():
        client = server.client("lambda")
        for name in ("flipped", "swapped"):
            shown = client.get_function_configuration(FunctionName=name)["Environment"]
            assert shown["Error"]["ErrorCode"] == "KMSInvalidStateException" and "Variables" not in shown, shown
            for refused in [lambda: client.invoke(FunctionName=name), lambda: client.publish_version(FunctionName=name, Description="x")]:
                with pytest.raises(botocore.exceptions.ClientError) as error:
                    refused()
                assert error.value.response["Error"]["Code"] == "KMSInvalidStateException", error.value
                assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
                assert not any(value in str(error.value) for value in values.values())
            assert name in server.log.read_text(), "the operator is told which"
            # Another setting is no harm, and none to what is sealed; new variables mend it, if its data key is its own.
            client.update_function_configuration(FunctionName=name, Timeout=5)
            assert "Error" in client.get_function_configuration(FunctionName=name)["Environment"]
        assert flint.invoke(client, "whole", values["whole"]).json == [len(values["whole"]), True]
        assert flint.invoke(client, "flipped:1", values["flipped"]).json == [len(values["flipped"]), True], "the version is whole"
        value = secret()
        client.update_function_configuration(FunctionName="flipped", Environment={"Variables": {"TOKEN": value}})
        assert flint.invoke(client, "flipped", value).json == [len(value), True]
        assert traces(server, set().union(*map(spellings, [*values.values(), value]))) == []
