"""`flint dev` accepts any credentials, but nothing that a web page in the developer's browser could send."""

import http.client
import json

import pytest

import flint
import wire

APP = "def handler(event, context):\n    return {'hello': event}\n"


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """`flint dev` with one app."""
    folder = tmp_path_factory.mktemp("dev")
    app = folder / "app"
    app.mkdir()
    (app / "app.py").write_text(APP)
    server = flint.Server(folder / "data", str(app), "--quiet", command="dev")
    with server.start(60):
        yield server


def ask(server, method, path, body=b"", headers=None):
    host, port = server.address
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    response = wire.Response(connection.getresponse())
    connection.close()
    return response


ANY = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"}
LOGS = ANY["Authorization"].replace("lambda", "logs")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

REFUSED = {
    "unsigned read": ("GET", "/2015-03-31/functions/", b"", {}),
    "unsigned write": ("POST", "/2015-03-31/functions", b"{}", {"Content-Type": "application/json"}),
    "unsigned target": ("POST", "/", b"{}", {"X-Amz-Target": "Logs_20140328.DescribeLogGroups", "Content-Type": "application/x-amz-json-1.1"}),
    "unsigned query": ("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15", FORM),
    "foreign host": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Host": "evil.example"}),
    "foreign host with our port": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Host": "evil.example:4566"}),
    "rebinding name": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Host": "127.0.0.1.evil.example"}),
    "foreign origin": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Origin": "https://evil.example"}),
    "null origin": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Origin": "null"}),
    "cross site": ("GET", "/2015-03-31/functions/", b"", {**ANY, "Sec-Fetch-Site": "cross-site"}),
    "cross-origin form post": ("POST", "/2015-03-31/functions", b"FunctionName=x", {**FORM, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
    "cross-origin form post with authorization": ("POST", "/", b"Action=GetCallerIdentity", {**FORM, **ANY, "Origin": "https://evil.example"}),
    "plain text post": ("POST", "/2015-03-31/functions", b"{}", {"Content-Type": "text/plain", "Origin": "https://evil.example"}),
    "preflight": ("OPTIONS", "/2015-03-31/functions", b"", {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(dev, case):
    method, path, body, headers = REFUSED[case]
    response = ask(dev, method, path, body, headers)
    assert 400 <= response.status < 500, response
    assert "access-control-allow-origin" not in response.headers, response
    assert "Functions" not in response.json


def test_any_credentials_pass(dev):
    assert ask(dev, "GET", "/2015-03-31/functions/", b"", ANY).status == 200
    client = dev.client("lambda", aws_access_key_id="anything", aws_secret_access_key="goes")
    flint.until(lambda: client.list_functions()["Functions"], 30, "the app is listed", every=0.1)


def test_a_key_of_twelve_digits_is_an_account(dev):
    other = dev.client("sts", aws_access_key_id="123456789012", aws_secret_access_key="x")
    assert other.get_caller_identity()["Account"] == "123456789012"
    functions = dev.client("lambda", aws_access_key_id="123456789012", aws_secret_access_key="x")
    assert functions.list_functions()["Functions"] == [], "accounts do not see each other"


def test_the_app_is_deployed(dev):
    client = dev.client("lambda", aws_access_key_id="test", aws_secret_access_key="test")
    names = flint.until(lambda: [f["FunctionName"] for f in client.list_functions()["Functions"]], 30, "deployed", every=0.1)
    client.get_waiter("function_active_v2").wait(FunctionName=names[0], WaiterConfig={"Delay": 1})
    assert json.loads(client.invoke(FunctionName=names[0], Payload=b"1")["Payload"].read()) == {"hello": 1}


def test_health_needs_nothing(dev):
    assert ask(dev, "GET", "/_flint/health").status == 200


def test_dev_never_listens_in_public(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    import subprocess

    refused = subprocess.run(
        [flint.BINARY, "dev", str(tmp_path), "--data", str(tmp_path / "data"), "--listen", "0.0.0.0:0"],
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env=flint.clean_environment(),
    )
    assert refused.returncode != 0 and "ready" not in refused.stdout
