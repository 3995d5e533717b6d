"""The contract for whoever starts Flint: one ready line, exit codes, one lock, the address and the keys."""

import json
import os
import stat
import subprocess
import urllib.request

import flint


def test_ready_line_then_a_clean_end(data):
    server = flint.Server(data).start()
    assert server.url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(server.url + "/_flint/health", timeout=5) as answer:
        assert answer.status == 200
        assert json.load(answer)
    process = server.process
    stdout = process.stdout
    process.terminate()
    assert process.wait(20) == 0
    assert stdout.read() == b"", "exactly one line on stdout"
    server.process = None


def test_a_second_server_refuses_in_one_line(data):
    with flint.Server(data) as first:
        second = subprocess.run(
            [flint.BINARY, "up", "--data", str(data), "--listen", "127.0.0.1:0"],
            capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
        )
        assert second.returncode != 0
        assert second.stdout == ""
        assert len(second.stderr.strip().splitlines()) == 1, second.stderr
        assert str(data) in second.stderr or "data directory" in second.stderr, second.stderr
        # The first one did not notice.
        assert first.client("sts").get_caller_identity()["Account"] == "000000000000"


def test_a_taken_port_is_one_line(data, tmp_path):
    with flint.Server(data) as first:
        host, port = first.address
        second = subprocess.run(
            [flint.BINARY, "up", "--data", str(tmp_path / "other"), "--listen", f"{host}:{port}"],
            capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
        )
        assert second.returncode != 0
        assert len(second.stderr.strip().splitlines()) == 1, second.stderr
        assert str(port) in second.stderr


def test_a_public_address_needs_a_word(data):
    refused = subprocess.run(
        [flint.BINARY, "up", "--data", str(data), "--listen", "0.0.0.0:0"],
        capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
    )
    assert refused.returncode != 0
    assert "--plain-http" in refused.stderr


def test_keys_are_the_owners_alone_and_survive_a_restart(data):
    with flint.Server(data) as server:
        first = server.environment()
        for variable in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
            assert first[variable], variable
        exports = server.run("env", "--data", str(data)).stdout
        assert f"export AWS_ACCESS_KEY_ID={first['AWS_ACCESS_KEY_ID']}" in exports.replace("'", "").replace('"', "")
        assert "--endpoint-url" in exports
        mode = stat.S_IMODE(os.stat(data / "credentials.json").st_mode)
        assert mode == 0o600, oct(mode)
        identity = server.client("sts").get_caller_identity()
        assert identity["Arn"] == "arn:aws:iam::000000000000:root"
    with flint.Server(data) as server:
        assert server.environment()["AWS_ACCESS_KEY_ID"] == first["AWS_ACCESS_KEY_ID"]


def test_the_server_is_not_root(shared):
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{shared.process.pid}/status").read().splitlines())
    assert all(uid != "0" for uid in status["Uid"].split())
    assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_doctor_tells_what_the_host_offers(shared):
    told = shared.run("doctor", check=False)
    assert told.stdout.strip()
    assert isinstance(json.loads(shared.run("doctor", "--json", check=False).stdout), (dict, list))
