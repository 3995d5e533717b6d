"""The contract for whoever starts Flint: one ready line, exit codes, one lock, the address and the keys."""

import json
import os
import shutil
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


def one_line(text):
    """What is wrong and what to do about it, both in the one line of a failed start."""
    [line] = text.strip().splitlines()
    said, todo = line.split("; try: ")
    assert said.startswith("error: "), text
    return said, todo


def test_a_second_server_refuses_and_says_what_to_do(data):
    with flint.Server(data) as first:
        second = subprocess.run(
            [flint.BINARY, "up", "--data", str(data), "--listen", "127.0.0.1:0"],
            capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
        )
        assert second.returncode != 0
        assert second.stdout == ""
        said, todo = one_line(second.stderr)
        assert f"flint stop --data {data}" in todo, second.stderr
        assert str(data) in second.stderr or "data directory" in second.stderr, second.stderr
        # The first one did not notice.
        assert first.client("sts").get_caller_identity()["Account"] == "000000000000"


def test_a_taken_port_is_named(data, tmp_path):
    with flint.Server(data) as first:
        host, port = first.address
        second = subprocess.run(
            [flint.BINARY, "up", "--data", str(tmp_path / "other"), "--listen", f"{host}:{port}"],
            capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
        )
        assert second.returncode != 0
        said, todo = one_line(second.stderr)
        assert "--listen" in todo, second.stderr
        assert str(port) in said


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


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(folder)


def test_env_waits_for_a_server_that_starts(data):
    """What the README pastes: `flint up --data D &`, then at once `flint env --data D`."""
    env = subprocess.Popen(
        [flint.BINARY, "env", "--data", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, env=flint.clean_environment(),
    )
    with flint.Server(data) as server:
        out, err = env.communicate(timeout=20)
        assert env.returncode == 0, err
        assert f"export AWS_ENDPOINT_URL={server.url}" in out
        assert f"export AWS_ACCESS_KEY_ID={server.environment()['AWS_ACCESS_KEY_ID']}" in out


def test_env_makes_nothing_up(tmp_path):
    for folder in [tmp_path, tmp_path / "none"]:
        done = subprocess.run(
            [flint.BINARY, "env", "--data", str(folder)], capture_output=True, text=True, timeout=20,
            stdin=subprocess.DEVNULL, env=flint.clean_environment(),
        )
        assert done.returncode == 1 and done.stdout == "", done
        assert "no Flint server has started" in done.stderr and f"flint up --data {folder}" in done.stderr, done.stderr
        if folder == tmp_path:
            assert list(folder.iterdir()) == []


def test_env_warns_of_a_cli_that_would_leave(shared, tmp_path):
    said = lambda path: shared.run("env", "--data", str(shared.data), env={"PATH": path}).stderr
    old = program(tmp_path / "old", "aws", "echo aws-cli/2.9.19 Python/3.11.2")
    new = program(tmp_path / "new", "aws", "echo aws-cli/2.13.0 Python/3.11.2")
    stuck = program(tmp_path / "stuck", "aws", "exec /bin/sleep 60")
    assert f"--endpoint-url {shared.url}" in said(old) and "go to Amazon" in said(old)
    assert said(new) == said(str(tmp_path)) == said(stuck) == ""


def test_stop_ends_the_server_of_a_directory(data):
    server = flint.Server(data).start()
    stopped = server.run("stop", "--data", str(data))
    assert stopped.stdout.startswith(f"stopped the server of {data} in "), stopped
    assert server.process.wait(20) == 0
    again = server.run("stop", "--data", str(data))
    assert again.stdout == "" and "no server runs on" in again.stderr, again
    nowhere = server.run("stop", "--data", str(data / "none"), check=False)
    assert nowhere.returncode == 1 and "try: " in nowhere.stderr
    server.process.stdout.close()
    server.process = None


def test_a_runtime_of_the_operators_own(data, tmp_path):
    """A Node.js installation in a place of its own is refused, added, served after a start, and root's alone to name."""
    node = os.path.realpath(shutil.which("node"))
    own = tmp_path / "node-v97.1.0"
    (own / "bin").mkdir(parents=True)
    shutil.copy(node, own / "bin/node")
    server = flint.Server(data)
    with server:
        refused = server.run("runtime", "add", str(tmp_path), "--data", str(data), check=False)
        assert refused.returncode == 1 and "holds no Python or Node.js" in refused.stderr and "try: " in refused.stderr
        added = server.run("runtime", "add", str(own), "--data", str(data)).stdout
        assert "nodejs97.x (97.1.0)" in added and "next start" in added, added
        assert "nodejs97.x" not in [r["Identifier"] for r in server.runtimes()]
    assert (data / "runtimes").stat().st_uid == 0
    with server:
        client = server.client("lambda")
        code = flint.zipped({"app.mjs": "export const handler = async () => process.execPath;\n"})
        client.create_function(
            FunctionName="own", Role=flint.ROLE, Handler="app.handler", Runtime="nodejs97.x", Code={"ZipFile": code}
        )
        client.get_waiter("function_active_v2").wait(FunctionName="own", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        assert flint.invoke(client, "own").json == "/var/lang/bin/node"
    # What the server's own user could have written does not count.
    os.chown(data / "runtimes", data.stat().st_uid, -1)
    with server:
        assert "nodejs97.x" not in [r["Identifier"] for r in server.runtimes()]
