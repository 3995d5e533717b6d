"""Debian's AWS CLI drives the same life, with --endpoint-url."""

import json
import subprocess

import pytest

import flint


@pytest.fixture
def cli(aws, shared, tmp_path):
    """Runs one CLI command; returns its JSON answer (or text), or the finished process with check=False."""
    variables = shared.environment()
    settings = {k: str(v) for k, v in variables.items() if k.startswith("AWS_")}
    # Old versions do not know the variable; the flag is what the manual tells people to use.
    settings.pop("AWS_ENDPOINT_URL", None)
    settings |= {"AWS_PAGER": "", "HOME": str(tmp_path), "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}

    def run(*words, check=True):
        done = subprocess.run(
            [aws, "--endpoint-url", shared.url, *words], capture_output=True, text=True, timeout=90, cwd=tmp_path,
            env={**flint.clean_environment(), **settings}, stdin=subprocess.DEVNULL,
        )
        if not check:
            return done
        assert done.returncode == 0, f"aws {' '.join(words)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_the_whole_life(cli, shared, name, tmp_path):
    source = "import os\ndef handler(event, context):\n    print('got', event)\n    return {'n': event['n'] * int(os.environ['BY'])}\n"
    (tmp_path / "code.zip").write_bytes(flint.zipped({"app.py": source}))
    created = cli(
        "lambda", "create-function", "--function-name", name, "--runtime", shared.python(), "--role", flint.ROLE,
        "--handler", "app.handler", "--zip-file", "fileb://code.zip", "--environment", "Variables={BY=2}",
        "--timeout", "5",
    )
    assert created["FunctionName"] == name
    cli("lambda", "wait", "function-active-v2", "--function-name", name)

    said = cli(
        "lambda", "invoke", "--function-name", name, "--payload", '{"n": 21}', "--cli-binary-format",
        "raw-in-base64-out", "--log-type", "Tail", "out.json",
    )
    assert said["StatusCode"] == 200 and "FunctionError" not in said
    assert json.loads((tmp_path / "out.json").read_text()) == {"n": 42}
    assert "REPORT RequestId" in __import__("base64").b64decode(said["LogResult"]).decode()

    cli("lambda", "update-function-configuration", "--function-name", name, "--environment", "Variables={BY=3}")
    cli("lambda", "wait", "function-updated-v2", "--function-name", name)
    (tmp_path / "code.zip").write_bytes(flint.zipped({"app.py": source.replace("'n':", "'m':")}))
    cli("lambda", "update-function-code", "--function-name", name, "--zip-file", "fileb://code.zip")
    cli("lambda", "wait", "function-updated-v2", "--function-name", name)
    cli(
        "lambda", "invoke", "--function-name", name, "--payload", '{"n": 10}', "--cli-binary-format",
        "raw-in-base64-out", "out.json",
    )
    assert json.loads((tmp_path / "out.json").read_text()) == {"m": 30}

    assert name in [f["FunctionName"] for f in cli("lambda", "list-functions")["Functions"]]
    assert cli("lambda", "get-function", "--function-name", name)["Configuration"]["Timeout"] == 5

    group = f"/aws/lambda/{name}"

    def arrived():
        return cli("logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", '"got"')["events"]

    events = flint.until(lambda: len(arrived()) >= 2 and arrived(), 10, "the lines arrive", every=0.2)
    assert all("got" in e["message"] for e in events)
    streams = cli("logs", "describe-log-streams", "--log-group-name", group)["logStreams"]
    lines = cli(
        "logs", "get-log-events", "--log-group-name", group, "--log-stream-name", streams[0]["logStreamName"],
        "--start-from-head",
    )["events"]
    assert any(e["message"].startswith("START") for e in lines)
    cli("logs", "put-retention-policy", "--log-group-name", group, "--retention-in-days", "1")
    assert cli("logs", "describe-log-groups", "--log-group-name-prefix", group)["logGroups"][0]["retentionInDays"] == 1

    cli("lambda", "delete-function", "--function-name", name)
    gone = cli("lambda", "get-function", "--function-name", name, check=False)
    assert gone.returncode != 0 and "ResourceNotFoundException" in gone.stderr
    cli("logs", "delete-log-group", "--log-group-name", group)


def test_who_am_i(cli):
    assert cli("sts", "get-caller-identity") == {
        "UserId": "000000000000", "Account": "000000000000", "Arn": "arn:aws:iam::000000000000:root",
    }


def test_a_failing_function_is_told(cli, shared, name, tmp_path):
    shared.create(shared.client("lambda"), name, "def handler(event, context):\n    return {}['x']\n")
    said = cli("lambda", "invoke", "--function-name", name, "out.json")
    assert said["FunctionError"] == "Unhandled"
    assert json.loads((tmp_path / "out.json").read_text())["errorType"] == "KeyError"


def test_what_is_not_served_ends_at_once(cli, name):
    refused = cli("lambda", "list-function-url-configs", "--function-name", name, check=False)
    assert refused.returncode != 0 and "NotImplemented" in refused.stderr
    assert "ListFunctionUrlConfigs" in refused.stderr
