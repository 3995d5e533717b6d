"""Functions call other services: with stock SDKs, no settings and no change to their code, as their roles and not beyond them."""

import json
from pathlib import Path

import botocore.exceptions
import pytest

import clients
import flint
import inside
import wire
from test_dlq import Told
from test_lineage import headers, read
from test_mappings import count, queue

ALL = [("*", "*")]

SEES = """
import os
def handler(event, context):
    return os.environ["_X_AMZN_TRACE_ID"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with flint.Server(tmp_path_factory.mktemp("inside") / "data", "--log", "trace,h2=warn") as server:
        yield server


@pytest.fixture(scope="module")
def functions(server):
    return server.client("lambda")


@pytest.fixture(scope="module")
def sqs(server):
    return server.client("sqs")


@pytest.fixture(scope="module")
def boto3_layer(functions):
    return inside.python_layer(functions)


@pytest.fixture(scope="module")
def powerful(server):
    """A role that may do all."""
    return inside.role(server, "powerful", ALL)


# --- one chain, without a word about it in anybody's code

FIRST = """
import boto3, os
def handler(event, context):
    print("HEADER", os.environ["_X_AMZN_TRACE_ID"])
    return boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody="on")["MessageId"]
"""
SECOND = """
import boto3, os
def handler(event, context):
    print("HEADER", os.environ["_X_AMZN_TRACE_ID"])
    return boto3.client("lambda").invoke(FunctionName="third", InvocationType="Event", Payload=b"{}")["StatusCode"]
"""
THIRD = """
import os
def handler(event, context):
    print("HEADER", os.environ["_X_AMZN_TRACE_ID"])
"""


def test_three_hops_are_one_trace(server, functions, sqs, boto3_layer, powerful):
    """fn -> queue -> fn -> asynchronous invocation -> fn, by an unmodified boto3 inside."""
    url, arn = queue(sqs, "hop")
    inside.create(server, functions, "first", FIRST, powerful, Layers=[boto3_layer], Environment={"Variables": {"QUEUE_URL": url}})
    inside.create(server, functions, "second", SECOND, powerful, Layers=[boto3_layer])
    inside.create(server, functions, "third", THIRD, powerful)
    functions.create_event_source_mapping(FunctionName="second", EventSourceArn=arn)
    answer = flint.invoke(functions, "first", {})
    assert answer.error is None, answer
    logs = server.client("logs")
    last = flint.until(lambda: headers(logs, "third"), 30, lambda: server.tail_of_log())
    hops = [read(header) for name in ("first", "second") for header in headers(logs, name)] + [read(last[0])]
    assert len(hops) == 3 and [h[2] for h in hops] == sorted({h[2] for h in hops}), hops
    assert hops[-1][3] == [1, 1, 1], hops
    roots = {h[0] for h in hops}
    assert len(roots) == 1, hops
    flint.figure("inside_chain_traces", len(roots))

    told = Told(server)
    chain = flint.until(
        lambda: (lambda c: c if len(c["Events"]) >= 3 else None)(told("events", "show", answer.request_id)), 10, "the chain"
    )
    targets = {entry.get("Target", "").rsplit(":", 1)[-1] for e in chain["Events"] for entry in e["Entries"]}
    assert {"first", "second", "third"} <= targets and chain["TraceId"] == roots.pop(), chain


CIRCLE = """
import boto3, os
sqs = boto3.client("sqs")
def handler(event, context):
    print("HEADER", os.environ["_X_AMZN_TRACE_ID"])
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="circle")["QueueUrl"], MessageBody="round")
"""


def test_a_loop_over_a_queue_is_stopped_at_16(fresh):
    """fn -> queue -> fn, all of it inside: nobody outside takes part."""
    functions, sqs, logs, told = fresh.client("lambda"), fresh.client("sqs"), fresh.client("logs"), Told(fresh)
    dead, dead_arn = queue(sqs, "dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = queue(sqs, "circle", RedrivePolicy=redrive, VisibilityTimeout="20")
    role = inside.role(fresh, "sender", [(["sqs:SendMessage", "sqs:GetQueueUrl"], arn)])
    inside.create(fresh, functions, "circle", CIRCLE, role, Layers=[inside.python_layer(functions)])
    functions.create_event_source_mapping(FunctionName="circle", EventSourceArn=arn)
    sqs.send_message(QueueUrl=url, MessageBody="round")
    flint.until(lambda: sum(count(sqs, dead)) == 1, 60, lambda: (len(headers(logs, "circle")), count(sqs, url)))
    seen = [read(header) for header in headers(logs, "circle")]
    assert [s[3] for s in seen] == [[n] for n in range(1, 17)], seen
    assert len({s[0] for s in seen}) == 1
    flint.figure("inside_loop_passes", len(seen))
    [group] = told("dlq")["Groups"]
    assert group["ErrorType"] == "RecursiveInvocationException", group
    chain = told("events", "show", group["EventId"])
    assert chain["TraceId"] == seen[0][0] and len(chain["Events"]) == 17, chain
    text = told.text("events", "show", group["EventId"])
    assert text.count("settled") == 16 and "RecursiveInvocationException" in text, text


LIES = """
import json, os
from bare import invoke, sqs
def handler(event, context):
    own = os.environ["_X_AMZN_TRACE_ID"]
    root = own.split(";")[0]
    lies = {
        "nothing": None, "the truth": own, "another root": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
        "no lineage": root + ";Parent=53995c3f42cd8ad8;Sampled=1",
        "another lineage": root + ";Lineage=1:" + "09" * 16 + ":0",
        "much": root + ";Parent=" + "x" * 900, "more": root + ";x=" + "y" * 990, "nonsense": "nonsense",
        "a crowd": root + ";Lineage=1:" + "09" * 16 + ":0" + "".join(",%08x:9" % n for n in range(32)),
    }
    said = {}
    for lie, header in lies.items():
        said[lie] = invoke(event["sees"], {}, {"X-Amzn-Trace-Id": header} if header else {})
    attribute = {"AWSTraceHeader": {"DataType": "String", "StringValue": lies["another root"]}}
    said["an attribute"] = sqs("SendMessage", QueueUrl=event["queue"], MessageBody="x", MessageSystemAttributes=attribute)
    return {"own": own, "said": said}
