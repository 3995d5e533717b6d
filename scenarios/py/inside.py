"""What functions bring along to call Flint from inside: the stock SDKs as layers, and a signer of the standard library."""

import http.server
import io
import json
import threading
import zipfile
from pathlib import Path

import boto3

import flint
import sdks

TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
})

# Of botocore's models, those of the services that are called.
MODELS = ("sqs", "lambda", "sts", "iam", "logs")

# A call without any SDK, as a runtime of one's own makes it: signed, and with no header but those that it is told.
BARE = '''
import datetime, hashlib, hmac, json, os, urllib.error, urllib.parse, urllib.request

def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

def signed(service, method, path, body=b"", headers=None, keys=None):
    """The request of a call; `keys`: access key, secret and token, else the environment's."""
    key, secret, token = keys or [os.environ[n] for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    base = os.environ["AWS_ENDPOINT_URL"]
    region = os.environ["AWS_REGION"]
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    lines = {"host": urllib.parse.urlsplit(base).netloc, "x-amz-date": stamp, "x-amz-security-token": token}
    lines.update({name.lower(): value for name, value in (headers or {}).items() if name.lower().startswith("x-amz-")})
    names = ";".join(sorted(lines))
    canonical = "\\n".join([method, path, "", *(f"{n}:{lines[n]}" for n in sorted(lines)), "", names,
                           hashlib.sha256(body).hexdigest()])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signing = mac(mac(mac(mac(("AWS4" + secret).encode(), stamp[:8]), region), service), "aws4_request")
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    every = {**(headers or {}), "x-amz-date": stamp, "x-amz-security-token": token,
             "authorization": f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"}
    return urllib.request.Request(base + path, data=body or None, headers=every, method=method)

def send(request):
    """Status and body."""
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

def sqs(operation, headers=None, keys=None, **members):
    every = {"x-amz-target": f"AmazonSQS.{operation}", "content-type": "application/x-amz-json-1.0", **(headers or {})}
    return send(signed("sqs", "POST", "/", json.dumps(members).encode(), every, keys))

def invoke(name, payload, headers=None, keys=None):
    return send(signed("lambda", "POST", f"/2015-03-31/functions/{name}/invocations", json.dumps(payload).encode(), headers, keys))
'''


class Careless:
    """A server that asks nobody who it is: the control of what asks ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name is the library's
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self):
        self.server = http.server.HTTPServer(("127.0.0.1", 0), self.Handler)
        self.address = list(self.server.server_address)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def archive(pairs):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as out:
        for name, path in pairs:
            out.write(path, name)
    return buffer.getvalue()


def python_layer(functions):
    """boto3 as it is installed beside the scenarios, with a few models of its own; the layer's ARN."""
    site = Path(boto3.__file__).parents[1]
    pairs = []
    for package in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3"):
        for path in sorted((site / package).rglob("*")):
            below = path.relative_to(site)
            model = below.parts[2] if len(below.parts) > 3 and below.parts[:2] == ("botocore", "data") else None
            if path.is_file() and "__pycache__" not in below.parts and (model is None or model in MODELS):
                pairs.append((f"python/{below}", path))
    pairs.append(("python/six.py", site / "six.py"))
    return publish(functions, "boto3", archive(pairs))


def node_layer(functions):
    """The JavaScript SDK; the layer's ARN."""
    modules = sdks.javascript() / "node_modules"
    unused = (".d.ts", ".map", ".md", ".ts")
    wanted = lambda path: path.is_file() and not path.name.endswith(unused) and "dist-es" not in path.parts  # noqa: E731
    pairs = [(f"nodejs/node_modules/{p.relative_to(modules)}", p) for p in sorted(modules.rglob("*")) if wanted(p)]
    return publish(functions, "aws-sdk", archive(pairs))


def publish(functions, name, zipped):
    return functions.publish_layer_version(LayerName=name, Content={"ZipFile": zipped})["LayerVersionArn"]


def role(server, name, *policies):
    """A role with inline policies, each a list of (actions, resources); its ARN."""
    iam = server.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    for number, statements in enumerate(policies):
        grant(iam, name, f"p{number}", *statements)
    return arn


def grant(iam, role, policy, *statements):
    """Puts an inline policy of (actions, resources) or whole statements."""
    whole = [s if isinstance(s, dict) else {"Effect": "Allow", "Action": s[0], "Resource": s[1]} for s in statements]
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": whole}))


def create(server, functions, name, source, role, handler="app.handler", **settings):
    """A function with a role and, if asked, layers. `source`: Python text, or {file: text}."""
    files = source if isinstance(source, dict) else {"app.py": source}
    settings.setdefault("Runtime", server.python())
    functions.create_function(
        FunctionName=name, Role=role, Handler=handler, Code={"ZipFile": flint.zipped(files)},
        **{"Timeout": 20, "MemorySize": 256, **settings},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