"""


def test_a_function_can_not_leave_its_chain(server, functions, sqs, powerful, name):
    """A runtime that sends no header, and one that lies: root and passes are what the server knows of the environment."""
    url, _ = queue(sqs, name)
    inside.create(server, functions, name + "-sees", SEES, powerful)
    inside.create(server, functions, name, {"app.py": LIES, "bare.py": inside.BARE}, powerful)
    answer = flint.invoke(functions, name, {"sees": name + "-sees", "queue": url})
    assert answer.error is None, answer
    said = answer.json["said"]
    root, _, depth, _ = read(answer.json["own"])
    assert said.pop("an attribute")[0] == 200
    for lie, (status, body) in said.items():
        assert status == 200 and body.startswith("\"Root="), (lie, body)
        seen = json.loads(body)
        assert seen.startswith(f"Root={root};"), (lie, seen)
        lineage = seen.split("Lineage=")[1].split(";")[0].split(",")
        assert lineage[0].endswith(f":{depth + 1}") and [p.split(":")[1] for p in lineage[1:]] == ["1", "1"], (lie, seen)
    kept = json.loads(said["no lineage"][1])
    assert "Parent=53995c3f42cd8ad8;Sampled=1;" in kept, "a tracing library's own segment is kept"
    [message] = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["AWSTraceHeader"])["Messages"]
    assert message["Attributes"]["AWSTraceHeader"].startswith(f"Root={root};"), message


INIT = """
import json, os
from bare import invoke
SAW = invoke(os.environ["SEES"], {})
def handler(event, context):
    return {"own": os.environ["_X_AMZN_TRACE_ID"], "saw": SAW}
"""


def test_what_init_sends_belongs_to_the_call_that_waits_for_it(server, functions, powerful, name):
    inside.create(server, functions, name + "-sees", SEES, powerful)
    inside.create(server, functions, name, {"app.py": INIT, "bare.py": inside.BARE}, powerful,
                  Environment={"Variables": {"SEES": name + "-sees"}})
    told = flint.invoke(functions, name, {}).json
    assert read(json.loads(told["saw"][1]))[0] == read(told["own"])[0], told


IN_JS = """
const { Lambda } = require("@aws-sdk/client-lambda");
const { SQS } = require("@aws-sdk/client-sqs");
exports.handler = async (event) => {
  const sqs = new SQS({});
  await sqs.sendMessage({ QueueUrl: process.env.QUEUE_URL, MessageBody: "from node" });
  const found = await sqs.getQueueUrl({ QueueName: process.env.QUEUE_URL.split("/").pop() });
  const answer = await new Lambda({}).invoke({ FunctionName: event.sees, Payload: "{}" });
  return { own: process.env._X_AMZN_TRACE_ID, url: found.QueueUrl, saw: JSON.parse(Buffer.from(answer.Payload).toString()) };
};
"""


def test_the_javascript_sdk_inside(server, functions, sqs, powerful, name):
    """It goes where a queue's URL leads, so that one made outside has to mean the same inside."""
    url, _ = queue(sqs, name)
    inside.create(server, functions, name + "-sees", SEES, powerful)
    inside.create(
        server, functions, name, {"app.js": IN_JS}, powerful, Runtime=clients.node(server), Layers=[inside.node_layer(functions)],
        MemorySize=512, Environment={"Variables": {"QUEUE_URL": url}},
    )
    answer = flint.invoke(functions, name, {"sees": name + "-sees"})
    assert answer.error is None, answer
    told = answer.json
    assert told["url"] == url
    assert read(told["own"])[0] == read(told["saw"])[0] and read(told["saw"])[3] == [1, 1], told
    [message] = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["AWSTraceHeader"])["Messages"]
    assert message["Body"] == "from node" and read(told["own"])[0] in message["Attributes"]["AWSTraceHeader"], message


# --- what a function may do

TRIES = """
import json, os
from bare import invoke, sqs, send, signed

def query(service, **members):
    import urllib.parse
    body = urllib.parse.urlencode({**members, "Version": {"iam": "2010-05-08", "sts": "2011-06-15", "sqs": "2012-11-05"}[service]})
    return send(signed(service, "POST", "/", body.encode(), {"content-type": "application/x-www-form-urlencoded"}))

def handler(event, context):
    if event == "keys":
        return [os.environ[n] for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    kind, arguments = event
    if kind == "rest":
        return send(signed("lambda", arguments[0], arguments[1], json.dumps(arguments[2]).encode() if arguments[2:] else b""))
    return {"sqs": lambda: sqs(arguments.pop("do"), **arguments), "invoke": lambda: invoke(*arguments),
            "query": lambda: query(arguments.pop("service"), **arguments)}[kind]()
"""


class Tries:
    """A function that does as it is told, in one environment for as long as nobody disturbs it."""

    def __init__(self, server, functions, name, role):
        self.functions, self.name = functions, name
        inside.create(server, functions, name, {"app.py": TRIES, "bare.py": inside.BARE}, role)

    def __call__(self, event):
        answer = flint.invoke(self.functions, self.name, event)
        assert answer.error is None, answer
        return answer.json

    def refused(self, kind, arguments, action, resource, why="because no identity-based policy allows the {} action"):
        """Fails unless it is denied, in the words and the code of the reference."""
        status, body = self([kind, arguments])
        role = self.functions.get_function_configuration(FunctionName=self.name)["Role"].rsplit("/", 1)[1]
        who = f"arn:aws:sts::000000000000:assumed-role/{role}/{self.name}"
        wanted = f"User: {who} is not authorized to perform: {action} on resource: {resource} {why.format(action)}"
        assert status == 403 and wanted in body, (status, body, wanted)
        return body

    def allowed(self, kind, arguments):
        status, body = self([kind, arguments])
        assert status in (200, 201, 202), (status, body)
        return body


def test_a_role_without_rights_may_do_nothing(server, functions, sqs, name):
    url, arn = queue(sqs, name)
    role = inside.role(server, name)
    tries = Tries(server, functions, name, role)
    function = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    body = tries.refused("sqs", {"do": "SendMessage", "QueueUrl": url, "MessageBody": "x"}, "sqs:SendMessage", arn)
    assert json.loads(body)["__type"] == "com.amazon.coral.service#AccessDeniedException", body
    body = tries.refused("query", {"service": "sqs", "Action": "SendMessage", "QueueUrl": url, "MessageBody": "x"}, "sqs:SendMessage", arn)
    assert "<Code>AccessDenied</Code>" in body, body
    tries.refused("sqs", {"do": "ReceiveMessage", "QueueUrl": url}, "sqs:ReceiveMessage", arn)
    tries.refused("sqs", {"do": "ListQueues"}, "sqs:ListQueues", "arn:aws:sqs:us-east-1:000000000000:*")
    tries.refused("invoke", [name, {}], "lambda:InvokeFunction", function)
    tries.refused("rest", ["GET", f"/2015-03-31/functions/{name}"], "lambda:GetFunction", function)
    tries.refused("rest", ["GET", "/2015-03-31/functions/"], "lambda:ListFunctions", "*")
    tries.refused("rest", ["DELETE", f"/2015-03-31/functions/{name}"], "lambda:DeleteFunction", function)
    for action in ("CreateRole", "GetRole", "PutRolePolicy", "AttachRolePolicy"):
        members = {"service": "iam", "Action": action, "RoleName": name, "PolicyName": "more", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess",
                   "PolicyDocument": inside.TRUST, "AssumeRolePolicyDocument": inside.TRUST}
        body = tries.refused("query", members, f"iam:{action}", f"arn:aws:iam::000000000000:role/{name}")
        assert "<Code>AccessDenied</Code>" in body
    tries.refused("query", {"service": "sts", "Action": "AssumeRole", "RoleArn": role, "RoleSessionName": "me"}, "sts:AssumeRole", role)
    who = tries.allowed("query", {"service": "sts", "Action": "GetCallerIdentity"})
    assert f"<Arn>arn:aws:sts::000000000000:assumed-role/{name}/{name}</Arn>" in who, who
    assert sum(count(sqs, url)) == 0


def test_rights_are_what_the_policies_say_now(server, functions, sqs, name):
    """The same environment all the time: a policy counts from the moment it is put, and no longer once it is gone."""
    iam = server.client("iam")
    (mine, arn), (other, other_arn) = queue(sqs, name), queue(sqs, name + "-other")
    tries = Tries(server, functions, name, inside.role(server, name))
    to = lambda url: {"do": "SendMessage", "QueueUrl": url, "MessageBody": "x"}  # noqa: E731
    tries.refused("sqs", to(mine), "sqs:SendMessage", arn)
    inside.grant(iam, name, "send", ("sqs:SendMessage", arn))
    tries.allowed("sqs", to(mine))
    tries.refused("sqs", to(other), "sqs:SendMessage", other_arn)
    inside.grant(iam, name, "all", ("sqs:*", "*"))
    tries.allowed("sqs", to(other))
    inside.grant(iam, name, "not", {"Effect": "Deny", "Action": "sqs:Send*", "Resource": other_arn})
    tries.refused("sqs", to(other), "sqs:SendMessage", other_arn, "with an explicit deny in an identity-based policy")
    tries.allowed("sqs", to(mine))
    for policy in ("send", "all", "not"):
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    tries.refused("sqs", to(mine), "sqs:SendMessage", arn)
    # What is not understood never allows.
    inside.grant(iam, name, "if", {"Effect": "Allow", "Action": "sqs:*", "Resource": "*", "Condition": {"Bool": {"a": "true"}}})
    tries.refused("sqs", to(mine), "sqs:SendMessage", arn)
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSQSFullAccess")
    tries.allowed("sqs", to(mine))
    iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSQSFullAccess")
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaRole")
    assert tries(["invoke", [name, ["query", {"service": "sts", "Action": "GetCallerIdentity"}]]])[0] == 200
    tries.refused("sqs", to(mine), "sqs:SendMessage", arn)


def test_no_right_grows_into_another(server, functions, sqs, powerful, name):
    """Making functions is not becoming their roles; assuming roles takes their trust; moving messages is sending them."""
    iam = server.client("iam")
    dead, dead_arn = queue(sqs, name + "-dead")
    url, arn = queue(sqs, name, RedrivePolicy=json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1}))
    secret, secret_arn = queue(sqs, name + "-secret")
    role = inside.role(server, name, [(["lambda:*", "sts:*", "sqs:StartMessageMoveTask", "sqs:ReceiveMessage", "sqs:DeleteMessage"], "*")])
    tries = Tries(server, functions, name, role)
    settings = {"Role": powerful}
    path = f"/2015-03-31/functions/{name}/configuration"
    tries.refused("rest", ["PUT", path, settings], "iam:PassRole", powerful)
    code = {"FunctionName": name + "-new", "Role": powerful, "Runtime": server.python(), "Handler": "a.b", "Code": {"ZipFile": ""}}
    tries.refused("rest", ["POST", "/2015-03-31/functions", code], "iam:PassRole", powerful)
    assume = {"service": "sts", "Action": "AssumeRole", "RoleArn": powerful, "RoleSessionName": "me"}
    tries.refused("query", assume, "sts:AssumeRole", powerful, "because no role trust policy allows the {} action")
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": role, "Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    inside.role(server, name + "-more", ALL)
    iam.update_assume_role_policy(RoleName=name + "-more", PolicyDocument=json.dumps(trust))
    body = tries.allowed("query", {**assume, "RoleArn": f"arn:aws:iam::000000000000:role/{name}-more"})
    assert f"assumed-role/{name}-more/me" in body
    move = {"do": "StartMessageMoveTask", "SourceArn": dead_arn, "DestinationArn": secret_arn}
    tries.refused("sqs", move, "sqs:SendMessage", secret_arn)
    # A role that is not there, or not any more, and its successor of the same name: nothing.
    ghost = Tries(server, functions, name + "-ghost", f"arn:aws:iam::000000000000:role/{name}-ghost")
    send = {"do": "SendMessage", "QueueUrl": url, "MessageBody": "x"}
    ghost.refused("sqs", send, "sqs:SendMessage", arn)
    inside.role(server, name + "-ghost", ALL)
    ghost.refused("sqs", send, "sqs:SendMessage", arn)


# --- whose the credentials are

def listing(server, keys):
    request = wire.Request(server, key=keys[0], secret=keys[1], token=keys[2])
    return request.sign().send()


def test_credentials_are_an_environments_own_and_end_with_it(server, functions, powerful, name):
    tries = Tries(server, functions, name, powerful)
    keys = tries("keys")
    assert keys[0].startswith("ASIA") and tries("keys") == keys
    assert listing(server, keys).status == 200
    # Another environment has others; with one's own key and another's token there is nothing to be had.
    other = Tries(server, functions, name + "-other", powerful)
    others = other("keys")
    assert not set(others) & set(keys)
    assert listing(server, [keys[0], keys[1], others[2]]).code == "UnrecognizedClientException"
    assert listing(server, [keys[0], others[1], keys[2]]).code == "InvalidSignatureException"
    # They are nowhere to be read: not in answers, not in a log at its most talkative, not on the disk.
    shown = json.dumps([functions.get_function(FunctionName=name), functions.get_function_configuration(FunctionName=name)], default=str)
    flint.invoke(functions, name, ["query", {"service": "sts", "Action": "GetCallerIdentity"}])
    log = server.log.read_bytes()
    disk = b"".join(path.read_bytes() for path in Path(server.data).rglob("*") if path.is_file() and "logs" in path.parts)
    for secret in keys[1:]:
        assert secret not in shown and secret.encode() not in log and secret.encode() not in disk
    # The environment is replaced, and with it they end, for their holder alone.
    functions.update_function_configuration(FunctionName=name, Description="new")
    flint.until(lambda: listing(server, keys).code == "ExpiredTokenException", 10, "they end with the environment")
    assert listing(server, [keys[0], "x" * 40, keys[2]]).code == "InvalidSignatureException"
    assert tries("keys") != keys
    assert listing(server, others).status == 200
    functions.delete_function(FunctionName=name + "-other")
    flint.until(lambda: listing(server, others).code == "ExpiredTokenException", 10, "they end with the function")


def test_credentials_do_not_outlive_the_server(data):
    with flint.Server(data) as server:
        functions = server.client("lambda")
        keys = Tries(server, functions, "f", inside.role(server, "powerful", ALL))("keys")
        assert listing(server, keys).status == 200
        server.kill()
        server.start()
        assert listing(server, keys).code == "ExpiredTokenException"


def test_under_dev_a_function_may_do_all(tmp_path):
    """A developer's functions call with what a developer has; no role has to be there."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.py").write_text("def handler(event, context):\n    return 1\n")
    server = flint.Server(tmp_path / "data", str(app), "--quiet", command="dev").start()
    try:
        functions, sqs = server.client("lambda"), server.client("sqs")
        url, arn = queue(sqs, "q")
        tries = Tries(server, functions, "tries", flint.ROLE)
        tries.allowed("sqs", {"do": "SendMessage", "QueueUrl": url, "MessageBody": "x"})
        tries.allowed("rest", ["GET", "/2015-03-31/functions/"])
        assert "assumed-role/scenario/tries" in tries.allowed("query", {"service": "sts", "Action": "GetCallerIdentity"})
    finally:
        server.stop()


def test_a_function_may_lead_elsewhere(server, functions, powerful, name):
    """`AWS_ENDPOINT_URL` is the function's to set; the credentials are not."""
    source = "import os\ndef handler(event, context):\n    return os.environ['AWS_ENDPOINT_URL']\n"
    inside.create(server, functions, name, source, powerful, Environment={"Variables": {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}})
    assert flint.invoke(functions, name, {}).json == "http://127.0.0.1:1"
    for reserved in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        with pytest.raises(botocore.exceptions.ClientError):
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": {reserved: "x"}})
